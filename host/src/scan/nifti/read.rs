//! Reading NIfTI-1, NIfTI-2 and Analyze 7.5: header and voxels, plain or gzipped, one file or a pair, every scalar type.
//!
//! The header is parsed by crate `nifti`; the voxels here, because that crate turns a NaN slope
//! into NaN voxels and hides what it skips.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::nifti::{Endianness, NiftiHeader, NiftiType};
use anymc3d_manifest::Modality;
use sha2::{Digest, Sha256};

use crate::fs::hex;
use crate::scan::bytes::{Bytes, MOST_EXPANSION, is_gzip};
use crate::scan::geometry::affine_of;
use crate::scan::limits::ReadLimits;
use crate::scan::nifti::Nifti;
use crate::scan::nifti::header::{Header, NIFTI_1, NIFTI_2, parse};
use crate::scan::nifti::sniff::{Family, recognise};
use crate::scan::numbers::{NumberType, Numbers, truncated, voxels};
use crate::scan::source::Source;
use crate::scan::{Affine, Forms, VolumeError};

/// What a file holds, before anything is made of it.
pub(crate) struct Stored {
    /// First axis fastest, in the scan's units (slope and intercept applied).
    pub voxels: Vec<f32>,
    pub shape: [usize; 3],
    pub affine: Affine,
    /// What the header says of position.
    pub forms: Forms,
    /// Lower-case hex of the file's own bytes (of a pair: header then voxels).
    pub sha256: String,
    /// Where the format has a place for it.
    pub modality: Option<Modality>,
    pub warnings: Vec<String>,
}

/// Reads a file of the NIfTI family. What its header asks for is compared with the limits before any of it is allocated.
pub(crate) fn read(path: &Path, limits: &ReadLimits) -> Result<Stored, VolumeError> {
    let path = &header_path(path)?;
    // A header that claims more voxels than its file can hold is told so below, before anything is allocated for them.
    let needed = memory_of(path).filter(|_| may_hold_its_voxels(path)).unwrap_or_else(|| file_bytes(path));
    limits.allow(path, needed, || described(path))?;
    let file = load(path)?;
    let damaged =
        |e: io::Error| truncated(path, &format!("a file that ends early or a damaged gzip stream ({e})"));
    let mut bytes = Bytes::of(&file);
    let (start, family) = beginning(path, &mut bytes, is_gzip(&file), damaged)?;
    let mut warnings = name_warning(path, is_gzip(&file));
    let told = parse(path, &start, family)?;
    let header = &told.fields;
    let shape = shape(path, header)?;
    let kind = kind(path, header, &mut warnings)?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let Some((count, length)) = count.and_then(|n| Some((n, n.checked_mul(kind.size())?))) else {
        return Err(truncated(path, &format!("a header of {shape:?} voxels")));
    };

    // What the file's first bytes did not tell (a header behind many of a compressed stream) is known now, before anything is
    // allocated for it; `voxels` refuses a file that cannot hold them.
    if length as u64 <= most_bytes(path) {
        limits.allow(path, memory_for(count, path), || asked_for(path, shape, kind.size()))?;
    }
    let before = warnings.len();
    let affine = affine_of(path, header, shape, &limits.geometry, &mut warnings)?;
    if family == Family::Analyze && warnings.len() > before {
        // The first of them says that there is no form, which Analyze never has.
        warnings[before] = ANALYZE_SIDES.into();
    }
    let (slope, intercept) = scaling(&told, &mut warnings);
    let numbers = Numbers { kind, big: header.endianness == Endianness::Big, slope, intercept };
    let image =
        family.is_pair().then(|| image_path(path).and_then(|img| Ok((load(&img)?, img)))).transpose()?;
    let digest = || {
        let whole = Sha256::new().chain_update(&file);
        hex(&image.iter().fold(whole, |hash, (image, _)| hash.chain_update(image)).finalize())
    };
    let read = || match &image {
        Some((image, img)) => {
            let mut bytes = Bytes::of(image);
            let offset = if told.offset > 0.0 { told.offset as u64 } else { 0 };
            bytes.skip(offset).map_err(|e| truncated(img, &format!("{e}")))?;
            voxels(img, bytes, image.len(), (count, length), shape, numbers)
        }
        None => {
            // `start` is no longer than the least offset that is allowed, so it holds no voxels.
            let offset = single_file_offset(&told, start.len(), &mut warnings);
            bytes.skip(offset - (start.len() as u64).min(offset)).map_err(damaged)?;
            voxels(path, bytes, file.len(), (count, length), shape, numbers)
        }
    };
    // Unpacking takes one thread.
    let (voxels, sha256) = rayon::join(read, digest);
    let voxels = voxels?;
    let forms = Forms::of_header(header);
    Ok(Stored { voxels, shape, affine, forms, sha256, modality: None, warnings })
}

