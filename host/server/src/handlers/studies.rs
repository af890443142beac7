//! `POST /webhook/study`, `GET /studies` and `POST /studies/again`

use crate::access::{Principal, Scope};
use crate::app::App;
use crate::dicomweb::{NameError, Service};
use crate::error::{ApiError, json};
use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use std::sync::Arc;
use tokio::task::spawn_blocking;

type Answer = Result<Response<Body>, ApiError>;

/// Most bytes of a webhook's body.
const MOST: usize = 4096;

/// What a webhook says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    /// StudyInstanceUID.
    study: String,
    /// Whether a study that failed for good is taken up once more.
    #[serde(default)]
    again: bool,
}

fn service(app: &App) -> Result<&Arc<Service>, ApiError> {
    let absent =
        || ApiError::not_found("this server answers no studies by itself: it was started without --rules");
    app.studies.as_ref().ok_or_else(absent)
}

/// An archive says that a study is new or has changed.
pub async fn named(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    request: Request,
) -> Answer {
    app.require(&who, Scope::Infer)?;
    app.takes_work()?;
    let service = service(&app)?;
    let body = tokio::time::timeout(app.limits.idle, to_bytes(request.into_body(), MOST)).await;
    let body = body.map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come"))?;
    let body = body.map_err(|_| ApiError::too_large(format!("expected at most {MOST} bytes")))?;
    let named: Named = serde_json::from_slice(&body).map_err(|_| {
        ApiError::bad_request(
            "expected {\"study\": \"StudyInstanceUID\"}, and \"again\": true to take up a failed study",
        )
    })?;
    let service = service.clone();
    let done =
        spawn_blocking(move || service.name(&named.study, named.again)).await.map_err(ApiError::internal)?;
    done.map_err(refused)?;
    Ok(json(StatusCode::ACCEPTED, &serde_json::json!({})))
}

fn refused(error: NameError) -> ApiError {
    match error {
        NameError::NoUid => ApiError::bad_request(error.to_string()),
        NameError::NoArchive => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        NameError::Full => ApiError::busy(error.to_string(), 60),
        NameError::Ledger(e) => ApiError::internal(e),
    }
}

/// Every study that failed for good is taken up once more.
pub async fn again(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    app.require(&who, Scope::Admin)?;
    app.takes_work()?;
    let service = service(&app)?.clone();
    let taken = spawn_blocking(move || service.take_up_failed()).await.map_err(ApiError::internal)?;
    Ok(json(StatusCode::ACCEPTED, &serde_json::json!({ "studies": taken.map_err(refused)? })))
}

/// What became of studies, without identity.
pub async fn status(State(app): State<Arc<App>>, Extension(who): Extension<Principal>) -> Answer {
    app.require(&who, Scope::Read)?;
    let service = service(&app)?.clone();
    let status = spawn_blocking(move || service.status()).await.map_err(ApiError::internal)?;
    Ok(json(StatusCode::OK, &status.map_err(ApiError::internal)?))
}
