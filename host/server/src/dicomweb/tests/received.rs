//! What C-STORE brought: taken from the disk, whatever became of the studies before it.

use super::super::workers::Shared;
use super::*;
use crate::dimse::Incoming;
use std::io::Write;
use std::sync::Condvar;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const SALT: &[u8] = b"0123456789abcdef";

/// What a server shares whose studies come by C-STORE and are complete at once, and where they wait, up to so many bytes.
fn received(most_bytes: u64) -> (Bench, Shared, PathBuf, Incoming) {
    let mut bench = Bench::new(0);
    bench.rules = bench.rules.replace("first_seconds = 0.01", "first_seconds = 60");
    bench.rules = bench.rules.replace("most_seconds = 0.05", "most_seconds = 60");
    bench.rules += "[receiver]\ncallers = [\"CT1\"]\nquiet_seconds = 0\n";
    let shared = Shared {
        steps: bench.steps(),
        incoming: None,
        agenda: Mutex::default(),
        wake: Condvar::new(),
        named: Mutex::default(),
        waiting: AtomicU32::new(0),
        stop: AtomicBool::new(false),
    };
    let place = bench.folder.path().join("incoming");
    let incoming = Incoming::open(&place, SALT, most_bytes).unwrap();
    (bench, shared, place, incoming)
}

/// A slice of a study arrives; returns the study's folder.
fn arrive(incoming: &Incoming, place: &Path, study: &str) -> PathBuf {
    let (series, instance) = (format!("{study}.1"), format!("{study}.1.1"));
    let mut part = incoming.part().unwrap();
    part.write_all(&slice(study, &series, &instance).bytes()).unwrap();
    incoming.keep(part, files::CT, &instance).unwrap();
    place.join(StudyKey::of(SALT, study).as_str())
}

#[test]
fn a_study_that_cannot_be_taken_keeps_no_other_and_is_not_tried_again_at_once() {
    let (_bench, shared, place, incoming) = received(1 << 30);
    // A file is no folder, whoever asks: an error of the disk that stays.
    let bad = arrive(&incoming, &place, "1.2.3.0");
    std::fs::remove_dir_all(&bad).unwrap();
    std::fs::write(&bad, "no folder").unwrap();
    let good: Vec<String> = (1..6).map(|at| format!("1.2.3.{at}")).collect();
    good.iter().for_each(|study| drop(arrive(&incoming, &place, study)));
    shared.take_received(&incoming);
    for study in &good {
        let record = shared.steps.ledger.get(&shared.steps.key(study)).unwrap();
        assert_eq!(record.map(|r| r.state), Some(StudyState::Fetched), "{study}");
    }
    assert_eq!(incoming.len(), 1, "the bad one waits");
    assert!(incoming.quiet(Duration::ZERO).is_empty(), "and is left alone for a while");
    // What held it up was put right, and the while is over.
    std::fs::remove_file(&bad).unwrap();
    arrive(&incoming, &place, "1.2.3.0");
    incoming.look_after(&bad.file_name().unwrap().to_string_lossy(), std::time::Instant::now());
    shared.take_received(&incoming);
    assert_eq!(incoming.len(), 0);
    assert_eq!(shared.steps.ledger.keys().unwrap().len(), 6);
}

#[test]
fn a_study_whose_folder_was_removed_is_forgotten_with_its_bytes() {
    let (_bench, shared, place, incoming) = received(1);
    let folder = arrive(&incoming, &place, "1.2.3.0");
    assert!(!incoming.has_room() && !incoming.forget_missing(&folder.file_name().unwrap().to_string_lossy()));
    std::fs::remove_dir_all(&folder).unwrap();
    shared.take_received(&incoming);
    assert_eq!(incoming.len(), 0);
    assert!(incoming.has_room(), "what is gone takes no room");
    assert!(shared.steps.ledger.keys().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_study_that_the_disk_cannot_read_just_now_is_not_lost() {
    let (bench, shared, place, incoming) = received(1 << 30);
    let folder = arrive(&incoming, &place, "1.2.3.0");
    let series = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(&series).unwrap().next().unwrap().unwrap().path();
    // The file is elsewhere for a while: its name leads nowhere.
    let elsewhere = bench.folder.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(bench.folder.path().join("nowhere"), &file).unwrap();
    shared.take_received(&incoming);
    assert_eq!(incoming.len(), 1);
    assert!(folder.is_dir() && shared.steps.ledger.keys().unwrap().is_empty());
    std::fs::remove_file(&file).unwrap();
    std::fs::rename(&elsewhere, &file).unwrap();
    incoming.look_after(&folder.file_name().unwrap().to_string_lossy(), std::time::Instant::now());
    shared.take_received(&incoming);
    assert_eq!((incoming.len(), shared.steps.ledger.keys().unwrap().len()), (0, 1));
}