/// What Analyze leaves open.
const ANALYZE_SIDES: &str = "Analyze 7.5 does not say which side is left: the first axis is taken to run from right to left and \
    the second from back to front, as its authors, nibabel and SPM have it (ITK takes the second from front to back); check it";

/// The header's bytes, and whose they are.
fn beginning(
    path: &Path,
    bytes: &mut Bytes,
    compressed: bool,
    damaged: impl Fn(io::Error) -> VolumeError,
) -> Result<(Vec<u8>, Family), VolumeError> {
    let mut start = bytes.up_to(NIFTI_1).map_err(&damaged)?;
    let family = recognise(path, &start, compressed)?;
    if family.is_second() {
        start.extend(bytes.up_to(NIFTI_2 - NIFTI_1).map_err(&damaged)?);
    }
    Ok((start, family))
}

/// Bytes that a scan takes at most while it is read and sliced: its file, its voxels as f32, and once more for their
/// percentiles or for a change of order. `None` where the header cannot be read; reading the scan tells why.
pub(super) fn memory_of(path: &Path) -> Option<usize> {
    let path = &header_path(path).ok()?;
    let (_, count, _) = sizes(path)?;
    Some(memory_for(count, path))
}

fn memory_for(count: usize, path: &Path) -> usize {
    count.saturating_mul(8).saturating_add(file_bytes(path))
}

/// Bytes of a scan's files, of a pair both; 0 where there is none.
fn file_bytes(path: &Path) -> usize {
    let bytes =
        |file: &PathBuf| fs::metadata(file).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    files_of(path).iter().map(bytes).fold(0, usize::saturating_add)
}

/// Most bytes that a scan's files may be when they are unpacked.
fn most_bytes(path: &Path) -> u64 {
    let gzipped = |file: &PathBuf| {
        let mut start = [0; 2];
        fs::File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && is_gzip(&start)
    };
    let expansion = if files_of(path).iter().any(gzipped) { MOST_EXPANSION } else { 1 };
    (file_bytes(path) as u64).saturating_mul(expansion)
}

/// Whether a scan's files are as long as its header needs, or could be when they are unpacked.
fn may_hold_its_voxels(path: &Path) -> bool {
    sizes(path).is_some_and(|(_, count, each)| count.saturating_mul(each) as u64 <= most_bytes(path))
}

/// What a header asks for, in words; only of the file where the header cannot be read.
fn described(path: &Path) -> String {
    match sizes(path) {
        Some((shape, _, each)) => asked_for(path, shape, each),
        None => format!("a file of {} MiB", file_bytes(path) >> 20),
    }
}

fn asked_for(path: &Path, [x, y, z]: [usize; 3], each: usize) -> String {
    format!("{x} × {y} × {z} voxels of {each} bytes in a file of {} MiB", file_bytes(path) >> 20)
}

