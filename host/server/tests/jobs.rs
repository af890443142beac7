//! Scans become jobs, and jobs become results: what a program of a hospital does with the server.

mod common;

use anymc3d_host::engine::Case;
use anymc3d_host::run::{Session, SessionOptions, Silent, Wanted};
use anymc3d_tests::{small, tiny_backbone};
use common::{Choice, FAR, NEAR, plugins, scan, serve};
use std::time::Duration;

#[test]
fn a_scan_becomes_a_job_whose_answer_is_that_of_a_session_to_the_bit() {
    let server = serve(Choice::default());
    let bytes = scan(3, NEAR);
    let (job, told) = server.end(&server.submit(&bytes));
    assert_eq!(job["state"], "done", "{job}");
    assert_eq!(told[0]["state"], if told.len() > 1 { told[0]["state"].clone() } else { "running".into() });

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.nii");
    small::scan(&path, 3, NEAR);
    let mut options = SessionOptions::default();
    options.backbone = Some(tiny_backbone().display().to_string());
    let mut session = Session::open(&[plugins()[0].display().to_string()], &options).unwrap();
    let here = session.run(&Case::of_file(&path), Wanted::default(), &Silent).remove(0).unwrap().result;
    let result = &job["results"][0];
    assert_eq!(result["predictions"][0]["probability"], here.predictions[0].probability);
    assert_eq!(result["scan_sha256"], here.input.sha256);

    let files: Vec<&str> = result["files"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let names: Vec<&str> = files.iter().map(|f| f.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["result.json", "heatmap.nii.gz", "preview.png", "report.html"]);
    let record = server.get(files[0]);
    assert_eq!(record.headers["content-type"], "application/json");
    let record = record.json();
    assert_eq!(record["predictions"][0]["logit"], here.predictions[0].logit);
    assert_eq!(record["input"]["path"], "scan.nii", "no path of the server");
    assert!(!record.to_string().contains(server.data.to_str().unwrap()), "{record}");
    assert!(server.get(files[1]).body.starts_with(&[0x1f, 0x8b]));
    assert!(server.get(files[2]).body.starts_with(b"\x89PNG"));
    let report = server.get(files[3]);
    assert!(report.headers["content-security-policy"].contains("sandbox allow-scripts; default-src 'none'"));
}

#[test]
fn a_form_names_plugins_and_a_mask_and_dicom_parts_are_one_scan() {
    let server = serve(Choice { plugins: plugins().to_vec(), faults: 3, ..Choice::default() });
    let form = |parts: &[(&str, &[u8])]| {
        let mut body = Vec::new();
        for (head, data) in parts {
            body.extend(format!("--b\r\n{head}\r\n\r\n").bytes());
            body.extend(*data);
            body.extend(b"\r\n");
        }
        body.extend(b"--b--\r\n");
        body
    };
    let named =
        |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"Doe^John.nii\"");
    let bytes = scan(1, NEAR);
    let body = form(&[(&named("scan"), &bytes), (&named("plugin"), b"misbehaves")]);
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let answer = server.ask("POST", "/scans", &kind, &body);
    assert_eq!(answer.status, 202, "{answer:?}");
    let (job, _) = server.end(answer.json()["id"].as_str().unwrap());
    assert_eq!(job["plugins"], serde_json::json!(["misbehaves"]));
    assert!(!job.to_string().contains("Doe"), "{job}");
    let two = form(&[(&named("scan"), &bytes), (&named("scan"), &bytes)]);
    assert_eq!(server.ask("POST", "/scans", &kind, &two).status, 400);
    let unknown = server.ask("POST", "/scans?plugin=other", &[], &bytes);
    assert!(
        unknown.status == 400 && unknown.error().contains("there is: mean_probe, misbehaves"),
        "{unknown:?}"
    );

    let mut dicom = vec![0u8; 132];
    dicom[128..].copy_from_slice(b"DICM");
    let part: (&str, &[u8]) = ("Content-Type: application/dicom", &dicom);
    let kind = [("content-type", "multipart/related; type=\"application/dicom\"; boundary=b")];
    let answer = server.ask("POST", "/scans", &kind, &form(&[part, part]));
    assert_eq!(answer.status, 202, "{answer:?}");
    let (job, _) = server.end(answer.json()["id"].as_str().unwrap());
    assert_eq!(
        (job["state"].as_str(), job["failures"][0]["blame"].as_str()),
        (Some("failed"), Some("scan")),
        "{job}"
    );
}

