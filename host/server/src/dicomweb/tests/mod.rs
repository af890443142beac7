//! Studies from a fake archive to results in it, with everything that goes wrong in between.

mod delivery;
mod fake_archive;
pub(crate) mod files;
mod once;
mod received;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use anymc3d_dicom::{Limits as FileLimits, read_instance};

use super::answer::{Answer, AnswerError, AnswerRequest, JobOutcome};
use super::client::Archive;
use super::config::RulesFile;
use super::credentials::Credentials;
use super::ledger::{Ledger, Order, StudyKey, StudyOrigin, StudyRecord, StudyState};
use super::steps::{Next, Steps};
use fake_archive::FakeArchive;
use files::{MAP, SR, result, slice};

const STUDY: &str = "1.2.3.4711";
const SERIES: &str = "1.2.3.4711.1";
const RULES: &str = "[[rule]]\nname = \"chest\"\nmodality = [\"CT\"]\nplugins = [\"lung_nodule\"]\n\
                     [archive]\nwindow_days = 0\nquiet_seconds = 0\npoll_seconds = 0.2\npage = 3\ntimeout_seconds = 1\n\
                     [retry]\nfirst_seconds = 0.01\nmost_seconds = 0.05\nattempts = 4\n";

/// Answers at once, with a report and a heatmap of new UIDs each time; it moves the scan away as the jobs do.
pub(crate) struct StubAnswer {
    folder: PathBuf,
    /// Jobs by key.
    jobs: Mutex<BTreeMap<String, Vec<PathBuf>>>,
    made: AtomicUsize,
    pub submitted: AtomicUsize,
    /// Instances of the last scan.
    pub instances: AtomicUsize,
}

impl StubAnswer {
    pub fn new(folder: &Path) -> Arc<Self> {
        Arc::new(Self {
            folder: folder.to_owned(),
            jobs: Mutex::default(),
            made: AtomicUsize::new(0),
            submitted: AtomicUsize::new(0),
            instances: AtomicUsize::new(0),
        })
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => all.extend(files_below(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

impl Answer for StubAnswer {
    fn submit(&self, request: &AnswerRequest<'_>) -> Result<String, AnswerError> {
        let mut jobs = self.jobs.lock().unwrap();
        let scan = files_below(request.scan);
        assert!(!scan.is_empty(), "a job without a scan");
        self.instances.store(scan.len(), Ordering::Relaxed);
        let study = read_instance(&scan[0], &FileLimits::default()).ok().unwrap().study_uid;
        std::fs::remove_dir_all(request.scan).unwrap();
        if !jobs.contains_key(request.key) {
            self.submitted.fetch_add(1, Ordering::Relaxed);
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let folder = self.folder.join(format!("job-{number}/case/lung_nodule/dicom"));
            std::fs::create_dir_all(&folder).unwrap();
            let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), number) % 1_000_000;
            let mut files = Vec::new();
            for (at, (name, class)) in [("sr", SR), ("heatmap", MAP)].into_iter().enumerate() {
                let uid = |kind: usize| format!("2.25.{}{chance}{number}{at}{kind}", 7);
                let file = folder.join(format!("{name}.dcm"));
                std::fs::write(&file, result(&study, class, &uid(1), &uid(2)).bytes()).unwrap();
                files.push(file);
            }
            files.push(folder.parent().unwrap().join("result.json"));
            jobs.insert(request.key.to_owned(), files);
        }
        Ok(request.key.to_owned())
    }

    fn outcome(&self, job: &str) -> JobOutcome {
        match self.jobs.lock().unwrap().get(job) {
            Some(files) => JobOutcome::Done { files: files.clone(), failures: Vec::new() },
            None => JobOutcome::Gone,
        }
    }
}

/// An archive, and a server's folder.
struct Bench {
    archive: FakeArchive,
    folder: tempfile::TempDir,
    answer: Arc<StubAnswer>,
    rules: String,
}

impl Bench {
    /// With one study of `slices` slices.
    fn new(slices: usize) -> Self {
        let archive = FakeArchive::start();
        for at in 0..slices {
            archive.add(slice(STUDY, SERIES, &format!("1.2.3.4711.1.{}", at + 1)).bytes());
        }
        let folder = tempfile::tempdir().unwrap();
        let answer = StubAnswer::new(&folder.path().join("jobs"));
        Self { archive, folder, answer, rules: RULES.to_owned() }
    }

    /// What a process that starts has: everything else was lost with the one before.
    fn steps(&self) -> Steps {
        let rules: RulesFile = toml::from_str(&self.rules).unwrap();
        let folder = self.folder.path().join("dicomweb");
        std::fs::create_dir_all(&folder).unwrap();
        let archive =
            Archive::new(&self.archive.url, &rules.archive, 1000, Credentials::default(), &folder).unwrap();
        Steps {
            archive: Some(archive),
            ledger: Ledger::open(&folder.join("ledger.redb")).unwrap(),
            answer: self.answer.clone(),
            rules,
            folder,
            salt: b"0123456789abcdef".to_vec(),
            unavailable: AtomicU32::new(0),
        }
    }

    /// Enters the study as the watcher does.
    fn enter(&self, steps: &Steps) -> StudyKey {
        let order = Order {
            rules: vec!["chest".into()],
            plugins: vec!["lung_nodule".into()],
            series: vec![SERIES.into()],
            job: None,
            taken: false,
        };
        let key = steps.key(STUDY);
        steps.ledger.enter(&key, &StudyRecord::new(STUDY, StudyOrigin::Archive, vec![order])).unwrap();
        key
    }
}

/// Steps until the end, waiting as a worker does; returns the record.
fn finish(steps: &Steps, key: &StudyKey) -> StudyRecord {
    for _ in 0..200 {
        match steps.advance(key) {
            Next::Finished => return steps.ledger.get(key).unwrap().unwrap(),
            Next::Now => {}
            Next::After(wait) => std::thread::sleep(wait),
        }
    }
    panic!("it never ends: {:?}", steps.ledger.get(key).unwrap().unwrap());
}

/// The archive has a report and a heatmap, once, and nothing is left on the way.
fn assert_answered(bench: &Bench, steps: &Steps, record: &StudyRecord) {
    assert_eq!((record.state, record.reason.as_deref()), (StudyState::Verified, None), "{record:?}");
    assert_eq!(bench.archive.own().len(), 2, "{:?}", bench.archive.own());
    assert_eq!(bench.answer.submitted.load(Ordering::Relaxed), 1);
    assert_eq!(files_below(&steps.folder.join("studies")), Vec::<PathBuf>::new());
}
