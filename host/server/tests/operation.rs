//! What an operator relies on: builds that change while jobs wait, scans that share a pass, how far scans lie from the training
//! cases.

mod common;

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::CaseData;
use anymc3d_host::plugin::{find, inspect};
use anymc3d_host::scan::RegionOfInterest;
use anymc3d_host::task::{REFERENCE_STEPS, Reference, ViewReference, Weights};
use anymc3d_server::RequestLimits;
use anymc3d_tests::{random_weights_on, small, tiny_backbone, tiny_weights};
use common::{Choice, FAR, NEAR, Running, plugins, scan, serve, tokens};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

fn probability(job: &Value, plugin: &str) -> f64 {
    let all = job["results"].as_array().unwrap_or_else(|| panic!("{job}"));
    let of = all.iter().find(|r| r["plugin"] == plugin).unwrap_or_else(|| panic!("{job}"));
    of["predictions"][0]["probability"].as_f64().unwrap()
}

/// A number of `/metrics`, 0 where it is not there.
fn metric(server: &Running, name: &str) -> f64 {
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("anymc3d_{name}")));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn voxels(seed: usize, plugin: &str) -> (String, String) {
    let bytes = scan(seed, NEAR);
    let numbers: Vec<i16> = bytes[352..].as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b)).collect();
    let affine = [9.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0, 12.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let body = json!({ "inputs": [
        { "name": "voxels", "shape": [10, 20, 24], "datatype": "INT16", "data": numbers },
        { "name": "affine", "shape": [4, 4], "datatype": "FP64", "data": affine },
    ]});
    (format!("/v2/models/{plugin}/infer"), body.to_string())
}

fn numbers(answer: &common::Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["outputs"].as_array().unwrap().iter().find(|o| o["name"] == "logits").unwrap()["data"]
        .clone()
}

