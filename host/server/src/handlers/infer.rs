//! `POST /v2/models/NAME/infer`

use super::models::find;
use crate::access::{Principal, Scope};
use crate::app::App;
use crate::body::Receiving;
use crate::error::ApiError;
use crate::inference::{InferRequest, LENGTH_HEADER, case_of, respond, scan_key, wanted, wants_heatmap};
use crate::models::Health;
use crate::work::{WaitingCase, Work};
use anymc3d_host::run::{Blame, CaseFailure, CaseOutput};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

pub async fn infer(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(named): Path<HashMap<String, String>>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    app.require(&who, Scope::Infer)?;
    app.takes_work()?;
    let (plugin, model) = find(&app, &named)?;
    if let Health::Quarantined(reason) = model.health() {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason));
    }
    if app.shared.queue.len() >= app.queue {
        return Err(app.busy("the queue is full"));
    }
    let (parts, body) = request.into_parts();
    let _memory = memory(&app, &parts.headers)?;
    let receiving = Receiving::new(body, app.limits.infer_bytes, &app.limits);
    let body = receiving.unpacked(&parts.headers).await?;
    let json_bytes = json_bytes(&parts.headers)?;
    let manifest = model.manifest();
    let folder = tempfile::Builder::new().prefix("request-").tempdir_in(&app.requests);
    let folder = folder.map_err(ApiError::internal)?;
    let prepare = {
        let (manifest, path) = (manifest.clone(), folder.path().to_owned());
        move || {
            let request = InferRequest::parse(&body, json_bytes)?;
            let outputs = wanted(&request, &manifest)?;
            let case = case_of(&request, &manifest, &path)?;
            let key = scan_key(&case).map_err(ApiError::internal)?;
            Ok::<_, ApiError>((request.id.clone(), outputs, case, key))
        }
    };
    let (id, outputs, case, key) = spawn_blocking(prepare).await.map_err(ApiError::internal)??;
    let (reply, answer) = oneshot::channel();
    let heatmap = wants_heatmap(&outputs);
    let work = Work::Case(Box::new(WaitingCase { case, key, plugin, folder, heatmap, reply }));
    app.shared.queue.push(work, app.queue).map_err(|full| app.busy(full.to_string()))?;
    let ends = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server ends");
    // A client that leaves while this waits drops it, and the queue then passes the case over.
    let answer = answer.await.map_err(|_| ends())?;
    let (app, plugin) = (app.clone(), model.name.clone());
    let respond = move || {
        record(&app, &who, &plugin, answer.as_ref().map(|answered| &answered.output));
        respond(id.as_deref(), &manifest, &outputs, &answer.map_err(refused)?.output)
    };
    spawn_blocking(respond).await.map_err(ApiError::internal)?
}

/// A share of what all requests may take: of the body, and of the numbers that come of it. One that takes more than all runs
/// alone.
fn memory(app: &App, headers: &HeaderMap) -> Result<tokio::sync::OwnedSemaphorePermit, ApiError> {
    crate::body::check_length(headers, app.limits.infer_bytes)?;
    let told = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let packed = headers.contains_key(header::CONTENT_ENCODING);
    let body = told.filter(|_| !packed).unwrap_or(app.limits.infer_bytes);
    // A digit and a comma become eight bytes; binary numbers stay what they are, and are copied once.
    let times = if headers.contains_key(LENGTH_HEADER) { 2 } else { 5 };
    let bytes = body.saturating_mul(times).min(app.limits.infer_memory);
    let permits = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).max(1);
    let busy = |_| app.busy("other requests hold the memory that this one needs");
    app.memory.clone().try_acquire_many_owned(permits).map_err(busy)
}

fn json_bytes(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(LENGTH_HEADER) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|value| value.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| ApiError::bad_request("Inference-Header-Content-Length: expected a number"))
}

fn refused(failure: CaseFailure) -> ApiError {
    let status = match failure.blame {
        Blame::Scan => StatusCode::BAD_REQUEST,
        // One that lacks a file is asked wrongly.
        Blame::Task if failure.remedy.is_some() => StatusCode::BAD_REQUEST,
        Blame::Task | Blame::Output => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, failure.message)
}

fn record(app: &App, who: &Principal, plugin: &str, answer: Result<&CaseOutput, &CaseFailure>) {
    let facts = match answer {
        Ok(output) => {
            let result = &output.result;
            serde_json::json!({
                "who": who.name, "plugin": plugin, "version": result.plugin.version,
                "scan_sha256": result.input.sha256, "library_sha256": result.plugin.sha256,
                "weights_sha256": result.plugin.weights_sha256, "backbone": result.backbone.name,
                "backbone_sha256": result.backbone.sha256, "outcome": "answered",
            })
        }
        Err(failure) => serde_json::json!({
            "who": who.name, "plugin": plugin, "outcome": "failed", "blame": failure.blame,
        }),
    };
    app.shared.audit.write("infer", &[facts]);
}
