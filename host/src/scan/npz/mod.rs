//! NumPy archives in MedMNIST's layout as scans: `SPLIT_images` [N, D, H, W], one scan for each index.
//!
//! `FILE.npz:SPLIT` is a table of cases (see [`crate::data::table`]); `FILE.npz:SPLIT#12` is the scan with index 12. The
//! archive says nothing of millimetres: [`ArrayGeometry`] does, and goes along in the path, so that a case means the same
//! in every process. Images are decoded once and kept for the cases that come of them.

mod npy;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::fs::hex;
use crate::memory::{MemoryBudget, reserved};
use crate::scan::limits::ReadLimits;
use crate::scan::nifti::Stored;
use crate::scan::source::{ScanPath, Source, ToldBy};
use crate::scan::{Affine, Forms, Scan, VolumeError};
use npy::Header;

/// Arrays that are kept: training, validation and test of one archive.
const KEPT: usize = 3;

/// Where the voxels of an archive's images are: of an archive that says nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ArrayGeometry {
    /// Distance between voxels along the axes D, H, W, mm.
    pub spacing_mm: Option<[f64; 3]>,
    /// Where the axes D, H, W run to: one of R L, one of A P, one of S I each, in any order.
    pub axes: Option<[Direction; 3]>,
}

/// Where an axis runs to: 0 right, 1 front, 2 head, and whether the other way round.
pub type Direction = (usize, bool);

/// Three letters, for example `SPL`, as directions of D, H, W.
pub fn directions(text: &str) -> Option<[Direction; 3]> {
    let of = |letter: char| match letter {
        'R' => Some((0, false)),
        'L' => Some((0, true)),
        'A' => Some((1, false)),
        'P' => Some((1, true)),
        'S' => Some((2, false)),
        'I' => Some((2, true)),
        _ => None,
    };
    let found: Option<Vec<Direction>> = text.chars().map(of).collect();
    let found: [Direction; 3] = found?.try_into().ok()?;
    let mut axes = found.map(|d| d.0);
    axes.sort_unstable();
    (axes == [0, 1, 2]).then_some(found)
}

fn letters(directions: [Direction; 3]) -> String {
    let letter =
        |(axis, back): Direction| [['R', 'L'], ['A', 'P'], ['S', 'I']][axis.min(2)][usize::from(back)];
    directions.map(letter).iter().collect()
}

static GEOMETRY: Mutex<ArrayGeometry> = Mutex::new(ArrayGeometry { spacing_mm: None, axes: None });

/// Says where the voxels of this process's archives are. Before the first table of them is read.
pub fn set_array_geometry(geometry: ArrayGeometry) {
    *GEOMETRY.lock().unwrap_or_else(PoisonError::into_inner) = geometry;
}

/// One split of an archive: `FILE.npz:train`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSplit {
    /// The archive.
    pub file: PathBuf,
    /// `train`, `val`, `test`, or whatever the arrays are called.
    pub split: String,
}

