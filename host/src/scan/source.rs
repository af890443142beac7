//! Formats that scans are read from. A new format is one more [`Source`] in [`sources`].

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::fs::hex;
use crate::scan::dicom::{self, Dicom};
use crate::scan::limits::ReadLimits;
use crate::scan::metaimage::MetaImage;
use crate::scan::nifti::Nifti;
use crate::scan::npz::Npz;
use crate::scan::nrrd::Nrrd;
use crate::scan::{Scan, VolumeError};

/// Between a path and the series that is meant of it.
const SERIES: &str = "#series=";

/// A path as it was given: a file or a folder, and the one series that is meant of it.
///
/// `FOLDER#series=1.2.3` names the series with the UID 1.2.3. Everything that touches the disk goes through `file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPath {
    /// What lies on the disk.
    pub file: PathBuf,
    /// UID of a series in it.
    pub series: Option<String>,
}

impl ScanPath {
    /// Splits a given path. Only a UID (digits and points, 64 at most) is split off, so that a file may have a `#` in its name.
    pub fn parse(path: &Path) -> Self {
        let whole = || Self { file: path.to_path_buf(), series: None };
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { return whole() };
        let Some((name, uid)) = name.rsplit_once(SERIES) else { return whole() };
        let is_uid = (1..=64).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !is_uid {
            return whole();
        }
        // `folder/#series=1.2` is as good as `folder#series=1.2`; without a folder it is this one.
        let file = match (name, path.parent()) {
            ("", Some(parent)) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            ("", _) => PathBuf::from("."),
            (name, _) => path.with_file_name(name),
        };
        Self { file, series: Some(uid.to_owned()) }
    }

    /// Refuses a series named in a file of a format that holds one scan.
    ///
    /// # Errors
    /// [`VolumeError::Content`].
    pub(crate) fn expect_no_series(&self, format: &str) -> Result<(), VolumeError> {
        if self.series.is_none() || !self.file.is_file() {
            return Ok(());
        }
        Err(VolumeError::Content {
            path: self.joined(),
            found: format!("a series named in a {format} file"),
            expected: "the file alone, which holds one scan".into(),
            todo: "leave out what follows `#`".into(),
        })
    }

    /// As it would be given: the opposite of [`Self::parse`].
    pub fn joined(&self) -> PathBuf {
        match &self.series {
            None => self.file.clone(),
            Some(uid) => {
                let mut path = self.file.clone().into_os_string();
                path.push(SERIES);
                path.push(uid);
                path.into()
            }
        }
    }
}

impl std::fmt::Display for ScanPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.joined().display())
    }
}

/// How a source knows a path as its own. The content counts for more than the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToldBy {
    /// The extension alone.
    Name,
    /// The first bytes, or what lies in a folder.
    Content,
}

/// One format of scans.
pub trait Source: Sync {
    /// The format's name, for messages.
    fn name(&self) -> &'static str;

    /// Extensions of its files in lower case, with their point; of two that fit a name the longer stands first.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a path is of this format. `start` has the first bytes of a file as they are stored ([`START`] at most); it is
    /// empty for a folder and for what cannot be read.
    fn identify(&self, path: &ScanPath, start: &[u8]) -> Option<ToldBy>;

    /// Reads a scan. What it asks for is compared with the limits before any of it is allocated.
    ///
    /// # Errors
    /// As [`Scan::open`].
    fn open(&self, path: &ScanPath, limits: &ReadLimits) -> Result<Scan, VolumeError>;

    /// Files that the scan is made of, as far as they are there, in the order in which [`Self::digest`] reads them.
    fn files(&self, path: &ScanPath) -> Vec<PathBuf>;

    /// SHA-256 of the scan's files, lower-case hex; the same as [`Scan::sha256`] of the scan that is read from them.
    ///
    /// # Errors
    /// [`VolumeError::Read`] names the file that cannot be read.
    fn digest(&self, path: &ScanPath) -> Result<String, VolumeError> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        for path in self.files(path) {
            let mut hashed = || -> io::Result<()> {
                let mut file = File::open(&path)?;
                loop {
                    match file.read(&mut buffer)? {
                        0 => return Ok(()),
                        n => hash.update(&buffer[..n]),
                    }
                }
            };
            hashed().map_err(|source| VolumeError::Read { path: path.clone(), source })?;
        }
        Ok(hex(&hash.finalize()))
    }

    /// Most bytes of memory that the scan takes while it is read and sliced. `None` where its header cannot be read; reading
    /// the scan tells why.
    fn estimate(&self, path: &ScanPath) -> Option<usize>;

    /// The cases of a folder that is wholly of this format: one for each series, say. `None` leaves the folder to be listed
    /// file by file.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn cases_in(&self, _folder: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }
}

/// Bytes of a file that [`Source::identify`] sees at most: enough of a gzipped header.
pub const START: usize = 4096;

/// All formats, the one first that reads what no other knows and says what was found.
pub fn sources() -> &'static [&'static dyn Source] {
    &[&Nifti, &Dicom, &Nrrd, &MetaImage, &Npz]
}

