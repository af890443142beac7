//! `--out`: files, and one folder per case and plugin, written aside and moved into place whole.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folder that results go to; known to be writable.
#[derive(Debug)]
pub(super) struct Output {
    root: PathBuf,
}

/// Temporary things with the permissions that any other program would give (the umask applies).
fn temporary(_mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(_mode));
    }
    builder
}

/// A folder that removes itself unless it is moved.
fn aside(parent: &Path) -> io::Result<TempDir> {
    temporary(0o777).tempdir_in(parent)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folder of a file that is to be written, and tries it.
///
/// # Errors
/// One line that names the file.
pub(super) fn try_file(file: &Path) -> Result<(), String> {
    let unwritable = |e: io::Error| format!("--out {}: cannot be written ({e})", file.display());
    if file.is_dir() {
        return Err(format!("--out {}: is a folder; give a file", file.display()));
    }
    fs::create_dir_all(folder_of(file))
        .and_then(|()| aside(folder_of(file)))
        .and_then(TempDir::close)
        .map_err(unwritable)
}

impl Output {
    /// Makes the folder and tries it.
    ///
    /// # Errors
    /// One line that names the folder.
    pub fn open(root: &Path) -> Result<Self, String> {
        let tried = fs::create_dir_all(root).and_then(|()| aside(root)).and_then(TempDir::close);
        let unwritable =
            |e| format!("--out {}: cannot be written ({e}); choose another folder", root.display());
        tried.map(|()| Self { root: root.to_owned() }).map_err(unwritable)
    }

    /// A folder beside the results that removes itself, on the same file system, by its absolute path: a plugin may
    /// change the working folder of its process.
    ///
    /// # Errors
    /// One line that names the folder.
    pub fn scratch(&self) -> Result<TempDir, String> {
        let root = std::path::absolute(&self.root);
        root.and_then(|root| aside(&root))
            .map_err(|e| format!("--out {}: cannot be written ({e})", self.root.display()))
    }

    /// Puts files right into the folder: all of them are written aside first, then moved into place in their order. An
    /// earlier last one is taken away before, so that it never stands beside others' newer files.
    ///
    /// # Errors
    /// One line that names the file; nothing half-written is left.
    pub fn put_files(&self, files: &[(String, Vec<u8>)]) -> Result<(), String> {
        let unwritable =
            |name: &str, e: io::Error| format!("{}: cannot be written ({e})", self.root.join(name).display());
        let mut aside = Vec::new();
        for (name, bytes) in files {
            let write = || {
                let mut new = temporary(0o666).tempfile_in(&self.root)?;
                new.write_all(bytes)?;
                Ok(new)
            };
            aside.push((name, write().map_err(|e| unwritable(name, e))?));
        }
        if let Some((last, _)) = files.last() {
            match fs::remove_file(self.root.join(last)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(unwritable(last, e)),
                _ => {}
            }
        }
        for (name, new) in aside {
            new.persist(self.root.join(name)).map_err(|e| unwritable(name, e.error))?;
        }
        Ok(())
    }

    /// Fills `DIR/<case>/<plugin>` by `fill`, replacing an earlier one whole; its path. `fill`'s errors are said of it.
    ///
    /// # Errors
    /// One line; what was there before is still there, and nothing half-written is.
    pub fn put(
        &self,
        case: &str,
        plugin: &str,
        fill: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let folder = self.root.join(case);
        let place = folder.join(plugin);
        let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", place.display());
        let written = (|| {
            fs::create_dir_all(&folder).map_err(unwritable)?;
            let new = aside(&folder).map_err(unwritable)?;
            fill(new.path()).map_err(|e| format!("{}: {e}", place.display()))?;
            move_into_place(new, &place).map_err(unwritable)
        })();
        if written.is_err() {
            // Only an empty folder can be removed this way; one with other plugins' results stays.
            let _ = fs::remove_dir(&folder);
        }
        written.map(|()| place)
    }
}

fn move_into_place(new: TempDir, place: &Path) -> io::Result<()> {
    let parent = place.parent().unwrap_or(Path::new("."));
    let earlier = aside(parent)?;
    let kept = earlier.path().join("earlier");
    let had_one = fs::symlink_metadata(place).is_ok();
    if had_one {
        fs::rename(place, &kept)?;
    }
    if let Err(e) = fs::rename(new.path(), place) {
        if had_one {
            fs::rename(&kept, place)?;
        }
        return Err(e);
    }
    // Moved: there is nothing left for it to remove.
    let _ = new.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_earlier_result_is_replaced_whole_and_a_failed_one_leaves_it() {
        let root = tempfile::tempdir().unwrap();
        let out = Output::open(&root.path().join("new")).unwrap();
        let write = |name: &'static str| {
            move |folder: &Path| fs::write(folder.join(name), name).map_err(|e| e.to_string())
        };
        let place = out.put("scan", "task", write("old")).unwrap();
        out.put("scan", "task", write("new")).unwrap();
        assert_eq!(names(&place), ["new"]);
        out.put("scan", "task", |_| Err("no".into())).unwrap_err();
        assert_eq!(names(&place), ["new"]);
        assert_eq!(names(place.parent().unwrap()), ["task"]);
        out.put("other", "task", |_| Err("no".into())).unwrap_err();
        assert_eq!(names(&root.path().join("new")), ["scan"]);
    }

    #[test]
    fn files_are_put_all_or_none_and_an_earlier_last_one_never_outlives_the_others() {
        let root = tempfile::tempdir().unwrap();
        let out = Output::open(root.path()).unwrap();
        let files = |text: &str| ["a", "b"].map(|n| (n.to_owned(), text.as_bytes().to_vec())).to_vec();
        out.put_files(&files("old")).unwrap();
        out.put_files(&files("new")).unwrap();
        assert_eq!(names(root.path()), ["a", "b"]);
        assert_eq!(fs::read(root.path().join("b")).unwrap(), b"new");
        fs::remove_file(root.path().join("a")).unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        let message = out.put_files(&files("newer")).unwrap_err();
        assert!(message.contains("/a: cannot be written"), "{message}");
        assert_eq!(names(root.path()), ["a"]);
    }

    #[test]
    fn a_folder_below_a_file_is_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let message = Output::open(&file.join("out")).unwrap_err();
        assert!(message.contains("cannot be written"), "{message}");
    }
}
