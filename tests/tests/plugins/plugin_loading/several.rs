//! Several plugins, and several builds of one, in one process.

use super::*;
use anymc3d_host::plugin::inspect;
use anymc3d_plugin_api::abi::objects::ABI_VERSION_TEXT;

#[test]
fn the_manifest_is_read_without_running_code_also_from_a_stripped_library() {
    let library = support::plugin("lung_nodule");
    let read = inspect(&library).unwrap();
    let (embedded, sha256) = (&read.embedded, &read.sha256);
    assert_eq!(embedded.manifest.plugin.name, "lung_nodule");
    assert_eq!((embedded.build.abi.as_str(), sha256.len()), (ABI_VERSION_TEXT, 64));
    assert!(embedded.unknown_keys.is_empty(), "{:?}", embedded.unknown_keys);
    // `constructor_panics` says who it is although nothing of it can run.
    let panics = inspect(&support::plugin("constructor_panics")).unwrap().embedded;
    assert_eq!(panics.manifest.plugin.name, "constructor_panics");

    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("stripped.so");
    match std::process::Command::new("strip").arg("-o").arg(&stripped).arg(&library).status() {
        Ok(status) if status.success() => {
            // A release build is stripped already.
            assert!(std::fs::metadata(&stripped).unwrap().len() <= read.size() as u64);
            assert_eq!(inspect(&stripped).unwrap().manifest(), read.manifest());
            assert_eq!(logits(&built(&opened(&stripped), drawn(1)).unwrap()).len(), 1);
        }
        _ => eprintln!("skipped: no `strip` on this machine"),
    }
}

#[test]
fn two_plugins_in_one_process_each_have_their_own_answers() {
    let (mean, attention) =
        (opened(&support::plugin("mean_probe")), opened(&support::plugin("attention_probe")));
    let (one, two) = (built(&mean, drawn(3)).unwrap(), built(&attention, drawn(3)).unwrap());
    let names = |task: &Task| task.parameters().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&one), ["head.bias", "head.weight"]);
    assert_eq!(names(&two), ["head.bias", "head.weight", "query"]);
    let (a, b) = (logits(&one), logits(&two));
    assert_ne!(a, b);
    assert_eq!((a, b), (logits(&one), logits(&two)));
}

#[test]
fn a_library_overwritten_in_place_is_loaded_anew_and_the_old_one_still_answers() {
    let newer = support::foreign(
        "newer_version",
        "mean_probe",
        &[
            ("plugin/plugin.toml", "version = \"0.1.0\"", "version = \"0.2.0\""),
            ("plugin/Cargo.toml", "\nversion.workspace = true", "\nversion = \"0.2.0\""),
            ("plugin/src/lib.rs", "Pooling::Mean", "Pooling::Max"),
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libmean_probe.so");
    std::fs::copy(support::plugin("mean_probe"), &path).unwrap();
    let old = opened(&path);
    let before = logits(&built(&old, drawn(3)).unwrap());
    std::fs::write(&path, std::fs::read(newer).unwrap()).unwrap();
    let new = opened(&path);
    let versions = [&old, &new].map(|l| l.embedded.manifest.plugin.version.to_string());
    assert_eq!(versions, ["0.1.0", "0.2.0"]);
    assert_eq!(logits(&built(&old, drawn(3)).unwrap()), before);
    assert_ne!(logits(&built(&new, drawn(3)).unwrap()), before);
}