/// Shape, number of voxels and bytes of each, of a file's header; `None` where it cannot be read.
fn sizes(path: &Path) -> Option<([usize; 3], usize, usize)> {
    let mut file = fs::File::open(path).ok()?;
    let mut start = Vec::new();
    // Enough of a compressed file for its first bytes.
    io::Read::by_ref(&mut file).take(1 << 16).read_to_end(&mut start).ok()?;
    let damaged = |source| VolumeError::Read { path: path.to_path_buf(), source };
    let (start, family) = beginning(path, &mut Bytes::of(&start), is_gzip(&start), damaged).ok()?;
    let header = parse(path, &start, family).ok()?.fields;
    let shape = shape(path, &header).ok()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some((shape, count, kind(path, &header, &mut Vec::new()).ok()?.size()))
}

fn load(path: &Path) -> Result<Vec<u8>, VolumeError> {
    if path.is_dir() {
        return Err(VolumeError::Format {
            path: path.to_path_buf(),
            found: "a folder".into(),
            todo: "name one scan in it; there is no DICOM in it either".into(),
        });
    }
    fs::read(path).map_err(|source| VolumeError::Read { path: path.to_path_buf(), source })
}

/// The files a scan is made of: itself, or header and voxels of a pair, as far as they are there.
pub(super) fn files_of(path: &Path) -> Vec<PathBuf> {
    let header = header_path(path).unwrap_or_else(|_| path.to_path_buf());
    if !(ends_with(&header, ".hdr") || ends_with(&header, ".hdr.gz")) {
        return vec![path.to_path_buf()];
    }
    let image = image_path(&header).ok();
    std::iter::once(header).chain(image).collect()
}

/// Of a pair, the header's file: `x.img[.gz]` stands for the `x.hdr[.gz]` beside it.
fn header_path(path: &Path) -> Result<PathBuf, VolumeError> {
    if !(ends_with(path, ".img") || ends_with(path, ".img.gz")) || !path.exists() {
        return Ok(path.to_path_buf());
    }
    sibling(path, ".hdr", "its header (.hdr)")
}

fn image_path(path: &Path) -> Result<PathBuf, VolumeError> {
    sibling(path, ".img", "its voxels (.img)")
}

fn sibling(path: &Path, extension: &str, what: &str) -> Result<PathBuf, VolumeError> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = stem.rsplit_once('.').map_or(stem, |(s, _)| s);
    let candidates =
        [format!("{stem}{extension}"), format!("{stem}{extension}.gz")].map(|n| path.with_file_name(n));
    candidates.iter().find(|p| p.is_file()).cloned().ok_or_else(|| VolumeError::Content {
        path: path.to_path_buf(),
        found: "one half of a .hdr/.img pair".into(),
        expected: format!("{what} beside it, {}", candidates[0].display()),
        todo: "copy both files of the pair into one folder".into(),
    })
}

fn ends_with(path: &Path, extension: &str) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().to_ascii_lowercase().ends_with(extension))
}

fn name_warning(path: &Path, compressed: bool) -> Vec<String> {
    let told = Nifti.extensions().iter().find(|e| ends_with(path, e)).map(|e| e.ends_with(".gz"));
    match compressed {
        _ if told == Some(compressed) => Vec::new(),
        true => {
            vec!["the name does not end in .nii.gz, the content is gzipped NIfTI: read by content".into()]
        }
        false => {
            vec!["the name does not end in .nii, the content is plain NIfTI: read by content".into()]
        }
    }
}