/// The source that reads a path: by its content, else by its name, else the first.
pub fn source_of(path: &ScanPath) -> &'static dyn Source {
    let mut start = Vec::new();
    if path.file.is_file()
        && let Ok(file) = File::open(&path.file)
        && file.take(START as u64).read_to_end(&mut start).is_err()
    {
        start.clear();
    }
    let told = |source: &&'static dyn Source| Some((source.identify(path, &start)?, *source));
    let mut best: Option<(ToldBy, &'static dyn Source)> = None;
    for (by, source) in sources().iter().filter_map(told) {
        if best.is_none_or(|(than, _)| by > than) {
            best = Some((by, source));
        }
    }
    best.map_or(sources()[0], |(_, source)| source)
}

/// The extension of a scan's name as a source lists it, if it has one.
pub fn extension_of(path: &Path) -> Option<&'static str> {
    by_name(&ScanPath::parse(path)).map(|(_, extension)| extension)
}

fn by_name(path: &ScanPath) -> Option<(&'static dyn Source, &'static str)> {
    let name = path.file.file_name()?.to_string_lossy().to_lowercase();
    let all = sources().iter().flat_map(|source| source.extensions().iter().map(|e| (*source, *e)));
    all.filter(|(_, e)| name.ends_with(e)).max_by_key(|(_, e)| e.len())
}

/// A scan's name without its extension, and with its series: what its case is called. Two series of a folder differ.
pub fn stem_of(path: &Path) -> String {
    let ScanPath { file, series } = ScanPath::parse(path);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = match extension_of(&file) {
        Some(extension) => name.get(..name.len() - extension.len()).unwrap_or(&name).to_owned(),
        None if file.is_dir() => name.into_owned(),
        None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    match series {
        Some(uid) => format!("{stem}-{uid}"),
        None => stem,
    }
}

/// The files a scan is made of, as far as they are there. A name that tells the format is believed, for this is asked often.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let path = ScanPath::parse(path);
    by_name(&path).map_or_else(|| source_of(&path), |(source, _)| source).files(&path)
}

/// Bytes that a scan takes at most while it is read and sliced; `None` where its header cannot be read.
pub fn memory_of(path: &Path) -> Option<usize> {
    let path = ScanPath::parse(path);
    source_of(&path).estimate(&path)
}

/// SHA-256 of a scan's files, lower-case hex, without reading its voxels.
///
/// # Errors
/// [`VolumeError::Read`] names the file that cannot be read.
pub fn digest_of(path: &Path) -> Result<String, VolumeError> {
    let path = ScanPath::parse(path);
    source_of(&path).digest(&path)
}

/// Whether there is something at a scan's path, whichever series of it is meant.
pub fn exists(path: &Path) -> bool {
    dicom::Locator::of(path).root.exists()
}

/// The scans of a folder, sorted by path: as a source claims them, else each file with an extension of a scan; hidden files
/// are passed over, and of a scan of several files the first stands for all.
///
/// # Errors
/// When the folder cannot be read.
pub fn scans_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    for source in sources() {
        if let Some(cases) = source.cases_in(folder)? {
            return Ok(cases);
        }
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && extension_of(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    files.retain(|file| files_of(file).first().is_none_or(|first| first == file));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_uid_is_split_off_a_path() {
        let parse = |path: &str| {
            let ScanPath { file, series } = ScanPath::parse(Path::new(path));
            (file.to_string_lossy().into_owned(), series)
        };
        let whole = |path: &str| (path.to_owned(), None);
        let uid = |file: &str| (file.to_owned(), Some("1.2.840".to_owned()));
        assert_eq!(parse("study/ct#series=1.2.840"), uid("study/ct"));
        assert_eq!(parse("study/#series=1.2.840"), uid("study"));
        assert_eq!(parse("#series=1.2.840"), uid("."));
        assert_eq!(parse("a#series=1/b.zip#series=1.2.840"), uid("a#series=1/b.zip"));
        for path in ["scan.nii.gz", "a#series=", "a#series=x1", "a#series=1.2/b.nii", "a#b.nii"] {
            assert_eq!(parse(path), whole(path));
        }
        let path = Path::new("study/ct#series=1.2.840");
        assert_eq!(ScanPath::parse(path).joined(), path);
        assert_eq!(ScanPath::parse(path).to_string(), "study/ct#series=1.2.840");
    }

    #[test]
    fn a_case_is_called_by_its_files_stem() {
        let stem = |name: &str| stem_of(Path::new(name));
        assert_eq!(stem("a/scan.01.nii.gz"), "scan.01");
        assert_eq!(stem("scan.NII"), "scan");
        assert_eq!(stem("scan.img.gz"), "scan");
        assert_eq!(stem("scan.dcm"), "scan");
        assert_eq!(stem("é.nii"), "é");
        assert_eq!(stem("a/study.zip#series=1.2"), "study-1.2");
    }

    #[test]
    fn the_digest_of_a_scans_files_is_the_one_that_reading_it_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.nii.gz");
        let affine = crate::scan::Affine::aligned([1.0; 3], [0.0; 3]);
        crate::scan::write_nifti_f32(&path, &[1.0, 2.0], [2, 1, 1], &affine).unwrap();
        assert_eq!(digest_of(&path).unwrap(), Scan::open(&path).unwrap().sha256);
        let renamed = folder.path().join("a.bin");
        std::fs::rename(&path, &renamed).unwrap();
        let start = std::fs::read(&renamed).unwrap();
        assert_eq!(Nifti.identify(&ScanPath::parse(&renamed), &start), Some(ToldBy::Content));
        assert!(Scan::open(&renamed).is_ok());
    }
}
