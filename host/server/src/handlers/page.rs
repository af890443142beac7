//! `GET /`, `/monitor` and `/page/FILE`: the page for people. Its files are built into the program and say nothing of anybody;
//! what the page shows it asks of the other paths, with the token of whoever reads it.

use crate::error::ApiError;
use anymc3d_host::fs::hex;
use anymc3d_host::output::{REPORT_STYLE, VIEWER_SCRIPT};
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// The pages' own files are all that they load, and the server is all that they ask. Pictures come with a token, so they are made
/// of bytes (`blob:`). No text becomes markup: `require-trusted-types-for` refuses it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A file of the page.
struct Asset {
    name: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../page/", $name)),
        }
    };
}

const ASSETS: [Asset; 14] = [
    asset!("index.html", HTML),
    asset!("monitor.html", HTML),
    asset!("page.css", STYLE),
    asset!("icon.svg", "image/svg+xml"),
    asset!("main.js", SCRIPT),
    asset!("api.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("token.js", SCRIPT),
    asset!("plugins.js", SCRIPT),
    asset!("upload.js", SCRIPT),
    asset!("jobs.js", SCRIPT),
    asset!("result.js", SCRIPT),
    asset!("prediction.js", SCRIPT),
    asset!("monitor.js", SCRIPT),
];
/// Of the report: it shows the same scan by the same viewer.
const OF_THE_REPORT: [Asset; 2] = [
    Asset { name: "viewer.js", content_type: SCRIPT, bytes: VIEWER_SCRIPT.as_bytes() },
    Asset { name: "report.css", content_type: STYLE, bytes: REPORT_STYLE.as_bytes() },
];

/// The files with their strong validators, digests of their bytes.
fn assets() -> &'static [(&'static Asset, HeaderValue)] {
    static ALL: OnceLock<Vec<(&'static Asset, HeaderValue)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let tagged = |asset: &'static Asset| {
            let tag = format!("\"{}\"", &hex(&Sha256::digest(asset.bytes))[..32]);
            HeaderValue::from_str(&tag).ok().map(|tag| (asset, tag))
        };
        ASSETS.iter().chain(&OF_THE_REPORT).filter_map(tagged).collect()
    })
}

/// A file of the page by its name; 304 where the client has it.
fn answer(name: &str, asked: &HeaderMap) -> Response<Body> {
    let Some((asset, tag)) = assets().iter().find(|(asset, _)| asset.name == name) else {
        return ApiError::not_found("nothing lies at this path").into_response();
    };
    let known = asked.get_all(header::IF_NONE_MATCH).iter().any(|sent| has(sent, tag));
    let mut response = match known {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(asset.bytes)),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag.clone());
    // Kept by the browser, and asked about each time: another version of the server has another page.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Whether an `If-None-Match` names a validator (RFC 9110, 13.1.2: `*`, or a list compared weakly).
fn has(sent: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(sent), Ok(tag)) = (sent.to_str(), tag.to_str()) else { return false };
    sent.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

pub async fn index(asked: HeaderMap) -> Response<Body> {
    answer("index.html", &asked)
}

pub async fn monitor(asked: HeaderMap) -> Response<Body> {
    answer("monitor.html", &asked)
}

pub async fn file(Path(name): Path<String>, asked: HeaderMap) -> Response<Body> {
    answer(&name, &asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.bytes).unwrap()
    }

    #[test]
    fn no_file_of_the_page_makes_markup_of_text_or_names_another_server() {
        for asset in ASSETS.iter().chain(&OF_THE_REPORT) {
            let text = text(asset);
            let makes_markup = [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "eval(",
                "Function(",
                "style=",
            ];
            for word in makes_markup {
                assert!(!text.contains(word), "{}: {word}", asset.name);
            }
            // The name of a vocabulary is no address that a browser asks.
            let named = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!named.contains("http:") && !named.contains("https:"), "{}", asset.name);
            assert!(!text.contains("localStorage") && !text.contains("document.cookie"), "{}", asset.name);
        }
    }

    #[test]
    fn whatever_the_pages_load_and_the_viewer_looks_for_is_there() {
        let find = |name: &str| assets().iter().find(|(asset, _)| asset.name == name);
        for (asset, _) in assets() {
            let loads = text(asset).split(['"', '\'']).filter_map(|part| {
                part.strip_prefix("/page/").or_else(|| part.strip_prefix("./").filter(|p| p.ends_with(".js")))
            });
            for name in loads {
                assert!(find(name).is_some(), "{} loads {name}", asset.name);
            }
        }
        let index = text(find("index.html").unwrap().0);
        let planes = ["plane-", "slice-", "place-"]
            .map(|kind| ["axial", "coronal", "sagittal"].map(|p| kind.to_owned() + p));
        let named = VIEWER_SCRIPT.split("byId(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let ids = planes.concat().into_iter().chain(named.filter(|id| !id.ends_with('-')).map(str::to_owned));
        for id in ids {
            assert!(index.contains(&format!("id=\"{id}\"")), "the viewer looks for #{id}");
        }
    }

    #[test]
    fn a_validator_is_found_in_a_list_and_an_unknown_one_is_not() {
        let tag = HeaderValue::from_static("\"ab\"");
        for sent in ["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", "*"] {
            assert!(has(&HeaderValue::from_static(sent), &tag), "{sent}");
        }
        for sent in ["ab", "\"a\"", "", "\"abc\""] {
            assert!(!has(&HeaderValue::from_static(sent), &tag), "{sent}");
        }
    }
}
