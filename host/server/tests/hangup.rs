//! SIGHUP, which reaches every server of a process: a process of its own for one test.

mod common;

use anymc3d_host::task::Weights;
use anymc3d_tests::{small, tiny_weights};
use common::{Choice, FAR, NEAR, Running, scan, serve};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// What the audit log says of plugins that were opened again, once it says it `times` times.
fn loads(server: &Running, times: usize) -> Vec<Value> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let log = std::fs::read_to_string(server.data.join("audit.jsonl")).unwrap();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let found: Vec<Value> = entries.filter(|entry| entry["event"] == "load").collect();
        if found.len() >= times {
            return found;
        }
        assert!(Instant::now() < until, "{times} loads are awaited: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn hang_up() {
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

#[test]
fn sighup_opens_plugins_whose_files_have_changed_and_those_in_quarantine_and_leaves_all_others() {
    let folder = tempfile::tempdir().unwrap();
    let [good, same] = ["good", "same"].map(|name| folder.path().join(name));
    for folder in [&good, &same] {
        std::fs::create_dir(folder).unwrap();
    }
    let library = small::probe(&good);
    let weights = good.join("mean_probe.safetensors");
    let bad = small::misbehaving(&same, "abort_far_away");
    let server = serve(Choice { plugins: vec![library.clone(), bad], faults: 2, ..Choice::default() });
    let digest = |job: &Value| {
        let results = job["results"].as_array().unwrap();
        let result = results.iter().find(|r| r["plugin"] == "mean_probe").unwrap_or_else(|| panic!("{job}"));
        server.get(result["files"][0].as_str().unwrap()).json()["plugin"]["weights_sha256"].clone()
    };
    let ready = |name: &str| server.get(&format!("/v2/models/{name}/ready")).status;
    let old = Weights::open(&weights).unwrap().sha256;
    assert_eq!(digest(&server.end(&server.submit(&scan(1, NEAR))).0), json!(old));

    tiny_weights(&library, &weights, 5);
    let new = Weights::open(&weights).unwrap().sha256;
    hang_up();
    let told = loads(&server, 1);
    assert_eq!((&told[0]["who"], &told[0]["plugin"]), (&json!("SIGHUP"), &json!("mean_probe")), "{told:?}");
    assert_eq!((&told[0]["outcome"], &told[0]["now"]["weights_sha256"]), (&json!("opened"), &json!([new])));
    assert_eq!(digest(&server.end(&server.submit(&scan(1, NEAR))).0), json!(new));

    std::fs::write(&weights, b"half a file").unwrap();
    hang_up();
    assert_eq!(
        loads(&server, 2)[1]["outcome"],
        "refused",
        "of the plugin that did not change nothing is told"
    );
    assert_eq!(
        digest(&server.end(&server.submit(&scan(1, NEAR))).0),
        json!(new),
        "what was there answers on"
    );
    tiny_weights(&library, &weights, 5);

    for _ in 0..2 {
        assert_eq!(server.end(&server.submit(&scan(1, FAR))).0["state"], "partly_failed");
    }
    assert_eq!((ready("mean_probe"), ready("misbehaves")), (200, 400));
    hang_up();
    let told = loads(&server, 3);
    assert_eq!(
        (&told[2]["plugin"], &told[2]["outcome"]),
        (&json!("misbehaves"), &json!("opened")),
        "{told:?}"
    );
    assert_eq!((told.len(), ready("misbehaves")), (3, 200));
    assert_eq!(server.end(&server.submit(&scan(1, NEAR))).0["state"], "done");
}
