//! `host train` as a researcher uses it: what it leaves behind, what it refuses, and that a run is the same run
//! however it came to its end.

use anymc3d_host::eval::metrics::auroc;
use anymc3d_host::eval::predictions::Predictions;
use anymc3d_host::scan::{Affine, write_nifti_i16, write_nifti_u8};
use anymc3d_host::task::Weights;
use anymc3d_tests::{backbone_folder, edited_library, host_binary, plugin_library, workspace};
use candle_core::{Device, Tensor};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

mod gather;
mod reference;

const SHAPE: [usize; 3] = [28, 24, 12];

/// The binary, two plugins with few and small slices, and twelve cases.
struct Bench {
    host: PathBuf,
    task: PathBuf,
    probe: PathBuf,
    folder: tempfile::TempDir,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let few = [("slices = 40", "slices =  4"), ("size = [168, 168]", "size = [ 56,  56]")];
        let edited = |name: &str| {
            let to = folder.path().join(format!("{name}.so"));
            edited_library(&plugin_library(name), &few, &to);
            to
        };
        let (task, probe) = (edited("lung_nodule"), edited("attention_probe"));
        cases(folder.path(), 12);
        Bench { host: host_binary(), task, probe, folder }
    })
}

/// Two lungs in a body; every second case has a bright ball in one of them, and a mask of it.
pub(super) fn cases(folder: &Path, count: usize) {
    let affine = Affine::aligned([12.0, 12.0, 20.0], [-160.0, -140.0, -110.0]);
    let mut table = String::from("case,image,nodule,mask\n");
    for case in 0..count {
        let (mut voxels, mut mask) = (Vec::new(), Vec::new());
        let centre = [7.0 + (case % 3) as f64, 9.0 + (case % 4) as f64, 5.0 + (case % 2) as f64];
        for i in 0..SHAPE.iter().product::<usize>() {
            let at = [i % SHAPE[0], i / SHAPE[0] % SHAPE[1], i / (SHAPE[0] * SHAPE[1])];
            let far: f64 = (0..3).map(|a| (at[a] as f64 - centre[a]).powi(2)).sum();
            let ball = case % 2 == 1 && far < 5.0;
            let lung = |from| {
                (from..from + 7).contains(&at[0]) && (6..18).contains(&at[1]) && (2..10).contains(&at[2])
            };
            let texture = ((i + 97 * case) * 7919 % 60) as i16;
            voxels.push(match (ball, lung(5) || lung(16), (2..26).contains(&at[0])) {
                (true, ..) => 60,
                (_, true, _) => -850 + texture,
                (.., true) => 30 + texture,
                _ => -1000,
            });
            mask.push(u8::from(ball));
        }
        write_nifti_i16(&folder.join(format!("{case}.nii")), &voxels, SHAPE, &affine).unwrap();
        let mut named = String::new();
        if case % 2 == 1 {
            named = format!("{case}_mask.nii");
            write_nifti_u8(&folder.join(&named), &mask, SHAPE, &affine).unwrap();
        }
        table += &format!("c{case},{case}.nii,{},{named}\n", case % 2);
    }
    fs::write(folder.join("table.csv"), table).unwrap();
}

