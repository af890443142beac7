//! An archive over DICOMweb: QIDO-RS, WADO-RS and STOW-RS (PS3.18). It blocks: it is called from threads of its own.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::config::ArchiveSettings;
use super::credentials::Credentials;
use super::error::{ArchiveError, Result};
use super::json::{Attributes, SERIES_UID, SOP_INSTANCE_UID, STUDY_INSTANCES, STUDY_UID, is_uid};
use super::multipart::{FilesBody, Parts, boundary_of};
use super::series::SeriesFacts;
use super::stow::StoreAnswer;

/// Most bytes of an answer in JSON.
const MOST_JSON: u64 = 64 << 20;
/// Pages of one list.
const MOST_PAGES: usize = 10_000;

/// A study in the archive's list.
#[derive(Clone, PartialEq)]
pub struct ListedStudy {
    pub uid: String,
    /// Instances, where the archive counts them.
    pub instances: Option<u64>,
}

/// Where instances are fetched from. Any level of a study.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub study: &'a str,
    pub series: &'a str,
    /// The whole series without it.
    pub instance: Option<&'a str>,
}

/// A DICOMweb service.
pub struct Archive {
    agent: Agent,
    base: String,
    credentials: Credentials,
    page: u32,
    most_listed: usize,
}

impl Archive {
    /// Of a base URL, as `https://pacs.hospital/dicom-web`. `folder`: where relative files of the settings lie.
    ///
    /// # Errors
    /// One line, when the URL or a certificate is none.
    pub fn new(
        url: &str,
        settings: &ArchiveSettings,
        most_listed: usize,
        credentials: Credentials,
        folder: &Path,
    ) -> std::result::Result<Self, String> {
        let base = url.trim_end_matches('/').to_owned();
        let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
        if host.is_none_or(|h| h.is_empty() || h.contains(['@', '?', '#']) || h.contains(char::is_whitespace))
        {
            // It is not shown: it may hold an account.
            return Err("--dicomweb: expected http:// or https://, a host and the path of the DICOMweb service, without an \
                        account (which goes into rules.toml)"
                .into());
        }
        let roots = match &settings.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(file) => certificates(&folder.join(file))?,
        };
        let read = Duration::from_secs(settings.timeout_seconds.max(1));
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(Duration::from_secs(settings.connect_seconds.max(1))))
            .timeout_connect(Some(Duration::from_secs(settings.connect_seconds.max(1))))
            .timeout_recv_response(Some(read))
            .timeout_per_read(Some(read))
            .timeout_per_write(Some(read))
            // A redirect could lead an account to another host.
            .max_redirects(0)
            .http_status_as_error(false)
            // A connection that the archive closed meanwhile would look like a failure.
            .max_idle_age(Duration::from_secs(2))
            .build();
        Ok(Self { agent: config.into(), base, credentials, page: settings.page, most_listed })
    }

    fn request(&self, method: &str, path: &str, accept: &str) -> Result<ureq::http::request::Builder> {
        let uri = format!("{}{path}", self.base);
        let builder = Request::builder().method(method).uri(uri).header("Accept", accept);
        match self.credentials.header() {
            Ok(None) => Ok(builder),
            Ok(Some(value)) => Ok(builder.header("Authorization", value)),
            Err(reason) => Err(ArchiveError::Unavailable { reason, wait: None }),
        }
    }

    fn get(&self, path: &str, accept: &str, asked: &str) -> Result<Response<Body>> {
        let request = self.request("GET", path, accept)?.body(());
        let request = request.map_err(|_| ArchiveError::Refused(format!("{asked}: the URL is no URL")))?;
        let response = self.agent.run(request).map_err(|e| ArchiveError::of_transport(&e, asked))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status if status.is_redirection() => {
                let message =
                    format!("{asked}: the archive redirects ({}), which is not followed", status.as_u16());
                Err(ArchiveError::Refused(message))
            }
            status => Err(ArchiveError::of_status(status.as_u16(), asked, retry_after(&response))),
        }
    }

    /// One answer of QIDO-RS; none where the archive has none (204).
    fn list(&self, path: &str, asked: &str) -> Result<Vec<Value>> {
        let mut response = self.get(path, "application/dicom+json", asked)?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Vec::new());
        }
        match json(&mut response, asked)? {
            Value::Array(items) => Ok(items),
            Value::Null => Ok(Vec::new()),
            _ => Err(ArchiveError::Interrupted(format!("{asked}: the answer is no list"))),
        }
    }

    /// All pages of a list. An archive that ignores `offset` repeats its first page, which ends the list.
    fn pages(&self, path: &str, key: &str, asked: &str) -> Result<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..MOST_PAGES {
            let page = format!("{path}{joint}limit={}&offset={}", self.page, all.len());
            let items = self.list(&page, asked)?;
            let before = all.len();
            for item in items {
                let uid = Attributes(&item).text(key).unwrap_or_default().to_owned();
                if is_uid(&uid) && seen.insert(uid) {
                    all.push(item);
                }
            }
            // Archives cut pages below what was asked for, so only an empty page ends the list.
            if all.len() == before || all.len() >= self.most_listed {
                break;
            }
        }
        all.truncate(self.most_listed);
        Ok(all)
    }

    /// Studies since a date, as `20261122`; all without one.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn studies(&self, since: Option<&str>) -> Result<Vec<ListedStudy>> {
        let date = since.map(|d| format!("&StudyDate={d}-")).unwrap_or_default();
        let path = format!("/studies?includefield={STUDY_INSTANCES}{date}");
        let found = self.pages(&path, STUDY_UID, "the list of studies")?;
        Ok(found.iter().filter_map(|item| listed(Attributes(item))).collect())
    }

    /// One study; `None` where the archive does not have it.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn study(&self, uid: &str) -> Result<Option<ListedStudy>> {
        let path = format!("/studies?StudyInstanceUID={uid}&includefield={STUDY_INSTANCES}&limit=2");
        let found = self.list(&path, "the study")?;
        // An archive that ignores the question must not give another study.
        Ok(found.iter().filter_map(|item| listed(Attributes(item))).find(|s| s.uid == uid))
    }

    /// The series of a study.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn series(&self, study: &str) -> Result<Vec<SeriesFacts>> {
        let fields = "includefield=00080070&includefield=0008103E&includefield=00180015&includefield=00181030&\
                      includefield=00201209";
        let path = format!("/studies/{study}/series?{fields}");
        let found = self.pages(&path, SERIES_UID, "the list of series")?;
        Ok(found.iter().map(|item| SeriesFacts::of_json(Attributes(item))).collect())
    }

    /// SOP Instance UIDs of a series.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn instances(&self, study: &str, series: &str) -> Result<Vec<String>> {
        let path = format!("/studies/{study}/series/{series}/instances");
        let found = self.pages(&path, SOP_INSTANCE_UID, "the list of instances")?;
        let uid = |item: &Value| Attributes(item).text(SOP_INSTANCE_UID).map(str::to_owned);
        Ok(found.iter().filter_map(uid).collect())
    }

    /// What one instance's header says of its series.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) fn facts(&self, place: Place<'_>) -> Result<SeriesFacts> {
        let asked = "an instance's metadata";
        let mut response =
            self.get(&format!("{}/metadata", path_of(place)), "application/dicom+json", asked)?;
        match json(&mut response, asked)? {
            Value::Array(items) if !items.is_empty() => Ok(SeriesFacts::of_json(Attributes(&items[0]))),
            _ => Err(ArchiveError::Interrupted(format!("{asked}: the answer is no list"))),
        }
    }

    /// Whether the archive has an instance.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub(crate) fn has(&self, place: Place<'_>) -> Result<bool> {
        match self.facts(place) {
            Ok(_) => Ok(true),
            Err(ArchiveError::Refused(reason)) if reason.ends_with(" 404") || reason.ends_with(" 410") => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Fetches instances as they are stored. Each is written to what `open` gives, and `done` is called once it is
    /// complete; the next one comes after that.
    ///
    /// # Errors
    /// [`ArchiveError`]; what came before stays.
    pub(crate) fn fetch<W: Write>(
        &self,
        place: Place<'_>,
        most_bytes: u64,
        mut open: impl FnMut() -> io::Result<W>,
        mut done: impl FnMut(W) -> Result<()>,
    ) -> Result<()> {
        let asked = if place.instance.is_some() { "an instance" } else { "a series" };
        let accept = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
        let response = self.get(&path_of(place), accept, asked)?;
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let Some(boundary) = boundary_of(kind) else {
            let message = format!("{asked}: the archive does not answer with multipart/related");
            return Err(ArchiveError::Refused(message));
        };
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut parts = Parts::new(body, &boundary);
        loop {
            let part = match parts.next() {
                Ok(None) => return Ok(()),
                Ok(Some(part)) => part,
                Err(e) => return Err(ArchiveError::of_io(&e, asked)),
            };
            let disk = |e: io::Error| ArchiveError::Disk(format!("{asked} cannot be written ({e})"));
            let mut out = Writing {
                inner: io::BufWriter::with_capacity(256 << 10, open().map_err(disk)?),
                failed: None,
            };
            match part.copy_to(&mut out, most_bytes) {
                Ok(_) => {}
                Err(_) if out.failed.is_some() => {
                    return Err(ArchiveError::Disk(format!(
                        "{asked} cannot be written ({})",
                        out.failed.unwrap_or_default()
                    )));
                }
                Err(e) if e.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(ArchiveError::Refused(format!(
                        "an instance has more than {most_bytes} bytes, the limit ([limits] instance_mb)"
                    )));
                }
                Err(e) => return Err(ArchiveError::of_io(&e, asked)),
            }
            let inner = out.inner.into_inner().map_err(|e| disk(e.into_error()))?;
            done(inner)?;
        }
    }

    /// Stores files into a study.
    ///
    /// # Errors
    /// [`ArchiveError`]; an answer that says which instances were stored and which not is none, whatever its status.
    pub(crate) fn store(&self, study: &str, files: &[PathBuf]) -> Result<StoreAnswer> {
        let asked = "storing the results";
        let boundary = format!("anymc3d-{:032x}", random());
        let (mut body, length) = FilesBody::new(files, &boundary)
            .map_err(|e| ArchiveError::Disk(format!("the results cannot be read ({e})")))?;
        let request = self
            .request("POST", &format!("/studies/{study}"), "application/dicom+json")?
            .header(
                "Content-Type",
                format!("multipart/related; type=\"application/dicom\"; boundary={boundary}"),
            )
            .header("Content-Length", length)
            .body(SendBody::from_reader(&mut body));
        let request = request.map_err(|_| ArchiveError::Refused(format!("{asked}: the URL is no URL")))?;
        let mut response = self.agent.run(request).map_err(|e| ArchiveError::of_transport(&e, asked))?;
        let status = response.status().as_u16();
        let wait = retry_after(&response);
        let told = json(&mut response, asked).ok();
        let answer = told.as_ref().map(|value| StoreAnswer::of_json(Attributes(value))).unwrap_or_default();
        match status {
            200 | 202 => Ok(answer),
            // A 400 or 409 may have kept the good part, and says so.
            400 | 409 if !answer.is_silent() => Ok(answer),
            // Which of them the archive kept is found out by asking for each.
            400 | 409 => {
                Err(ArchiveError::Interrupted(format!("{asked}: the archive answered {status} and no list")))
            }
            status => Err(ArchiveError::of_status(status, asked, wait)),
        }
    }
}