impl ArchiveSplit {
    /// Reads `FILE.npz:SPLIT`; without a split it is empty. `None` for anything else.
    pub fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if name.to_ascii_lowercase().ends_with(".npz") {
            return Some(Self { file: path.to_owned(), split: String::new() });
        }
        let (file, split) = name.rsplit_once(':')?;
        let plain = !split.is_empty() && split.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && file.to_ascii_lowercase().ends_with(".npz"))
            .then(|| Self { file: path.with_file_name(file), split: split.to_owned() })
    }

    /// Labels `[N][C]` of the split's images, and where each image is.
    ///
    /// # Errors
    /// One line: no archive, no such split, arrays of another layout, or more than the memory holds.
    pub fn read(&self) -> Result<(Vec<PathBuf>, Vec<Vec<f64>>), VolumeError> {
        let fail = |found: String| refused(&self.file, found);
        if self.split.is_empty() {
            let splits = splits(&self.file)?;
            return Err(fail(format!("no split; give one, FILE.npz:SPLIT: {}", splits.join(", "))));
        }
        let images = header_of(&self.file, &self.images())?;
        let n = scans_of(&self.file, &self.images(), &images)?.0;
        let (header, data) =
            array(&self.file, &format!("{}_labels", self.split), MemoryBudget::of_process())?;
        let per_case = match header.shape[..] {
            [rows] if rows == n => 1,
            [rows, columns] if rows == n && columns > 0 => columns,
            _ => {
                return Err(fail(format!(
                    "`{}_labels` of {:?} for {n} images; expected [{n}, labels]",
                    self.split, header.shape
                )));
            }
        };
        let numbers = header.numbers(&data);
        let labels = numbers.chunks_exact(per_case).map(<[f64]>::to_vec).collect();
        Ok(((0..n).map(|i| self.scan(i)).collect(), labels))
    }

    fn images(&self) -> String {
        format!("{}_images", self.split)
    }

    /// The path of the scan with an index, with what is known of its geometry.
    fn scan(&self, index: usize) -> PathBuf {
        let ArrayGeometry { spacing_mm, axes } = *GEOMETRY.lock().unwrap_or_else(PoisonError::into_inner);
        let mut path = self.file.clone().into_os_string();
        path.push(format!(":{}#{index}", self.split));
        if let Some([d, h, w]) = spacing_mm {
            path.push(format!("@{d}x{h}x{w}"));
        }
        if let Some(axes) = axes {
            path.push(format!(",{}", letters(axes)));
        }
        path.into()
    }
}

/// One image of an archive: `FILE.npz:train#12@0.5x0.5x0.5,SPL`.
struct ArchiveScan {
    of: ArchiveSplit,
    index: usize,
    geometry: ArrayGeometry,
}

impl ArchiveScan {
    fn parse(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (of, rest) = name.rsplit_once('#')?;
        let of = ArchiveSplit::parse(&path.with_file_name(of)).filter(|of| !of.split.is_empty())?;
        let (rest, axes) = match rest.split_once(',') {
            Some((rest, axes)) => (rest, Some(directions(axes)?)),
            None => (rest, None),
        };
        let (index, spacing_mm) = match rest.split_once('@') {
            Some((index, mm)) => {
                let mm: Option<Vec<f64>> = mm.split('x').map(|v| v.parse().ok()).collect();
                (index, Some(mm?.try_into().ok()?))
            }
            None => (rest, None),
        };
        Some(Self { of, index: index.parse().ok()?, geometry: ArrayGeometry { spacing_mm, axes } })
    }

    /// Voxels with W fastest, and their shape W, H, D.
    fn voxels(&self, limits: &ReadLimits) -> Result<(Vec<u8>, [usize; 3]), VolumeError> {
        let (file, name) = (&self.of.file, self.of.images());
        let images = kept(file, &name, limits)?;
        let (n, [d, h, w]) = scans_of(file, &name, &images.0)?;
        if self.index >= n {
            return Err(refused(file, format!("`{name}` of {n} images, asked for index {}", self.index)));
        }
        let size = d * h * w;
        Ok((images.1[self.index * size..][..size].to_vec(), [w, h, d]))
    }

    /// Of the voxels and of where they are.
    fn sha256(&self, voxels: &[u8], shape: [usize; 3]) -> String {
        hex(&Sha256::new()
            .chain_update(voxels)
            .chain_update(format!("{shape:?}{:?}", self.geometry))
            .finalize())
    }
}

fn refused(path: &Path, found: String) -> VolumeError {
    VolumeError::Content {
        path: path.to_owned(),
        found,
        expected: "arrays SPLIT_images [N, D, H, W] of uint8 and SPLIT_labels [N, C], as MedMNIST has them"
            .to_owned(),
        todo: "check the archive".to_owned(),
    }
}

fn archive(path: &Path) -> Result<zip::ZipArchive<BufReader<File>>, VolumeError> {
    let file = File::open(path).map_err(|source| VolumeError::Read { path: path.to_owned(), source })?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| refused(path, format!("no NumPy archive ({e})")))
}