fn command(plugin: &Path, out: &Path, more: &[&str]) -> Command {
    let bench = bench();
    let mut command = Command::new(&bench.host);
    command.current_dir(workspace()).env("ANYMC3D_HOME", bench.folder.path().join("home"));
    command.args(["train", "--plugin"]).arg(plugin).arg("--backbone").arg(backbone_folder());
    command.arg("--data").arg(bench.folder.path().join("table.csv")).arg("--out").arg(out);
    command.args(["--lr", "1e-3", "--batch", "3", "--seed", "7"]).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, stdout, stderr.
fn train(plugin: &Path, out: &Path, more: &[&str]) -> (i32, String, String) {
    let output = command(plugin, out, more).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn trained(plugin: &Path, out: &Path, more: &[&str]) -> HashMap<String, Vec<f32>> {
    let ran = train(plugin, out, more);
    assert_eq!(ran.0, 0, "{ran:?}");
    weights(&out.join("last.safetensors"))
}

fn weights(path: &Path) -> HashMap<String, Vec<f32>> {
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    tensors.into_iter().map(|(k, t)| (k, t.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

fn farthest(a: &HashMap<String, Vec<f32>>, b: &HashMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().flat_map(|(k, v)| v.iter().zip(&b[k]).map(|(x, y)| (x - y).abs())).fold(0.0, f32::max)
}

#[test]
fn a_run_that_was_killed_and_resumed_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let epochs = ["--epochs", "12", "--cache-size", "0"];
    let expected = trained(&bench().task, &whole, &epochs);

    let mut child = command(&bench().task, &killed, &epochs).spawn().unwrap();
    let begin = Instant::now();
    let lines = || fs::read_to_string(killed.join("metrics.csv")).map_or(0, |t| t.lines().count());
    while lines() < 3 {
        assert!(begin.elapsed() < Duration::from_secs(120), "two epochs take minutes");
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL, wherever it is.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lines() < 12, "it was through before it was killed");
    let refused = train(&bench().task, &killed, &epochs);
    assert!(refused.0 == 1 && refused.2.contains("--resume"), "{refused:?}");
    let other = train(&bench().task, &killed, &[&epochs[..], &["--clip", "2", "--resume"]].concat());
    assert!(other.0 == 1 && other.2.contains("now it is"), "{other:?}");

    let found = trained(&bench().task, &killed, &["--epochs", "12", "--cache-size", "0", "--resume"]);
    assert_eq!(farthest(&found, &expected), 0.0);
    let best = |run: &Path| weights(&run.join("lung_nodule.safetensors"));
    assert_eq!(farthest(&best(&killed), &best(&whole)), 0.0);
    assert_eq!(lines(), 13);
    // Once more is no more than reading it.
    assert_eq!(
        farthest(&trained(&bench().task, &killed, &[&epochs[..], &["--resume"]].concat()), &expected),
        0.0
    );
}

#[test]
fn the_same_seed_gives_the_same_run_with_and_without_a_cache_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, more: &[&str]| {
        trained(&bench().task, &folder.path().join(name), &[&["--epochs", "3"], more].concat())
    };
    let cache = folder.path().join("cache").display().to_string();
    let without = run("a", &["--cache-size", "0"]);
    let cold = run("b", &["--cache", &cache]);
    let warm = run("c", &["--cache", &cache]);
    assert_eq!((farthest(&without, &cold), farthest(&cold, &warm)), (0.0, 0.0));
    assert!(farthest(&without, &run("d", &["--seed", "8"])) > 0.0);
}

#[test]
fn slices_in_groups_learn_what_all_slices_at_once_learn() {
    use anymc3d_host::backbone::{Backbone, Precision};
    use anymc3d_host::data::table::Table;
    use anymc3d_host::train as room;
    let bench = bench();
    let library = anymc3d_host::task::open_library(&bench.task.display().to_string()).unwrap();
    let table = Table::open(bench.folder.path().join("table.csv"), &library.embedded.manifest).unwrap();
    let split = table.split(0.25, 0);
    let options = room::TrainOptions { epochs: 1, batch: 3, seed: 7, ..room::TrainOptions::default() };
    let cache = room::PrefixCache::open(None, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, kept_bytes: usize, token_bytes: usize| {
        let mut backbone = Backbone::open(&backbone_folder(), Precision::F32).unwrap();
        backbone.keep_at_most(kept_bytes);
        let setting = room::TrainContext {
            library: &library,
            backbone: &backbone,
            precision: Precision::F32,
            table: &table,
            split: &split,
            cache: &cache,
            memory: room::MemoryPlan { kept_bytes, token_bytes },
            contents: None,
            start: None,
            intended_use: None,
        };
        let out = folder.path().join(name);
        room::train(setting, &options, &out, false, &mut room::Silent).unwrap();
        weights(&out.join("last.safetensors"))
    };
    let whole = run("whole", 1 << 30, 1 << 30);
    // Three steps of at most 1e-3 (head) and 1e-4 (adapter); groups sum in another order.
    assert!(farthest(&whole, &run("recomputed", 0, 1 << 30)) < 1e-5);
    assert!(farthest(&whole, &run("one by one", 0, 1)) < 1e-4);
}

#[test]
fn a_run_leaves_its_log_its_events_and_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let more =
        ["--epochs", "2", "--clip", "1", "--max-memory", "3G", "--loss", "focal", "--focal-gamma", "1.5"];
    trained(&bench().task, &out, &more);
    let log = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut lines = log.lines();
    assert!(lines.next().unwrap().starts_with("epoch,loss,segmentation_loss,val_loss,val_auroc,"));
    for line in lines {
        let numbers: Vec<f64> = line.split(',').map(|v| v.parse().unwrap()).collect();
        assert!(numbers.iter().all(|v| v.is_finite()) && numbers[5] > 0.0, "{line}");
    }
    let events = fs::read_dir(&out).unwrap().flatten().filter(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        name.starts_with("events.out.tfevents.") && e.metadata().unwrap().len() > 100
    });
    assert_eq!(events.count(), 1);
    let record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("training.json")).unwrap()).unwrap();
    assert_eq!(record["options"]["variant"]["loss"]["gamma"], 1.5);
    assert_eq!(record["options"]["clip"], 1.0);
    assert_eq!((&record["train"]["cases"], &record["val"]["cases"]), (&10.into(), &2.into()));
    assert_eq!(record["val"]["positives"]["nodule"], serde_json::json!([1, 2]));
    assert!(record["machine"]["threads"].as_u64() > Some(0) && record["data_sha256"].is_string());
    // As MONAI names them.
    assert_eq!(
        record["network_data_format"]["inputs"]["axial"]["spatial_shape"],
        serde_json::json!([4, 56, 56])
    );
    assert_eq!(record["network_data_format"]["outputs"]["pred"]["channel_def"]["0"], "nodule");
    let area = record["eval_metrics"]["nodule"]["auroc"].as_f64().unwrap();
    assert_eq!(Some(area), record["val_auroc"].as_f64());

    // The weights say the same, the card in words, and the predictions give the same figure to `host eval`.
    let kept = Weights::open(&out.join("lung_nodule.safetensors")).unwrap().info.training;
    assert_eq!(kept["split_sha256"], record["split_sha256"]);
    assert_eq!(kept["eval_metrics"], record["eval_metrics"]);
    let card = fs::read_to_string(out.join("model_card.md")).unwrap();
    for words in ["Research only", "| training | 10 | 10 | 5 | 5 of 10 |", "| nodule | 2 | 1 |", "seed 7"] {
        assert!(card.contains(words), "`{words}` is missing: {card}");
    }
    let scored = Predictions::open(out.join("predictions.csv")).unwrap();
    let question = scored.labels[0].questions(0.5).remove(0);
    assert_eq!(auroc(&question.truth, &question.probabilities).unwrap().value, area);
}

