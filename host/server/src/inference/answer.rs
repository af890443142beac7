//! From an answer to the outputs of a response, as JSON or as bytes behind it.

use super::request::{InferRequest, WantedOutput, shown};
use crate::error::{ApiError, json as json_response};
use anymc3d_host::engine::result::CaseResult;
use anymc3d_host::run::CaseOutput;
use anymc3d_host::scan::Scan;
use anymc3d_manifest::Manifest;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Tells where the JSON of a binary answer ends.
pub(crate) const LENGTH_HEADER: &str = "inference-header-content-length";

/// What a model puts out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Output {
    Probabilities,
    Logits,
    /// Of an ordinal or regression task.
    Values,
    /// Of a view, by its index.
    SliceWeights(usize),
    Heatmap,
    /// `result.json`
    Result,
}

impl Output {
    pub fn datatype(&self) -> &'static str {
        match self {
            Self::Probabilities | Self::Logits | Self::Values => "FP64",
            Self::SliceWeights(_) | Self::Heatmap => "FP32",
            Self::Result => "BYTES",
        }
    }
}

/// The outputs of a model by name. The last two cost something, and come only where they are asked for.
pub(super) fn outputs(manifest: &Manifest) -> Vec<(String, Output)> {
    let mut all =
        vec![("probabilities".to_owned(), Output::Probabilities), ("logits".to_owned(), Output::Logits)];
    if manifest.task.range.is_some() {
        all.push(("values".to_owned(), Output::Values));
    }
    match manifest.views.as_slice() {
        [_] => all.push(("slice_weights".to_owned(), Output::SliceWeights(0))),
        views => {
            let named = views.iter().enumerate();
            all.extend(
                named.map(|(i, view)| (format!("slice_weights.{}", view.name), Output::SliceWeights(i))),
            );
        }
    }
    all.extend([("heatmap".to_owned(), Output::Heatmap), ("result".to_owned(), Output::Result)]);
    all
}

/// What is asked for: refused before anything is computed where the model has no such output.
pub(crate) fn wanted(request: &InferRequest<'_>, manifest: &Manifest) -> Result<Vec<WantedOutput>, ApiError> {
    let known = outputs(manifest);
    if request.outputs.is_empty() {
        let cheap = known.into_iter().filter(|(_, o)| !matches!(o, Output::Heatmap | Output::Result));
        return Ok(cheap.map(|(name, _)| WantedOutput { name, binary: request.binary }).collect());
    }
    match request.outputs.iter().find(|wanted| known.iter().all(|(name, _)| *name != wanted.name)) {
        None => Ok(request.outputs.clone()),
        Some(unknown) => {
            let names: Vec<String> = known.into_iter().map(|(name, _)| name).collect();
            let (found, names) = (shown(&unknown.name), names.join(", "));
            Err(ApiError::bad_request(format!("no output is called `{found}`; there is: {names}")))
        }
    }
}

/// Whether the heatmap is asked for.
pub(crate) fn wants_heatmap(wanted: &[WantedOutput]) -> bool {
    wanted.iter().any(|output| output.name == "heatmap")
}

/// An output's numbers.
enum Values {
    F64(Vec<f64>),
    F32(Vec<f32>),
    Text(String),
}

impl Values {
    fn json(&self) -> Value {
        match self {
            Self::F64(all) => json!(all),
            Self::F32(all) => json!(all),
            Self::Text(text) => json!([text]),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F64(all) => all.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F32(all) => all.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::Text(text) => {
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                [&length.to_le_bytes()[..], text.as_bytes()].concat()
            }
        }
    }
}

fn values(
    output: &Output,
    answer: &CaseOutput,
    manifest: &Manifest,
) -> Result<(Vec<usize>, Values), ApiError> {
    let result = &answer.result;
    let flat = |values: Values| {
        let n = match &values {
            Values::F64(all) => all.len(),
            Values::F32(all) => all.len(),
            Values::Text(_) => 1,
        };
        (vec![n], values)
    };
    Ok(match output {
        Output::Probabilities => {
            flat(Values::F64(result.predictions.iter().map(|p| p.probability).collect()))
        }
        Output::Logits => flat(Values::F64(result.predictions.iter().map(|p| p.logit).collect())),
        Output::Values => flat(Values::F64(result.values.iter().map(|v| v.value).collect())),
        Output::SliceWeights(view) => flat(Values::F32(slice_weights(result, &manifest.views[*view].name))),
        Output::Heatmap => {
            let (shape, voxels) = heatmap(answer)?;
            (shape, Values::F32(voxels))
        }
        Output::Result => flat(Values::Text(answer.json.clone())),
    })
}

/// Empty where the view had no voxels, or its head tells none.
fn slice_weights(result: &CaseResult, view: &str) -> Vec<f32> {
    let found = result.views.iter().find(|record| record.name == view);
    found.map(|record| record.weights.clone()).unwrap_or_default()
}

/// On the scan's grid, `[D, H, W]`, from the file that was written of it.
fn heatmap(answer: &CaseOutput) -> Result<(Vec<usize>, Vec<f32>), ApiError> {
    let named = answer.folder.as_deref().zip(answer.result.files.heatmap.as_deref());
    let path = named.map(|(folder, name): (&Path, &str)| folder.join(name));
    let path = path.ok_or_else(|| ApiError::internal("an answer has no heatmap"))?;
    let scan = Scan::open(&path).map_err(ApiError::internal)?;
    let [x, y, z] = scan.shape;
    Ok((vec![z, y, x], scan.voxels))
}

/// The response. It reads the heatmap's file: not for a thread that serves others.
pub(crate) fn respond(
    id: Option<&str>,
    manifest: &Manifest,
    wanted: &[WantedOutput],
    answer: &CaseOutput,
) -> Result<Response<Body>, ApiError> {
    let known = outputs(manifest);
    let (mut all, mut binary) = (Vec::new(), Vec::new());
    for asked in wanted {
        let Some((_, output)) = known.iter().find(|(name, _)| *name == asked.name) else { continue };
        let (shape, values) = values(output, answer, manifest)?;
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(asked.name));
        entry.insert("datatype".to_owned(), json!(output.datatype()));
        entry.insert("shape".to_owned(), json!(shape));
        if asked.binary {
            let bytes = values.bytes();
            entry.insert("parameters".to_owned(), json!({ "binary_data_size": bytes.len() }));
            binary.extend(bytes);
        } else {
            entry.insert("data".to_owned(), values.json());
        }
        all.push(Value::Object(entry));
    }
    let mut body = json!({
        "model_name": manifest.plugin.name,
        "model_version": manifest.plugin.version.to_string(),
        "outputs": all,
    });
    if let Some(id) = id {
        body["id"] = json!(id);
    }
    if wanted.iter().all(|output| !output.binary) {
        return Ok(json_response(StatusCode::OK, &body));
    }
    let mut bytes = serde_json::to_vec(&body).map_err(ApiError::internal)?;
    let length = bytes.len();
    bytes.extend(binary);
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(LENGTH_HEADER, HeaderValue::from(length));
    Ok(response)
}