/// Three axes; further axes of size 1 are squeezed.
fn shape(path: &Path, header: &NiftiHeader) -> Result<[usize; 3], VolumeError> {
    let refuse = |found: String, todo: &str| {
        Err(VolumeError::Content {
            path: path.to_path_buf(),
            found,
            expected: "one 3D volume".into(),
            todo: todo.into(),
        })
    };
    let rank = usize::from(header.dim[0]);
    if !(1..=7).contains(&rank) {
        return refuse(format!("{rank} dimensions"), "the header is damaged: export the scan again");
    }
    let dim: Vec<usize> = header.dim[1..=rank].iter().map(|&d| usize::from(d)).collect();
    if dim.iter().enumerate().any(|(i, &d)| d > 32767 || (d == 0 && i < 3)) {
        return refuse(format!("dimensions {dim:?}"), "the header is damaged: export the scan again");
    }
    if rank < 3 {
        // A heatmap of it would be 3D: viewers lay no such file over a 2D image.
        return refuse(
            format!("a {rank}D image, dimensions {dim:?}"),
            "stack the series' slices in one file; a single slice is a volume of 1 voxel along its third axis",
        );
    }
    let extra: usize = dim.iter().skip(3).map(|&d| d.max(1)).product();
    if extra > 1 {
        return refuse(
            format!("{} dimensions {dim:?}, {extra} volumes in one file", dim.len()),
            "choose one volume and save it by itself, for example `fslroi IN OUT 0 1`",
        );
    }
    Ok([0, 1, 2].map(|i| dim.get(i).copied().unwrap_or(1)))
}

fn kind(path: &Path, header: &NiftiHeader, warnings: &mut Vec<String>) -> Result<NumberType, VolumeError> {
    let refuse = |found: String, todo: &str| {
        Err(VolumeError::Content {
            path: path.to_path_buf(),
            found,
            expected: "one number per voxel: an integer of 8 to 64 bits, or a float of 32 or 64".into(),
            todo: todo.into(),
        })
    };
    let kind = match header.data_type() {
        Ok(kind) => kind,
        Err(_) => return refuse(format!("data type {}", header.datatype), "save the scan in one of these"),
    };
    let number = match kind {
        NiftiType::Uint8 => NumberType::U8,
        NiftiType::Int8 => NumberType::I8,
        NiftiType::Uint16 => NumberType::U16,
        NiftiType::Int16 => NumberType::I16,
        NiftiType::Uint32 => NumberType::U32,
        NiftiType::Int32 => NumberType::I32,
        NiftiType::Uint64 => NumberType::U64,
        NiftiType::Int64 => NumberType::I64,
        NiftiType::Float32 => NumberType::F32,
        NiftiType::Float64 => NumberType::F64,
        NiftiType::Complex64 | NiftiType::Complex128 | NiftiType::Complex256 => {
            return refuse(format!("complex voxels ({kind:?})"), "save the magnitude image");
        }
        NiftiType::Rgb24 | NiftiType::Rgba32 => {
            return refuse(
                format!("colour voxels ({kind:?})"),
                "give the scan itself, not a rendering of it",
            );
        }
        NiftiType::Float128 => return refuse("128-bit floats".into(), "save the scan as 32-bit float"),
    };
    if usize::try_from(header.bitpix) != Ok(number.size() * 8) {
        warnings.push(format!(
            "bitpix is {} where {kind:?} has {}: the data type is believed",
            header.bitpix,
            number.size() * 8
        ));
    }
    Ok(number)
}

/// `least`: the header's length.
fn single_file_offset(header: &Header, least: usize, warnings: &mut Vec<String>) -> u64 {
    if header.offset >= least as f64 && header.offset.is_finite() {
        return header.offset as u64;
    }
    warnings.push(format!("voxel offset {} lies inside the header: taken as {least}", header.offset));
    least as u64
}

/// Slope 0 or not finite means: the stored numbers are the values.
fn scaling(header: &Header, warnings: &mut Vec<String>) -> (f64, f64) {
    let (slope, intercept) = (header.slope, header.intercept);
    if slope == 0.0 || !slope.is_finite() {
        if intercept != 0.0 && intercept.is_finite() {
            warnings.push(format!(
                "scl_slope is {slope} beside scl_inter {intercept}: not scaled, as NIfTI-1 says and nibabel reads it; ITK and NiiVue add {intercept} to every voxel"
            ));
        }
        return (1.0, 0.0);
    }
    if !intercept.is_finite() {
        warnings.push(format!("scl_inter is {intercept}: taken as 0"));
        return (slope, 0.0);
    }
    (slope, intercept)
}
