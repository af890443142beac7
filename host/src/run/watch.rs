//! Watching: builds of plugins and scans in folders, from before the first case on.

use super::inputs::{CaseEntry, scans_in_folders};
use super::session::Session;
use crate::engine::Case;
use crate::scan::files_of;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Time to let pass between two calls of [`Watch::look`]. A file that did not change between two looks is complete.
pub const PACE: Duration = Duration::from_millis(400);

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

/// What a look found: complete files that changed since they were last used.
#[derive(Debug, Default)]
pub struct Changes {
    /// Plugins whose library or weights changed, by index; [`Session::reload`] opens them again.
    pub rebuilt: Vec<usize>,
    /// Cases of scans in the watched folders.
    pub arrived: Vec<Case>,
}

/// The plugins of a session and the folders among its inputs, watched for builds and scans.
///
/// ```no_run
/// use anymc3d_host::run::{Events, Session, Silent, Wanted, watch::{PACE, Watch}};
///
/// # fn serve(mut session: Session) {
/// let mut watch = Watch::new(&["inbox".into()], false, &[], &session);
/// loop {
///     std::thread::sleep(PACE);
///     let changes = watch.look();
///     for index in changes.rebuilt {
///         if let Err(refused) = session.reload(index, &Silent) {
///             eprintln!("{refused}");
///         }
///     }
///     for case in changes.arrived {
///         session.run(&case, Wanted::default(), &Silent);
///     }
/// }
/// # }
/// ```
pub struct Watch {
    plugins: Vec<PluginFiles>,
    folders: Vec<PathBuf>,
    /// Whether folders below them count too, those that come later as well.
    recursive: bool,
    /// Scans in the folders, with the cases they have been so far.
    scans: BTreeMap<PathBuf, (Case, Watched)>,
}

impl Watch {
    /// Notes the state of all files. Call this before the first case is run, so that later changes count. `entries` are
    /// the cases of `inputs`, which are run in any case. `recursive`: folders below a folder count too.
    pub fn new(inputs: &[PathBuf], recursive: bool, entries: &[CaseEntry], session: &Session) -> Self {
        let folders: Vec<PathBuf> = inputs.iter().filter(|i| i.is_dir()).cloned().collect();
        let mut watch = Self {
            plugins: (0..session.plugins().len()).map(|i| PluginFiles::of(session, i)).collect(),
            folders,
            recursive,
            scans: BTreeMap::new(),
        };
        let in_folder = entries.iter().filter_map(CaseEntry::case).filter(|case| watch.is_in_folder(case));
        let state = |case: &Case| {
            let file = case.any_file().to_owned();
            let watched = Watched::new(&file);
            (file, (case.clone(), watched))
        };
        watch.scans = in_folder.map(state).collect();
        watch
    }

    /// Whether a case lies in a watched folder: it is run again when its file changes.
    fn is_in_folder(&self, case: &Case) -> bool {
        let above = case.any_file().ancestors().skip(1);
        let depth = if self.recursive { usize::MAX } else { 1 };
        above.take(depth).any(|parent| self.folders.iter().any(|folder| parent == folder))
    }

    /// Whether an entry was given by its name, so that it is run again after a build.
    pub fn is_by_name(&self, entry: &CaseEntry) -> bool {
        match entry {
            CaseEntry::Case(case) => !self.is_in_folder(case),
            CaseEntry::Failed { path, .. } => !path.is_dir(),
        }
    }

    /// Looks at all files once. What it returns counts as used from here on.
    pub fn look(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (index, files) in self.plugins.iter_mut().enumerate() {
            if files.have_changed() {
                changes.rebuilt.push(index);
            }
        }
        for folder in &self.folders {
            // An empty folder is one that scans have yet to arrive in.
            let Ok(folders) = scans_in_folders(folder, self.recursive) else { continue };
            for file in folders.into_iter().flat_map(|(_, scans)| scans.files) {
                let (case, watched) = self
                    .scans
                    .entry(file.clone())
                    .or_insert_with(|| (Case::of_file(&file), Watched::arriving()));
                if watched.has_changed(&file) {
                    changes.arrived.push(case.clone());
                }
            }
        }
        changes
    }
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
