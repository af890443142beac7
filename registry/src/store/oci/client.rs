//! Requests of the OCI distribution specification 1.1 (manifests by tag, blobs by digest, monolithic uploads), and the
//! tokens that registries ask for (the Docker registry token specification).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;
use ureq::http::{Method, Request, Response, StatusCode, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// What the requests of a session may do; a token is asked for with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Pull,
    Push,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// Largest answer that is no blob: a manifest, a token, an error.
const MOST: u64 = 4 << 20;

pub(super) struct Client {
    agent: Agent,
    /// `https://host`
    base: String,
    repository: String,
    /// User and password.
    account: Option<(String, String)>,
    /// `Authorization` by access, once a registry has asked for it.
    authorization: Mutex<BTreeMap<Access, String>>,
}

/// What a registry's `401` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Client {
    pub fn new(host: &str, repository: &str, tls: bool, account: Option<(String, String)>) -> Self {
        // The machine's own certificates: a hospital's registry is often signed by the hospital.
        let certificates = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(certificates)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .build();
        // Docker's own registry answers at another host than its images are named after.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = format!("{}://{host}", if tls { "https" } else { "http" });
        let authorization = Mutex::default();
        Self { agent: config.into(), base, repository: repository.to_owned(), account, authorization }
    }

    /// `https://host/v2/REPOSITORY/REST`
    pub fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.base, self.repository)
    }

    /// Sends a request; if the registry asks for an account or token, sends it again with them.
    ///
    /// # Errors
    /// One line, when the registry cannot be reached or gives no token.
    pub fn send(
        &self,
        access: Access,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, String> {
        let response = self.send_once(access, method, url, headers, body)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let asked = response.headers().get_all("www-authenticate").iter();
        let Some(challenge) = asked.filter_map(|v| v.to_str().ok()).find_map(challenge) else {
            return Ok(response);
        };
        let authorization = self.authorize(access, &challenge)?;
        self.authorization
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(access, authorization);
        self.send_once(access, method, url, headers, body)
    }

    fn send_once(
        &self,
        access: Access,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response<Body>, String> {
        let mut request = Request::builder().method(method.clone()).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let known = self.authorization.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // An upload's location may lie on another host; the account is not for it.
        if let Some(value) = known.get(&access).filter(|_| url.starts_with(&format!("{}/", self.base))) {
            request = request.header("Authorization", value);
        }
        drop(known);
        let unreachable = |e: &dyn std::fmt::Display| format!("cannot be reached ({e})");
        let sent = if matches!(*method, Method::POST | Method::PUT) {
            // A slice has a length, so that it is not sent in chunks, which some registries refuse.
            self.agent.run(request.body(body).map_err(|e| unreachable(&e))?)
        } else {
            self.agent.run(request.body(()).map_err(|e| unreachable(&e))?)
        };
        sent.map_err(|e| unreachable(&e))
    }

    /// The value of `Authorization` that a challenge asks for.
    fn authorize(&self, access: Access, challenge: &Challenge) -> Result<String, String> {
        let basic = |(user, password): &(String, String)| {
            format!("Basic {}", base64(format!("{user}:{password}").as_bytes()))
        };
        let (realm, service, scope) = match challenge {
            Challenge::Basic => {
                let account = self.account.as_ref().map(basic);
                return account.ok_or_else(|| {
                    "asks for an account; set $ANYMC3D_STORE_USER and $ANYMC3D_STORE_PASSWORD".to_owned()
                });
            }
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let of_repository = format!("repository:{}:{}", self.repository, access.actions());
        // The scope of the challenge is that of the request; one token for all of a session's requests is asked for.
        let scope = match access {
            Access::Pull => scope.as_deref().unwrap_or(&of_repository),
            Access::Push => &of_repository,
        };
        let mut request = self.agent.get(realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(account) = &self.account {
            request = request.header("Authorization", basic(account));
        }
        let failed = |why: String| format!("{realm} gives no token ({why})");
        let response = request.call().map_err(|e| failed(e.to_string()))?;
        if response.status() != StatusCode::OK {
            return Err(failed(format!("it answered {}", response.status())));
        }
        let bytes = small(response).map_err(failed)?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
        let token = token.token.or(token.access_token).ok_or_else(|| failed("it has none".to_owned()))?;
        Ok(format!("Bearer {token}"))
    }

    /// An absolute address of what a `Location` says.
    pub fn absolute(&self, location: &str) -> Result<String, String> {
        if location.starts_with('/') {
            return Ok(format!("{}{location}", self.base));
        }
        match location.parse::<Uri>() {
            Ok(uri) if uri.scheme().is_some() => Ok(location.to_owned()),
            _ => Err(format!("answered with a location that is no address: {location}")),
        }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// Reads a small response completely.
///
/// # Errors
/// One line, when the response ends early or is larger than the limit.
pub(super) fn small(response: Response<Body>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let reader = response.into_body().into_reader();
    reader.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| format!("the connection broke ({e})"))?;
    if bytes.len() as u64 > MOST { Err(format!("more than {MOST} bytes")) } else { Ok(bytes) }
}

/// What a registry says is wrong: its status, and the codes of its JSON where it has some.
pub(super) fn refusal(response: Response<Body>) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Fault>,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: String,
        #[serde(default)]
        message: String,
    }
    let status = response.status();
    let told = small(response).ok().and_then(|b| serde_json::from_slice::<Errors>(&b).ok());
    let told: Vec<String> =
        told.iter().flat_map(|t| &t.errors).map(|e| format!("{} {}", e.code, e.message)).collect();
    match told.is_empty() {
        true => format!("the registry answered {status}"),
        false => format!("the registry answered {status}: {}", told.join("; ")),
    }
}

/// `Bearer realm="https://…",service="…",scope="…"` or `Basic realm="…"`.
fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut values = BTreeMap::new();
    let mut left = rest.trim();
    while let Some((name, after)) = left.split_once('=') {
        let name = name.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        // A quoted value may hold commas: `pull,push`.
        let (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        values.insert(name, value.to_owned());
        left = rest;
    }
    let realm = values.remove("realm")?;
    Some(Challenge::Bearer { realm, service: values.remove("service"), scope: values.remove("scope") })
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_quotes_commas_and_spaces() {
        let header = r#"Bearer realm="https://auth.example/token", service="r.example",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: Some("r.example".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(challenge(header), Some(expected));
        assert_eq!(challenge(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!((challenge("Negotiate"), challenge("Bearer service=x")), (None, None));
    }

    #[test]
    fn accounts_are_encoded_as_the_rfc_says() {
        let encoded = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|t| base64(t.as_bytes()));
        assert_eq!(encoded, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn a_location_may_be_relative_to_the_registry() {
        let client = Client::new("r.example:5000", "a/b", false, None);
        assert_eq!(client.absolute("/v2/x").unwrap(), "http://r.example:5000/v2/x");
        assert_eq!(client.absolute("https://s.example/x?y").unwrap(), "https://s.example/x?y");
        assert!(client.absolute("x/y").is_err());
    }
}
