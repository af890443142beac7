//! Images whose text header says where their numbers are: what NRRD and MetaImage have in common once they are parsed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use anymc3d_manifest::Modality;
use sha2::{Digest, Sha256};

use crate::fs::hex;
use crate::scan::bytes::{Bytes, MOST_EXPANSION, is_gzip};
use crate::scan::limits::ReadLimits;
use crate::scan::nifti::Stored;
use crate::scan::numbers::{Numbers, truncated, voxels};
use crate::scan::{Affine, Forms, VolumeError};

/// Longest header that is read: real ones have some hundred bytes, and some thousand with the attributes of a DICOM file.
const LONGEST_HEADER: u64 = 1 << 20;

/// Where the numbers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataFile {
    /// In the header's own file, from this byte on.
    Here(usize),
    /// In a file beside it.
    Beside(PathBuf),
}

/// How the numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    /// zlib, or gzip if its magic says so.
    Zlib,
}

/// What comes before the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// So many lines of the file, then so many bytes of what is unpacked.
    Forward { lines: usize, bytes: u64 },
    /// The numbers are the file's last bytes.
    FromEnd,
}

/// A parsed header.
#[derive(Debug)]
pub(crate) struct RawImage {
    pub shape: [usize; 3],
    /// Voxel index → RAS mm.
    pub affine: Affine,
    pub numbers: Numbers,
    pub data: DataFile,
    pub packing: Packing,
    pub skip: Skip,
    /// Bytes of the packed numbers, where the header says so.
    pub packed_bytes: Option<usize>,
    pub modality: Option<Modality>,
    pub warnings: Vec<String>,
}

/// The first bytes of a file, as many as a header may have.
///
/// # Errors
/// [`VolumeError::Read`].
pub(crate) fn start_of(path: &Path) -> Result<Vec<u8>, VolumeError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        File::open(path)?.take(LONGEST_HEADER).read_to_end(&mut start)?;
        Ok(start)
    };
    read().map_err(|source| VolumeError::Read { path: path.to_path_buf(), source })
}

/// Refuses what a header says. Nothing of its text goes into a message: free text may hold a name.
pub(crate) fn refuse<T>(
    path: &Path,
    found: impl Into<String>,
    expected: &str,
    todo: &str,
) -> Result<T, VolumeError> {
    Err(VolumeError::Content {
        path: path.to_path_buf(),
        found: found.into(),
        expected: expected.into(),
        todo: todo.into(),
    })
}

/// The file that a header names for its numbers: one file, in the header's folder or below it.
///
/// # Errors
/// [`VolumeError::Content`]: several files, one elsewhere, none there.
pub(crate) fn beside(path: &Path, named: &str) -> Result<PathBuf, VolumeError> {
    if named.eq_ignore_ascii_case("LIST") || named.starts_with("LIST ") || named.contains('%') {
        return refuse(
            path,
            "a header whose voxels are in several files",
            "one file of voxels",
            "save the scan in one file, for example by ITK-SNAP or 3D Slicer",
        );
    }
    let relative = Path::new(named);
    if named.is_empty()
        || relative.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return refuse(
            path,
            "a header that names a file of voxels outside its own folder",
            "a file beside the header",
            "copy the file beside the header, and name it there without a folder",
        );
    }
    let file = path.parent().unwrap_or(Path::new("")).join(relative);
    if !file.is_file() {
        return refuse(
            path,
            "a header whose file of voxels is not there",
            "the file that it names, beside it",
            "copy both files into one folder",
        );
    }
    Ok(file)
}

/// Bytes along the way of an image: (of its numbers, at most while it is read and sliced).
fn sizes(image: &RawImage) -> Option<(usize, usize)> {
    let count = image.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    Some((count.checked_mul(image.numbers.kind.size())?, count.checked_mul(8)?))
}

fn data_file<'a>(path: &'a Path, image: &'a RawImage) -> &'a Path {
    match &image.data {
        DataFile::Here(_) => path,
        DataFile::Beside(file) => file,
    }
}

fn file_bytes(path: &Path) -> usize {
    fs::metadata(path).map_or(0, |m| usize::try_from(m.len()).unwrap_or(usize::MAX))
}

/// Bytes that an image takes at most while it is read and sliced.
pub(crate) fn memory_of(path: &Path, image: &RawImage) -> Option<usize> {
    sizes(image)?.1.checked_add(file_bytes(data_file(path, image)))
}

/// The files of an image: header, then numbers.
pub(crate) fn files_of(path: &Path, image: &RawImage) -> Vec<PathBuf> {
    let header = std::iter::once(path.to_path_buf());
    match &image.data {
        DataFile::Here(_) => header.collect(),
        DataFile::Beside(file) => header.chain([file.clone()]).collect(),
    }
}

