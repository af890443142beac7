//! A stack as one volume of f32, and the way back onto its frames.

use rayon::prelude::*;

use crate::digest::{FileDigest, instances_of, of_file, of_files};
use crate::error::{DicomError, ErrorKind, Result};
use crate::geometry::{Affine, StackGeometry};
use crate::headers::{InstanceHeader, read_header};
use crate::limits::Limits;
use crate::pixels::{FrameCounts, PixelPayload, check_format};
use crate::scan::Scan;
use crate::series::Series;
use crate::source::Source;
use crate::split::geometry_of;
use crate::straighten::to_grid;

/// A volume on a straight grid.
#[derive(Debug, Clone)]
pub struct Volume {
    /// [slices, rows, columns], columns fastest; in the modality's unit (HU for CT). All are finite.
    pub voxels: Vec<f32>,
    /// Columns, rows, slices.
    pub dims: [usize; 3],
    /// Voxel (column, row, slice) → RAS mm.
    pub affine: Affine,
    /// Between columns, rows, slices, mm.
    pub spacing_mm: [f64; 3],
    /// `HU`, `BQML` …, where the header says it.
    pub unit: Option<String>,
    /// Centre and width of the header: for pictures, never for a model.
    pub window: Option<[f64; 2]>,
    /// Voxels that were PixelPaddingValue, NaN or infinite, or that no frame covers: set to the lowest value.
    pub replaced: Replaced,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    /// Digest of the files that were read, as [`crate::digest`] tells it.
    pub sha256: String,
    /// Where every slice came from, in order along the normal.
    pub frames: Vec<SourceFrame>,
    geometry: StackGeometry,
}

/// Counts of voxels without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    pub padding: usize,
    pub not_finite: usize,
    /// Corners that straightening adds.
    pub not_covered: usize,
}

/// One frame of the source, for references in results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFrame {
    pub sop_class: String,
    pub sop_instance: String,
    /// From 1, as DICOM counts.
    pub frame_number: u32,
    /// The file, or `archive!member`.
    pub file: std::path::PathBuf,
}

impl Volume {
    /// Values on the volume's grid (a heatmap, a mask) on the original frames: [frames, rows, columns], trilinear.
    /// Without straightening the values are the same.
    ///
    /// # Panics
    /// Where `values` is not as long as [`Volume::voxels`].
    pub fn onto_frames(&self, values: &[f32]) -> Vec<f32> {
        assert_eq!(values.len(), self.voxels.len(), "one value per voxel");
        self.geometry.onto_frames(values)
    }

    /// Columns and rows of a frame.
    pub fn frame_size(&self) -> [usize; 2] {
        [self.geometry.columns, self.geometry.rows]
    }
}

/// Reads the pixels of one stack.
///
/// Frames are decoded in parallel on rayon's current pool, rescaled one by one in f64, and rounded to f32.
///
/// # Errors
/// The kinds of [`ErrorKind`] from geometry, pixels and rescale; [`ErrorKind::AboveLimit`] before anything is
/// allocated where the volume is larger than `limits.volume_bytes`.
pub fn read_volume(scan: &Scan, series: &Series, stack: usize, limits: &Limits) -> Result<Volume> {
    let stack_index = stack;
    let Some(stack) = series.stacks.get(stack) else {
        return Err(DicomError::new(ErrorKind::NothingFits, format!("no stack {stack} in the series")));
    };
    let geometry = geometry_of(stack)?.clone();
    for at in &stack.frames {
        let header = &series.instances[at.instance];
        check_format(header).map_err(|e| e.in_file(scan.sources[header.file].name()))?;
    }
    let dims = geometry.volume_dims();
    check_size(dims, limits)?;
    let size = geometry.rows * geometry.columns;
    check_size([geometry.columns, geometry.rows, geometry.slices], limits)?;
    // Frames of one instance are decoded from one reading of its file.
    let mut by_instance: Vec<Vec<(usize, usize)>> = vec![Vec::new(); series.instances.len()];
    for (slice, at) in stack.frames.iter().enumerate() {
        by_instance[at.instance].push((slice, at.frame));
    }
    check_stack(series, &by_instance)?;
    let mut stored = vec![0.0_f32; size * geometry.slices];
    let mut targets: Vec<Option<&mut [f32]>> = stored.chunks_mut(size).map(Some).collect();
    // In the order of the slices: the digest is made of the instances' in this order.
    let work: Vec<(&InstanceHeader, Vec<FrameTarget>)> = instances_of(series, stack_index)?
        .into_iter()
        .map(|i| {
            let frames = by_instance[i].iter().filter_map(|&(s, f)| Some((f, targets[s].take()?)));
            (&series.instances[i], frames.collect())
        })
        .collect();
    let read = work
        .into_par_iter()
        .map(|(header, frames)| read_instance(&scan.sources[header.file], header, frames, limits))
        .collect::<Result<Vec<_>>>()?;
    let counts = read.iter().map(|(counts, _)| *counts).fold(FrameCounts::default(), sum);
    let digests: Vec<FileDigest> = read.into_iter().map(|(_, digest)| digest).collect();
    let mut warnings = warnings_of(series, &geometry);
    let mut replaced = Replaced { padding: counts.padding, not_finite: counts.not_finite, not_covered: 0 };
    let mut voxels = if geometry.straight { stored } else { to_grid(&stored, &geometry) };
    // Nothing else makes a NaN.
    if !geometry.straight || counts != FrameCounts::default() {
        let empty = fill_empty(&mut voxels)?;
        if !geometry.straight {
            replaced.not_covered = empty.saturating_sub(counts.padding + counts.not_finite);
        }
    }
    if counts.padding + counts.not_finite > 0 {
        warnings.push(format!(
            "{} padding pixels and {} that are not finite were set to the lowest value",
            counts.padding, counts.not_finite
        ));
    }
    let affine = geometry.affine();
    let frames =
        stack.frames.iter().map(|at| source_frame(scan, &series.instances[at.instance], at.frame)).collect();
    let window = series.instances[stack.frames[0].instance].window;
    let unit = series.unit.clone();
    let spacing_mm = affine.spacing();
    let sha256 = of_files(&digests);
    Ok(Volume {
        voxels,
        dims,
        affine,
        spacing_mm,
        unit,
        window,
        replaced,
        warnings,
        sha256,
        frames,
        geometry,
    })
}

