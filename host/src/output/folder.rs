//! `--out`: files, and one folder per case and plugin, written aside and moved into place whole.

use super::naming::{Names, Scans};
use crate::engine::Case;
use crate::fs::MadeFolder;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// The folder that results go to; known to be writable.
#[derive(Debug)]
pub struct OutputFolder {
    root: PathBuf,
    /// Whether results of other scans that lie there from earlier calls may be replaced.
    overwrite: bool,
    names: Mutex<Names>,
    /// Digest of the options that its results depend on, for later calls.
    options: Option<String>,
    /// Goes again where no result came: a refused call leaves no empty folder.
    _made: MadeFolder,
}

/// A result that was put.
#[derive(Debug)]
pub(crate) struct Put<T> {
    pub what: T,
    /// Its folder.
    pub place: PathBuf,
    /// To be told: where it went, and why not to the folder of the case's name. Once per case.
    pub note: Option<String>,
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

/// Creates the folder of an output file, and tests that it can be written to.
///
/// # Errors
/// One line that names the file.
pub fn try_file(file: &Path) -> Result<(), String> {
    let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", file.display());
    if file.is_dir() {
        return Err(format!("{}: is a folder; give a file", file.display()));
    }
    fs::create_dir_all(folder_of(file))
        .and_then(|()| aside(folder_of(file)))
        .and_then(TempDir::close)
        .map_err(unwritable)
}

impl OutputFolder {
    /// Creates the folder, and tests that it can be written to.
    ///
    /// # Errors
    /// One line that names the folder.
    pub fn open(root: &Path) -> Result<Self, String> {
        Self::overwriting(root, false)
    }

    /// As [`OutputFolder::open`]; with `overwrite`, results of other scans may be replaced.
    ///
    /// # Errors
    /// As [`OutputFolder::open`].
    pub fn overwriting(root: &Path, overwrite: bool) -> Result<Self, String> {
        let unwritable = |e| format!("{}: cannot be written ({e})", root.display());
        let made = MadeFolder::new(root).map_err(unwritable)?;
        aside(root).and_then(TempDir::close).map_err(unwritable)?;
        Ok(Self { root: root.to_owned(), overwrite, names: Mutex::default(), options: None, _made: made })
    }

    /// Results say by which options they were made: [`crate::engine::result::CaseResult::options_sha256`].
    #[must_use]
    pub fn with_options(mut self, sha256: String) -> Self {
        self.options = Some(sha256);
        self
    }

    pub(crate) fn options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// Forgets which names were given so far, for a caller whose cases have names of their own each: a call over a hundred
    /// thousand cases would remember them all.
    pub fn forget_names(&self) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Names::default();
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A temporary folder beside the results, on the same file system. Its path is absolute, because a plugin may change
    /// the working folder of its process.
    ///
    /// # Errors
    /// One line that names the folder.
    pub fn scratch(&self) -> Result<TempDir, String> {
        let root = std::path::absolute(&self.root);
        root.and_then(|root| aside(&root))
            .map_err(|e| format!("{}: cannot be written ({e})", self.root.display()))
    }

    /// Writes files directly into the folder: first all of them to temporary files, then moved into place in order. The
    /// last file of an earlier call is removed before, so that it never lies beside newer files.
    ///
    /// # Errors
    /// One line that names the file; no partial file remains.
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