/// Reads the numbers of a parsed header. What they take is compared with the limits before any of it is allocated.
///
/// # Errors
/// [`VolumeError::Content`]: a grid that no scanner makes, fewer numbers than the header says; [`VolumeError::Memory`].
pub(crate) fn read(path: &Path, image: &RawImage, limits: &ReadLimits) -> Result<Stored, VolumeError> {
    let RawImage { shape, affine, numbers, .. } = image;
    if shape.contains(&0) {
        return refuse(path, format!("a shape of {shape:?}"), "at least one voxel along each axis", DAMAGED);
    }
    if !affine.is_invertible() {
        return refuse(path, "a singular affine", "three independent voxel axes with finite steps", DAMAGED);
    }
    limits.geometry.check(path, "by its header", affine, *shape)?;
    let file = data_file(path, image);
    let Some((length, most)) = sizes(image) else {
        return Err(truncated(path, &format!("a header of {shape:?} voxels")));
    };
    let stored = file_bytes(file);
    let expansion = if image.packing == Packing::Plain { 1 } else { MOST_EXPANSION };
    // A header that claims more voxels than its file can hold is told so below.
    if length as u64 <= (stored as u64).saturating_mul(expansion) {
        limits.allow(path, most.saturating_add(stored), || {
            format!("{} × {} × {} voxels", shape[0], shape[1], shape[2])
        })?;
    } else {
        limits.allow(path, stored, || format!("a file of {} MiB", stored >> 20))?;
    }
    let whole = fs::read(file).map_err(|source| VolumeError::Read { path: file.to_path_buf(), source })?;
    let mut hash = Sha256::new();
    let start = match image.data {
        DataFile::Here(at) => at.min(whole.len()),
        DataFile::Beside(_) => {
            let header = fs::read(path);
            hash.update(header.map_err(|source| VolumeError::Read { path: path.to_path_buf(), source })?);
            0
        }
    };
    let bytes = unpacked(path, image, &whole[start..], length)?;
    let count = length / numbers.kind.size();
    // Unpacking takes one thread.
    let (voxels, sha256) = rayon::join(
        || voxels(path, bytes, whole.len() - start, (count, length), *shape, *numbers),
        || hex(&hash.chain_update(&whole).finalize()),
    );
    Ok(Stored {
        voxels: voxels?,
        shape: *shape,
        affine: *affine,
        forms: Forms::of_affine(affine),
        sha256,
        modality: image.modality,
        warnings: image.warnings.clone(),
    })
}

pub(crate) const DAMAGED: &str = "the header is damaged: export the scan again";

/// The stream of the numbers alone.
fn unpacked<'a>(
    path: &Path,
    image: &RawImage,
    mut rest: &'a [u8],
    length: usize,
) -> Result<Bytes<'a>, VolumeError> {
    let short = |e: io::Error| truncated(path, &format!("a file that ends before its voxels begin ({e})"));
    let (lines, skipped) = match image.skip {
        Skip::Forward { lines, bytes } => (lines, bytes),
        Skip::FromEnd => {
            rest = &rest[rest.len().saturating_sub(length)..];
            (0, 0)
        }
    };
    for _ in 0..lines {
        let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        rest = &rest[end..];
    }
    if let Some(packed) = image.packed_bytes {
        // A zlib stream that is cut in its checksum reads as a whole one.
        rest = rest.get(..packed).ok_or_else(|| {
            truncated(path, &format!("{} bytes of packed voxels where the header says {packed}", rest.len()))
        })?;
    }
    let mut bytes = match image.packing {
        Packing::Plain => Bytes::Plain(rest),
        Packing::Gzip if !is_gzip(rest) => {
            return refuse(path, "voxels that are no gzip stream", "gzip, as the header says", DAMAGED);
        }
        Packing::Zlib if !is_gzip(rest) => Bytes::zlib(rest),
        Packing::Gzip | Packing::Zlib => Bytes::of(rest),
    };
    bytes.skip(skipped).map_err(short)?;
    Ok(bytes)
}

/// A grid in LPS or another of the patient's systems as RAS mm: `steps[axis]` is the step along a voxel axis, and `signs`
/// makes RAS of the system's coordinates.
pub(crate) fn affine_of(steps: [[f64; 3]; 3], origin: [f64; 3], signs: [f64; 3]) -> Affine {
    let mut m = [[0.0; 4]; 4];
    for r in 0..3 {
        for (axis, step) in steps.iter().enumerate() {
            m[r][axis] = signs[r] * step[r];
        }
        m[r][3] = signs[r] * origin[r];
    }
    m[3][3] = 1.0;
    Affine(m)
}

/// From left, posterior, superior to RAS.
pub(crate) const LPS: [f64; 3] = [-1.0, -1.0, 1.0];

/// Numbers between white space.
pub(crate) fn numbers_in(text: &str) -> Option<Vec<f64>> {
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

/// Three of them.
pub(crate) fn triple<T: Copy>(values: &[T]) -> Option<[T; 3]> {
    values.try_into().ok()
}

/// What is told where the name is another format's.
pub(crate) fn name_warning(path: &Path, extensions: &[&str], format: &str) -> Option<String> {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let told = extensions.iter().any(|e| name.ends_with(e));
    (!told).then(|| {
        format!("the name does not end in {}, the content is {format}: read by content", extensions[0])
    })
}
