//! DICOM studies as scans: which paths are DICOM, which series fills a view, and its volume as a [`Scan`].
//!
//! The format itself is read by `anymc3d-dicom`. What a caller passes on is a path with a [`Locator`]; headers of a folder
//! are read once and kept for the cases that come of it.

mod locator;
mod result_source;
mod study;

pub use locator::{Locator, SeriesName, SeriesPick};
pub use result_source::{Patient, ResultSource, series_of, write};
pub use study::{DicomInput, Unfit, ViewFill, request, resolve};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anymc3d_dicom::{DicomError, ErrorKind, Limits, Request, StackGeometry};
pub use anymc3d_dicom::{Scan as Headers, Series, Study, case_id, fit};
use anymc3d_manifest::Modality;

use crate::scan::limits::ReadLimits;
use crate::scan::nifti::Stored;
use crate::scan::source::{ScanPath, Source, ToldBy};
use crate::scan::{Affine, Forms, Scan, VolumeError};

/// Header passes that are kept: a case after the other comes of one folder.
const KEPT: usize = 4;

static HEADERS: Mutex<Vec<(PathBuf, Arc<anymc3d_dicom::Scan>)>> = Mutex::new(Vec::new());

/// The headers below a path, as they were when they were first asked for.
fn headers(root: &Path) -> Result<Arc<anymc3d_dicom::Scan>, VolumeError> {
    let known = {
        let kept = HEADERS.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(path, _)| path == root).map(|(_, scan)| scan.clone())
    };
    known.map_or_else(|| headers_anew(root), Ok)
}

fn headers_anew(root: &Path) -> Result<Arc<anymc3d_dicom::Scan>, VolumeError> {
    let scan = anymc3d_dicom::scan(root, &Limits::default()).map_err(|e| refused(root, &e))?;
    let scan = Arc::new(scan);
    let mut kept = HEADERS.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|(path, _)| path != root);
    kept.insert(0, (root.to_path_buf(), scan.clone()));
    kept.truncate(KEPT);
    Ok(scan)
}

/// File names below the path may hold a patient's name: the reason goes without them.
fn refused(path: &Path, error: &DicomError) -> VolumeError {
    let mut found = format!("{} ({})", error.without_file(), error.kind);
    if error.kind == ErrorKind::ChoiceNeeded {
        found += "; name it by --series NUMBER.STACK, or by PATH#series=NUMBER.STACK";
    }
    VolumeError::Dicom { path: path.to_path_buf(), found }
}

/// Whether a path, its locator aside, holds DICOM; told by content.
pub fn is_dicom(path: &Path) -> bool {
    Dicom.identify(&ScanPath::parse(path), &[]).is_some()
}

/// DICOM as a source of scans.
pub(crate) struct Dicom;

impl Source for Dicom {
    fn name(&self) -> &'static str {
        "DICOM"
    }

    /// Told by content alone: files of a PACS have any name or none.
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }

    /// A folder with a DICOM file at any depth, a zip, a DICOMDIR, or a DICOM file.
    fn identify(&self, path: &ScanPath, _: &[u8]) -> Option<ToldBy> {
        let root = Locator::of(&path.joined()).root;
        let is_dicom = match start(&root) {
            Start::Folder => headers(&root).is_ok_and(|scan| scan.instances > 0),
            Start::Dicom => true,
            Start::Maybe => headers(&root).is_ok(),
            Start::Other => false,
        };
        is_dicom.then_some(ToldBy::Content)
    }

    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        let path = path.joined();
        let stored = read(&path, limits)?;
        Scan::assemble(path, stored, limits.content)
    }

    /// Of a zip the zip, of a folder the files of the series.
    fn files(&self, path: &ScanPath) -> Vec<PathBuf> {
        let path = path.joined();
        let root = Locator::of(&path).root;
        if root.is_file() {
            return vec![root];
        }
        let files = |found: Found| anymc3d_dicom::files(&found.scan, found.series(), found.stack).ok();
        find(&path).ok().and_then(files).unwrap_or_else(|| vec![root])
    }

    /// Over the series' instances: see [`anymc3d_dicom::digest`].
    fn digest(&self, path: &ScanPath) -> Result<String, VolumeError> {
        let path = path.joined();
        let found = find(&path)?;
        anymc3d_dicom::digest(&found.scan, found.series(), found.stack, &Limits::default())
            .map_err(|e| refused(&path, &e))
    }

    fn estimate(&self, path: &ScanPath) -> Option<usize> {
        find(&path.joined()).ok()?.geometry().ok().map(memory)
    }
}

enum Start {
    Folder,
    /// `DICM` or a zip.
    Dicom,
    /// Some files have no preamble.
    Maybe,
    Other,
}

