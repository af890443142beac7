//! `host weights`: to a folder of peft and back.

use super::{bench, chest, host, text};
use serde_json::Value;
use std::fs;

fn logit(arguments: &[&str]) -> f64 {
    let ran = host(arguments.iter().copied());
    assert_eq!(ran.code, 0, "{ran:#?}");
    let result: Value = serde_json::from_str(ran.out.trim()).unwrap();
    result["predictions"][0]["logit"].as_f64().unwrap()
}

#[test]
fn weights_go_to_peft_and_back_and_the_answer_stays_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(folder.path().join(name));
    let (scan, task) = (chest(&folder.path().join("scan.nii")), text(&bench().library));
    let (peft, head, back) = (at("peft"), at("peft/head.safetensors"), at("back.safetensors"));
    let ran = host(["weights", "export", "--plugin", &task, "--out", &peft]);
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{ran:#?}");
    let config: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("peft/adapter_config.json")).unwrap())
            .unwrap();
    assert_eq!((&config["r"], &config["lora_alpha"]), (&8.into(), &16.0.into()));
    let ran =
        host(["weights", "import", "--plugin", &task, "--peft", &peft, "--head", &head, "--out", &back]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let before = logit(&["run", "--plugin", &task, "--precision", "f32", "--json", &scan]);
    let after = logit(&["run", "--plugin", &task, "--weights", &back, "--precision", "f32", "--json", &scan]);
    assert_eq!(before, after);
}

#[test]
fn an_adapter_without_a_head_is_a_start_and_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(folder.path().join(name));
    let (scan, task) = (chest(&folder.path().join("scan.nii")), text(&bench().library));
    let (peft, start) = (at("peft"), at("start.safetensors"));
    host(["weights", "export", "--plugin", &task, "--out", &peft]);
    let ran = host(["weights", "import", "--plugin", &task, "--peft", &peft, "--out", &start]);
    assert!(ran.code == 0 && ran.out.contains("host train --plugin lung_nodule --start"), "{ran:#?}");
    host(["run", "--plugin", &task, "--weights", &start, &scan]).refused(3, &["head.weight", "is missing"]);
    // A head that is none: each tensor by its name.
    let weights = text(bench().library.with_file_name("lung_nodule.safetensors"));
    let ran = host([
        "weights",
        "import",
        "--plugin",
        &task,
        "--peft",
        &peft,
        "--head",
        &weights,
        "--out",
        &at("w"),
    ]);
    ran.refused(3, &["belongs to the adapter"]);
    assert!(!folder.path().join("w").exists());
}