#[test]
fn patience_ends_a_run_before_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // Nothing gets better at a rate of almost nothing.
    let more =
        ["--epochs", "30", "--patience", "2", "--lr", "1e-12", "--head-lr", "1e-12", "--augment", "none"];
    trained(&bench().task, &out, &more);
    let epochs = fs::read_to_string(out.join("metrics.csv")).unwrap().lines().count() - 1;
    assert!((3..30).contains(&epochs), "{epochs}");
}

#[test]
fn every_way_of_pooling_trains_and_its_weights_say_how_they_are_to_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench();
    for (way, extra) in
        [("mean", 0), ("median", 0), ("max", 0), ("lstm", 6), ("transformer", 15), ("attention", 1)]
    {
        let out = folder.path().join(way);
        let more = ["--epochs", "1", "--fusion", way, "--unchecked"];
        let found = trained(&bench.probe, &out, &more);
        assert_eq!(found.len(), 2 + extra, "{way}: {:?}", found.keys());
        let ran = Command::new(&bench.host)
            .current_dir(workspace())
            .args(["run", "--json", "--plugin"])
            .arg(&bench.probe)
            .arg("--weights")
            .arg(out.join("attention_probe.safetensors"))
            .arg("--backbone")
            .arg(backbone_folder())
            .arg(bench.folder.path().join("1.nii"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{way}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn ablations_that_a_plugin_cannot_take_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    for (more, code, says) in [
        (&["--rank", "4"][..], 3, "add --adapter lora"),
        (&["--adapter", "none", "--rank", "4"], 3, "no rank"),
        (&["--fusion", "sum"], 2, "possible values"),
        (&["--decoder", "token"], 3, "no standard segmentation branch"),
        (&["--class-weights", "1,2"], 2, "2 weights, expected 1"),
        (&["--folds", "1"], 2, "--folds"),
        (&["--max-memory", "1M"], 1, "give more memory (--max-memory"),
        (&["--max-memory", "much"], 2, "is no size"),
    ] {
        let ran = train(&bench().probe, &out, more);
        assert!(ran.0 == code && ran.2.contains(says), "{more:?}: {ran:?}");
    }
    let adapted = trained(
        &bench().probe,
        &out,
        &["--adapter", "lora", "--first-block", "11", "--rank", "2", "--epochs", "1"],
    );
    assert_eq!(adapted["adapter.block.11.attention.qkv.lora_A"].len(), 2 * 384);
    assert!(!adapted.keys().any(|k| k.contains("block.10") || k.contains("patch_embed")));
}

#[test]
fn a_head_that_reads_patches_becomes_the_papers_when_asked_and_another_decoder_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let refused = train(&bench().task, &folder.path().join("a"), &["--decoder", "volume"]);
    assert!(refused.0 == 3 && refused.2.contains("add --class-tokens-only"), "{refused:?}");
    for (name, decoder) in [("token", "segmentation.weight"), ("volume", "segmentation.conv.0.weight")] {
        let more = ["--decoder", name, "--class-tokens-only", "--epochs", "1", "--unchecked"];
        let found = trained(&bench().task, &folder.path().join(name), &more);
        assert!(found.contains_key(decoder), "{name}: {:?}", found.keys());
        assert!(!found.contains_key("head.evidence") && found.contains_key("query"), "{name}");
    }
}

#[test]
fn folds_and_sweeps_leave_a_folder_each_and_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let (folds, swept) = (folder.path().join("folds"), folder.path().join("swept"));
    let ran = train(&bench().probe, &folds, &["--epochs", "1", "--folds", "3"]);
    assert!(ran.0 == 0 && ran.1.contains("3 folds: validation AUROC"), "{ran:?}");
    assert!((1..=3).all(|n| folds.join(format!("fold-{n}/attention_probe.safetensors")).is_file()));
    // Every case once, as the fold scored it that did not see it.
    let all = Predictions::open(folds.join("predictions.csv")).unwrap();
    let names: BTreeSet<&str> = all.cases.iter().map(|c| c.case.as_str()).collect();
    assert_eq!((all.cases.len(), names.len()), (12, 12));
    let second = Predictions::open(folds.join("fold-2/predictions.csv")).unwrap();
    let probabilities = |p: &Predictions| p.labels[0].questions(0.5).remove(0).probabilities;
    assert_eq!(probabilities(&all)[4..8], probabilities(&second)[..]);
    assert!(ran.1.contains("12 cases, each by the fold that did not see it"), "{ran:?}");

    let grid = folder.path().join("grid.toml");
    fs::write(&grid, "[grid]\nfusion = [\"mean\", \"attention\"]\nseed = [1, 2]\n").unwrap();
    let grid = grid.display().to_string();
    let ran = train(&bench().probe, &swept, &["--epochs", "1", "--sweep", &grid]);
    assert_eq!(ran.0, 0, "{ran:?}");
    let table = fs::read_to_string(swept.join("sweep.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "fusion,seed,val_auroc,val_auroc_sd,test_auroc,best_epoch,parameters,seconds");
    assert!(lines.len() == 5 && lines[1].starts_with("mean,1,"), "{table}");
    assert!(swept.join("fusion=attention,seed=2/training.json").is_file());

    // A slip in the last combination is told before the first run.
    fs::write(folder.path().join("grid.toml"), "[grid]\nfusion = [\"mean\", \"mena\"]\n").unwrap();
    let slip = folder.path().join("slip");
    let ran = train(&bench().probe, &slip, &["--epochs", "1", "--sweep", &grid]);
    assert!(ran.0 == 2 && ran.2.contains("mena") && !slip.join("fusion=mean").exists(), "{ran:?}");
}

#[test]
fn a_loss_for_another_kind_of_task_is_refused_and_a_head_that_nothing_teaches_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ran = train(&bench().task, &folder.path().join("a"), &["--loss", "cross_entropy"]);
    assert!(ran.0 == 3 && ran.2.contains("expected cross_entropy for multiclass"), "{ran:?}");
    let ran = train(&bench().task, &folder.path().join("b"), &["--epochs", "1", "--lambda", "0"]);
    assert!(ran.0 == 0 && ran.2.contains("add --class-tokens-only"), "{ran:?}");
}

#[test]
fn unseen_cases_are_scored_by_the_best_epoch_and_no_patient_of_the_run_may_be_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    // Copies of the scans under other names: those that validated must be scored as they were then.
    let data = bench().folder.path();
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    for file in fs::read_dir(data).unwrap().map(|e| e.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "nii") {
            fs::copy(&file, copies.join(file.file_name().unwrap())).unwrap();
        }
    }
    let text = fs::read_to_string(data.join("table.csv")).unwrap();
    fs::write(copies.join("unseen.csv"), text.replace("\nc", "\nt")).unwrap();
    let at = |folder: &Path, name: &str| folder.join(name).display().to_string();
    let copied = ["--epochs", "3", "--test", &at(&copies, "unseen.csv")];
    let ran = train(&bench().task, &out, &copied);
    assert!(ran.0 == 1 && ran.2.contains("never two of these"), "copies of scans are found: {ran:?}");
    let ran = train(&bench().task, &out, &[&copied[..], &["--unchecked"]].concat());
    assert!(ran.0 == 0 && ran.1.contains("12 unseen cases, AUROC"), "{ran:?}");
    let of = |name: &str| {
        let all = Predictions::open(out.join(name)).unwrap();
        let probabilities = all.labels[0].questions(0.5).remove(0).probabilities;
        all.cases.into_iter().map(|c| c.case[1..].to_owned()).zip(probabilities).collect::<HashMap<_, _>>()
    };
    let (chose, unseen) = (of("predictions.csv"), of("test_predictions.csv"));
    assert!(unseen.len() == 12 && !chose.is_empty());
    assert!(chose.iter().all(|(case, p)| unseen[case] == *p), "{chose:?} {unseen:?}");

    let again = ["--test", &at(data, "table.csv"), "--unchecked"];
    let refused = train(&bench().task, &folder.path().join("again"), &again);
    assert!(refused.0 == 1 && refused.2.contains("a patient learns or is tested, never both"), "{refused:?}");
}

