//! Once, across restarts, and never our own.

use super::super::service::{Service, ServiceOptions};
use super::fake_archive::Fault;
use super::*;
use std::time::{Duration, Instant};

/// The process ends after every single step and another one begins: nothing is lost, nothing is there twice, and what was
/// sent before goes under the same UIDs.
#[test]
fn a_process_that_ends_after_each_step_answers_once() {
    for fault in [None, Some(Fault::StoreAndClose), Some(Fault::Partly(400)), Some(Fault::Close)] {
        let bench = Bench::new(5);
        if let Some(fault) = fault {
            bench.archive.fail("POST", fault);
        }
        let key = bench.enter(&bench.steps());
        let mut uids: Option<Vec<String>> = None;
        for round in 0.. {
            assert!(round < 50);
            let steps = bench.steps();
            let next = steps.advance(&key);
            let record = steps.ledger.get(&key).unwrap().unwrap();
            if !record.objects.is_empty() {
                let now: Vec<String> = record.objects.iter().map(|o| o.sop_instance.clone()).collect();
                assert_eq!(*uids.get_or_insert(now.clone()), now, "UIDs stay");
            }
            if next == Next::Finished {
                assert_answered(&bench, &steps, &record);
                break;
            }
        }
        assert_eq!(bench.archive.state().repeated, 0, "{fault:?}");
        assert_eq!(uids.unwrap().len(), 2);
    }
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let ends = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < ends, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn service(bench: &Bench) -> Service {
    let rules = bench.folder.path().join("rules.toml");
    std::fs::write(&rules, &bench.rules).unwrap();
    let options =
        ServiceOptions { archive: Some(&bench.archive.url), rules: &rules, data: bench.folder.path() };
    Service::start(&options, bench.answer.clone()).unwrap()
}

fn verified(service: &Service) -> usize {
    service.status().unwrap().studies.get("verified").copied().unwrap_or(0)
}

#[test]
fn the_list_is_looked_at_again_and_again_and_each_study_is_answered_once() {
    let bench = Bench::new(4);
    {
        let service = service(&bench);
        wait_for("the first study", || verified(&service) == 1);
        // A second study arrives; two more looks at the list see our results in the first one.
        bench.archive.add(slice("1.2.8", "1.2.8.1", "1.2.8.1.1").bytes());
        wait_for("the second study", || verified(&service) == 2);
        let looks = bench.archive.count("GET /studies");
        wait_for("two more looks", || bench.archive.count("GET /studies") > looks + 4);
        service.stop();
    }
    let service = service(&bench);
    let looks = bench.archive.count("GET /studies");
    wait_for("looks after a restart", || bench.archive.count("GET /studies") > looks + 4);
    assert_eq!(bench.archive.own().len(), 4);
    assert_eq!(bench.archive.state().repeated, 0);
    assert_eq!(bench.answer.submitted.load(Ordering::Relaxed), 2);
    assert_eq!(verified(&service), 2);
}

#[test]
fn our_own_objects_are_never_answered_even_by_a_rule_for_everything() {
    let mut bench = Bench::new(0);
    bench.rules = bench.rules.replace("modality = [\"CT\"]\n", "");
    // Another server's results, in a study of their own: by class, description and manufacturer ours.
    bench.archive.add(result("1.2.9", SR, "2.25.91", "2.25.92").bytes());
    bench.archive.add(result("1.2.9", MAP, "2.25.93", "2.25.94").bytes());
    // As an archive might show them that renames manufacturers, and one that renames descriptions.
    let disguised = files::File { manufacturer: "Archive", ..result("1.2.10", MAP, "2.25.95", "2.25.96") };
    bench.archive.add(disguised.bytes());
    let renamed = files::File {
        description: "x",
        class: files::CT,
        modality: "CT",
        ..result("1.2.11", MAP, "2.25.97", "2.25.98")
    };
    bench.archive.add(renamed.bytes());
    let service = service(&bench);
    wait_for("looks", || bench.archive.count("GET /studies") > 12);
    let status = service.status().unwrap();
    assert!(status.studies.is_empty(), "{status:?}");
    assert_eq!(bench.answer.submitted.load(Ordering::Relaxed), 0);
}

#[test]
fn results_of_the_same_plugin_that_lie_there_are_not_made_again() {
    let bench = Bench::new(3);
    bench.archive.add(result(STUDY, MAP, "2.25.93", "2.25.94").bytes());
    let service = service(&bench);
    wait_for("the study", || !service.status().unwrap().studies.is_empty());
    assert_eq!(service.status().unwrap().studies.get("skipped"), Some(&1));
    assert_eq!(bench.archive.own().len(), 1);
}

#[test]
fn a_webhook_names_a_study_and_a_failed_one_is_taken_up_when_asked() {
    let mut bench = Bench::new(3);
    bench.rules = bench.rules.replace("poll_seconds = 0.2", "poll_seconds = 0");
    let service = service(&bench);
    // The list of series fails, and then works.
    bench.archive.fail("GET /studies/1.2.3.4711/series", Fault::Status(500));
    for bad in ["../1.2", "", "1.2?x=y"] {
        assert!(service.name(bad, false).is_err());
    }
    service.name("1.2.404", false).unwrap();
    bench.archive.fail("POST", Fault::Partly(400));
    for _ in 0..4 {
        bench.archive.fail("POST", Fault::Status(409));
    }
    service.name(STUDY, false).unwrap();
    wait_for("the failure", || service.status().unwrap().failed.len() == 1);
    service.name(STUDY, false).unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(service.status().unwrap().failed.len(), 1, "a study that failed is left alone");
    service.name(STUDY, true).unwrap();
    wait_for("the answer", || verified(&service) == 1);
    assert_eq!(bench.archive.own().len(), 2, "what was stored before it failed is not there twice");
    assert_eq!(bench.archive.count("GET /studies/1.2.404"), 0);
}

/// Without a list nobody else would name it once more.
#[test]
fn what_a_webhook_named_survives_the_end_of_the_process_before_it_is_looked_at() {
    let mut bench = Bench::new(3);
    bench.rules = bench.rules.replace("poll_seconds = 0.2", "poll_seconds = 0");
    let quiet = bench.rules.clone();
    bench.rules = bench.rules.replace("quiet_seconds = 0", "quiet_seconds = 1000");
    let first = service(&bench);
    first.name(STUDY, false).unwrap();
    wait_for("the look", || first.status().unwrap().awaited == 1);
    first.stop();
    bench.rules = quiet;
    let second = service(&bench);
    wait_for("the study", || verified(&second) == 1);
    second.stop();
    let steps = bench.steps();
    assert!(steps.ledger.named().unwrap().is_empty(), "it was looked at");
}

#[test]
fn all_that_failed_is_taken_up_at_once() {
    let mut bench = Bench::new(3);
    bench.rules = bench.rules.replace("poll_seconds = 0.2", "poll_seconds = 0");
    bench.archive.add(slice("1.2.8", "1.2.8.1", "1.2.8.1.1").bytes());
    for _ in 0..2 {
        bench.archive.fail("POST", Fault::Status(415));
        bench.archive.fail("POST", Fault::Status(415));
        bench.archive.fail("POST", Fault::Status(415));
    }
    let service = service(&bench);
    service.name(STUDY, false).unwrap();
    service.name("1.2.8", false).unwrap();
    wait_for("the failures", || service.status().unwrap().failed.len() == 2);
    assert_eq!(service.take_up_failed().unwrap(), 2);
    wait_for("the answers", || verified(&service) == 2);
    assert_eq!(bench.archive.own().len(), 4);
    assert_eq!(bench.answer.submitted.load(Ordering::Relaxed), 2, "results that were made are sent");
}

#[test]
fn a_study_that_cannot_even_be_listed_is_named_and_the_others_go_on() {
    let bench = Bench::new(3);
    for _ in 0..40 {
        bench.archive.fail("GET /studies/1.2.8/series", Fault::Status(500));
    }
    bench.archive.add(slice("1.2.8", "1.2.8.1", "1.2.8.1.1").bytes());
    let service = service(&bench);
    wait_for("both", || verified(&service) == 1 && service.status().unwrap().failed.len() == 1);
    let failed = service.status().unwrap().failed.remove(0);
    assert!(failed.reason.unwrap().contains("the list of series: the archive answered 500"));
    assert_eq!(failed.attempts, 4);
}

#[test]
fn a_study_that_still_grows_is_not_looked_at() {
    let mut bench = Bench::new(1);
    bench.rules = bench.rules.replace("quiet_seconds = 0", "quiet_seconds = 1.2");
    let service = service(&bench);
    for at in 2..6 {
        std::thread::sleep(Duration::from_millis(400));
        assert!(service.status().unwrap().studies.is_empty(), "it grew just now");
        bench.archive.add(slice(STUDY, SERIES, &format!("1.2.3.4711.1.{at}")).bytes());
    }
    wait_for("the study", || verified(&service) == 1);
    assert_eq!(bench.answer.instances.load(Ordering::Relaxed), 5, "all of it");
}

#[test]
fn an_account_is_sent_and_its_lack_is_no_failure_of_a_study() {
    let mut bench = Bench::new(3);
    bench.rules += "[archive.credentials]\nbearer_file = \"token\"\n";
    std::fs::write(bench.folder.path().join("token"), "wrong").unwrap();
    bench.archive.state().authorization = Some("Bearer right".into());
    let service = service(&bench);
    wait_for("a refusal", || bench.archive.count("GET /studies") > 2);
    assert!(service.status().unwrap().studies.is_empty());
    std::fs::write(bench.folder.path().join("token"), "right").unwrap();
    wait_for("the study", || verified(&service) == 1);
}

#[test]
fn no_identity_is_in_names_of_files_in_the_status_or_in_what_stays() {
    let bench = Bench::new(3);
    for _ in 0..2 {
        bench.archive.fail("POST", Fault::Status(500));
    }
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let secrets = ["4711", "DOE", "JANE", "Thorax"];
    let innocent = |text: &str| secrets.iter().all(|secret| !text.contains(secret));
    loop {
        let next = steps.advance(&key);
        for file in files_below(&steps.folder) {
            assert!(innocent(&file.strip_prefix(&steps.folder).unwrap().to_string_lossy()), "{file:?}");
        }
        let record = steps.ledger.get(&key).unwrap().unwrap();
        assert!(innocent(&format!("{:?} {:?}", record.reason, record.notes)));
        if next == Next::Finished {
            assert!(innocent(&serde_json::to_string(&record).unwrap()), "{record:?}");
            break;
        }
    }
}