fn start(root: &Path) -> Start {
    use std::io::Read;
    if root.is_dir() {
        return Start::Folder;
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(root).and_then(|file| file.take(348).read_to_end(&mut bytes));
    let name = root.to_string_lossy().to_lowercase();
    let other = [".nii", ".hdr", ".img", ".csv", ".gz", ".safetensors", ".nrrd", ".nhdr", ".mha", ".mhd"]
        .iter()
        .any(|e| name.ends_with(e));
    match () {
        () if read.is_err() => Start::Other,
        () if bytes.get(128..132) == Some(b"DICM") || bytes.starts_with(b"PK\x03\x04") => Start::Dicom,
        () if other || bytes.len() < 132 || matches!(bytes.get(344..348), Some(b"n+1\0" | b"ni1\0")) => {
            Start::Other
        }
        () => Start::Maybe,
    }
}

/// One stack of what a path names.
struct Found {
    scan: Arc<anymc3d_dicom::Scan>,
    study: usize,
    series: usize,
    stack: usize,
}

impl Found {
    fn series(&self) -> &Series {
        &self.scan.studies[self.study].series[self.series]
    }

    fn geometry(&self) -> Result<&StackGeometry, DicomError> {
        self.series().stacks[self.stack].geometry.as_ref().map_err(Clone::clone)
    }
}

/// What a folder or a zip without any study holds instead.
fn nothing_in(scan: &anymc3d_dicom::Scan) -> String {
    let other: Vec<String> = scan.other_files.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    let mut told = match other.is_empty() {
        true => "no DICOM study in it".to_owned(),
        false => format!("no DICOM study in it; found files of other kinds: {}", other.join(", ")),
    };
    if scan.other_files.contains_key("zip") {
        told.push_str("; a zip in a zip or in a folder is not opened: unpack it, or name it itself");
    }
    told
}

/// The stack that a path names: without a series the one that is largest, of the only study.
fn find(path: &Path) -> Result<Found, VolumeError> {
    let locator = Locator::of(path);
    let scan = headers(&locator.root)?;
    let refuse = |found: String| Err(VolumeError::Dicom { path: path.to_path_buf(), found });
    let study = match (locator.study, scan.studies.len()) {
        (Some(n), studies) if n > studies => return refuse(format!("no study {n}; there are {studies}")),
        (Some(n), _) => n - 1,
        (None, 0) => return refuse(nothing_in(&scan)),
        (None, 1) => 0,
        (None, n) => {
            return refuse(format!("{n} studies; name one as PATH#study=1 to {n}, see `host doctor PATH`"));
        }
    };
    let of = &scan.studies[study];
    let request = Request {
        series: locator.series.as_ref().map(|pick| pick.selector(of)),
        stack: locator.series.as_ref().and_then(|pick| pick.stack),
        ..Request::default()
    };
    let choice = anymc3d_dicom::choose(of, &request).map_err(|e| refused(path, &e))?;
    Ok(Found { study, series: choice.series, stack: choice.stack, scan })
}

fn limits_of(limits: &ReadLimits) -> Limits {
    // Straightening holds the frames and the volume at once.
    Limits { volume_bytes: limits.room.bytes as u64 / 2, ..Limits::default() }
}

/// Reads the volume that a path names, and the modality that its header says.
fn read(path: &Path, limits: &ReadLimits) -> Result<Stored, VolumeError> {
    let found = find(path)?;
    let geometry = found.geometry().map_err(|e| refused(path, &e))?;
    let affine = Affine(geometry.affine().0);
    let shape = geometry.volume_dims();
    limits.geometry.check(path, "by its positions", &affine, shape)?;
    let bytes = memory(geometry);
    limits.allow(path, bytes, || format!("{} × {} × {} voxels", shape[0], shape[1], shape[2]))?;
    let (series, bounds) = (found.series(), limits_of(limits));
    let volume = anymc3d_dicom::read_volume(&found.scan, series, found.stack, &bounds)
        .map_err(|e| refused(path, &e))?;
    let modality = match series.modality.as_str() {
        "CT" => Some(Modality::CT),
        "MR" => Some(Modality::MR),
        "PT" => Some(Modality::PT),
        _ => None,
    };
    let forms = Forms::of_affine(&affine);
    let anymc3d_dicom::Volume { voxels, warnings, sha256, .. } = volume;
    Ok(Stored { voxels, shape, affine, forms, sha256, modality, warnings })
}

/// Bytes that a volume takes at most while it is read and sliced; its frames' files are read one by one.
fn memory(geometry: &StackGeometry) -> usize {
    let of = |dims: [usize; 3]| dims.iter().fold(8usize, |n, d| n.saturating_mul(*d));
    let frames = [geometry.columns, geometry.rows, geometry.slices];
    // A straight stack is decoded into its volume.
    of(geometry.volume_dims()) + if geometry.straight { 0 } else { of(frames) / 2 }
}
