//! `GET /jobs/ID/events`: how a job goes on, as Server-Sent Events, until it ends.

use super::jobs::{seen, shown};
use crate::access::Principal;
use crate::app::App;
use crate::error::ApiError;
use crate::jobs::{JobId, Progress};
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// Sent where nothing happens, so that proxies keep the connection and a client that has left is noticed.
const HEARTBEAT: u32 = 15;
/// How often it is looked whether the server ends.
const LOOK: Duration = Duration::from_secs(1);

/// What is sent next.
enum Next {
    /// The progress as it is now, and then each change.
    Now(watch::Receiver<Progress>),
    Changes(watch::Receiver<Progress>),
    /// The job as it ended.
    Last,
    Nothing,
}

pub async fn events(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(id): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let job = seen(&app, &who, &id)?;
    let next = app.shared.jobs.watch(&job.id).map_or(Next::Last, Next::Now);
    let stream = futures_util::stream::unfold((next, app, job.id), |(next, app, id)| async move {
        let (text, next) = step(next, &app, &id).await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), (next, app, id)))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

fn event(name: &str, data: &impl serde::Serialize) -> String {
    // JSON has no line break in it.
    format!("event: {name}\ndata: {}\n\n", serde_json::to_string(data).unwrap_or_default())
}

async fn step(next: Next, app: &App, id: &JobId) -> Option<(String, Next)> {
    let mut progress = match next {
        Next::Now(mut progress) => {
            let text = event("progress", &*progress.borrow_and_update());
            return Some((text, Next::Changes(progress)));
        }
        Next::Changes(progress) => progress,
        Next::Last => {
            let job = app.shared.jobs.get(id).ok().flatten()?;
            return Some((event("end", &shown(app, &job)), Next::Nothing));
        }
        Next::Nothing => return None,
    };
    for _ in 0..HEARTBEAT {
        match tokio::time::timeout(LOOK, progress.changed()).await {
            // A client that asks again hears the rest from the next server.
            Err(_) if app.ending.load(Ordering::Relaxed) => return None,
            Err(_) => {}
            Ok(Ok(())) if !progress.borrow_and_update().state.is_final() => {
                let text = event("progress", &*progress.borrow());
                return Some((text, Next::Changes(progress)));
            }
            // It has ended, or was deleted.
            Ok(_) => {
                let job = app.shared.jobs.get(id).ok().flatten()?;
                return Some((event("end", &shown(app, &job)), Next::Nothing));
            }
        }
    }
    Some((": still here\n\n".to_owned(), Next::Changes(progress)))
}