    /// Fills a folder by `fill` and moves it to `DIR/<name>/<plugin>`, where it replaces an earlier result of the same
    /// scans. `name` is the case's name, unless another scan's result lies there; `rename` receives the new name before
    /// the folder is moved.
    ///
    /// # Errors
    /// One line; an earlier result stays, and no partial result remains.
    pub(crate) fn put<T>(
        &self,
        case: &Case,
        plugin: &str,
        fill: impl FnOnce(&Path) -> Result<(T, Scans), String>,
        mut rename: impl FnMut(&mut T, &str, &Path) -> Result<(), String>,
    ) -> Result<Put<T>, String> {
        let shown = self.root.join(&case.name).join(plugin);
        let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", shown.display());
        let new = aside(&self.root).map_err(unwritable)?;
        let said = |e: String| format!("{}: {e}", shown.display());
        let (mut what, scans) = fill(new.path()).map_err(said)?;
        let _lock = self.lock();
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = None;
        for name in names.candidates(case, &scans) {
            let place = self.root.join(&name).join(plugin);
            let known = names.of(case) == Some(&name);
            let other_plugins = || match known || self.overwrite {
                true => None,
                false => other_scans_beside(&place, &scans),
            };
            let inside = names.another(&name, plugin, case, &scans).cloned();
            let theirs = match (inside, holds_something(&place)) {
                (Some(theirs), _) => Some(Some(theirs)),
                (None, true) if self.overwrite => None,
                (None, true) => Some(Scans::read(&place)).filter(|theirs| theirs.as_ref() != Some(&scans)),
                (None, false) => other_plugins().map(Some),
            };
            if let Some(theirs) = theirs {
                taken.get_or_insert((name, theirs));
                continue;
            }
            rename(&mut what, &name, new.path()).map_err(said)?;
            let had_one = holds_something(&place);
            if !self.move_into_place(new.path(), &place, &scans).map_err(unwritable)? {
                taken.get_or_insert((name, Scans::read(&place)));
                continue;
            }
            // Another process may have put another plugin's result of another scan there meanwhile.
            if let Some(theirs) = other_plugins().filter(|_| !had_one) {
                fs::rename(&place, new.path()).map_err(unwritable)?;
                taken.get_or_insert((name, Some(theirs)));
                continue;
            }
            let _ = new.keep();
            let moved = names.give(&name, plugin, case, scans.clone()) && name != case.name;
            let note = taken.filter(|_| moved).map(|(by, theirs)| {
                let (there, digests) = (self.root.join(by), digests(theirs.as_ref(), &scans));
                let to = self.root.join(&name);
                format!(
                    "{}: holds a result of another scan ({digests}); this one's is in {}",
                    there.display(),
                    to.display()
                )
            });
            return Ok(Put { what, place, note });
        }
        let digests = digests(taken.and_then(|(_, theirs)| theirs).as_ref(), &scans);
        Err(said(format!(
            "holds a result of another scan ({digests}), and so does the folder named by this one's digest; choose another \
             folder, or allow results of other scans to be replaced"
        )))
    }

    /// Waits until no other process moves results into the folder: what lies in a place could change between a look and a
    /// move. Without locks (some network file systems, Windows) the moves themselves refuse what they can.
    fn lock(&self) -> Option<fs::File> {
        let folder = fs::File::open(&self.root).ok()?;
        folder.lock().ok()?;
        Some(folder)
    }

    /// Moves a filled folder into place; `false` where another scan's result came to lie there meanwhile.
    fn move_into_place(&self, new: &Path, place: &Path, scans: &Scans) -> io::Result<bool> {
        let folder = folder_of(place);
        fs::create_dir_all(folder)?;
        let moved = self.replace(new, place, scans);
        if !matches!(moved, Ok(true)) {
            // Only an empty folder can be removed this way; one with other plugins' results stays.
            let _ = fs::remove_dir(folder);
        }
        moved
    }

