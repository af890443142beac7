//! One pass over the headers of a file, a folder, a zip or a DICOMDIR.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use crate::error::{DicomError, ErrorKind, Result};
use crate::headers::{InstanceHeader, read_header, with_whole_file};
use crate::limits::Limits;
use crate::series::{Study, studies_of};
use crate::source::{Prefix, Source, open_zip};
use crate::tags::{DirectoryRecordSequence, ReferencedFileID};

const DIRECTORY_CLASS: &str = "1.2.840.10008.1.3.10";

/// What a path holds.
pub struct Scan {
    /// Sorted by UID.
    pub studies: Vec<Study>,
    /// Files that are no DICOM, counted by kind, such as `text` → 3.
    pub other_files: BTreeMap<&'static str, usize>,
    /// Files that are DICOM, and why their headers could not be read.
    pub unreadable: Vec<DicomError>,
    /// DICOM files whose headers were read.
    pub instances: usize,
    pub(crate) sources: Vec<Source>,
}

/// What the start of one file is.
enum Found {
    Instance(Box<InstanceHeader>),
    Other(&'static str),
    Unreadable(DicomError),
}

/// Reads the headers of everything below `path`: a file, a folder to any depth, a zip, or a DICOMDIR.
///
/// Files are read in parallel on rayon's current pool, up to their pixel data. A folder's DICOMDIR is not used: its
/// files are found by walking.
///
/// # Errors
/// Only where the path as a whole cannot be read ([`ErrorKind::Io`], [`ErrorKind::RefusedArchive`],
/// [`ErrorKind::AboveLimit`]) or is a single file that is refused. A file among others never fails the scan: see
/// [`Scan::unreadable`].
pub fn scan(path: &Path, limits: &Limits) -> Result<Scan> {
    let kind = fs::metadata(path).map_err(|e| DicomError::io(&e).in_file(path))?;
    let (sources, single) = if kind.is_dir() {
        let mut files = Vec::new();
        walk(path, limits, limits.depth, &mut HashSet::new(), &mut files)?;
        files.sort();
        (files.into_iter().map(Source::File).collect(), false)
    } else {
        match kind_of_file(path)? {
            "zip" => (open_zip(path, limits)?, false),
            _ => match directory_members(path, limits)? {
                Some(members) => (members, false),
                None => (vec![Source::File(path.to_path_buf())], true),
            },
        }
    };
    let found: Vec<Found> = sources.par_iter().map(|source| look_at(source, limits)).collect();
    let (mut headers, mut other_files, mut unreadable) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (file, found) in found.into_iter().enumerate() {
        match found {
            Found::Instance(mut header) => {
                header.file = file;
                headers.push(*header);
            }
            Found::Other(kind) => *other_files.entry(kind).or_insert(0) += 1,
            Found::Unreadable(error) => unreadable.push(error),
        }
    }
    if single && headers.is_empty() {
        let not_dicom = || {
            let message = match other_files.keys().next() {
                Some(&"DICOMDIR") => "is a DICOMDIR that names no files below its folder".to_owned(),
                Some(kind) => format!("is no DICOM file and no zip; its first bytes say: {kind}"),
                None => "is no DICOM file".to_owned(),
            };
            DicomError::new(ErrorKind::NotDicom, message).in_file(path)
        };
        return Err(unreadable.pop().unwrap_or_else(not_dicom));
    }
    let instances = headers.len();
    Ok(Scan { studies: studies_of(headers, limits), other_files, unreadable, instances, sources })
}

fn look_at(source: &Source, limits: &Limits) -> Found {
    match read_header(source, limits) {
        Ok(header) if header.sop_class == DIRECTORY_CLASS => Found::Other("DICOMDIR"),
        Ok(header) => Found::Instance(Box::new(header)),
        Err(e) if e.kind == ErrorKind::NotDicom => {
            let kind = source.read_prefix(512, |bytes, complete| match complete || bytes.len() >= 512 {
                true => Ok(Prefix::Enough(kind_of(bytes))),
                false => Ok(Prefix::Need(512)),
            });
            Found::Other(kind.unwrap_or("unknown"))
        }
        Err(e) => Found::Unreadable(e),
    }
}

/// All files below a folder. Links are followed, each folder once.
fn walk(
    folder: &Path,
    limits: &Limits,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<()> {
    let io = |e: std::io::Error| DicomError::io(&e).in_file(folder);
    if depth == 0 {
        let message = format!("is nested deeper than {} folders", limits.depth);
        return Err(DicomError::new(ErrorKind::AboveLimit, message).in_file(folder));
    }
    if !seen.insert(fs::canonicalize(folder).map_err(io)?) {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        // A broken link is no file; what cannot be read is told when it is opened.
        let Ok(kind) = fs::metadata(&path) else { continue };
        if kind.is_dir() {
            walk(&path, limits, depth - 1, seen, files)?;
        } else if kind.is_file() {
            if files.len() == limits.files {
                let message = format!("holds more than {} files", limits.files);
                return Err(DicomError::new(ErrorKind::AboveLimit, message).in_file(folder));
            }
            files.push(path);
        }
    }
    Ok(())
}

/// The files that a DICOMDIR names; `None` where the file is no DICOMDIR.
fn directory_members(path: &Path, limits: &Limits) -> Result<Option<Vec<Source>>> {
    let source = Source::File(path.to_path_buf());
    match read_header(&source, limits) {
        Ok(header) if header.sop_class == DIRECTORY_CLASS => {}
        // Some directories have no SOP class in their data set, and all have no pixels.
        Ok(header) if header.sop_class.is_empty() && header.pixels.is_none() => {}
        _ => return Ok(None),
    }
    let names = with_whole_file(&source, limits, |data, _, _| {
        let records = data.items(DirectoryRecordSequence)?;
        Ok(records.iter().map(|r| r.texts(ReferencedFileID)).filter(|f| !f.is_empty()).collect::<Vec<_>>())
    })?;
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() > limits.files {
        let message = format!("names {} files, the limit is {}", names.len(), limits.files);
        return Err(DicomError::new(ErrorKind::AboveLimit, message).in_file(path));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut members = Vec::with_capacity(names.len());
    for parts in names {
        let relative: PathBuf = parts.iter().collect();
        // A directory may name files below its folder only.
        if relative.components().all(|c| matches!(c, Component::Normal(_))) {
            members.push(Source::File(existing(folder, &relative)));
        }
    }
    Ok(Some(members))
}

/// Media copied by other systems have their names in lower case.
fn existing(folder: &Path, relative: &Path) -> PathBuf {
    let path = folder.join(relative);
    let lower = folder.join(relative.to_string_lossy().to_lowercase());
    if !path.exists() && lower.exists() { lower } else { path }
}

fn kind_of_file(path: &Path) -> Result<&'static str> {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|f| {
        use std::io::Read;
        f.take(512).read_to_end(&mut start)
    });
    read.map_err(|e| DicomError::io(&e).in_file(path))?;
    Ok(kind_of(&start))
}

/// A word for a file that is not DICOM, by its first bytes.
fn kind_of(bytes: &[u8]) -> &'static str {
    const MAGIC: [(&[u8], &str); 12] = [
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
        (b"\x1F\x8B", "gzip"),
        (b"%PDF", "PDF"),
        (b"\x89PNG", "PNG"),
        (b"\xFF\xD8\xFF", "JPEG"),
        (b"GIF8", "GIF"),
        (b"BM", "BMP"),
        (b"MZ", "program"),
        (b"\x7FELF", "program"),
        (b"NRRD", "NRRD"),
        (b"ObjectType", "MetaImage"),
    ];
    if bytes.is_empty() {
        return "empty";
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return kind;
    }
    if matches!(bytes.get(344..348), Some(b"n+1\0" | b"ni1\0")) {
        return "NIfTI";
    }
    let text = bytes.iter().all(|b| *b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'));
    if text { "text" } else { "unknown" }
}
