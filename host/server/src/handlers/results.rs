//! `GET /jobs/ID/results/CASE/PLUGIN/FILE`: a file that the job's record names, and no other.

use super::jobs::seen;
use crate::access::Principal;
use crate::app::App;
use crate::error::ApiError;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;

/// The page may run its own script and reach nothing: not this server, not the network.
const REPORT: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      img-src data:; frame-ancestors 'none'";

/// What a file is by its name, which this program gave it.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "json" => "application/json",
        "gz" => "application/gzip",
        "png" => "image/png",
        "html" => "text/html; charset=utf-8",
        "dcm" => "application/dicom",
        _ => "application/octet-stream",
    }
}

pub async fn file(
    State(app): State<Arc<App>>,
    Extension(who): Extension<Principal>,
    Path((id, wanted)): Path<(String, String)>,
) -> Result<Response<Body>, ApiError> {
    let job = seen(&app, &who, &id)?;
    let named = job.answers.iter().find_map(|answer| {
        let file = wanted.strip_prefix(&answer.folder)?.strip_prefix('/')?;
        answer.files.iter().find(|name| *name == file).map(|name| (answer, name))
    });
    let missing = || ApiError::not_found("the job has no such file");
    let (answer, name) = named.ok_or_else(missing)?;
    let path = app.shared.jobs.answer_folder(&job.id, answer).join(name);
    let open = move || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok::<_, std::io::Error>((file, length))
    };
    let (file, length) = spawn_blocking(open).await.map_err(ApiError::internal)?.map_err(|_| missing())?;
    let mut response = Response::new(Body::from_stream(blocks(file)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if name.ends_with(".html") {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT));
    }
    Ok(response)
}

/// A file's bytes, read as they are sent.
fn blocks(file: File) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let read = move || {
            let mut block = Vec::with_capacity(BLOCK);
            let n = file.by_ref().take(BLOCK as u64).read_to_end(&mut block);
            (n, block, file)
        };
        match spawn_blocking(read).await {
            Ok((Ok(0), ..)) => None,
            Ok((Ok(_), block, file)) => Some((Ok(Bytes::from(block)), Some(file))),
            Ok((Err(e), ..)) => Some((Err(e), None)),
            Err(e) => Some((Err(std::io::Error::other(e)), None)),
        }
    })
}
