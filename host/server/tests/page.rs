//! The page for people: what is sent with it, to whom, and what a browser may keep.

mod common;

use common::{Choice, NEAR, scan, serve, tokens};

#[test]
fn the_page_is_sent_without_a_token_under_a_policy_that_lets_it_load_and_ask_this_server_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (file, _) = tokens(folder.path());
    let server = serve(Choice { tokens: Some(file), ..Choice::default() });
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/monitor", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/viewer.js", "text/javascript; charset=utf-8"),
        ("/page/report.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, kind), "{path}");
        let policy = &answer.headers["content-security-policy"];
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|p| p == part), "{path}: {part} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin");
        assert!(
            answer.headers.keys().all(|name| !name.starts_with("access-control") && name != "set-cookie")
        );
    }
    // What the page asks for does want one, and so do paths that are not there.
    for path in ["/jobs", "/v2", "/v2/models", "/monitor/x", "/index.html"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
    for path in ["/page/none.js", "/page/..%2fjobs.redb", "/page/%2e%2e", "/page/Main.js"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    assert_eq!(server.ask("POST", "/", &[], b"").status, 405);
    assert_eq!(server.ask("GET", "/", &[("host", "evil.example")], b"").status, 421);
    assert_eq!(server.ask("GET", "/", &[("origin", "http://evil.example")], b"").status, 403);
    assert_eq!(server.ask("GET", "/page/main.js", &[("sec-fetch-site", "cross-site")], b"").status, 403);
}

#[test]
fn a_browser_keeps_the_pages_files_by_their_digest_and_nothing_else() {
    let server = serve(Choice::default());
    let first = server.get("/page/main.js");
    let tag = first.headers["etag"].clone();
    assert!(tag.len() == 34 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    assert_eq!(first.headers["cache-control"], "no-cache");
    assert_ne!(tag, server.get("/page/api.js").headers["etag"]);
    let again = server.ask("GET", "/page/main.js", &[("if-none-match", &tag)], b"");
    assert_eq!((again.status, again.body.len(), &again.headers["etag"]), (304, 0, &tag));
    let other = server.ask("GET", "/page/main.js", &[("if-none-match", "\"0\"")], b"");
    assert_eq!((other.status, &other.body), (200, &first.body));
    assert_eq!(server.get("/jobs").headers["cache-control"], "no-store");
}

#[test]
fn a_report_says_which_views_a_scan_is_of_and_along_which_axis_their_slices_lie() {
    // The page takes its pictures from there.
    let server = serve(Choice::default());
    let (job, _) = server.end(&server.submit(&scan(1, NEAR)));
    let files = job["results"][0]["files"].as_array().unwrap();
    let report = files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with("report.html"));
    let page = String::from_utf8(server.get(report.unwrap()).body).unwrap();
    let data = page.split_once("id=\"report-data\">").unwrap().1.split_once('<').unwrap().0;
    let told: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(told["scans"][0]["views"][0]["axis"], 2, "{told}");
    assert!(page.contains("id=\"scan-0\">") && page.contains("id=\"heat-0\">"));
}
