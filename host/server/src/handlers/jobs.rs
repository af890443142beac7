//! `POST /scans`, `GET /jobs`, `GET` and `DELETE /jobs/ID`

use crate::access::{Principal, Scope};
use crate::app::App;
use crate::error::{ApiError, json};
use crate::jobs::{Channel, Job, JobId, JobState, Submission, SubmitError, Submitted, Submitter};
use crate::scans::{name_once, point, receive};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::spawn_blocking;

type Answer = Result<Response<Body>, ApiError>;

/// Jobs in a list, where the client does not say.
const LISTED: usize = 100;
/// Most characters of an idempotency key.
const KEY: usize = 255;

/// A scan becomes a job.
pub async fn submit(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    request: Request,
) -> Answer {
    app.require(&who, Scope::Infer)?;
    app.takes_work()?;
    let key = key(request.headers())?;
    let (mut plugins, asked_point) = query(request.uri())?;
    if !app.shared.jobs.has_room() {
        return Err(app.busy("the queue is full"));
    }
    let (parts, body) = request.into_parts();
    let intake = app.shared.jobs.intake().map_err(ApiError::internal)?;
    let mut received = receive(&intake, &parts.headers, body, &app.limits).await?;
    received.plugins.into_iter().for_each(|name| name_once(&mut plugins, name));
    if asked_point.is_some() {
        received.region.point_mm = asked_point;
    }
    let submission = Submission {
        scan: received.scan,
        region: received.region,
        plugins,
        submitter: Submitter { channel: Channel::Http, name: who.name.clone() },
        key,
        upload_sha256: Some(received.sha256),
    };
    let jobs = app.shared.jobs.clone();
    let submitted = move || {
        let submitted = jobs.submit(intake, submission)?;
        let job = jobs.get(submitted.id())?;
        Ok::<_, SubmitError>((submitted, job))
    };
    let submitted = spawn_blocking(submitted).await.map_err(ApiError::internal)?;
    let (submitted, job) = submitted.map_err(|e| match e {
        SubmitError::QueueFull(_) => app.busy(e.to_string()),
        SubmitError::UnknownPlugin { .. } => ApiError::bad_request(e.to_string()),
        SubmitError::KeyOfAnother(_) => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, e.to_string()),
        SubmitError::NoScan(_) | SubmitError::Store(_) => ApiError::internal(e),
    })?;
    let status = match submitted {
        Submitted::New(_) => StatusCode::ACCEPTED,
        Submitted::Known(_) => StatusCode::OK,
    };
    let job = job.ok_or_else(|| ApiError::not_found("the job was deleted meanwhile"))?;
    let mut response = json(status, &shown(&app, &job));
    if let Ok(place) = HeaderValue::from_str(&format!("/jobs/{}", job.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY).contains(&text.len()));
    let wrong =
        || ApiError::bad_request(format!("Idempotency-Key: expected 1 to {KEY} printable characters"));
    text.map(|text| Some(text.to_owned())).ok_or_else(wrong)
}

/// `plugin=…`, as often as wanted, and `point=x,y,z`.
fn query(uri: &Uri) -> Result<(Vec<String>, Option<[f64; 3]>), ApiError> {
    let (mut plugins, mut place) = (Vec::new(), None);
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "plugin" => name_once(&mut plugins, value.into_owned()),
            "point" => place = Some(point(&value)?),
            _ => return Err(ApiError::bad_request("the query takes plugin=NAME and point=x,y,z")),
        }
    }
    Ok((plugins, place))
}

