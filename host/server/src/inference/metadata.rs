//! What the protocol tells of the server and of a model.

use super::answer::{Output, outputs};
use super::case::names;
use crate::models::Model;
use serde_json::{Value, json};

/// `GET /v2`
pub(crate) fn server() -> Value {
    json!({
        "name": "anymc3d",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "model_repository"],
    })
}

/// `GET /v2/models/NAME`
pub(crate) fn model(model: &Model) -> Value {
    let (manifest, identity) = (model.manifest(), model.identity());
    let inputs = names(&manifest).into_iter().map(|name| {
        let (datatype, shape) = match name.split('.').next().unwrap_or_default() {
            "affine" => ("FP64", json!([4, 4])),
            "point_mm" => ("FP64", json!([3])),
            "mask" => ("UINT8", json!([-1, -1, -1])),
            "pixels" => ("FP32", json!([-1, 3, -1, -1])),
            _ => ("FP32", json!([-1, -1, -1])),
        };
        json!({ "name": name, "datatype": datatype, "shape": shape })
    });
    let outputs = outputs(&manifest).into_iter().map(|(name, output)| {
        let shape = match output {
            Output::Probabilities | Output::Logits => json!([manifest.task.outputs()]),
            Output::Values | Output::SliceWeights(_) => json!([-1]),
            Output::Heatmap => json!([-1, -1, -1]),
            Output::Result => json!([1]),
        };
        json!({ "name": name, "datatype": output.datatype(), "shape": shape })
    });
    let modalities: Vec<String> = manifest.views.iter().map(|view| format!("{:?}", view.modality)).collect();
    let regions = manifest.views.iter().map(|view| format!("{:?}", view.region).to_lowercase());
    json!({
        "name": model.name,
        "versions": [manifest.plugin.version.to_string()],
        "platform": "anymc3d",
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "parameters": {
            "summary": manifest.plugin.summary,
            "labels": manifest.task.labels.join(","),
            "modality": modalities.join(","),
            "region": regions.collect::<Vec<_>>().join(","),
            "threshold": manifest.task.threshold,
            "intended_use": manifest.plugin.intended_use,
            "license": manifest.plugin.license,
            "library_sha256": identity.library_sha256,
            "weights_sha256": identity.weights_sha256.join(","),
            "backbone": identity.backbone,
            "backbone_sha256": identity.backbone_sha256,
            "precision": identity.precision,
        },
    })
}
