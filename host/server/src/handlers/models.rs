//! The protocol's paths besides inference, health, and the metrics.

use crate::access::{Principal, Scope};
use crate::app::App;
use crate::error::{ApiError, json};
use crate::inference;
use crate::models::{Health, Model};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Named = Path<HashMap<String, String>>;
type Answer = Result<Response<Body>, ApiError>;

/// The model of a path, in the version that the path names.
pub(super) fn find<'a>(
    app: &'a App,
    named: &HashMap<String, String>,
) -> Result<(usize, &'a Model), ApiError> {
    let name = named.get("name").map_or("", String::as_str);
    let unknown = || {
        let there: Vec<&str> = app.models.all().iter().map(|model| model.name.as_str()).collect();
        ApiError::not_found(format!("no model is called that; there is: {}", there.join(", ")))
    };
    let (index, model) = app.models.find(name).ok_or_else(unknown)?;
    let version = model.manifest().plugin.version.to_string();
    match named.get("version") {
        Some(asked) if *asked != version => {
            Err(ApiError::not_found(format!("model {name} has no such version; there is: {version}")))
        }
        _ => Ok((index, model)),
    }
}

fn ok(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value)
}

pub async fn server(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    may_look(&app, &who)?;
    Ok(ok(&inference::server()))
}

/// Whoever reads or asks models may know which there are.
fn may_look(app: &App, who: &Principal) -> Result<(), ApiError> {
    if who.may(Scope::Infer) { Ok(()) } else { app.require(who, Scope::Read) }
}

pub async fn live() -> Response<Body> {
    ok(&json!({ "live": true }))
}

/// Ready while it takes work and some plugin answers.
pub async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let any = app.models.all().iter().any(|model| model.health() == Health::Ready);
    let ready = any && !app.ending.load(Ordering::Relaxed);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &json!({ "ready": ready }))
}

pub async fn list(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    may_look(&app, &who)?;
    let names: Vec<&str> = app.models.all().iter().map(|model| model.name.as_str()).collect();
    Ok(ok(&json!({ "models": names })))
}

pub async fn metadata(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(named): Named,
) -> Answer {
    may_look(&app, &who)?;
    Ok(ok(&inference::model(find(&app, &named)?.1)))
}

/// 200 where it answers; 400 where it does not, as the protocol wants it.
pub async fn model_ready(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(named): Named,
) -> Answer {
    may_look(&app, &who)?;
    let (_, model) = find(&app, &named)?;
    match model.health() {
        Health::Ready => Ok(ok(&json!({ "name": model.name, "ready": true }))),
        Health::Quarantined(reason) => {
            let body = json!({ "name": model.name, "ready": false, "error": reason });
            Ok(json(StatusCode::BAD_REQUEST, &body))
        }
    }
}

/// Triton's list of its repository: state and reason of each model.
pub async fn index(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    may_look(&app, &who)?;
    let entry = |model: &Model| {
        let (state, reason) = match model.health() {
            Health::Ready => ("READY", String::new()),
            Health::Quarantined(reason) => ("UNAVAILABLE", reason),
        };
        let version = model.manifest().plugin.version.to_string();
        json!({ "name": model.name, "version": version, "state": state, "reason": reason })
    };
    let all: Vec<Value> = app.models.all().iter().map(entry).collect();
    Ok(ok(&json!(all)))
}

pub async fn metrics(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    app.require(&who, Scope::Read)?;
    let models = app.models.all().iter().map(|model| (model.name.clone(), model.health() == Health::Ready));
    let text = app.shared.metrics.text(app.shared.queue.len(), &models.collect::<Vec<_>>());
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