#[test]
fn a_key_gives_the_same_job_again_and_a_deleted_job_is_gone() {
    let server = serve(Choice::default());
    let bytes = scan(2, NEAR);
    let key = [("idempotency-key", "study 7")];
    let first = server.ask("POST", "/scans", &key, &bytes);
    let again = server.ask("POST", "/scans", &key, &bytes);
    assert_eq!((first.status, again.status), (202, 200));
    assert_eq!(first.json()["id"], again.json()["id"]);
    let other = server.ask("POST", "/scans", &key, &scan(4, NEAR));
    assert_eq!(other.status, 422, "{other:?}");
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let (job, _) = server.end(&id);
    let file = job["results"][0]["files"][0].as_str().unwrap();
    assert_eq!(server.ask("DELETE", &format!("/jobs/{id}"), &[], b"").status, 204);
    assert_eq!([server.get(&format!("/jobs/{id}")).status, server.get(file).status], [404, 404]);
    assert!(!server.data.join("jobs").join(&id).exists());
    let listed = server.get("/jobs?state=done").json();
    assert_eq!(listed["jobs"], serde_json::json!([]));
    assert_eq!(server.get("/jobs?state=lost").status, 400);
}

#[test]
fn a_plugin_that_crashes_costs_its_job_and_is_left_out_after_several_until_it_is_loaded_again() {
    let server = serve(Choice { plugins: plugins().to_vec(), faults: 2, ..Choice::default() });
    let run = |seed: usize, origin| server.end(&server.submit(&scan(seed, origin))).0;
    let state = |job: &serde_json::Value| job["state"].as_str().unwrap().to_owned();
    let ready = || server.get("/v2/models/misbehaves/ready");
    assert_eq!(state(&run(1, FAR)), "partly_failed", "the other plugin answers");
    assert_eq!((state(&run(2, NEAR)), ready().status), ("done".into(), 200), "it is asked again");
    let failed = run(3, FAR);
    assert_eq!(failed["failures"][0]["blame"], "plugin");
    let message = failed["failures"][0]["message"].as_str().unwrap();
    assert!(message.contains("forward: ended its process (signal 6, aborted)"), "{message}");
    assert_eq!(ready().status, 200, "one in a row");
    run(4, FAR);
    let left_out = ready();
    assert!(left_out.status == 400 && left_out.error().contains("it is left out"), "{left_out:?}");
    assert_eq!(state(&run(5, NEAR)), "partly_failed");
    let index = server.ask("POST", "/v2/repository/index", &[], b"").json();
    assert_eq!(
        (index[1]["state"].as_str(), index[0]["state"].as_str()),
        (Some("UNAVAILABLE"), Some("READY"))
    );
    assert_eq!(server.get("/readyz").status, 200, "the other one answers");
    let loaded = server.ask("POST", "/v2/repository/models/misbehaves/load", &[], b"");
    assert_eq!(loaded.status, 200, "{loaded:?}");
    assert_eq!((state(&run(6, NEAR)), ready().status), ("done".into(), 200));
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("anymc3d_plugin_faults_total{plugin=\"misbehaves\"} 3"), "{metrics}");
    assert!(metrics.contains("anymc3d_jobs_total{state=\"done\"} 2"), "{metrics}");
}

#[test]
fn what_waits_when_a_server_ends_is_answered_by_the_next_one_and_audited_once() {
    let data = tempfile::tempdir().unwrap();
    let choice = || Choice { data: Some(data.path().to_owned()), ..Choice::default() };
    let ids: Vec<String> = {
        let server = serve(choice());
        (0..6).map(|seed| server.submit(&scan(seed, NEAR))).collect()
    };
    let server = serve(choice());
    for id in &ids {
        assert_eq!(server.end(id).0["state"], "done");
    }
    drop(server);
    let log = std::fs::read_to_string(data.path().join("audit.jsonl")).unwrap();
    for id in &ids {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(id.as_str())).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((line["who"].as_str(), line["outcome"].as_str()), (Some("local"), Some("answered")));
        let digests = ["scan_sha256", "library_sha256", "weights_sha256", "backbone_sha256"];
        assert!(digests.iter().all(|name| line[name].as_str().is_some_and(|d| d.len() == 64)), "{line}");
    }
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let server = serve(Choice { queue: 1, ..Choice::default() });
    let mut busy = None;
    for seed in 0..200 {
        let answer = server.ask("POST", "/scans", &[], &scan(seed, NEAR));
        if answer.status == 429 {
            busy = Some(answer);
            break;
        }
    }
    let busy = busy.expect("scans arrive faster than they are answered");
    let seconds: u64 = busy.headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&seconds) && busy.error().contains("queue"), "{busy:?}");
    std::thread::sleep(Duration::from_secs(1));
}
