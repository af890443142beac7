//! Hot reload: a rebuilt library answers as a new generation, the old one stays whole until its last user lets go of it,
//! and `host run --watch` does that by itself.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::{Case, Engine};
use anymc3d_host::run::isolate::Limits;
use anymc3d_host::run::{Isolation, Selection, SessionOptions, Silent, Wanted};
use anymc3d_host::scan::{Affine, write_nifti_i16};
use anymc3d_host::task::LoadedTask;
use anymc3d_tests::{edited_library, host_binary, plugin_library, tiny_backbone, tiny_weights};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SMALL: [(&str, &str); 4] = [
    ("slices = 40", "slices = 5 "),
    ("size = [168, 168]", "size = [70 , 56 ]"),
    ("region = \"lungs\"", "region = \"body\" "),
    ("min_embed_dim = 384", "min_embed_dim = 48 "),
];

/// A small copy of a plugin of some version, and weights for the tiny backbone beside it.
pub(crate) fn small(package: &str, version: &str, path: &Path) {
    let mut edits = SMALL.to_vec();
    let version = format!("version = \"{version}\"");
    edits.push(("version = \"0.1.0\"", &version));
    edited_library(&plugin_library(package), &edits, path);
    // The versions share their weights.
    tiny_weights(path, &path.with_file_name(format!("{package}.safetensors")), 4);
}

pub(crate) fn scan(path: &Path, seed: usize) {
    let shape = [24, 20, 10];
    let voxel = |i: usize| {
        let (x, y) = (i % 24, i / 24 % 20);
        let inside = (3..20).contains(&x) && (2..17).contains(&y);
        if inside { (i * seed * 7919 % 300) as i16 - 60 } else { -1000 }
    };
    let voxels: Vec<i16> = (0..shape.iter().product()).map(voxel).collect();
    write_nifti_i16(path, &voxels, shape, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
}

/// Opens a plugin that another build replaces between choosing and loading. The plugin's answer, or why it was refused.
fn replaced_after_choosing(folder: &Path, isolated: bool) -> Result<String, String> {
    let (chosen, newer) = (folder.join("chosen.so"), folder.join("newer.so"));
    small("mean_probe", "0.1.0", &chosen);
    small("mean_probe", "0.2.0", &newer);
    let path = folder.join("scan.nii");
    scan(&path, 3);
    let mut options = SessionOptions::default();
    options.backbone = Some(tiny_backbone().display().to_string());
    if isolated {
        options.isolation = Some(Isolation {
            limits: Limits { time: Duration::from_secs(120), faults: 1 },
            max_memory: None,
            micro_ct: false,
            spawn: Arc::new(|socket| {
                Command::new(host_binary()).args(["-q", "worker"]).stdin(socket).spawn()
            }),
        });
    }
    let selection = Selection::new(&[chosen.display().to_string()], &options.choice).unwrap();
    fs::rename(&newer, &chosen).unwrap();
    let mut session = selection.open(&options).map_err(|e| e.to_string())?;
    if let Some(refused) = session.refused().first() {
        return Err(refused.reason.clone());
    }
    let answer = session.run(&Case::of_file(&path), Wanted::default(), &Silent).remove(0);
    let version = answer.map(|output| output.result.plugin.version).map_err(|e| e.to_string());
    session.close(&Silent);
    version
}

#[test]
fn what_was_chosen_is_what_runs_and_another_process_refuses_anything_else_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(replaced_after_choosing(folder.path(), false).unwrap(), "0.1.0", "the bytes that were read");
    let folder = tempfile::tempdir().unwrap();
    let refused = replaced_after_choosing(folder.path(), true).unwrap_err();
    assert!(refused.contains("chosen.so: changed since it was chosen (sha256 "), "{refused}");
}

