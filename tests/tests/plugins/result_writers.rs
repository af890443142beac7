//! Programs add writers of their own to those of the library.

use crate::reload::{scan, small};
use anymc3d_host::engine::Case;
use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::output::{OutputFolder, ResultParts, ResultWriter, WriterSpec, standard_writers};
use anymc3d_host::run::isolate::Limits;
use anymc3d_host::run::{CaseRequest, Isolation, Session, SessionOptions, Silent, Wanted};
use anymc3d_tests::{host_binary, tiny_backbone};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

/// Writes what was asked and how much was answered.
struct Note;

impl ResultWriter for Note {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("note")
    }

    fn write(&self, parts: &ResultParts<'_>, result: &mut CaseResult, folder: &Path) -> Result<(), String> {
        result.warnings.push("a note was written".to_owned());
        let text = format!(
            "{}: {} labels, {} views",
            parts.case.name,
            result.predictions.len(),
            parts.evidence.len()
        );
        std::fs::write(folder.join("note.txt"), text).map_err(|e| e.to_string())
    }
}

#[test]
fn a_programs_own_writer_works_beside_the_others_and_another_process_says_that_it_lacks_it() {
    let folder = tempfile::tempdir().unwrap();
    let (plugin, path) = (folder.path().join("mean.so"), folder.path().join("scan.nii"));
    small("mean_probe", "0.1.0", &plugin);
    scan(&path, 3);
    let mut options = SessionOptions::default();
    options.backbone = Some(tiny_backbone().display().to_string());
    let out = OutputFolder::open(&folder.path().join("out")).unwrap();
    let mut writers = standard_writers(true);
    writers.push(Arc::new(Note));
    let wanted = Wanted { output: Some(&out), writers: &writers };
    let plugin = plugin.display().to_string();

    let mut session = Session::open(&[&plugin], &options).unwrap();
    let answer = session.run(&Case::of_file(&path), wanted, &Silent).remove(0).unwrap();
    session.close(&Silent);
    let place = answer.folder.unwrap();
    assert_eq!(std::fs::read_to_string(place.join("note.txt")).unwrap(), "scan: 1 labels, 1 views");
    for file in ["heatmap.nii.gz", "preview.png", "result.json"] {
        assert!(place.join(file).is_file(), "{file}");
    }
    // The record is written last: it has what a writer told.
    let json = std::fs::read_to_string(place.join("result.json")).unwrap();
    assert!(json.contains("a note was written"), "{json}");

    options.isolation = Some(Isolation {
        limits: Limits { time: Duration::from_secs(120), faults: 1 },
        max_memory: None,
        micro_ct: false,
        spawn: Arc::new(|socket| Command::new(host_binary()).args(["-q", "worker"]).stdin(socket).spawn()),
    });
    let mut session = Session::open(&[&plugin], &options).unwrap();
    let failure = session.run(&Case::of_file(&path), wanted, &Silent).remove(0).unwrap_err();
    session.close(&Silent);
    assert!(failure.message.contains("has no writer `note`"), "{failure}");
    assert!(place.join("note.txt").is_file(), "the earlier result stays");
}

/// Takes down which case it writes, and on which thread.
#[derive(Default)]
struct Log(Mutex<Vec<(String, ThreadId)>>);

impl ResultWriter for Log {
    fn spec(&self) -> WriterSpec {
        WriterSpec::named("log")
    }

    fn write(&self, parts: &ResultParts<'_>, _: &mut CaseResult, _: &Path) -> Result<(), String> {
        self.0.lock().unwrap().push((parts.case.name.clone(), std::thread::current().id()));
        Ok(())
    }
}

#[test]
fn cases_are_written_beside_the_next_ones_and_told_in_order_and_after_a_break_nothing_more_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("mean.so");
    small("mean_probe", "0.1.0", &plugin);
    let cases: Vec<Case> = (0..4)
        .map(|i| {
            let path = folder.path().join(format!("s{i}.nii"));
            // The second is no scan.
            if i == 1 {
                std::fs::write(&path, "no scan").unwrap()
            } else {
                scan(&path, 3 + i)
            }
            Case::of_file(&path)
        })
        .collect();
    let mut options = SessionOptions::default();
    options.backbone = Some(tiny_backbone().display().to_string());
    let mut session = Session::open(&[&plugin.display().to_string()], &options).unwrap();

    for last in [3, 2] {
        let log = Arc::new(Log::default());
        let writers: [Arc<dyn ResultWriter>; 1] = [log.clone()];
        let out = OutputFolder::open(&folder.path().join(format!("out{last}"))).unwrap();
        let wanted = Wanted { output: Some(&out), writers: &writers };
        let mut told = Vec::new();
        let asks = cases.iter().map(|case| Some(CaseRequest { case, tasks: vec![0] }));
        let whole = session.run_while(asks, wanted, &Silent, |_, ask, answers| {
            let answer = answers.into_iter().next().unwrap();
            // What is told of is in place.
            let placed = answer.ok().map(|answer| answer.folder.unwrap().join("result.json").is_file());
            told.push((ask.unwrap().case.name.clone(), placed));
            if told.len() > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(whole, last + 1 > cases.len());
        let expected = [("s0", Some(true)), ("s1", None), ("s2", Some(true)), ("s3", Some(true))];
        let expected: Vec<_> = expected.iter().map(|(name, placed)| ((*name).to_owned(), *placed)).collect();
        assert_eq!(told, expected[..=last]);
        let written = log.0.lock().unwrap();
        let names: Vec<&str> = written.iter().map(|(name, _)| name.as_str()).collect();
        let expected = ["s0", "s2", "s3"];
        assert_eq!(names, expected[..last]);
        assert!(written.iter().all(|(_, thread)| *thread != std::thread::current().id()));
    }
    session.close(&Silent);
}