#[test]
fn a_table_with_four_things_wrong_is_refused_before_the_first_step_and_doctor_names_all_four() {
    let folder = tempfile::tempdir().unwrap();
    cases(folder.path(), 8);
    let at = |name: &str| folder.path().join(name);
    let whole = fs::read(at("0.nii")).unwrap();
    fs::write(at("0.nii"), &whole[..whole.len() / 3]).unwrap();
    let affine = Affine::aligned([12.0, 12.0, 20.0], [-160.0, -140.0, -110.0]);
    write_nifti_u8(&at("1_mask.nii"), &[1; 60], [3, 4, 5], &affine).unwrap();
    let text = "case,image,nodule,mask,patient,split\nc0,0.nii,0,,p0,\nc1,1.nii,1,1_mask.nii,p1,\n\
                c2,2.nii,7,,p2,\nc3,3.nii,1,,p3,train\nc4,4.nii,0,,p3,val\nc5,5.nii,1,,p5,\n";
    fs::write(at("table.csv"), text).unwrap();
    let wrong = ["0.nii", "mask of [3, 4, 5] voxels", "is `7`", "patient `p3`"];

    let mut doctor = Command::new(&bench().host);
    doctor.args(["doctor", "--data"]).arg(at("table.csv"));
    let ran = doctor.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(wrong.iter().all(|w| said.contains(w)) && said.contains("6 cases, 4 errors"), "{said}");

    let out = folder.path().join("run");
    let mut train = Command::new(&bench().host);
    train.args(["train", "--plugin"]).arg(&bench().task).arg("--out").arg(&out);
    let ran = train.arg("--data").arg(at("table.csv")).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(1) && wrong.iter().all(|w| said.contains(w)), "{said}");
    assert!(!out.exists());
}