#[test]
fn two_plugins_and_two_versions_of_one_answer_in_one_process_and_the_old_one_goes_with_its_last_user() {
    let folder = tempfile::tempdir().unwrap();
    let [mean, attention, newer] = ["mean.so", "attention.so", "newer.so"].map(|n| folder.path().join(n));
    small("mean_probe", "0.1.0", &mean);
    small("attention_probe", "0.1.0", &attention);
    small("attention_probe", "0.2.0", &newer);
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).unwrap();
    let info = backbone.info().clone();
    let open = |path: &Path| LoadedTask::open(path.to_str().unwrap(), None, &info).unwrap();
    let mut engine = Engine::new(backbone, Precision::F32, vec![open(&mean), open(&attention)]);
    let path = folder.path().join("scan.nii");
    scan(&path, 3);
    let case = Case { name: "scan".into(), image: Some(path), ..Case::default() };
    let answers = |engine: &Engine| -> Vec<(String, String, f64)> {
        let all = engine.predict(&case, false).into_iter().map(|a| a.unwrap().result);
        all.map(|r| (r.plugin.name, r.plugin.version, r.predictions[0].logit)).collect()
    };
    let before = answers(&engine);

    let user = engine.tasks()[1].clone();
    let gone = Arc::downgrade(&user);
    drop(engine.replace(1, open(&newer)));
    let after = answers(&engine);
    let versions = |a: &[(String, String, f64)]| a.iter().map(|(_, v, _)| v.clone()).collect::<Vec<_>>();
    assert_eq!(
        (versions(&before), versions(&after)),
        (vec!["0.1.0".into(); 2], vec!["0.1.0".into(), "0.2.0".into()])
    );
    // The same code and weights under another version: the same logits, to the bit.
    assert_eq!(before.iter().map(|a| a.2).collect::<Vec<_>>(), after.iter().map(|a| a.2).collect::<Vec<_>>());
    // Whoever still holds the old generation can use it: its handles and parameters are there.
    assert_eq!(user.task.manifest().plugin.version.to_string(), "0.1.0");
    assert!(user.task.live_handles() > 0 && !user.task.parameters().is_empty());
    drop(user);
    assert!(gone.upgrade().is_none(), "the old generation is gone with its last user");
    assert_eq!(answers(&engine), after);
}

/// `host run --watch` at work.
struct Watching {
    child: Child,
    results: Receiver<Value>,
    said: Arc<Mutex<String>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(folder: &Path, more: &[&str]) -> Self {
        let mut host = Command::new(host_binary());
        host.args(["run", "--plugin", "task.so", "--watch", "named.nii", "inbox", "--json", "--backbone"]);
        host.arg(tiny_backbone()).args(more).current_dir(folder).env("ANYMC3D_HOME", folder.join("home"));
        let mut child = host.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, results) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let (err, log) = (BufReader::new(child.stderr.take().unwrap()), said.clone());
        std::thread::spawn(move || {
            for line in err.lines().map_while(Result::ok) {
                *log.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, results, said }
    }

    /// Case and version of the next answer.
    fn next(&self) -> (String, String) {
        let next = self.results.recv_timeout(Duration::from_secs(120));
        let next = next.unwrap_or_else(|e| panic!("{e}: {}", self.said.lock().unwrap()));
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (text(&next["case"]), text(&next["plugin"]["version"]))
    }

    fn wait_for(&self, words: &str) {
        for _ in 0..1200 {
            if self.said.lock().unwrap().contains(words) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("`{words}` was never said: {}", self.said.lock().unwrap());
    }
}

/// As a linker does it: another file in the place of the old one.
fn put(library: &Path, place: &Path) {
    let aside = place.with_extension("new");
    fs::copy(library, &aside).unwrap();
    fs::rename(&aside, place).unwrap();
}

fn watched(more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("inbox")).unwrap();
    small("mean_probe", "0.2.0", &at("newer.so"));
    small("mean_probe", "0.1.0", &at("older.so"));
    put(&at("older.so"), &at("task.so"));
    scan(&at("named.nii"), 3);
    let watching = Watching::start(folder.path(), more);
    let next = || watching.next();
    let is = |case: &str, version: &str| (case.to_owned(), version.to_owned());
    assert_eq!(next(), is("named", "0.1.0"));
    // A scan that arrives is answered once.
    watching.wait_for("watching for newer builds and scans");
    scan(&at("inbox/first.nii"), 5);
    assert_eq!(next(), is("first", "0.1.0"));
    // A newer build answers what was given by name once more, and what arrives from then on.
    put(&at("newer.so"), &at("task.so"));
    assert_eq!(next(), is("named", "0.2.0"));
    scan(&at("inbox/second.nii"), 7);
    assert_eq!(next(), is("second", "0.2.0"));
    // One that is refused is told, and the one before goes on.
    fs::write(at("task.so"), "what a linker that failed left").unwrap();
    watching.wait_for("not a library this machine can load");
    scan(&at("inbox/third.nii"), 9);
    assert_eq!(next(), is("third", "0.2.0"));
    // And a good one after it is taken up again.
    put(&at("older.so"), &at("task.so"));
    assert_eq!(next(), is("named", "0.1.0"));
}

#[test]
fn a_run_that_watches_takes_up_rebuilt_plugins_and_scans_that_arrive() {
    watched(&[]);
}

#[cfg(unix)]
#[test]
fn an_isolated_run_that_watches_does_so_too() {
    watched(&["--isolate"]);
}
