//! A server of models that speaks as Hugging Face's does: lists a repository's files with their sizes and digests, and gives
//! them. Read only; a token goes to this server alone.

use crate::digest::sha256_of_file;
use crate::error::{RegistryError, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// A server of models.
pub struct Hub {
    base: String,
    token: Option<String>,
    agent: Agent,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubFile {
    /// Below the repository's root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Of large files, which are stored by it.
    pub sha256: Option<String>,
}

/// An entry of the server's list.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// Attempts that bring nothing new before giving up.
const ATTEMPTS: u32 = 3;
/// A list longer than this is of no model.
const LIST_LIMIT: u64 = 16 << 20;

impl Hub {
    /// Of a base address, with a token where the server asks for it.
    pub fn new(address: &str, token: Option<String>) -> Self {
        // The machine's own certificates: a hospital's server is often signed by the hospital.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        Self { base: address.trim_end_matches('/').to_owned(), token, agent: config.into() }
    }

    /// The server's address.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// All files of a repository at a revision.
    ///
    /// # Errors
    /// When the server cannot be reached, has no such repository, or asks for a token.
    pub fn files(&self, repository: &str, revision: &str) -> Result<Vec<HubFile>> {
        let path = format!("api/models/{repository}/tree/{revision}");
        let response = self.get(&path, 0)?;
        let mut text = String::new();
        let read = response.into_body().into_reader().take(LIST_LIMIT).read_to_string(&mut text);
        read.map_err(|e| self.fault(format!("{path}: {e}")))?;
        let entries: Vec<Entry> = serde_json::from_str(&text)
            .map_err(|e| self.fault(format!("{path}: is no list of files ({e})")))?;
        let file = |e: Entry| match e.lfs {
            Some(lfs) => HubFile {
                path: e.path,
                bytes: lfs.size,
                sha256: Some(lfs.oid.trim_start_matches("sha256:").to_owned()),
            },
            None => HubFile { path: e.path, bytes: e.size, sha256: None },
        };
        Ok(entries.into_iter().filter(|e| e.kind == "file").map(file).collect())
    }

    /// Downloads a file into `folder`, going on where it was interrupted, and checks size and digest. A weights file whose
    /// digest the server does not tell is refused. `progress` receives the bytes so far.
    ///
    /// # Errors
    /// When the server does not have it, gives more or other bytes, or ends early again and again; a file with the wrong
    /// digest is removed.
    pub fn fetch(
        &self,
        repository: &str,
        revision: &str,
        file: &HubFile,
        folder: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<PathBuf> {
        if file.sha256.is_none() && file.path.ends_with(".safetensors") {
            return Err(self.fault(format!("{}: the server tells no sha256 of the weights", file.path)));
        }
        let place = folder.join(&file.path);
        let io = |e| RegistryError::io(&place, "cannot be written")(e);
        let mut to = File::options().create(true).truncate(false).write(true).open(&place).map_err(io)?;
        let name = format!("{repository}/resolve/{revision}/{}", file.path);
        let mut fruitless = 0;
        loop {
            let have = to.metadata().map_err(io)?.len();
            if have == file.bytes {
                break;
            }
            let problem = match self.go_on(&name, &mut to, have, file.bytes, progress) {
                Ok(at) if at == file.bytes => break,
                Ok(at) => self.fault(format!("{name}: ended after {at} of {} bytes", file.bytes)),
                Err(e) => e,
            };
            let now = to.metadata().map_err(io)?.len();
            fruitless = if now > have { 0 } else { fruitless + 1 };
            if fruitless >= ATTEMPTS {
                return Err(problem);
            }
            std::thread::sleep(Duration::from_millis(200 << fruitless));
        }
        if let Some(expected) = &file.sha256 {
            let (found, _) = sha256_of_file(&place)?;
            if found != *expected {
                let _ = std::fs::remove_file(&place);
                let what = format!("{}/{name}", self.base);
                return Err(RegistryError::Digest { what, found, expected: expected.clone() });
            }
        }
        Ok(place)
    }

    /// Writes what comes from `have` on; how many bytes there are then.
    fn go_on(&self, name: &str, to: &mut File, have: u64, bytes: u64, progress: &dyn Fn(u64)) -> Result<u64> {
        // More than there should be is not what was begun.
        let from = if have < bytes { have } else { 0 };
        let response = self.get(name, from)?;
        let mut at = if response.status() == StatusCode::PARTIAL_CONTENT { from } else { 0 };
        let whole = |e: std::io::Error| self.fault(format!("{name}: {e}"));
        to.set_len(at).and_then(|()| to.seek(SeekFrom::Start(at))).map_err(whole)?;
        let (mut reader, mut buffer) = (response.into_body().into_reader(), vec![0u8; 1 << 16]);
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return Ok(at),
                Ok(n) => n,
                // What came until then is kept.
                Err(e) if at > have => {
                    tracing::info!("{name}: {e}; going on from there");
                    return Ok(at);
                }
                Err(e) => return Err(self.fault(format!("{name}: ended after {at} of {bytes} bytes ({e})"))),
            };
            if at + n as u64 > bytes {
                to.set_len(0).map_err(whole)?;
                return Err(self
                    .fault(format!("{name}: goes on behind the {bytes} bytes that the server's list says")));
            }
            to.write_all(&buffer[..n]).map_err(whole)?;
            at += n as u64;
            progress(at);
        }
    }

    fn get(&self, path: &str, from: u64) -> Result<Response<Body>> {
        let mut request = self.agent.get(format!("{}/{path}", self.base));
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = request.call().map_err(|e| self.fault(format!("cannot be reached ({e})")))?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.fault(format!(
                "{path}: the server answered {}; accept the model's terms there, and give a token in ANYMC3D_HUB_TOKEN",
                response.status()
            ))),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => self.get(path, 0),
            status => Err(self.fault(format!("{path}: the server answered {status}"))),
        }
    }

    fn fault(&self, message: String) -> RegistryError {
        RegistryError::store(&self.base, message)
    }
}
