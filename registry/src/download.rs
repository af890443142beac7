//! An archive on its way: into a file named by its digest, going on where it was interrupted, and never longer than the
//! index says.

use crate::digest::sha256_of_file;
use crate::error::{RegistryError, Result};
use crate::index::Release;
use crate::store::{Sink, Store};
use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts that bring nothing new before giving up.
const ATTEMPTS: u32 = 3;

/// Downloads the complete archive with the digest of the index into `folder`. The caller removes it. `progress` receives
/// the bytes so far. The caller holds a lock, so that nobody else writes to the same file.
///
/// # Errors
/// When the store does not have the archive, or gives more or other bytes; when the disk is full.
pub(crate) fn fetch(
    store: &dyn Store,
    release: &Release,
    folder: &Path,
    progress: &dyn Fn(u64),
) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(RegistryError::io(folder, "cannot be made"))?;
    let path = folder.join(format!("{}.part", release.sha256));
    let resumed = std::fs::metadata(&path).is_ok_and(|m| m.len() > 0);
    match download_whole(store, release, &path, progress) {
        // What lay there from before may have been damaged since.
        Err(RegistryError::Digest { .. }) if resumed => download_whole(store, release, &path, progress)?,
        other => other?,
    }
    Ok(path)
}

fn download_whole(store: &dyn Store, release: &Release, path: &Path, progress: &dyn Fn(u64)) -> Result<()> {
    let io = |e| RegistryError::io(path, "cannot be written")(e);
    let name = release.archive();
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
    let mut fruitless = 0;
    loop {
        let have = file.metadata().map_err(io)?.len();
        if have == release.bytes {
            break;
        }
        let from = if have < release.bytes { have } else { 0 };
        let mut part = Part { file: &file, at: 0, most: release.bytes, failure: None, progress };
        let got = store.fetch(&name, from, &mut part);
        if let Some(failure) = part.failure.take() {
            // Half an archive on a full disk helps nobody.
            if failure.kind() == ErrorKind::StorageFull || failure.kind() == ErrorKind::FileTooLarge {
                let _ = std::fs::remove_file(path);
                return Err(io(failure));
            }
            let _ = std::fs::remove_file(path);
            let reason = format!("{name}: {failure}");
            return Err(RegistryError::store(store.address(), reason));
        }
        let problem = match got {
            Ok(true) if part.at == release.bytes => break,
            Ok(true) => RegistryError::store(
                store.address(),
                format!("{name}: ended after {} of {} bytes", part.at, release.bytes),
            ),
            Ok(false) => {
                let _ = std::fs::remove_file(path);
                let reason =
                    format!("{name}: in the index and not in the store; does a mirror leave it out?");
                return Err(RegistryError::store(store.address(), reason));
            }
            Err(e) => e,
        };
        fruitless = if part.at > have { 0 } else { fruitless + 1 };
        if fruitless >= ATTEMPTS {
            return Err(problem);
        }
        tracing::info!("{problem}; going on from there");
        std::thread::sleep(Duration::from_millis(200 << fruitless));
    }
    let (found, _) = sha256_of_file(path)?;
    if found != release.sha256 {
        let _ = std::fs::remove_file(path);
        let what = format!("{}: {name}", store.address());
        return Err(RegistryError::Digest { what, found, expected: release.sha256.clone() });
    }
    Ok(())
}

struct Part<'a> {
    file: &'a File,
    at: u64,
    most: u64,
    failure: Option<io::Error>,
    progress: &'a dyn Fn(u64),
}

impl Part<'_> {
    /// The error stays here, so that a full disk is not taken for a broken connection.
    fn keep(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|e| {
            let told = io::Error::new(e.kind(), e.to_string());
            self.failure = Some(e);
            told
        })
    }
}

impl Sink for Part<'_> {
    fn begin(&mut self, at: u64) -> io::Result<()> {
        let go = |mut file: &File| file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at))).map(drop);
        let done = go(self.file);
        self.keep(done)?;
        self.at = at;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let done = if bytes.len() as u64 > self.most - self.at {
            Err(io::Error::other(format!("goes on behind the {} bytes that the index says", self.most)))
        } else {
            let mut file = self.file;
            file.write_all(bytes)
        };
        self.keep(done)?;
        self.at += bytes.len() as u64;
        (self.progress)(self.at);
        Ok(())
    }
}
