//! The archive: a zstd-compressed ustar of `package.json`, its signature, then exactly the files that it names.
//!
//! The reader trusts nothing. Before it verifies the signature it reads only `package.json` and the signature. Every
//! further entry must be a plain file with the name, size and digest that `package.json` gives.

use super::{MANIFEST, MANIFEST_LIMIT, PackageFile, PackageManifest, SIGNATURE, SIGNATURE_LIMIT, check_path};
use crate::digest::{Hashing, sha256};
use crate::error::{RegistryError, Result};
use crate::home::sync_folder;
use crate::key::SecretKey;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What an archive may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all files together.
    pub unpacked: u64,
    /// Number of files.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked: 4 << 30, files: 1000 }
    }
}

/// What came out of an archive.
#[derive(Debug, Clone)]
pub struct Unpacked {
    /// What it says of itself.
    pub manifest: PackageManifest,
    /// Digest of `package.json`.
    pub manifest_sha256: String,
}

/// Largest window that a decoder keeps in memory: 2^27 bytes, zstd's own default for reading.
const WINDOW_LOG: u32 = 27;
const LEVEL: i32 = 12;

/// Writes an archive; returns its digest and size.
///
/// # Errors
/// When a file differs from its entry in the manifest, or the archive cannot be written.
pub fn pack(
    manifest: &PackageManifest,
    sources: &BTreeMap<String, PathBuf>,
    key: &SecretKey,
    to: &Path,
) -> Result<(String, u64)> {
    let io = |e| RegistryError::io(to, "cannot be written")(e);
    let mut json = serde_json::to_vec_pretty(manifest).map_err(|e| RegistryError::form(MANIFEST, e))?;
    json.push(b'\n');
    // What would not be read is not written.
    PackageManifest::parse(&json)?;
    let comment = format!("{} {} {}", manifest.name, manifest.version, manifest.target);
    let signature = key.sign(&json, &comment)?;

    let file = File::create(to).map_err(io)?;
    let mut hashing = Hashing::new(file.try_clone().map_err(io)?);
    let encoder = zstd::Encoder::new(&mut hashing, LEVEL).map_err(io)?;
    let mut tar = tar::Builder::new(encoder);
    tar.mode(tar::HeaderMode::Deterministic);
    append(&mut tar, MANIFEST, json.len() as u64, &json[..]).map_err(io)?;
    append(&mut tar, SIGNATURE, signature.len() as u64, signature.as_bytes()).map_err(io)?;
    for entry in &manifest.files {
        let source =
            sources.get(&entry.path).ok_or_else(|| RegistryError::form(&entry.path, "no such part"))?;
        let part = File::open(source).map_err(RegistryError::io(source, "cannot be read"))?;
        let mut part = Hashing::new(part.take(entry.bytes));
        append(&mut tar, &entry.path, entry.bytes, &mut part).map_err(io)?;
        let found = part.finish();
        if found != entry.sha256 {
            let (what, expected) = (source.display().to_string(), entry.sha256.clone());
            return Err(RegistryError::Digest { what, found, expected });
        }
    }
    tar.into_inner().and_then(zstd::Encoder::finish).map_err(io)?;
    let sha256 = hashing.finish();
    file.sync_all().map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    Ok((sha256, bytes))
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    bytes: u64,
    content: impl Read,
) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_path(path)?;
    header.set_cksum();
    tar.append(&header, content)
}