/// Splits that the archive has images of.
fn splits(path: &Path) -> Result<Vec<String>, VolumeError> {
    let archive = archive(path)?;
    let mut found: Vec<String> = archive
        .file_names()
        .flatten()
        .filter_map(|n| Some(n.strip_suffix("_images.npy")?.to_owned()))
        .collect();
    found.sort();
    Ok(found)
}

/// Opens an array, reads its header, and hands over what comes behind it.
fn with_array<T>(
    path: &Path,
    name: &str,
    f: impl FnOnce(Header, &mut dyn std::io::Read) -> Result<T, String>,
) -> Result<T, VolumeError> {
    let mut archive = archive(path)?;
    let Ok(mut member) = archive.by_name(&format!("{name}.npy")) else {
        let there = splits(path)?;
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        return Err(refused(path, format!("no array `{name}`; splits with images: {there}")));
    };
    let read = Header::read(&mut member).and_then(|header| f(header, &mut member));
    read.map_err(|found| refused(path, format!("`{name}`: {found}")))
}

fn header_of(path: &Path, name: &str) -> Result<Header, VolumeError> {
    with_array(path, name, |header, _| Ok(header))
}

fn array(path: &Path, name: &str, room: MemoryBudget) -> Result<(Header, Vec<u8>), VolumeError> {
    with_array(path, name, |header, mut rest| {
        let data = header.data(&mut rest, room.bytes)?;
        Ok((header, data))
    })
}

/// Number and shape D, H, W of the images.
fn scans_of(path: &Path, name: &str, header: &Header) -> Result<(usize, [usize; 3]), VolumeError> {
    match (header.dtype.as_str(), &header.shape[..]) {
        ("|u1" | "|b1", &[n, d, h, w]) if d > 0 && h > 0 && w > 0 => Ok((n, [d, h, w])),
        (dtype, shape) => Err(refused(path, format!("`{name}` of {shape:?} and type `{dtype}`"))),
    }
}

/// A decoded array, when its file was changed last, and whose it is.
type DecodedArray = (PathBuf, String, Option<SystemTime>, Arc<(Header, Vec<u8>)>);

static ARRAYS: Mutex<Vec<DecodedArray>> = Mutex::new(Vec::new());

/// An array that was decoded before, or is now.
fn kept(path: &Path, name: &str, limits: &ReadLimits) -> Result<Arc<(Header, Vec<u8>)>, VolumeError> {
    let changed = std::fs::metadata(path).and_then(|m| m.modified()).ok();
    // Held while it is decoded: the threads that wait want the same.
    let mut arrays = ARRAYS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., found)) = arrays.iter().find(|(p, n, t, _)| p == path && n == name && *t == changed) {
        return Ok(found.clone());
    }
    let found = Arc::new(array(path, name, limits.room)?);
    arrays.retain(|(p, n, ..)| p != path || n != name);
    arrays.insert(0, (path.to_owned(), name.to_owned(), changed, found.clone()));
    arrays.truncate(KEPT);
    Ok(found)
}

/// NumPy archives as a source of scans.
pub(crate) struct Npz;