    /// A folder is moved to a place only while nothing lies there: of two processes the second is refused by the system.
    fn replace(&self, new: &Path, place: &Path, scans: &Scans) -> io::Result<bool> {
        let own = |folder: &Path| !holds_something(folder) || Scans::read(folder).as_ref() == Some(scans);
        if !own(place) && !self.overwrite {
            return Ok(false);
        }
        let earlier = aside(&self.root)?;
        let kept = earlier.path().join("earlier");
        match fs::rename(place, &kept) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
            Ok(()) => {
                if !own(&kept) && !self.overwrite {
                    if let Err(e) = fs::rename(&kept, place) {
                        // Nobody's result is removed: what cannot go back stays where it is.
                        let _ = earlier.keep();
                        return Err(e);
                    }
                    return Ok(false);
                }
            }
        }
        for attempt in 0.. {
            let Err(e) = fs::rename(new, place) else { break };
            if holds_something(place) {
                return Ok(false);
            }
            // Another process took the folder away while it was empty.
            let again = e.kind() == io::ErrorKind::NotFound && attempt < 100;
            if let Err(e) = if again { fs::create_dir_all(folder_of(place)) } else { Err(e) } {
                if fs::rename(&kept, place).is_err() && kept.exists() {
                    let _ = earlier.keep();
                }
                return Err(e);
            }
        }
        Ok(true)
    }
}

/// Whether something lies in a place that must not be lost.
fn holds_something(place: &Path) -> bool {
    match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::symlink_metadata(place).is_ok(),
    }
}

/// The scans of another plugin's result beside a place, where none of the case's results there shares one with `scans`:
/// it is another case of the name.
fn other_scans_beside(place: &Path, scans: &Scans) -> Option<Scans> {
    let beside = fs::read_dir(folder_of(place)).into_iter().flatten().flatten().map(|e| e.path());
    let results: Vec<Scans> = beside.filter(|p| p != place).filter_map(|p| Scans::read(&p)).collect();
    if results.iter().any(|theirs| theirs.share(scans)) { None } else { results.into_iter().next() }
}

fn digests(theirs: Option<&Scans>, ours: &Scans) -> String {
    let short = |digest: String| digest.get(..12).unwrap_or(&digest).to_owned();
    let theirs = theirs.map_or("unknown".to_owned(), |t| short(t.digest()));
    format!("sha256 {theirs}…, this one's {}…", short(ours.digest()))
}

#[cfg(test)]
mod tests {
    use super::super::naming::tests::{case, scans, write_result};
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Puts a result of one file, `text`; the name of its folder.
    fn put(
        out: &OutputFolder,
        case: &Case,
        plugin: &str,
        scans: &Scans,
        text: &str,
    ) -> Result<String, String> {
        let fill = |folder: &Path| {
            write_result(folder, scans)?;
            fs::write(folder.join(text), text).map_err(|e| e.to_string())?;
            Ok(((), scans.clone()))
        };
        let put = out.put(case, plugin, fill, |(), _, _| Ok(()))?;
        Ok(put.place.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned())
    }

    #[test]
    fn an_earlier_result_of_the_scan_is_replaced_whole_and_a_failed_one_leaves_it() {
        let root = tempfile::tempdir().unwrap();
        let out = OutputFolder::open(&root.path().join("new")).unwrap();
        let (scan, other) = (case("scan", "scan.nii"), case("other", "other.nii"));
        put(&out, &scan, "task", &scans('1'), "old").unwrap();
        put(&out, &scan, "task", &scans('1'), "new").unwrap();
        let place = root.path().join("new/scan/task");
        assert_eq!(names(&place), ["new", "result.json"]);
        for case in [&scan, &other] {
            let fill = |_: &Path| Err::<((), Scans), String>("no".into());
            let message = out.put(case, "task", fill, |(), _, _| Ok(())).unwrap_err();
            assert!(message.ends_with("task: no"), "{message}");
        }
        assert_eq!(names(&place), ["new", "result.json"]);
        assert_eq!(names(place.parent().unwrap()), ["task"]);
        assert_eq!(names(&root.path().join("new")), ["scan"]);
    }

