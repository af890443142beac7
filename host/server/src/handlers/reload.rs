//! `POST /admin/plugins/NAME/reload`, Triton's `POST /v2/repository/models/NAME/load`, and SIGHUP: a plugin is opened again.

use super::models::find;
use crate::access::{Principal, Scope};
use crate::app::App;
use crate::error::{ApiError, json};
use crate::models::{Health, Model};
use crate::work::Work;
use anymc3d_host::run::TaskIdentity;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Opens a plugin again: a newer build or newer weights of it, or the same after a quarantine. Jobs that wait are answered by
/// the new one; a new one that is refused leaves the old one as it was.
pub async fn reload(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path(named): Path<HashMap<String, String>>,
) -> Result<Response<Body>, ApiError> {
    app.require(&who, Scope::Admin)?;
    app.takes_work()?;
    let (plugin, model) = find(&app, &named)?;
    let before = model.identity();
    let said = opened(&app, plugin, model, (&who.name, false)).await?;
    let said = said.map_err(|reason| ApiError::new(StatusCode::BAD_REQUEST, reason))?;
    let answer = json!({
        "name": model.name, "loaded": said, "before": digests(&before), "now": digests(&model.identity()),
    });
    Ok(json(StatusCode::OK, &answer))
}

/// Plugins whose files have changed, or that are in quarantine; what comes of it is told to the log and the audit log.
pub(crate) async fn reload_changed(app: &App) {
    for (plugin, model) in app.models.all().iter().enumerate() {
        match opened(app, plugin, model, ("SIGHUP", true)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(said))) => {
                crate::log::line("info", "plugin_reloaded", json!({ "plugin": model.name, "now": said }))
            }
            Ok(Err(reason)) => {
                let facts = json!({ "plugin": model.name, "reason": reason });
                crate::log::line("error", "plugin_not_reloaded", facts);
            }
            Err(e) => tracing::error!("plugin {}: {}", model.name, e.message),
        }
    }
}

/// After the work that runs, in the engine's thread: a line that says what runs from here on, or why not.
/// Nothing of one that was to be opened only where it changed, and did not.
async fn opened(
    app: &App,
    plugin: usize,
    model: &Model,
    (who, only_changed): (&str, bool),
) -> Result<Result<Option<String>, String>, ApiError> {
    let before = model.identity();
    let only_changed = only_changed && model.health() == Health::Ready;
    let (reply, said) = oneshot::channel();
    let pushed = app.shared.queue.push(Work::Reload { plugin, only_changed, reply }, usize::MAX);
    pushed.map_err(|full| app.busy(full.to_string()))?;
    let ends = || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "the server ends");
    let said = said.await.map_err(|_| ends())?;
    let (outcome, reason) = match &said {
        Ok(None) => return Ok(said),
        Ok(Some(_)) => ("opened", None),
        Err(reason) => ("refused", Some(reason)),
    };
    let facts = json!({
        "who": who, "plugin": model.name, "outcome": outcome, "reason": reason,
        "before": digests(&before), "now": digests(&model.identity()),
    });
    app.shared.audit.write("load", &[facts]);
    Ok(said)
}

fn digests(identity: &TaskIdentity) -> Value {
    json!({
        "version": identity.version, "library_sha256": identity.library_sha256,
        "weights_sha256": identity.weights_sha256,
    })
}
