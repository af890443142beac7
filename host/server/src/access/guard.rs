//! Before any handler: by which name was the server called, from which page, and whose request is it?
//!
//! A page of another origin reaches a server in the local network through its reader's browser. It cannot read an answer
//! without permission (CORS), which is never given; but it can send, and by a name that it points at the server's address
//! (DNS rebinding) it can read too. So a request by an unknown name is refused, and one that says that it comes from another
//! origin.

use super::{Principal, Tokens};
use crate::error::ApiError;
use axum::http::{HeaderMap, Method, StatusCode, header};
use std::net::IpAddr;

/// The names by which the server may be called, beside `localhost` and addresses: no page can point a name of its own at
/// those.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamedHosts(Vec<String>);

/// The host of `host:port`, in lower case and without brackets.
fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => authority,
        },
    };
    host.to_ascii_lowercase()
}

impl NamedHosts {
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| host_of(name)).collect())
    }

    fn contains(&self, authority: &str) -> bool {
        let host = host_of(authority);
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

/// What a path is to the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathKind {
    /// It asks for a token where there are tokens.
    Guarded,
    /// It tells nothing of anybody and asks for no token, as health checks.
    Open,
    /// An open path that a link of another site may lead to.
    Page,
}

/// Refuses what no client of this server sends; else whose request it is.
pub(crate) fn guard(
    hosts: &NamedHosts,
    tokens: Option<&Tokens>,
    (method, headers): (&Method, &HeaderMap),
    path: PathKind,
) -> Result<Principal, ApiError> {
    let mut named = headers.get_all(header::HOST).iter();
    let (host, second) = (named.next(), named.next());
    let host = host.filter(|_| second.is_none()).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| ApiError::bad_request("expected one Host header"))?;
    if !hosts.contains(host) {
        let message = "this server is not called by that name; its operator names it with --host";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, message));
    }
    let foreign = ApiError::new(StatusCode::FORBIDDEN, "requests from pages of another origin are refused");
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if !own {
            return Err(foreign);
        }
    }
    let fetch = |name: &str| headers.get(name).map(|value| value.as_bytes());
    // Somebody followed a link of another site, in a tab and not in a frame: the page that opens is this server's own.
    let followed_a_link = path == PathKind::Page
        && method == Method::GET
        && fetch("sec-fetch-mode") == Some(b"navigate")
        && fetch("sec-fetch-dest") == Some(b"document");
    let from_here = fetch("sec-fetch-site").is_none_or(|site| matches!(site, b"same-origin" | b"none"));
    if !(from_here || followed_a_link) || method == Method::OPTIONS {
        return Err(foreign);
    }
    let Some(tokens) = tokens else { return Ok(Principal::local()) };
    if path != PathKind::Guarded {
        return Ok(Principal { name: "anyone".to_owned(), scopes: Default::default() });
    }
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent.and_then(|sent| {
        let (kind, token) = sent.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let refused = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, message);
    let token = token.ok_or_else(|| refused("expected `Authorization: Bearer TOKEN`"))?;
    tokens.principal(token).ok_or_else(|| refused("the token is not known, or has expired"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&'static str, &str)], method: &Method) -> Result<Principal, u16> {
        asked_at(PathKind::Guarded, pairs, method)
    }

    fn asked_at(path: PathKind, pairs: &[(&'static str, &str)], method: &Method) -> Result<Principal, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let hosts = NamedHosts::new(&["ai.hospital.example".to_owned()]);
        guard(&hosts, None, (method, &headers), path).map_err(|e| e.status.as_u16())
    }

    #[test]
    fn only_known_names_and_addresses_reach_the_server() {
        for good in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:80", "[::1]", "AI.hospital.example:443"]
        {
            assert!(asked(&[("host", good)], &Method::GET).is_ok(), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "x", "[evil]:1"] {
            assert_eq!(asked(&[("host", bad)], &Method::GET), Err(421), "{bad}");
        }
        assert_eq!(asked(&[], &Method::GET), Err(400));
        assert_eq!(asked(&[("host", "localhost"), ("host", "evil.example")], &Method::GET), Err(400));
    }

    #[test]
    fn a_page_of_another_origin_is_refused_whatever_it_asks() {
        let from = |origin: &str| asked(&[("host", "localhost:8080"), ("origin", origin)], &Method::POST);
        assert!(from("http://localhost:8080").is_ok());
        for origin in ["http://evil.example", "null", "http://localhost", "http://localhost:8081", ""] {
            assert_eq!(from(origin), Err(403), "{origin}");
        }
        assert_eq!(asked(&[("host", "localhost")], &Method::OPTIONS), Err(403), "a preflight");
        let site = |site: &str| asked(&[("host", "localhost"), ("sec-fetch-site", site)], &Method::GET);
        assert_eq!((site("cross-site"), site("same-site")), (Err(403), Err(403)));
        assert!(site("same-origin").is_ok() && site("none").is_ok());
    }
    #[test]
    fn a_link_of_another_site_leads_to_a_page_in_a_tab_and_to_nothing_else() {
        let linked = |path, site: &str, mode: &str, dest: &str, method: &Method| {
            let headers = [
                ("host", "localhost"),
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            asked_at(path, &headers, method).map(drop)
        };
        for site in ["cross-site", "same-site"] {
            assert!(linked(PathKind::Page, site, "navigate", "document", &Method::GET).is_ok());
            for (path, mode, dest, method) in [
                (PathKind::Page, "navigate", "iframe", Method::GET),
                (PathKind::Page, "no-cors", "document", Method::GET),
                (PathKind::Page, "navigate", "document", Method::POST),
                (PathKind::Open, "navigate", "document", Method::GET),
                (PathKind::Guarded, "navigate", "document", Method::GET),
            ] {
                assert_eq!(
                    linked(path, site, mode, dest, &method),
                    Err(403),
                    "{path:?} {mode} {dest} {method}"
                );
            }
        }
        let evil = [("host", "evil.example"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        assert_eq!(
            asked_at(PathKind::Page, &evil, &Method::GET),
            Err(421),
            "the name is checked all the same"
        );
    }
}