    #[test]
    fn another_scans_result_is_never_replaced_whatever_call_it_came_from() {
        let root = tempfile::tempdir().unwrap();
        let scan = |n: char| (case("imaging", &format!("{n}/imaging.nii")), scans(n));
        let expected = [('1', "imaging"), ('2', "imaging-22222222"), ('3', "imaging-33333333")];
        // In one call, in calls of their own, and once more in another order.
        for (order, together) in [([0, 1, 2], true), ([2, 0, 1], true), ([1, 2, 0], false)] {
            let mut out = OutputFolder::open(root.path()).unwrap();
            for (n, name) in order.map(|i| expected[i]) {
                let (case, scans) = scan(n);
                assert_eq!(put(&out, &case, "task", &scans, "text").unwrap(), name);
                assert_eq!(put(&out, &case, "second", &scans, "text").unwrap(), name);
                if !together {
                    out = OutputFolder::open(root.path()).unwrap();
                }
            }
        }
        assert_eq!(names(root.path()), expected.map(|(_, name)| name));
        for (n, name) in expected {
            assert_eq!(Scans::read(&root.path().join(name).join("task")), Some(scans(n)));
        }

        // A plugin that has none there yet does not put its result beside another scan's.
        let (second, its) = scan('2');
        assert_eq!(
            put(&OutputFolder::open(root.path()).unwrap(), &second, "third", &its, "t").unwrap(),
            "imaging-22222222"
        );
        // Who means it replaces what earlier calls left, and loses nothing within the call.
        let out = OutputFolder::overwriting(root.path(), true).unwrap();
        assert_eq!(put(&out, &second, "task", &its, "t").unwrap(), "imaging");
        let (third, its) = scan('3');
        assert_eq!(put(&out, &third, "task", &its, "t").unwrap(), "imaging-33333333");
    }

    #[test]
    fn what_lies_in_the_way_and_is_no_result_stays_and_both_folders_taken_are_refused_with_both_digests() {
        let root = tempfile::tempdir().unwrap();
        let out = OutputFolder::open(root.path()).unwrap();
        fs::create_dir_all(root.path().join("a/task")).unwrap();
        let (a, its) = (case("a", "a.nii"), scans('1'));
        assert_eq!(put(&out, &a, "task", &its, "t").unwrap(), "a", "an empty folder is in nobody's way");
        fs::create_dir_all(root.path().join("b/task")).unwrap();
        fs::write(root.path().join("b/task/notes.txt"), "mine").unwrap();
        let b = case("b", "b.nii");
        assert_eq!(put(&out, &b, "task", &its, "t").unwrap(), "b-11111111");
        assert_eq!(names(&root.path().join("b/task")), ["notes.txt"]);

        let out = OutputFolder::open(root.path()).unwrap();
        let named = case("a-22222222", "a-22222222.nii");
        put(&out, &named, "task", &scans('3'), "t").unwrap();
        let message = put(&out, &a, "task", &scans('2'), "t").unwrap_err();
        assert!(message.contains("sha256 111111111111…, this one's 222222222222…"), "{message}");
        assert!(message.contains("allow results of other scans to be replaced"), "{message}");
        assert_eq!(names(root.path()), ["a", "a-22222222", "b", "b-11111111"]);
    }

    #[test]
    fn processes_that_put_at_the_same_time_lose_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in "0123456789abcdef".chars() {
                // Each thread has a memory of its own, as processes have.
                let out = OutputFolder::open(root.path()).unwrap();
                scope.spawn(move || {
                    let case = case("imaging", &format!("{n}/imaging.nii"));
                    for _ in 0..3 {
                        put(&out, &case, "task", &scans(n), "t").unwrap();
                    }
                });
            }
        });
        let mut found: Vec<String> = names(root.path())
            .iter()
            .map(|name| Scans::read(&root.path().join(name).join("task")).unwrap().digest())
            .collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 16, "{:?}", names(root.path()));
    }

    #[test]
    fn files_are_put_all_or_none_and_an_earlier_last_one_never_outlives_the_others() {
        let root = tempfile::tempdir().unwrap();
        let out = OutputFolder::open(root.path()).unwrap();
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
        let message = OutputFolder::open(&file.join("out")).unwrap_err();
        assert!(message.contains("cannot be written"), "{message}");
    }
}
