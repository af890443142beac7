//! Paths and what answers them. Every request passes the guard first, and is logged and counted at its end.

use crate::access::{NamedHosts, PathKind, Principal, Scope, Tokens, guard};
use crate::dicomweb::Service;
use crate::error::ApiError;
use crate::models::Models;
use crate::options::RequestLimits;
use crate::runner::Shared;
use crate::{handlers, log};
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// What every handler knows.
pub(crate) struct App {
    pub shared: Arc<Shared>,
    pub models: Arc<Models>,
    pub tokens: Option<Arc<Tokens>>,
    pub hosts: NamedHosts,
    pub limits: RequestLimits,
    pub queue: usize,
    /// Where requests' files go.
    pub requests: PathBuf,
    /// Bytes of inference requests, a permit for each MiB.
    pub memory: Arc<Semaphore>,
    /// The server ends: it answers what it has begun, and takes nothing new.
    pub ending: AtomicBool,
    pub tls: bool,
    /// Studies of an archive.
    pub studies: Option<Arc<Service>>,
}

impl App {
    /// Refuses whoever lacks a scope.
    pub fn require(&self, principal: &Principal, scope: Scope) -> Result<(), ApiError> {
        if principal.may(scope) {
            return Ok(());
        }
        let facts = serde_json::json!({ "who": principal.name, "lacks": scope });
        self.shared.audit.write("forbidden", &[facts]);
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("the token lacks the scope `{scope}`")))
    }

    /// The queue is full: when another try makes sense.
    pub fn busy(&self, message: impl Into<String>) -> ApiError {
        let seconds = self.shared.metrics.seconds_each() * self.shared.queue.len() as f64 / 2.0;
        ApiError::busy(message, (seconds.ceil() as u64).clamp(1, 60))
    }

    /// Refuses new work while the server ends.
    pub fn takes_work(&self) -> Result<(), ApiError> {
        if self.ending.load(Ordering::Relaxed) {
            return Err(ApiError {
                retry_after: Some(5),
                ..ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server ends")
            });
        }
        Ok(())
    }
}

/// Pages for people. They tell nothing of anybody, and ask for a token where the server wants one.
const PAGES: [&str; 2] = ["/", "/monitor"];
/// Further paths that tell nothing of anybody: load balancers ask for health without a token, browsers for a page's files.
const OPEN: [&str; 5] = ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/page/{name}"];

fn path_kind(route: &str) -> PathKind {
    match route {
        route if PAGES.contains(&route) => PathKind::Page,
        route if OPEN.contains(&route) => PathKind::Open,
        _ => PathKind::Guarded,
    }
}

/// All paths.
pub(crate) fn router(app: Arc<App>) -> Router {
    let models = Router::new()
        .route("/v2", get(handlers::models::server))
        .route("/v2/", get(handlers::models::server))
        .route("/v2/health/live", get(handlers::models::live))
        .route("/v2/health/ready", get(handlers::models::ready))
        .route("/v2/models", get(handlers::models::list))
        .route("/v2/models/{name}", get(handlers::models::metadata))
        .route("/v2/models/{name}/ready", get(handlers::models::model_ready))
        .route("/v2/models/{name}/infer", post(handlers::infer::infer))
        .route("/v2/models/{name}/versions/{version}", get(handlers::models::metadata))
        .route("/v2/models/{name}/versions/{version}/ready", get(handlers::models::model_ready))
        .route("/v2/models/{name}/versions/{version}/infer", post(handlers::infer::infer))
        .route("/v2/repository/index", post(handlers::models::index))
        .route("/v2/repository/models/{name}/load", post(handlers::reload::reload));
    let jobs = Router::new()
        .route("/scans", post(handlers::jobs::submit))
        .route("/jobs", get(handlers::jobs::list))
        .route("/jobs/{id}", get(handlers::jobs::get).delete(handlers::jobs::delete))
        .route("/jobs/{id}/events", get(handlers::events::events))
        .route("/jobs/{id}/results/{*file}", get(handlers::results::file));
    let studies = Router::new()
        .route("/webhook/study", post(handlers::studies::named))
        .route("/studies", get(handlers::studies::status))
        .route("/studies/again", post(handlers::studies::again));
    let pages = Router::new()
        .route("/", get(handlers::page::index))
        .route("/monitor", get(handlers::page::monitor))
        .route("/page/{name}", get(handlers::page::file));
    Router::new()
        .merge(pages)
        .merge(models)
        .merge(jobs)
        .merge(studies)
        .route("/healthz", get(handlers::models::live))
        .route("/readyz", get(handlers::models::ready))
        .route("/metrics", get(handlers::models::metrics))
        .route("/admin/plugins/{name}/reload", post(handlers::reload::reload))
        .route("/monitor.json", get(handlers::monitor::monitor))
        .fallback(nothing)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn_with_state(app.clone(), around))
        .with_state(app)
}

async fn nothing() -> ApiError {
    ApiError::not_found("nothing lies at this path")
}

async fn no_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes other methods")
}

/// Guards, logs and counts a request.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response<Body> {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    let asked = (&method, request.headers());
    let admitted = guard(&app.hosts, app.tokens.as_deref(), asked, path_kind(&route));
    let (who, mut response) = match admitted {
        Ok(principal) => {
            let who = principal.name.clone();
            request.extensions_mut().insert(principal);
            (Some(who), next.run(request).await)
        }
        Err(refused) => (None, refused.into_response()),
    };
    harden(&mut response, app.tls);
    let status = response.status().as_u16();
    app.shared.metrics.request(&route, status);
    let level = if status >= 500 { "error" } else { "info" };
    let facts = serde_json::json!({
        "method": method.as_str(), "route": route, "status": status, "who": who,
        "milliseconds": began.elapsed().as_millis() as u64,
    });
    log::line(level, "request", facts);
    response
}

/// No browser guesses what a file is, keeps it, or lets it do anything, unless its handler says more.
fn harden(response: &mut Response<Body>, tls: bool) {
    let headers = response.headers_mut();
    let fixed = |value: &'static str| HeaderValue::from_static(value);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(fixed("no-store"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.insert("cross-origin-resource-policy", fixed("same-origin"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(fixed("default-src 'none'; frame-ancestors 'none'"));
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, fixed("max-age=31536000"));
    }
}
