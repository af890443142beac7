//! Reading NIfTI-1: header and voxels, plain or gzipped, one file or a pair, every scalar type.
//!
//! The header is parsed by crate `nifti`; the voxels here, because that crate turns a NaN slope
//! into NaN voxels and hides what it skips.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ::nifti::{Endianness, NiftiHeader, NiftiType};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::memory::{reserved, zeroed};
use crate::scan::geometry::affine_of;
use crate::scan::limits::ReadLimits;
use crate::scan::nifti::sniff::{Bytes, Family, is_gzip, recognise};
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
    pub warnings: Vec<String>,
}

/// Deflate cannot shrink below 1 / 1032; more than that claimed is a damaged or hostile header.
const MOST_EXPANSION: u64 = 1032;

/// Reads a NIfTI-1 file. What its header asks for is compared with the limits before any of it is allocated.
pub(crate) fn read(path: &Path, limits: &ReadLimits) -> Result<Stored, VolumeError> {
    let path = &header_path(path)?;
    // A header that claims more voxels than its file can hold is told so below, before anything is allocated for them.
    let needed = memory_of(path).filter(|_| may_hold_its_voxels(path)).unwrap_or_else(|| file_bytes(path));
    limits.allow(path, needed, || described(path))?;
    let file = load(path)?;
    let mut hash = Sha256::new();
    hash.update(&file);
    let damaged =
        |e: io::Error| truncated(path, &format!("a file that ends early or a damaged gzip stream ({e})"));
    let mut bytes = Bytes::of(&file);
    let start = match bytes.up_to(352) {
        Ok(start) => start,
        Err(e) => return Err(damaged(e)),
    };
    let family = recognise(path, &start, is_gzip(&file))?;
    let mut warnings = name_warning(path, is_gzip(&file));
    let header = NiftiHeader::from_reader(start.as_slice())
        .map_err(|e| truncated(path, &format!("a header that cannot be read ({e})")))?;
    let shape = shape(path, &header)?;
    let kind = kind(path, &header, &mut warnings)?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let Some((count, length)) = count.and_then(|n| Some((n, n.checked_mul(kind.size_of())?))) else {
        return Err(truncated(path, &format!("a header of {shape:?} voxels")));
    };

    let affine = affine_of(path, &header, shape, &limits.geometry, &mut warnings)?;
    let (slope, intercept) = scaling(&header, &mut warnings);
    let numbers = Numbers { kind, big: header.endianness == Endianness::Big, slope, intercept };
    let voxels = match family {
        Family::Nifti1 => {
            let offset = single_file_offset(&header, &mut warnings);
            skip(&mut bytes, offset - start.len().min(offset)).map_err(damaged)?;
            // `start` may already hold voxels only where the offset is below 352, which is not allowed.
            voxels(path, bytes, file.len(), (count, length), shape, numbers)?
        }
        Family::Nifti1Pair => {
            let img = image_path(path)?;
            let image = load(&img)?;
            hash.update(&image);
            let mut bytes = Bytes::of(&image);
            let offset = if header.vox_offset > 0.0 { header.vox_offset as usize } else { 0 };
            skip(&mut bytes, offset).map_err(|e| truncated(&img, &format!("{e}")))?;
            voxels(&img, bytes, image.len(), (count, length), shape, numbers)?
        }
    };
    let forms = Forms::of_header(&header);
    let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Stored { voxels, shape, affine, forms, sha256, warnings })
}

/// Bytes that a scan takes at most while it is read and sliced: its file, its voxels as f32, and once more for their
/// percentiles or for a change of order. `None` where the header cannot be read; reading the scan tells why.
pub(crate) fn memory_of(path: &Path) -> Option<usize> {
    let path = &header_path(path).ok()?;
    let (_, count, _) = sizes(path)?;
    count.checked_mul(8)?.checked_add(file_bytes(path))
}

/// Bytes of a scan's files, of a pair both; 0 where there is none.
fn file_bytes(path: &Path) -> usize {
    let bytes =
        |file: &PathBuf| fs::metadata(file).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX));
    files_of(path).iter().map(bytes).fold(0, usize::saturating_add)
}

/// Whether a scan's files are as long as its header needs, or could be when they are unpacked.
fn may_hold_its_voxels(path: &Path) -> bool {
    let gzipped = |file: &PathBuf| {
        let mut start = [0; 2];
        fs::File::open(file).and_then(|mut file| file.read_exact(&mut start)).is_ok() && is_gzip(&start)
    };
    let expansion = if files_of(path).iter().any(gzipped) { MOST_EXPANSION } else { 1 };
    let most = (file_bytes(path) as u64).saturating_mul(expansion);
    sizes(path).is_some_and(|(_, count, each)| count.saturating_mul(each) as u64 <= most)
}