/// A job as clients are told of it. `results` has the path of each file.
pub(super) fn shown(app: &App, job: &Job) -> Value {
    let results: Vec<Value> = job
        .answers
        .iter()
        .map(|answer| {
            let path = |file: &String| {
                let folder: Vec<String> = answer.folder.split('/').map(encoded).collect();
                format!("/jobs/{}/results/{}/{file}", job.id, folder.join("/"))
            };
            json!({
                "case": answer.case, "plugin": answer.plugin, "version": answer.version,
                "predictions": answer.predictions, "novelty": answer.novelty, "warnings": answer.warnings,
                "scan_sha256": answer.scan_sha256, "milliseconds": answer.milliseconds,
                "files": answer.files.iter().map(path).collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut shown = json!({
        "id": job.id, "state": job.state, "plugins": job.plugins, "submitter": job.submitter,
        "created": job.created, "attempts": job.attempts, "upload_sha256": job.upload_sha256,
        "upload_bytes": job.upload_bytes, "results": results, "failures": job.failures,
        "notices": job.notices, "events": format!("/jobs/{}/events", job.id),
    });
    if let Some(started) = job.started {
        shown["started"] = json!(started);
    }
    if let Some(ended) = job.ended {
        shown["ended"] = json!(ended);
    }
    if let Some(place) = app.shared.jobs.place(&job.id) {
        shown["place"] = json!(place);
    }
    shown
}

/// A part of a path in which only letters, digits and `-_.` stand as they are.
fn encoded(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(char::from(byte)),
            other => text += &format!("%{other:02X}"),
        }
    }
    text
}

/// The job of a path, where the client may see it: with `read` any, else those that it submitted itself.
pub(super) fn seen(app: &App, who: &Principal, id: &str) -> Result<Job, ApiError> {
    let missing = || ApiError::not_found("there is no such job");
    if !who.may(Scope::Read) && !who.may(Scope::Infer) {
        app.require(who, Scope::Read)?;
    }
    let id: JobId = id.parse().map_err(|_| missing())?;
    let job = app.shared.jobs.get(&id).map_err(ApiError::internal)?.ok_or_else(missing)?;
    // A job of others is not there for whoever may not see it.
    if who.may(Scope::Read) || is_own(who, &job) { Ok(job) } else { Err(missing()) }
}

fn is_own(who: &Principal, job: &Job) -> bool {
    who.may(Scope::Infer) && job.submitter.channel == Channel::Http && job.submitter.name == who.name
}

pub async fn get(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    let job = seen(&app, &who, &id)?;
    Ok(json(StatusCode::OK, &shown(&app, &job)))
}

/// `GET /jobs?state=…&limit=…`, the newest first.
pub async fn list(State(app): State<Arc<App>>, Extension(who): Extension<Principal>, uri: Uri) -> Answer {
    if !who.may(Scope::Infer) {
        app.require(&who, Scope::Read)?;
    }
    let (mut most, mut state) = (LISTED, None);
    let wrong =
        |what: &str| ApiError::bad_request(format!("the query takes state=STATE and limit=N; {what}"));
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "limit" => most = value.parse().ok().filter(|n| *n <= 10_000).ok_or_else(|| wrong("limit"))?,
            "state" => {
                let named = serde_json::from_value::<JobState>(json!(value));
                state = Some(named.map_err(|_| wrong("state"))?);
            }
            _ => return Err(wrong("nothing else")),
        }
    }
    let listed = {
        let app = app.clone();
        move || {
            let keep = |job: &Job| {
                (who.may(Scope::Read) || is_own(&who, job)) && state.is_none_or(|state| job.state == state)
            };
            app.shared.jobs.list(most, keep)
        }
    };
    let jobs = spawn_blocking(listed).await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let jobs: Vec<Value> = jobs.iter().map(|job| shown(&app, job)).collect();
    Ok(json(StatusCode::OK, &json!({ "jobs": jobs, "waiting": app.shared.jobs.waiting() })))
}

/// Deletes a job with its scan and its results; 409 while it runs.
pub async fn delete(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Answer {
    let job = match who.may(Scope::Admin) {
        true => seen(&app, &Principal::local(), &id)?,
        false => seen(&app, &who, &id)?,
    };
    if !is_own(&who, &job) {
        app.require(&who, Scope::Admin)?;
    }
    let deleting = {
        let (app, id) = (app.clone(), job.id.clone());
        move || {
            let deleted = app.shared.jobs.delete(&id)?;
            if deleted {
                app.shared.audit.write("delete", &[json!({ "who": who.name, "job": id })]);
            }
            Ok::<_, crate::jobs::StoreError>(deleted)
        }
    };
    let deleted = spawn_blocking(deleting).await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    if !deleted {
        return Err(ApiError::new(StatusCode::CONFLICT, "the job runs; delete it when it has ended"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
