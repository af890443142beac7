//! Weights that do not fit are refused, with every offender at once.

use super::*;
use anymc3d_host::task::{Weights, WeightsInfo, weights};

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn missing_unused_and_misshapen_tensors_are_all_listed_at_once() {
    let library = opened(&support::plugin("attention_probe"));
    let given = [("head.weight", zeros(&[1, 380])), ("quary", zeros(&[384])), ("old.bias", zeros(&[1]))];
    let given = given.map(|(name, t)| (name.to_owned(), t)).into_iter().collect();
    let task = built(&library, ParameterSource::Weights(given)).unwrap();
    let mut mismatches = task.mismatches();
    mismatches.sort();
    assert_eq!(
        mismatches,
        [
            "`head.bias` [1] is missing",
            "`head.weight` is [1, 380], expected [1, 384]",
            "`old.bias` is not used by the plugin",
            "`quary` is not used by the plugin",
            "`query` [384] is missing",
        ]
    );
}

#[test]
fn weights_of_another_plugin_or_backbone_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let info = WeightsInfo {
        plugin: "mean_probe".into(),
        plugin_version: "0.1.0".into(),
        backbone: "dinov2-small".into(),
        backbone_fingerprint: "a".repeat(64),
        ..WeightsInfo::default()
    };
    weights::write(&path, &BTreeMap::from([("head.bias".to_owned(), zeros(&[1]))]), &info).unwrap();
    let read = Weights::open(&path).unwrap();
    assert_eq!(read.info, info);
    read.check("mean_probe", "dinov2-small", &"a".repeat(64)).unwrap();
    let error = read.check("lung_nodule", "dinov2-small", &"a".repeat(64)).unwrap_err().to_string();
    assert!(error.ends_with("weights of plugin mean_probe, expected those of lung_nodule"), "{error}");
    let error = read.check("mean_probe", "dinov2-base", &"b".repeat(64)).unwrap_err().to_string();
    assert!(
        error.contains("dinov2-small (aaaaaaaaaaaa…)") && error.contains("dinov2-base (bbbbbbbbbbbb…)"),
        "{error}"
    );
    std::fs::write(&path, "not weights").unwrap();
    let error = Weights::open(&path).unwrap_err().to_string();
    assert!(error.contains("not a safetensors file"), "{error}");
}
