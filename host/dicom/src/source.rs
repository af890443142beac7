//! Where the bytes of an instance come from: a file, or a member of a zip. Nothing is ever extracted to disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zip::ZipArchive;

use crate::error::{DicomError, ErrorKind, Result};
use crate::limits::Limits;

/// One file or one zip member.
#[derive(Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Member { archive: Arc<Archive>, index: usize, name: PathBuf },
}

/// An opened zip. Its directory is read once; each reader clones it, which shares the directory.
pub(crate) struct Archive {
    zip: ZipArchive<SharedFile>,
}

/// Reads at a position of its own of a file that others read as well.
#[derive(Clone)]
struct SharedFile {
    file: Arc<File>,
    at: u64,
    length: u64,
}

impl Read for SharedFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = read_at(&self.file, out, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(unix)]
fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, at)
}

#[cfg(windows)]
fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, out, at)
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(d) => self.length.checked_add_signed(d),
            SeekFrom::Current(d) => self.at.checked_add_signed(d),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

fn zip_error(error: &zip::result::ZipError) -> DicomError {
    DicomError::new(ErrorKind::RefusedArchive, format!("the zip could not be read: {error}"))
}

/// Opens a zip and lists its members; refuses one that unpacks to too much.
pub(crate) fn open_zip(path: &Path, limits: &Limits) -> Result<Vec<Source>> {
    let file = File::open(path).map_err(|e| DicomError::io(&e).in_file(path))?;
    let length = file.metadata().map_err(|e| DicomError::io(&e).in_file(path))?.len();
    let shared = SharedFile { file: Arc::new(file), at: 0, length };
    let mut zip = ZipArchive::new(shared).map_err(|e| zip_error(&e).in_file(path))?;
    let refuse = |message: String| Err(DicomError::new(ErrorKind::RefusedArchive, message).in_file(path));
    if zip.len() > limits.files {
        return refuse(format!("the zip has {} members, the limit is {}", zip.len(), limits.files));
    }
    let (mut total, mut members) = (0_u64, Vec::new());
    for index in 0..zip.len() {
        let member = zip.by_index_raw(index).map_err(|e| zip_error(&e).in_file(path))?;
        total = total.saturating_add(member.size());
        if member.size() > limits.file_bytes {
            return refuse(format!(
                "a member unpacks to {} bytes, the limit is {}",
                member.size(),
                limits.file_bytes
            ));
        }
        if member.is_file() {
            let name = member.name().map_or_else(|_| format!("member {index}"), |n| n.into_owned());
            members.push((index, PathBuf::from(format!("{}!{name}", path.display()))));
        }
    }
    // Overlapping members and other bombs: deflate alone cannot pack real images so far.
    if total > 64 << 20 && total / limits.zip_ratio > length {
        return refuse(format!(
            "the zip of {length} bytes claims to hold {total}; more than {} times its size is refused as a bomb",
            limits.zip_ratio
        ));
    }
    let archive = Arc::new(Archive { zip });
    Ok(members
        .into_iter()
        .map(|(index, name)| Source::Member { archive: archive.clone(), index, name })
        .collect())
}

impl Source {
    /// What to call it in an error.
    pub fn name(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Member { name, .. } => name,
        }
    }

    /// Reads the start of the file, as much as `enough` asks for, at most `limit` bytes.
    ///
    /// `enough(bytes, complete)` returns `None` when satisfied, else the number of bytes it needs at least.
    pub fn read_prefix<T>(
        &self,
        limit: u64,
        mut enough: impl FnMut(&[u8], bool) -> Result<Prefix<T>>,
    ) -> Result<T> {
        self.with_reader(|reader| {
            let mut bytes = Vec::new();
            let mut want = 16 << 10;
            loop {
                let missing = (want - bytes.len()) as u64;
                reader.take(missing).read_to_end(&mut bytes).map_err(|e| DicomError::io(&e))?;
                let complete = bytes.len() < want;
                match enough(&bytes, complete)? {
                    Prefix::Enough(found) => return Ok(found),
                    Prefix::Need(_) if complete => {
                        return Err(DicomError::new(
                            ErrorKind::Truncated,
                            "the file ends inside its header; copy it again",
                        ));
                    }
                    // Doubling keeps the work of parsing again below twice the header.
                    Prefix::Need(n) => want = n.max(bytes.len() * 4),
                }
                if want as u64 > limit {
                    if bytes.len() as u64 >= limit {
                        return Err(DicomError::new(
                            ErrorKind::AboveLimit,
                            format!("the header is longer than the limit of {limit} bytes"),
                        ));
                    }
                    want = limit as usize;
                }
            }
        })
        .map_err(|e| e.in_file(self.name()))
    }

    /// All bytes.
    ///
    /// # Errors
    /// [`ErrorKind::AboveLimit`] where there are more than `limit`.
    pub fn read_whole(&self, limit: u64) -> Result<Vec<u8>> {
        let read = |reader: &mut dyn Read, stated: u64| {
            // The stated length is reserved only as far as bytes really come.
            let mut bytes = Vec::new();
            bytes.reserve_exact(stated.min(limit).min(64 << 20) as usize + 1);
            reader.take(limit + 1).read_to_end(&mut bytes).map_err(|e| DicomError::io(&e))?;
            if bytes.len() as u64 > limit {
                return Err(DicomError::new(
                    ErrorKind::AboveLimit,
                    format!("holds more than the limit of {limit} bytes"),
                ));
            }
            Ok(bytes)
        };
        let bytes = match self {
            Self::File(path) => {
                let open = || {
                    let file = File::open(path)?;
                    let length = file.metadata()?.len();
                    Ok((file, length))
                };
                let opened = open().map_err(|e: io::Error| DicomError::io(&e));
                opened.and_then(|(mut file, length)| read(&mut file, length))
            }
            Self::Member { archive, index, .. } => {
                let mut zip = archive.zip.clone();
                let member = zip.by_index(*index).map_err(|e| zip_error(&e).in_file(self.name()))?;
                // The size in the directory was checked; what comes may not be longer.
                let size = member.size();
                read(&mut member.take(size), size)
            }
        };
        bytes.map_err(|e| e.in_file(self.name()))
    }

    fn with_reader<T>(&self, work: impl FnOnce(&mut dyn Read) -> Result<T>) -> Result<T> {
        match self {
            Self::File(path) => work(&mut File::open(path).map_err(|e| DicomError::io(&e))?),
            Self::Member { archive, index, .. } => {
                let mut zip = archive.zip.clone();
                let member = zip.by_index(*index).map_err(|e| zip_error(&e))?;
                // The size in the directory was checked; what comes may not be longer.
                let size = member.size();
                work(&mut member.take(size))
            }
        }
    }
}

/// What a look at the first bytes came to.
pub(crate) enum Prefix<T> {
    Enough(T),
    /// At least this many bytes are needed.
    Need(usize),
}
