//! Programs add writers of their own to those of the library.

use crate::reload::{scan, small};
use anymc3d_host::engine::Case;
use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::output::{OutputFolder, ResultParts, ResultWriter, WriterSpec, standard_writers};
use anymc3d_host::run::isolate::Limits;
use anymc3d_host::run::{Isolation, Session, SessionOptions, Silent, Wanted};
use anymc3d_tests::{host_binary, tiny_backbone};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
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