/// What a header asks for, in words; only of the file where the header cannot be read.
fn described(path: &Path) -> String {
    match sizes(path) {
        Some((shape, _, each)) => format!(
            "{} × {} × {} voxels of {each} bytes in a file of {} MiB",
            shape[0],
            shape[1],
            shape[2],
            file_bytes(path) >> 20
        ),
        None => format!("a file of {} MiB", file_bytes(path) >> 20),
    }
}

/// Shape, number of voxels and bytes of each, of a file's header; `None` where it cannot be read.
fn sizes(path: &Path) -> Option<([usize; 3], usize, usize)> {
    let mut file = fs::File::open(path).ok()?;
    let mut start = Vec::new();
    // Enough of a compressed file for its first bytes.
    io::Read::by_ref(&mut file).take(1 << 16).read_to_end(&mut start).ok()?;
    let header = NiftiHeader::from_reader(Bytes::of(&start).up_to(352).ok()?.as_slice()).ok()?;
    let shape = shape(path, &header).ok()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some((shape, count, kind(path, &header, &mut Vec::new()).ok()?.size_of()))
}

fn load(path: &Path) -> Result<Vec<u8>, VolumeError> {
    if path.is_dir() {
        return Err(VolumeError::Format {
            path: path.to_path_buf(),
            found: "a folder".into(),
            todo: "name one scan in it; a folder of DICOM slices is not read yet: convert it with `dcm2niix -z y FOLDER`".into(),
        });
    }
    fs::read(path).map_err(|source| VolumeError::Read { path: path.to_path_buf(), source })
}

fn truncated(path: &Path, found: &str) -> VolumeError {
    VolumeError::Content {
        path: path.to_path_buf(),
        found: found.into(),
        expected: "a whole NIfTI-1 file".into(),
        todo: "copy or download it again".into(),
    }
}

/// The files a scan is made of: itself, or header and voxels of a pair, as far as they are there.
pub(crate) fn files_of(path: &Path) -> Vec<PathBuf> {
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
    let told = [".nii", ".hdr"].iter().any(|e| ends_with(path, e));
    let told_gz = [".nii.gz", ".hdr.gz"].iter().any(|e| ends_with(path, e));
    match (compressed, told, told_gz) {
        (false, true, _) | (true, _, true) => Vec::new(),
        (true, ..) => {
            vec!["the name does not end in .nii.gz, the content is gzipped NIfTI-1: read by content".into()]
        }
        (false, ..) => {
            vec!["the name does not end in .nii, the content is plain NIfTI-1: read by content".into()]
        }
    }
}

/// Three axes; trailing axes of size 1 are squeezed.
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
    let extra: usize = dim.iter().skip(3).map(|&d| d.max(1)).product();
    if extra > 1 {
        return refuse(
            format!("{} dimensions {dim:?}, {extra} volumes in one file", dim.len()),
            "choose one volume and save it by itself, for example `fslroi IN OUT 0 1`",
        );
    }
    Ok([0, 1, 2].map(|i| dim.get(i).copied().unwrap_or(1)))
}

fn kind(path: &Path, header: &NiftiHeader, warnings: &mut Vec<String>) -> Result<NiftiType, VolumeError> {
    use NiftiType::{Complex64, Complex128, Complex256, Float128, Rgb24, Rgba32};
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
    if matches!(kind, Complex64 | Complex128 | Complex256) {
        return refuse(format!("complex voxels ({kind:?})"), "save the magnitude image");
    }
    if matches!(kind, Rgb24 | Rgba32) {
        return refuse(format!("colour voxels ({kind:?})"), "give the scan itself, not a rendering of it");
    }
    if kind == Float128 {
        return refuse("128-bit floats".into(), "save the scan as 32-bit float");
    }
    if usize::try_from(header.bitpix) != Ok(kind.size_of() * 8) {
        warnings.push(format!(
            "bitpix is {} where {kind:?} has {}: the data type is believed",
            header.bitpix,
            kind.size_of() * 8
        ));
    }
    Ok(kind)
}

