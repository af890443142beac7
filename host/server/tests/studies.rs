//! `host serve --rules` as a client and an operator see it; what becomes of studies is tested beside the code.

mod common;

use anymc3d_server::StudyOptions;
use common::{Choice, serve, tokens, try_serve};
use std::path::{Path, PathBuf};

const BY_C_STORE: &str = "[[rule]]\nname = \"ct\"\nplugins = [\"mean_probe\"]\n[receiver]\nlisten = \"127.0.0.1:0\"\n\
                          callers = [\"CT1\"]\n[results]\nstore_to = { address = \"127.0.0.1:1\", ae_title = \"PACS\" }\n";

fn rules(folder: &Path, text: &str) -> StudyOptions {
    let rules: PathBuf = folder.join("rules.toml");
    std::fs::write(&rules, text).unwrap();
    StudyOptions { archive: None, rules }
}

#[test]
fn a_server_without_rules_knows_no_studies() {
    let server = serve(Choice::default());
    for (method, path) in [("GET", "/studies"), ("POST", "/webhook/study"), ("POST", "/studies/again")] {
        let answer = server.ask(method, path, &[], b"{\"study\": \"1.2.3\"}");
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.error().contains("--rules"), "{}", answer.error());
    }
}

#[test]
fn the_webhook_takes_a_uid_of_whoever_may_infer_and_the_status_is_for_who_may_read() {
    let folder = tempfile::tempdir().unwrap();
    let (file, tokens) = tokens(folder.path());
    let studies = Some(rules(folder.path(), BY_C_STORE));
    let server = serve(Choice { tokens: Some(file), studies, ..Choice::default() });
    let with = |scope: &str, method: &str, path: &str, body: &[u8]| {
        let bearer = format!("Bearer {}", tokens[scope]);
        server.ask(method, path, &[("authorization", &bearer)], body)
    };
    let hook = "/webhook/study";
    assert_eq!(server.ask("POST", hook, &[], b"{}").status, 401);
    assert_eq!(with("read", "POST", hook, b"{\"study\": \"1.2.3\"}").status, 403);
    assert_eq!(with("infer", "GET", "/studies", b"").status, 403);
    assert_eq!(with("infer", "POST", "/studies/again", b"").status, 403);
    for wrong in [
        &b""[..],
        b"1.2.3",
        b"{}",
        b"{\"study\": 1}",
        b"{\"study\": \"../../jobs\"}",
        b"{\"study\": \"1.2.3/series\"}",
        b"{\"study\": \"1.2.3\", \"patient\": \"x\"}",
    ] {
        assert_eq!(with("infer", "POST", hook, wrong).status, 400, "{wrong:?}");
    }
    assert_eq!(with("infer", "POST", hook, &[b' '; 5000]).status, 413);
    let answer = with("infer", "POST", hook, b"{\"study\": \"1.2.3\"}");
    assert_eq!(answer.status, 409, "there is no archive to fetch it from");
    assert_eq!(with("admin", "POST", "/studies/again", b"").json()["studies"], 0);
    let status = with("read", "GET", "/studies", b"").json();
    assert_eq!((&status["awaited"], &status["failed"]), (&0.into(), &serde_json::json!([])));
}

#[test]
fn rules_that_could_never_be_kept_are_refused_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "[[rule]]\nname = \"ct\"\nplugins = [\"mean_probe\"]\n";
    let from = |text: &str, archive: Option<&str>| {
        let studies = StudyOptions { archive: archive.map(str::to_owned), ..rules(folder.path(), text) };
        match try_serve(Choice { studies: Some(studies), ..Choice::default() }) {
            Ok(_) => panic!("{text} was taken"),
            Err(e) => e.to_string(),
        }
    };
    let other = BY_C_STORE.replace("mean_probe", "absent");
    assert!(from(&other, None).contains("plugin absent is not served; there is: mean_probe"));
    assert!(from(nowhere, None).contains("come from nowhere"));
    let masks = format!("{BY_C_STORE}objects = [\"segmentation\"]\n");
    assert!(from(&masks, None).contains("asks for masks alone, and this server makes none"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let twice = BY_C_STORE.replace("127.0.0.1:0", &taken.local_addr().unwrap().to_string());
    assert!(from(&twice, None).contains("[receiver] listen"));
    for url in ["pacs:8042/dicom-web", "http://", "http://user:password@pacs/dicom-web", "ftp://pacs"] {
        let error = from(nowhere, Some(url));
        assert!(error.contains("expected http:// or https://") && !error.contains("password"), "{error}");
    }
}