/// A frame's number, from 0, and where its values go.
type FrameTarget<'a> = (usize, &'a mut [f32]);

fn sum(a: FrameCounts, b: FrameCounts) -> FrameCounts {
    FrameCounts { padding: a.padding + b.padding, not_finite: a.not_finite + b.not_finite }
}

fn check_size(dims: [usize; 3], limits: &Limits) -> Result<()> {
    let bytes = dims.iter().try_fold(4_u64, |n, d| n.checked_mul(*d as u64));
    if bytes.is_none_or(|n| n > limits.volume_bytes) {
        let message = format!(
            "a volume of {} × {} × {} is larger than the limit of {} bytes",
            dims[0], dims[1], dims[2], limits.volume_bytes
        );
        return Err(DicomError::new(ErrorKind::AboveLimit, message));
    }
    Ok(())
}

/// What would make slices of one stack incomparable is refused before any pixel is read.
fn check_stack(series: &Series, by_instance: &[Vec<(usize, usize)>]) -> Result<()> {
    let (mut with, mut without) = (0, 0);
    for (header, frames) in series.instances.iter().zip(by_instance) {
        for (_, frame) in frames {
            let found = &header.frames[*frame];
            found.rescale.as_ref().map_err(Clone::clone)?;
            if found.rescale_absent { without += 1 } else { with += 1 }
        }
    }
    if with > 0 && without > 0 {
        let message = format!("{without} of {} slices have no rescale, the others do", with + without);
        return Err(DicomError::new(ErrorKind::BadRescale, message));
    }
    Ok(())
}

/// Frames and digest of one file, from one reading of it.
fn read_instance(
    source: &Source,
    header: &InstanceHeader,
    frames: Vec<FrameTarget>,
    limits: &Limits,
) -> Result<(FrameCounts, FileDigest)> {
    let payload = PixelPayload::read(source, header, limits)?;
    let decode = || {
        frames
            .into_par_iter()
            .map(|(frame, out)| payload.decode(frame, true, out).map_err(|e| e.in_file(source.name())))
            .try_reduce(FrameCounts::default, |a, b| Ok(sum(a, b)))
    };
    let (counts, digest) = rayon::join(decode, || of_file(payload.file()));
    Ok((counts?, digest))
}

/// Sets NaN to the lowest value; returns how many there were.
fn fill_empty(voxels: &mut [f32]) -> Result<usize> {
    let lowest = voxels.par_iter().copied().reduce(|| f32::NAN, f32::min);
    if lowest.is_nan() {
        return Err(DicomError::new(
            ErrorKind::BadAttribute,
            "every pixel of the series is padding or not finite",
        ));
    }
    let empty = voxels.par_iter_mut().filter(|v| v.is_nan());
    Ok(empty.map(|v| *v = lowest).count())
}

fn warnings_of(series: &Series, geometry: &StackGeometry) -> Vec<String> {
    let mut warnings: Vec<String> = geometry.straightening().into_iter().collect();
    if series.modality == "CT" && series.instances.iter().any(|h| h.frames.iter().any(|f| f.rescale_absent)) {
        warnings.push("the CT has no rescale: its values may not be HU".into());
    }
    if geometry.slices == 1 {
        warnings.push("a single slice: its thickness, or 1 mm, stands for the gap".into());
    }
    warnings
}

fn source_frame(scan: &Scan, header: &InstanceHeader, frame: usize) -> SourceFrame {
    SourceFrame {
        sop_class: header.sop_class.clone(),
        sop_instance: header.sop_instance.clone(),
        frame_number: frame as u32 + 1,
        file: scan.sources[header.file].name().to_path_buf(),
    }
}

/// All frames of one file, in the order of the file, whatever their geometry.
#[derive(Debug, Clone)]
pub struct FilePixels {
    /// [frames, rows, columns], columns fastest, rescaled; padding keeps its value.
    pub values: Vec<f32>,
    /// Frames, rows, columns.
    pub dims: [usize; 3],
    pub modality: String,
    pub transfer_syntax: String,
}

/// Reads the pixels of one file, for checks and comparisons: no series, no positions.
///
/// # Errors
/// As [`read_volume`].
pub fn read_file(path: &std::path::Path, limits: &Limits) -> Result<FilePixels> {
    let source = Source::File(path.to_path_buf());
    let header = read_header(&source, limits)?;
    let format = check_format(&header).map_err(|e| e.in_file(path))?;
    let (rows, columns, frames) = (format.rows, format.columns, format.frames);
    check_size([columns, rows, frames], limits).map_err(|e| e.in_file(path))?;
    let payload = PixelPayload::read(&source, &header, limits)?;
    let mut values = vec![0.0; frames * rows * columns];
    let decode = |(frame, out): (usize, &mut [f32])| payload.decode(frame, false, out);
    values
        .par_chunks_mut(rows * columns)
        .enumerate()
        .map(decode)
        .collect::<Result<Vec<_>>>()
        .map_err(|e| e.in_file(path))?;
    Ok(FilePixels {
        values,
        dims: [frames, rows, columns],
        modality: header.modality.clone(),
        transfer_syntax: header.transfer_syntax.clone(),
    })
}