/// Reads an archive into an empty folder. `accept` sees `package.json` and the signature before anything is written,
/// and answers with the manifest, or refuses.
///
/// # Errors
/// When `accept` refuses, the archive breaks a rule, or the disk is full. The caller must then delete the folder's
/// content.
pub fn unpack(
    name: &str,
    reader: impl Read,
    into: &Path,
    limits: Limits,
    accept: &mut dyn FnMut(&[u8], &str) -> Result<PackageManifest>,
) -> Result<Unpacked> {
    let refuse = |reason: String| RegistryError::Archive { archive: name.to_owned(), reason };
    let broken = |e: std::io::Error| refuse(format!("cannot be read ({e})"));
    let mut decoder = zstd::Decoder::new(reader).map_err(broken)?;
    decoder.window_log_max(WINDOW_LOG).map_err(broken)?;
    let allowance = Rc::new(Cell::new(size_of_entries([MANIFEST_LIMIT, SIGNATURE_LIMIT].into_iter())));
    let mut archive = tar::Archive::new(Rationed { inner: decoder, left: Rc::clone(&allowance) });
    let mut entries = archive.entries().map_err(broken)?.raw(true);

    let mut small = |wanted: &str, limit: u64| -> Result<Vec<u8>> {
        let mut entry = entries
            .next()
            .transpose()
            .map_err(broken)?
            .ok_or_else(|| refuse(format!("ends before {wanted}")))?;
        let (path, bytes) = plain(&entry).map_err(refuse)?;
        if path != wanted {
            let reason = format!("begins with `{path}`; expected {MANIFEST}, {SIGNATURE}, then the files");
            // The likeliest reason for this is worth its own words.
            return Err(if wanted == SIGNATURE {
                RegistryError::Unsigned { what: name.to_owned() }
            } else {
                refuse(reason)
            });
        }
        if bytes > limit {
            return Err(refuse(format!("{wanted} of {bytes} bytes; at most {limit} are read")));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        if content.len() as u64 != bytes {
            return Err(refuse(format!("ends in the middle of {wanted}")));
        }
        Ok(content)
    };
    let json = small(MANIFEST, MANIFEST_LIMIT)?;
    let signature = small(SIGNATURE, SIGNATURE_LIMIT)?;
    let signature = String::from_utf8(signature).map_err(|_| refuse(format!("{SIGNATURE} is not text")))?;
    let manifest = accept(&json, &signature)?;

    let unpacked =
        manifest.unpacked().filter(|&n| n <= limits.unpacked && manifest.files.len() <= limits.files);
    if unpacked.is_none() {
        let (files, most) = (manifest.files.len(), limits.files);
        return Err(refuse(format!(
            "announces {files} files and {:?} bytes; at most {most} and {} are taken",
            manifest.unpacked(),
            limits.unpacked
        )));
    }
    allowance.set(allowance.get().saturating_add(size_of_entries(manifest.files.iter().map(|f| f.bytes))));
    write(into, MANIFEST, &json)?;
    write(into, SIGNATURE, signature.as_bytes())?;

    let announced: BTreeMap<&str, &PackageFile> =
        manifest.files.iter().map(|f| (f.path.as_str(), f)).collect();
    let mut seen = BTreeSet::new();
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let (path, bytes) = plain(&entry).map_err(refuse)?;
        if path == MANIFEST || path == SIGNATURE || seen.contains(&path) {
            return Err(refuse(format!("`{path}` is in it twice")));
        }
        let file = announced.get(path.as_str());
        let file = file.ok_or_else(|| refuse(format!("`{path}` is not in {MANIFEST}")))?;
        if bytes != file.bytes {
            return Err(refuse(format!("`{path}` has {bytes} bytes, {MANIFEST} says {}", file.bytes)));
        }
        copy(name, &mut entry, into, file)?;
        seen.insert(path);
    }
    if let Some(missing) = announced.keys().find(|p| !seen.contains(**p)) {
        return Err(refuse(format!("`{missing}` is missing")));
    }
    if !ends_here(archive.into_inner()).map_err(broken)? {
        return Err(refuse("goes on behind its end".to_owned()));
    }
    for folder in announced.keys().filter_map(|p| Path::new(p).parent()) {
        let folder = into.join(folder);
        sync_folder(&folder).map_err(RegistryError::io(&folder, "cannot be written to the disk"))?;
    }
    sync_folder(into).map_err(RegistryError::io(into, "cannot be written to the disk"))?;
    Ok(Unpacked { manifest, manifest_sha256: sha256(&json) })
}

