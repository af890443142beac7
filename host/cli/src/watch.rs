//! `--watch`: handles builds and scans that arrive after the last case.

use super::cases;
use super::outcome::Outcome;
use super::run::{ResultSink, Work};
use anymc3d_host::engine::Case;
use anymc3d_host::run::Session;
use anymc3d_host::scan::files_of;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time between two looks at the files. A file that did not change between two looks is complete.
const PACE: Duration = Duration::from_millis(400);

/// What distinguishes a file from an earlier version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    bytes: u64,
    modified: Option<SystemTime>,
    identity: u64,
}

/// All files of a scan: voxels may arrive after their header.
fn look(path: &Path) -> Option<Vec<Look>> {
    files_of(path).iter().map(|file| look_at(file)).collect()
}

fn look_at(path: &Path) -> Option<Look> {
    let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    #[cfg(unix)]
    let identity = std::os::unix::fs::MetadataExt::ino(&about);
    #[cfg(not(unix))]
    let identity = 0;
    Some(Look { bytes: about.len(), modified: about.modified().ok(), identity })
}

/// The state of a file when it was last used, and at the last look.
#[derive(Clone)]
struct Watched {
    used: Option<Vec<Look>>,
    last: Option<Vec<Look>>,
}

impl Watched {
    /// The state of a file now. Call this before the file is read, so that later changes count.
    fn new(path: &Path) -> Self {
        let now = look(path);
        Self { used: now.clone(), last: now }
    }

    /// Not used yet.
    fn arriving() -> Self {
        Self { used: None, last: None }
    }

    /// Whether the file changed since it was last used and is complete. From this call on it counts as used.
    fn has_changed(&mut self, path: &Path) -> bool {
        let now = look(path);
        let settled = now.is_some() && now == self.last;
        let changed = settled && now != self.used;
        if changed {
            self.used.clone_from(&now);
        }
        self.last = now;
        changed
    }
}

/// The state of all scans and plugin files before the first of them was used.
pub(super) struct Before {
    plugins: Vec<PluginFiles>,
    scans: BTreeMap<PathBuf, Watched>,
}

impl Before {
    pub fn of(session: &Session, work: &[Work]) -> Self {
        let file = |work: &Work| match work {
            Work::Case(case) => Some(case.any_file().to_owned()),
            Work::Failed { .. } => None,
        };
        let scans = work.iter().filter_map(file).map(|f| (f.clone(), Watched::new(&f))).collect();
        Self { plugins: (0..session.plugins().len()).map(|i| PluginFiles::of(session, i)).collect(), scans }
    }
}

/// A plugin's files: its library, and every path where its weights may be.
struct PluginFiles(Vec<(PathBuf, Watched)>);

impl PluginFiles {
    fn of(session: &Session, index: usize) -> Self {
        let files = session.files_of(index);
        Self(files.into_iter().map(|f| (f.clone(), Watched::new(&f))).collect())
    }

    fn have_changed(&mut self) -> bool {
        // Every file is looked at.
        self.0.iter_mut().filter_map(|(path, watched)| watched.has_changed(path).then_some(())).count() > 0
    }
}

/// Looks for newer builds and for scans until the output is closed.
pub(super) fn watch(
    inputs: &[PathBuf],
    work: &[Work],
    session: &mut Session,
    sink: &ResultSink<'_>,
    before: Before,
) -> Outcome {
    let console = sink.console();
    let mut outcome = Outcome::Done;
    let Before { mut plugins, scans: seen } = before;
    let folders: Vec<&PathBuf> = inputs.iter().filter(|i| i.is_dir()).collect();
    let in_folder = |case: &Case| folders.iter().any(|f| case.any_file().parent() == Some(f.as_path()));
    // Scans in folders, with the names they have had so far.
    let mut scans: BTreeMap<PathBuf, (Case, Watched)> = BTreeMap::new();
    let mut by_name: Vec<&Work> = Vec::new();
    for work in work {
        match work {
            Work::Case(case) if in_folder(case) => {
                let file = case.any_file().to_owned();
                let watched = seen.get(&file).cloned().unwrap_or_else(|| Watched::new(&file));
                scans.insert(file, (case.clone(), watched));
            }
            Work::Failed { path, .. } if path.is_dir() => {}
            other => by_name.push(other),
        }
    }
    let mut intended_use = BTreeSet::new();
    console.note("watching for newer builds and scans; Ctrl-C ends it");
    while !console.is_unread() {
        std::thread::sleep(PACE);
        let mut reloaded = false;
        for (index, files) in plugins.iter_mut().enumerate() {
            if !files.have_changed() {
                continue;
            }
            match session.reload(index, console) {
                Ok(told) => {
                    console.note(told);
                    reloaded = true;
                }
                Err(e) => {
                    console.error(e);
                    console.note(format!("{}: the earlier build goes on where it can", session.name(index)));
                }
            }
        }
        if reloaded {
            for work in &by_name {
                outcome = outcome.or(sink.process(session, work, &mut intended_use));
            }
        }
        for folder in &folders {
            // An empty folder is one that scans have yet to arrive in.
            let Ok((files, _)) = cases::in_folder(folder) else { continue };
            for file in files {
                let (case, watched) =
                    scans.entry(file.clone()).or_insert_with(|| (cases::of_file(&file), Watched::arriving()));
                if watched.has_changed(&file) {
                    let work = Work::Case(case.clone());
                    outcome = outcome.or(sink.process(session, &work, &mut intended_use));
                }
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_whole_when_both_of_its_files_are_and_counts_anew_when_either_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (header, image) = (at("scan.hdr"), at("scan.img"));
        let mut watched = Watched::arriving();
        std::fs::write(&header, "header").unwrap();
        std::fs::write(&image, "half").unwrap();
        assert!(!watched.has_changed(&header));
        std::fs::write(&image, "half and the other").unwrap();
        assert!(!watched.has_changed(&header), "its voxels still grow");
        assert!(watched.has_changed(&header));
        std::fs::write(&image, "other voxels").unwrap();
        assert!(!watched.has_changed(&header) && watched.has_changed(&header));
    }

    #[test]
    fn a_file_that_was_completed_while_others_were_predicted_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scan.nii");
        std::fs::write(&path, "half").unwrap();
        let mut watched = Watched::new(&path);
        std::fs::write(&path, "half and the other").unwrap();
        assert!(!watched.has_changed(&path) && watched.has_changed(&path));
    }

    #[test]
    fn a_file_counts_as_new_once_and_only_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scan.nii");
        let mut watched = Watched::arriving();
        assert!(!watched.has_changed(&path));
        std::fs::write(&path, "half").unwrap();
        assert!(!watched.has_changed(&path), "just seen");
        std::fs::write(&path, "half and the other").unwrap();
        assert!(!watched.has_changed(&path), "still growing");
        assert!(watched.has_changed(&path));
        assert!(!watched.has_changed(&path), "used already");
        std::fs::write(&path, "another scan of the name").unwrap();
        assert!(!watched.has_changed(&path));
        assert!(watched.has_changed(&path));
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.has_changed(&path) && !watched.has_changed(&path));
    }
}
