//! `GET /monitor.json`: how far the scans of late lie from the training cases, by plugin.

use crate::access::{Principal, Scope};
use crate::app::App;
use crate::error::{ApiError, json};
use crate::jobs::{Answer, Job};
use crate::models::Model;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, Uri};
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Results of a plugin, where the client does not say.
const LIMIT: usize = 200;
/// Most results of a plugin.
const MOST: usize = 2000;
/// Most jobs that are looked through, the newest first.
const JOBS: usize = 20_000;

pub async fn monitor(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    uri: Uri,
) -> Result<Response<Body>, ApiError> {
    app.require(&who, Scope::Read)?;
    let (plugin, limit) = query(&app, &uri)?;
    let told = spawn_blocking(move || monitored(&app, plugin.as_deref(), limit))
        .await
        .map_err(ApiError::internal)?;
    Ok(json(StatusCode::OK, &told?))
}

/// `plugin=NAME` and `limit=N`.
fn query(app: &App, uri: &Uri) -> Result<(Option<String>, usize), ApiError> {
    let (mut plugin, mut limit) = (None, LIMIT);
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "plugin" if app.models.find(&value).is_some() => plugin = Some(value.into_owned()),
            "plugin" => return Err(ApiError::not_found("no plugin is called that")),
            "limit" => {
                let number = value.parse().ok().filter(|n| (1..=MOST).contains(n));
                let wrong = || ApiError::bad_request(format!("limit: expected 1 to {MOST}"));
                limit = number.ok_or_else(wrong)?;
            }
            _ => return Err(ApiError::bad_request("the query takes plugin=NAME and limit=N")),
        }
    }
    Ok((plugin, limit))
}

/// Reads the database: not for a thread that serves others.
fn monitored(app: &App, plugin: Option<&str>, limit: usize) -> Result<Value, ApiError> {
    let asked = |model: &&Model| plugin.is_none_or(|name| name == model.name);
    let models: Vec<&Model> = app.models.all().iter().filter(asked).collect();
    let left = Cell::new(JOBS);
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); models.len()];
    let mut take = |job: &Job| {
        left.set(left.get() - 1);
        for answer in &job.answers {
            let Some(at) = models.iter().position(|model| model.name == answer.plugin) else { continue };
            if results[at].len() < limit {
                results[at].extend(shown(job, answer, models[at]));
            }
        }
        left.get() > 0 && results.iter().any(|of_plugin| of_plugin.len() < limit)
    };
    app.shared.jobs.newest(&mut take).map_err(ApiError::internal)?;
    let plugins = models.iter().zip(results).map(|(model, results)| {
        let reference = model.reference().map(|r| json!({ "cases": r.cases, "percentile_99_5": r.limit }));
        json!({ "name": model.name, "reference": reference, "results": results })
    });
    Ok(json!({ "plugins": plugins.collect::<Vec<_>>() }))
}

/// A result that has a distance. It is measured in the training cases that it was compared with: those of other weights, or of
/// another view, are brought to the limit of the reference that is told.
fn shown(job: &Job, answer: &Answer, model: &Model) -> Option<Value> {
    let novelty = answer.novelty.as_ref()?;
    let scale = model.reference().map_or(1.0, |reference| reference.limit / novelty.limit);
    Some(json!({
        "time": job.ended.unwrap_or(job.created), "job": job.id, "case": answer.case,
        "distance": novelty.distance * scale, "percentile": novelty.percentile, "outside": novelty.outside,
    }))
}