/// Whether nothing follows a tar's last entry but its two empty blocks and padding: anything else was not announced.
fn ends_here(mut rest: impl Read) -> std::io::Result<bool> {
    let mut block = [0u8; 8192];
    loop {
        match rest.read(&mut block)? {
            0 => return Ok(true),
            n if block[..n].iter().all(|&b| b == 0) => {}
            _ => return Ok(false),
        }
    }
}

/// The unverified publisher and key id of an archive. Use them only to look the key up.
///
/// # Errors
/// When it is no archive, or not signed.
pub fn signed_by(archive: &Path) -> Result<(String, String)> {
    let name = archive.display().to_string();
    let file = File::open(archive).map_err(RegistryError::io(archive, "cannot be read"))?;
    let mut said = None;
    let nowhere = Path::new("");
    // Refusing is what ends the reading before anything is written.
    let stop = || RegistryError::Archive { archive: name.clone(), reason: "enough was read".to_owned() };
    let read = unpack(&name, file, nowhere, Limits::default(), &mut |json, signature| {
        said = Some((PackageManifest::parse(json)?.publisher, crate::key::signer(&name, signature)?));
        Err(stop())
    });
    match (said, read) {
        (Some(said), _) => Ok(said),
        (None, Err(e)) => Err(e),
        (None, Ok(_)) => Err(stop()),
    }
}

/// Path and size of an entry that is a plain file with a plain path.
fn plain<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(String, u64), String> {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let shown = path.escape_debug();
    use tar::EntryType;
    let what = match entry.header().entry_type() {
        EntryType::Regular => None,
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Fifo => Some("a pipe"),
        EntryType::Directory => Some("a folder entry"),
        _ => Some("an extended entry"),
    };
    if let Some(what) = what {
        return Err(format!("`{shown}` is {what}; expected plain files alone"));
    }
    check_path(&path)?;
    let bytes = entry.header().entry_size().map_err(|e| format!("`{shown}`: no size ({e})"))?;
    Ok((path, bytes))
}

fn write(into: &Path, path: &str, bytes: &[u8]) -> Result<()> {
    let to = into.join(path);
    let io = |e| RegistryError::io(&to, "cannot be written")(e);
    let mut file = File::options().write(true).create_new(true).open(&to).map_err(io)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io)
}

fn copy(name: &str, entry: &mut impl Read, into: &Path, announced: &PackageFile) -> Result<()> {
    let to = into.join(&announced.path);
    let io = |e| RegistryError::io(&to, "cannot be written")(e);
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let refuse = |reason: String| RegistryError::Archive { archive: name.to_owned(), reason };
    let file = File::options().write(true).create_new(true).open(&to).map_err(io)?;
    let mut out = Hashing::new(&file);
    let (mut block, mut left) = (vec![0u8; 1 << 16], announced.bytes);
    while left > 0 {
        let n = entry.read(&mut block).map_err(|e| refuse(format!("cannot be read ({e})")))?;
        if n == 0 || n as u64 > left {
            return Err(refuse(format!("ends in the middle of `{}`", announced.path)));
        }
        out.write_all(&block[..n]).map_err(io)?;
        left -= n as u64;
    }
    let found = out.finish();
    file.sync_all().map_err(io)?;
    if found != announced.sha256 {
        let (what, expected) = (format!("{name}: {}", announced.path), announced.sha256.clone());
        return Err(RegistryError::Digest { what, found, expected });
    }
    Ok(())
}

/// What entries of these sizes take in a tar: a header each, padded to blocks, and the end of the archive, which
/// writers pad to 10 kB.
fn size_of_entries(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(20 << 10, |sum, n| {
        sum.saturating_add(512).saturating_add(n.checked_next_multiple_of(512).unwrap_or(u64::MAX))
    })
}

/// Ends a reader that gives more than was allowed: a few kilobytes may unpack to terabytes.
struct Rationed<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let left = self.left.get();
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 && !into.is_empty() {
            // Exactly at the end is fine.
            return match self.inner.read(&mut [0u8; 1])? {
                0 => Ok(0),
                _ => Err(std::io::Error::other("it unpacks to more than it announces")),
            };
        }
        let n = self.inner.read(&mut into[..most])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}