impl Source for Npz {
    fn name(&self) -> &'static str {
        "NumPy archive"
    }

    /// A scan is an index of a split, not a file.
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }

    fn identify(&self, path: &ScanPath, _: &[u8]) -> Option<ToldBy> {
        ArchiveScan::parse(&path.file).filter(|scan| scan.of.file.is_file()).map(|_| ToldBy::Content)
    }

    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        let scan = asked(path)?;
        let (bytes, shape) = scan.voxels(limits)?;
        let needed = bytes.len().saturating_mul(2 * size_of::<f32>());
        limits.allow(&path.file, needed, || format!("{shape:?} voxels"))?;
        let mut voxels = reserved(bytes.len()).map_err(VolumeError::no_memory(&path.file, "its voxels"))?;
        voxels.extend(bytes.iter().map(|v| f32::from(*v)));
        let sha256 = scan.sha256(&bytes, shape);
        let ArrayGeometry { spacing_mm, axes } = scan.geometry;
        let affine = affine(spacing_mm.unwrap_or([1.0; 3]), axes);
        limits.geometry.check(&path.file, "as it was given", &affine, shape)?;
        let mut warnings = Vec::new();
        if spacing_mm.is_none() {
            warnings.push("spacing unknown: the archive does not say; taken as 1 mm".to_owned());
        }
        if axes.is_none() {
            let text = "orientation unknown: the archive does not say; W, H, D taken as right, front, head";
            warnings.push(text.to_owned());
        }
        let forms = Forms::of_affine(&affine);
        let stored = Stored { voxels, shape, affine, forms, sha256, modality: None, warnings };
        Scan::assemble(path.file.clone(), stored, limits.content)
    }

    fn files(&self, path: &ScanPath) -> Vec<PathBuf> {
        ArchiveScan::parse(&path.file).map_or_else(Vec::new, |scan| vec![scan.of.file])
    }

    fn digest(&self, path: &ScanPath) -> Result<String, VolumeError> {
        let scan = asked(path)?;
        let (bytes, shape) = scan.voxels(&ReadLimits::of_process())?;
        Ok(scan.sha256(&bytes, shape))
    }

    fn estimate(&self, path: &ScanPath) -> Option<usize> {
        let scan = ArchiveScan::parse(&path.file)?;
        let header = header_of(&scan.of.file, &scan.of.images()).ok()?;
        let [d, h, w] = scans_of(&scan.of.file, "", &header).ok()?.1;
        [d, h, w].into_iter().try_fold(2 * size_of::<f32>(), |n, d| n.checked_mul(d))
    }
}

fn asked(path: &ScanPath) -> Result<ArchiveScan, VolumeError> {
    ArchiveScan::parse(&path.file).ok_or_else(|| {
        refused(&path.file, "a path that names no image; FILE.npz:SPLIT#INDEX does".to_owned())
    })
}

/// Of voxels stored along W, H, D; without directions these are R, A, S. The grid's centre is the origin.
fn affine([d, h, w]: [f64; 3], axes: Option<[Direction; 3]>) -> Affine {
    let [to_d, to_h, to_w] = axes.unwrap_or([(2, false), (1, false), (0, false)]);
    let mut m = [[0.0; 4]; 4];
    for (column, ((axis, back), mm)) in [(to_w, w), (to_h, h), (to_d, d)].into_iter().enumerate() {
        m[axis.min(2)][column] = if back { -mm } else { mm };
    }
    m[3][3] = 1.0;
    Affine(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_archive_with_a_split_is_one_and_only_an_index_of_it_a_scan() {
        let split = |text: &str| ArchiveSplit::parse(Path::new(text)).map(|s| (s.file, s.split));
        assert_eq!(split("a/b.npz:train"), Some(("a/b.npz".into(), "train".into())));
        assert_eq!(split("a/b.NPZ"), Some(("a/b.NPZ".into(), String::new())));
        for other in ["a/b.csv", "a/b.npz:", "a/b.npz:x/y", "a:train", "b.npz:a b"] {
            assert_eq!(split(other), None, "{other}");
        }
        let scan = ArchiveScan::parse(Path::new("a/b.npz:val#12@0.5x1x2,SPL")).unwrap();
        assert_eq!((scan.index, scan.of.split.as_str()), (12, "val"));
        assert_eq!(scan.geometry.spacing_mm, Some([0.5, 1.0, 2.0]));
        assert_eq!(letters(scan.geometry.axes.unwrap()), "SPL");
        for other in ["b.npz:val", "b.npz#1", "b.npz:val#x", "b.npz:val#1@1x2", "b.npz:val#1,SSL"] {
            assert!(ArchiveScan::parse(Path::new(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn directions_are_three_different_axes() {
        assert_eq!(directions("SPL").map(letters), Some("SPL".to_owned()));
        for wrong in ["", "RA", "RAX", "RRS", "RLS", "RASS", "ras"] {
            assert_eq!(directions(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_affine_runs_where_the_letters_say_with_the_spacing_of_each_axis() {
        let affine = affine([3.0, 2.0, 1.0], directions("SPL"));
        assert_eq!((affine.orientation().as_str(), affine.spacing()), ("LPS", [1.0, 2.0, 3.0]));
    }
}
