//! Any static HTTP(S) server: read only. Whoever publishes writes into the folder that it serves.

use super::{Sink, Store, drain, pour};
use crate::error::{RegistryError, Result};
use std::path::Path;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

pub(super) struct Http {
    base: String,
    address: String,
    agent: Agent,
}

impl Http {
    pub fn new(address: &str) -> Self {
        // The machine's own certificates: a hospital's server is often signed by the hospital.
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        let base = address.trim_end_matches('/').to_owned();
        Self { address: without_credentials(&base), base, agent: config.into() }
    }

    /// None where there is no such file.
    fn get(&self, name: &str, from: u64) -> Result<Option<Response<ureq::Body>>> {
        // `+` of a version's build is data, not a space.
        let url = format!("{}/{}", self.base, name.replace('+', "%2B"));
        let mut request = self.agent.get(&url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request
            .call()
            .map_err(|e| RegistryError::store(&self.address, format!("cannot be reached ({e})")))?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            // What is there already is all there is, or it is not what it was: from the beginning.
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => self.get(name, 0),
            status => {
                Err(RegistryError::store(&self.address, format!("{name}: the server answered {status}")))
            }
        }
    }
}

impl Store for Http {
    fn address(&self) -> &str {
        &self.address
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let response = self.get(name, 0)?;
        response.map(|r| drain(&self.address, name, r.into_body().into_reader(), limit)).transpose()
    }

    fn fetch(&self, name: &str, from: u64, sink: &mut dyn Sink) -> Result<bool> {
        let Some(response) = self.get(name, from)? else { return Ok(false) };
        let at = match response.status() {
            StatusCode::PARTIAL_CONTENT => begins_at(&response).unwrap_or(from),
            _ => 0,
        };
        sink.begin(at).map_err(|e| RegistryError::store(&self.address, format!("{name}: {e}")))?;
        pour(&self.address, name, response.into_body().into_reader(), sink)?;
        Ok(true)
    }

    fn put(&self, _: &str, _: &Path) -> Result<()> {
        Err(self.read_only())
    }

    fn exchange(&self, _: &str, _: Option<&[u8]>, _: &[u8]) -> Result<()> {
        Err(self.read_only())
    }
}

impl Http {
    fn read_only(&self) -> RegistryError {
        let advice = "a static server is read only; publish into the folder that it serves";
        RegistryError::Usage(format!("{}: {advice}", self.address))
    }
}

/// The first number of `Content-Range: bytes 100-199/200`.
fn begins_at(response: &Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// `https://user:secret@host/` is used as it is and shown without its secret.
fn without_credentials(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(h, p)| (h, p));
    match host.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{host}/{path}").trim_end_matches('/').to_owned(),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(without_credentials("https://me:secret@host:1/a/b"), "https://host:1/a/b");
        assert_eq!(without_credentials("https://host/a@b"), "https://host/a@b");
    }
}