#[test]
fn requests_of_one_scan_share_a_pass_and_equal_ones_a_computation() {
    let server = serve(Choice {
        plugins: plugins().to_vec(),
        window: Duration::from_millis(600),
        faults: 3,
        ..Choice::default()
    });
    let asked =
        [(1, "mean_probe"), (1, "mean_probe"), (1, "misbehaves"), (1, "mean_probe"), (2, "mean_probe")];
    let ask = |(seed, plugin)| {
        let (path, body) = voxels(seed, plugin);
        numbers(&server.ask("POST", &path, &[], body.as_bytes()))
    };
    let together: Vec<Value> = std::thread::scope(|scope| {
        let all: Vec<_> = asked.iter().map(|asked| scope.spawn(|| ask(*asked))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // Of the first scan three are one computation, and the other plugin takes over its frozen blocks.
    assert_eq!(
        (metric(&server, "backbone_passes_total"), metric(&server, "shared_passes_total")),
        (2.0, 3.0)
    );
    let alone: Vec<Value> = asked.iter().map(|asked| ask(*asked)).collect();
    assert_eq!(together, alone, "to the bit");
    assert_eq!(metric(&server, "backbone_passes_total"), 7.0);
    assert_eq!(std::fs::read_dir(server.data.join("requests")).unwrap().count(), 0);
}

#[test]
fn jobs_of_one_scan_share_a_pass_and_each_has_its_own_answers_and_files() {
    let server = serve(Choice {
        plugins: plugins().to_vec(),
        window: Duration::from_millis(600),
        faults: 3,
        ..Choice::default()
    });
    let submit = |seed: usize, query: &str| {
        let answer = server.ask("POST", &format!("/scans{query}"), &[], &scan(seed, NEAR));
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let queries = ["?plugin=mean_probe", "?plugin=misbehaves", "?plugin=mean_probe", "", "?point=0,0,0"];
    let ids = queries.map(|query| submit(1, query));
    let jobs: Vec<Value> = ids.iter().map(|id| server.end(id).0).collect();
    let plugins_of = |job: &Value| -> Vec<String> {
        job["results"].as_array().unwrap().iter().map(|r| r["plugin"].as_str().unwrap().to_owned()).collect()
    };
    let both = vec!["mean_probe".to_owned(), "misbehaves".to_owned()];
    let mut answered: Vec<Vec<String>> = jobs.iter().map(plugins_of).collect();
    answered.iter_mut().for_each(|names| names.sort());
    assert_eq!(answered, [both[..1].to_vec(), both[1..].to_vec(), both[..1].to_vec(), both.clone(), both]);
    for (id, job) in ids.iter().zip(&jobs) {
        assert_eq!(job["state"], "done", "{job}");
        let files = job["results"].as_array().unwrap().iter().flat_map(|r| r["files"].as_array().unwrap());
        for file in files {
            let file = file.as_str().unwrap();
            assert!(file.contains(id) && server.get(file).status == 200, "{file}");
        }
        let folders = std::fs::read_dir(server.data.join("jobs").join(id).join("results")).unwrap();
        let written: usize =
            folders.map(|case| std::fs::read_dir(case.unwrap().path()).unwrap().count()).sum();
        assert_eq!(written, job["results"].as_array().unwrap().len(), "no files of others: {id}");
    }
    // Four jobs are one case of two plugins, the one with a point is a case of its own.
    assert_eq!(
        (metric(&server, "backbone_passes_total"), metric(&server, "shared_passes_total")),
        (2.0, 5.0)
    );
    let log = std::fs::read_to_string(server.data.join("audit.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"outcome\":\"answered\"")).count(), 7);
    // What is deleted of one job stays with the others.
    assert_eq!(server.ask("DELETE", &format!("/jobs/{}", ids[0]), &[], b"").status, 204);
    assert_eq!(server.get(jobs[2]["results"][0]["files"][0].as_str().unwrap()).status, 200);
}

#[test]
fn works_that_arrive_while_their_scan_is_computed_are_answered_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let slow = small::misbehaving(folder.path(), "sleeps");
    let server = serve(Choice { plugins: vec![slow], ..Choice::default() });
    let passes = || {
        let count = |name: &str| metric(&server, name) as usize;
        (count("backbone_passes_total"), count("shared_passes_total"))
    };
    let state = |id: &str| server.get(&format!("/jobs/{id}")).json()["state"].clone();
    let first = server.submit(&scan(1, NEAR));
    while state(&first) != "running" {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The plugin sleeps for two seconds: they arrive while it does.
    let (second, other) = (server.submit(&scan(1, NEAR)), server.submit(&scan(2, NEAR)));
    assert_eq!((state(&second), state(&other)), (json!("queued"), json!("queued")));
    let jobs = [&first, &second, &other].map(|id| server.end(id).0);
    assert!(jobs.iter().all(|job| job["state"] == "done"), "{jobs:?}");
    assert_eq!(probability(&jobs[0], "misbehaves"), probability(&jobs[1], "misbehaves"));
    assert_ne!(jobs[0]["results"][0]["files"], jobs[1]["results"][0]["files"], "each has its own files");
    assert_eq!(passes(), (2, 1), "the second takes over what the first had computed, the other scan nothing");

    let (path, body) = voxels(3, "misbehaves");
    let ask = || numbers(&server.ask("POST", &path, &[], body.as_bytes()));
    let (before, after) = std::thread::scope(|scope| {
        let before = scope.spawn(ask);
        std::thread::sleep(Duration::from_millis(400));
        let after = ask();
        (before.join().unwrap(), after)
    });
    assert_eq!((before, passes()), (after, (3, 2)));
}

#[test]
fn a_scan_at_which_a_shared_pass_fails_fails_for_the_plugin_that_fails_alone() {
    let server = serve(Choice {
        plugins: plugins().to_vec(),
        window: Duration::from_millis(600),
        faults: 3,
        ..Choice::default()
    });
    let submit = |query: &str| {
        let answer = server.ask("POST", &format!("/scans{query}"), &[], &scan(1, FAR));
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let ids = ["?plugin=misbehaves", "?plugin=mean_probe", "?plugin=misbehaves"].map(submit);
    let states = ids.map(|id| server.end(&id).0["state"].as_str().unwrap().to_owned());
    assert_eq!(states, ["failed", "done", "failed"]);
}

#[test]
fn weights_that_change_answer_from_a_reload_on_and_broken_ones_leave_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let library = small::probe(folder.path());
    let weights = folder.path().join("mean_probe.safetensors");
    let (file, token) = tokens(folder.path());
    let server = serve(Choice { plugins: vec![library.clone()], tokens: Some(file), ..Choice::default() });
    let with = |scope: &str| format!("Bearer {}", token[scope]);
    let (infer, read, admin) = (with("infer"), with("read"), with("admin"));
    let ask = |method: &str, path: &str, who: &str, body: &[u8]| {
        server.ask(method, path, &[("authorization", who)], body)
    };
    let submit = |seed: usize| {
        let answer = ask("POST", "/scans", &infer, &scan(seed, NEAR));
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let end = |id: &str| loop {
        let job = ask("GET", &format!("/jobs/{id}"), &read, b"").json();
        if ["done", "failed", "partly_failed"].contains(&job["state"].as_str().unwrap()) {
            return job;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let digest = |job: &Value| {
        let file = job["results"][0]["files"][0].as_str().unwrap_or_else(|| panic!("{job}")).to_owned();
        ask("GET", &file, &read, b"").json()["plugin"]["weights_sha256"].as_str().unwrap().to_owned()
    };
    let reload = || ask("POST", "/admin/plugins/mean_probe/reload", &admin, b"");
    let first = end(&submit(1));
    let old = Weights::open(&weights).unwrap().sha256;
    assert_eq!(digest(&first), old);

    // Jobs before, during and after: each is answered by one or the other.
    let before: Vec<String> = (0..6).map(|_| submit(1)).collect();
    tiny_weights(&library, &weights, 5);
    let new = Weights::open(&weights).unwrap().sha256;
    let (said, during) = std::thread::scope(|scope| {
        let said = scope.spawn(reload);
        let during: Vec<String> = (0..6).map(|_| submit(1)).collect();
        (said.join().unwrap(), during)
    });
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(said.json()["before"]["weights_sha256"], json!([old]));
    assert_eq!(said.json()["now"]["weights_sha256"], json!([new]));
    let after = end(&submit(1));
    assert_eq!(digest(&after), new);
    assert_ne!(probability(&first, "mean_probe"), probability(&after, "mean_probe"));
    for id in before.iter().chain(&during) {
        let job = end(id);
        let by_which = if digest(&job) == old { &first } else { &after };
        assert_eq!(job["state"], "done", "{job}");
        assert_eq!(probability(&job, "mean_probe"), probability(by_which, "mean_probe"), "{job}");
    }

    let refused = [infer.as_str(), read.as_str()]
        .map(|who| ask("POST", "/admin/plugins/mean_probe/reload", who, b"").status);
    assert_eq!(refused, [403, 403]);
    std::fs::write(&weights, b"half a file").unwrap();
    let said = reload();
    assert!(said.status == 400 && said.error().contains("mean_probe.safetensors"), "{said:?}");
    assert_eq!(ask("GET", "/v2/models/mean_probe/ready", &read, b"").status, 200);
    assert_eq!(probability(&end(&submit(1)), "mean_probe"), probability(&after, "mean_probe"));
    let log = std::fs::read_to_string(server.data.join("audit.jsonl")).unwrap();
    let loads: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|entry: &Value| entry["event"] == "load")
        .collect();
    let told: Vec<&str> = loads.iter().map(|entry| entry["outcome"].as_str().unwrap()).collect();
    assert_eq!(told, ["opened", "refused"], "{log}");
    assert_eq!(loads[0]["now"]["weights_sha256"], json!([new]));
}

#[test]
fn a_build_that_ends_its_process_at_a_synthetic_case_is_refused_before_it_answers_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let library = small::misbehaving(folder.path(), "whole");
    let server = serve(Choice { plugins: vec![library], ..Choice::default() });
    let reload = || server.ask("POST", "/v2/repository/models/misbehaves/load", &[], b"");
    let before = server.end(&server.submit(&scan(1, NEAR))).0;
    assert_eq!(reload().status, 200);
    small::misbehaving(folder.path(), "abort");
    let said = reload();
    assert!(said.status == 400 && said.error().contains("synthetic case"), "{said:?}");
    let again = server.end(&server.submit(&scan(1, NEAR))).0;
    assert_eq!(again["state"], "done", "{again}");
    assert_eq!(probability(&again, "misbehaves"), probability(&before, "misbehaves"));
    assert_eq!(server.get("/v2/models/misbehaves/ready").status, 200);
}

/// Weights that compare scans with those whose features are 0, one unit of which is far.
fn compared(library: &Path, weights: &Path) {
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).unwrap();
    let width = backbone.info().embed_dim;
    random_weights_on(backbone.info(), library, weights, 4, |_, about| {
        let view = ViewReference {
            view: "axial".to_owned(),
            after_blocks: None,
            cases: 300,
            mean: vec![0.0; width],
            directions: Vec::new(),
            variances: Vec::new(),
            residual_variance: 1.0,
            quantiles: (0..=REFERENCE_STEPS).map(|i| i as f32 / 1000.0).collect(),
        };
        about.reference = Some(Reference { views: vec![view] });
    });
}

#[test]
fn the_monitor_tells_of_each_result_how_far_it_lies_from_the_training_cases() {
    let folder = tempfile::tempdir().unwrap();
    let library = small::probe(folder.path());
    compared(&library, &folder.path().join("mean_probe.safetensors"));
    let bad = plugins()[1].clone();
    let server = serve(Choice { plugins: vec![library, bad], faults: 3, ..Choice::default() });
    assert_eq!(
        server.get("/monitor.json").json(),
        json!({ "plugins": [
            { "name": "mean_probe", "reference": { "cases": 300, "percentile_99_5": f64::from(0.199f32) }, "results": [] },
            { "name": "misbehaves", "reference": null, "results": [] },
        ]})
    );
    let jobs: Vec<Value> = (0..3).map(|seed| server.end(&server.submit(&scan(seed, NEAR))).0).collect();
    let told = server.get("/monitor.json?plugin=mean_probe&limit=2").json();
    assert_eq!(told["plugins"].as_array().unwrap().len(), 1, "{told}");
    let results = told["plugins"][0]["results"].as_array().unwrap();
    let of: Vec<&Value> = results.iter().map(|r| &r["job"]).collect();
    assert_eq!(of, [&jobs[2]["id"], &jobs[1]["id"]], "the newest first");
    let result = jobs[2]["results"].as_array().unwrap().iter().find(|r| r["plugin"] == "mean_probe").unwrap();
    let record = server.get(result["files"][0].as_str().unwrap()).json();
    assert_eq!(
        results[0],
        json!({
            "time": jobs[2]["ended"], "job": jobs[2]["id"], "case": record["case"],
            "distance": record["novelty"]["distance"], "percentile": 100.0, "outside": true,
        })
    );
    let warned =
        |warnings: &Value| warnings.to_string().contains("unlike those that the weights were trained on");
    assert!(warned(&record["warnings"]) && warned(&result["warnings"]), "{record}");
    assert_eq!(result["novelty"]["outside"], true);
    let counted = ["novelty_results_total", "novelty_outside_total"].map(|name| metric(&server, name));
    assert_eq!(counted, [3.0, 3.0]);
    assert_eq!(server.get("/monitor.json?limit=0").status, 400);
    assert_eq!(server.get("/monitor.json?plugin=other").status, 404);
}

/// The slices of a plugin's view of a scan, normalised, and how many there are of which size.
fn slices(library: &Path, scan: &Path) -> (Vec<f32>, Vec<usize>) {
    let library = inspect(&find::library(&library.display().to_string()).unwrap()).unwrap();
    let backbone = Backbone::open(&tiny_backbone(), Precision::F32).unwrap();
    let (mut data, view) = (CaseData::default(), &library.manifest().views[0]);
    let cut = data.slices(scan, view, &RegionOfInterest::default(), backbone.info(), 0).unwrap();
    (cut.pixels.flatten_all().unwrap().to_vec1().unwrap(), cut.pixels.dims().to_vec())
}

#[test]
fn slices_that_a_client_has_cut_are_answered_as_their_scan_is_to_the_bit() {
    let limits = RequestLimits { infer_bytes: 8 << 20, ..Choice::default().limits };
    let server = serve(Choice { limits, ..Choice::default() });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.nii");
    small::scan(&path, 6, NEAR);
    let (pixels, shape) = slices(&plugins()[0], &path);
    let ask = |input: Value| {
        let body = json!({
            "inputs": [input], "outputs": [{ "name": "logits" }, { "name": "heatmap" }, { "name": "result" }],
        });
        server.ask("POST", "/v2/models/mean_probe/infer", &[], body.to_string().as_bytes())
    };
    let given = |shape: &[usize], data: &[f32]| json!({ "name": "pixels", "shape": shape, "datatype": "FP32", "data": data });
    let answer = ask(given(&shape, &pixels));
    let (url, body) = voxels(6, "mean_probe");
    assert_eq!(numbers(&answer), numbers(&server.ask("POST", &url, &[], body.as_bytes())));
    let outputs = answer.json()["outputs"].clone();
    assert_eq!(
        outputs[1]["shape"],
        json!([shape[0], shape[2], shape[3]]),
        "a heatmap's voxels are the pixels"
    );
    let result: Value = serde_json::from_str(outputs[2]["data"][0].as_str().unwrap()).unwrap();
    assert!(result["warnings"].to_string().contains("cut elsewhere"), "{result}");
    assert_eq!(result["input"]["path"], "pixels.safetensors");

    let model = server.get("/v2/models/mean_probe").json();
    assert_eq!(model["inputs"][2], json!({ "name": "pixels", "datatype": "FP32", "shape": [-1, 3, -1, -1] }));
    let mut wide = json!({ "name": "voxels", "shape": [1, 1, 1], "datatype": "FP32", "data": [0.0] });
    for (input, said) in [
        (
            given(&[shape[0] - 1, 3, shape[2], shape[3]], &pixels[3 * shape[2] * shape[3]..]),
            "expected F32 [5, 3, 70, 56]",
        ),
        (given(&[shape[0], 3, shape[3], shape[2]], &pixels), "expected F32 [5, 3, 70, 56]"),
        (given(&[shape[0] * 3, shape[2], shape[3]], &pixels), "expected FP32 [S,3,H,W]"),
        (given(&shape, &vec![0.5; pixels.len()]), "all the same"),
    ] {
        let answer = ask(input);
        assert!(answer.status == 400 && answer.error().contains(said), "{said}: {answer:?}");
    }
    wide["name"] = json!("pixels.axial");
    assert!(ask(wide).error().contains("no input is called `pixels.axial`"));
}