fn single_file_offset(header: &NiftiHeader, warnings: &mut Vec<String>) -> usize {
    if header.vox_offset >= 352.0 && header.vox_offset.is_finite() {
        return header.vox_offset as usize;
    }
    warnings.push(format!("voxel offset {} lies inside the header: taken as 352", header.vox_offset));
    352
}

/// Slope 0 or not finite means: the stored numbers are the values.
fn scaling(header: &NiftiHeader, warnings: &mut Vec<String>) -> (f64, f64) {
    let (slope, intercept) = (f64::from(header.scl_slope), f64::from(header.scl_inter));
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

fn skip(bytes: &mut Bytes, n: usize) -> io::Result<()> {
    let skipped = io::copy(&mut bytes.by_ref().take(n as u64), &mut io::sink())?;
    if skipped < n as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// How a stored number becomes a value: `stored * slope + intercept` in f64, kept as f32.
#[derive(Clone, Copy)]
struct Numbers {
    kind: NiftiType,
    big: bool,
    slope: f64,
    intercept: f64,
}

/// Voxels that are unpacked before they are made f32: what is stored never stands in memory whole beside them.
const AT_A_TIME: usize = 1 << 20;

/// `count` voxels of `length` bytes; then reads on to the end, so that a gzip stream's checksum is checked.
fn voxels(
    path: &Path,
    mut bytes: Bytes,
    file: usize,
    (count, length): (usize, usize),
    shape: [usize; 3],
    numbers: Numbers,
) -> Result<Vec<f32>, VolumeError> {
    let short = |has: u64| {
        truncated(path, &format!("{has} bytes of voxels where the header's shape {shape:?} needs {length}"))
    };
    let room = match &bytes {
        Bytes::Plain(rest) => rest.len() as u64,
        Bytes::Gzip(_) => (file as u64).saturating_mul(MOST_EXPANSION),
    };
    // Checked before the memory is asked for: a damaged header may claim terabytes.
    if room < length as u64 {
        return Err(if matches!(bytes, Bytes::Plain(_)) {
            short(room)
        } else {
            truncated(
                path,
                &format!("{file} bytes, gzipped, where the header's shape {shape:?} needs {length} unpacked"),
            )
        });
    }
    let damaged =
        |e: io::Error| truncated(path, &format!("a file that ends early or a damaged gzip stream ({e})"));
    let no_memory = VolumeError::no_memory(path, "its voxels");
    let size = numbers.kind.size_of();
    let mut out = zeroed::<f32>(count).map_err(&no_memory)?;
    let mut raw = reserved(AT_A_TIME.min(count) * size).map_err(&no_memory)?;
    let mut has = 0;
    for out in out.chunks_mut(AT_A_TIME) {
        raw.clear();
        let wanted = out.len() * size;
        bytes.by_ref().take(wanted as u64).read_to_end(&mut raw).map_err(damaged)?;
        has += raw.len() as u64;
        if raw.len() < wanted {
            return Err(short(has));
        }
        decode(&raw, out, numbers);
    }
    io::copy(&mut bytes, &mut io::sink()).map_err(damaged)?;
    Ok(out)
}

fn decode(raw: &[u8], out: &mut [f32], Numbers { kind, big, slope, intercept }: Numbers) {
    macro_rules! as_f32 {
        ($t:ty) => {{
            const N: usize = size_of::<$t>();
            let plain = slope == 1.0 && intercept == 0.0;
            out.par_chunks_mut(1 << 16).zip(raw.par_chunks(N << 16)).for_each(|(out, raw)| {
                for (v, b) in out.iter_mut().zip(raw.chunks_exact(N)) {
                    let mut bytes = [0u8; N];
                    bytes.copy_from_slice(b);
                    let stored = if big { <$t>::from_be_bytes(bytes) } else { <$t>::from_le_bytes(bytes) };
                    *v = if plain { stored as f32 } else { (stored as f64 * slope + intercept) as f32 };
                }
            });
        }};
    }
    match kind {
        NiftiType::Uint8 => as_f32!(u8),
        NiftiType::Int8 => as_f32!(i8),
        NiftiType::Int16 => as_f32!(i16),
        NiftiType::Uint16 => as_f32!(u16),
        NiftiType::Int32 => as_f32!(i32),
        NiftiType::Uint32 => as_f32!(u32),
        NiftiType::Int64 => as_f32!(i64),
        NiftiType::Uint64 => as_f32!(u64),
        NiftiType::Float64 => as_f32!(f64),
        // `kind` has refused all that is left but Float32.
        _ => as_f32!(f32),
    }
}