/// A writer that remembers that it was the disk, and not the archive, that failed.
struct Writing<W: Write> {
    inner: io::BufWriter<W>,
    failed: Option<String>,
}

impl<W: Write> Write for Writing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).inspect_err(|e| self.failed = Some(e.to_string()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn path_of(place: Place<'_>) -> String {
    let Place { study, series, instance } = place;
    let instance = instance.map(|uid| format!("/instances/{uid}")).unwrap_or_default();
    format!("/studies/{study}/series/{series}{instance}")
}

fn listed(data: Attributes<'_>) -> Option<ListedStudy> {
    let uid = data.text(STUDY_UID).filter(|uid| is_uid(uid))?;
    Some(ListedStudy { uid: uid.to_owned(), instances: data.count(STUDY_INSTANCES) })
}

fn json(response: &mut Response<Body>, asked: &str) -> Result<Value> {
    let mut bytes = Vec::new();
    let read = response
        .body_mut()
        .with_config()
        .limit(u64::MAX)
        .reader()
        .take(MOST_JSON + 1)
        .read_to_end(&mut bytes);
    read.map_err(|e| ArchiveError::of_io(&e, asked))?;
    if bytes.len() as u64 > MOST_JSON {
        return Err(ArchiveError::Refused(format!("{asked}: the answer has more than {MOST_JSON} bytes")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes)
        .map_err(|_| ArchiveError::Interrupted(format!("{asked}: the answer is no JSON")))
}

/// Seconds; dates are not read.
fn retry_after<T>(response: &Response<T>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(value.trim().parse::<u64>().ok()?.min(3600)))
}

fn certificates(file: &Path) -> std::result::Result<RootCerts, String> {
    let pem = std::fs::read(file).map_err(|e| format!("{}: cannot be read ({e})", file.display()))?;
    let found: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(format!("{}: holds no certificate; expected PEM", file.display())),
        false => Ok(RootCerts::new_with_certs(&found)),
    }
}

/// Of the system's randomness: no file has a boundary that it cannot know.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(0));
    half() << 64 | half()
}
