//! Archives that are down, slow, full, or say one thing and do another.

use super::fake_archive::Fault;
use super::*;
use std::time::Duration;

#[test]
fn a_study_is_fetched_answered_stored_and_verified() {
    let bench = Bench::new(7);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_answered(&bench, &steps, &record);
    assert_eq!(bench.answer.instances.load(Ordering::Relaxed), 7, "all pages of the list");
    assert_eq!(bench.archive.count("POST"), 1);
    assert!(record.study_uid.is_none() && record.notes.is_empty());
}

/// Faults, each of which goes away: the end is the same, and nothing is there twice.
#[test]
fn whatever_goes_wrong_once_everything_is_there_once_in_the_end() {
    let slow = Fault::Slow(Duration::from_millis(1300));
    let series = "GET /studies/1.2.3.4711/series/1.2.3.4711.1";
    for (request, fault) in [
        ("GET /studies", Fault::Close),
        ("GET /studies", Fault::Status(500)),
        ("GET /studies", Fault::Busy(0)),
        (series, Fault::Cut(100)),
        (series, Fault::Cut(2000)),
        (series, slow),
        ("POST", Fault::Close),
        ("POST", Fault::StoreAndClose),
        ("POST", Fault::Status(409)),
        ("POST", Fault::Status(500)),
        ("POST", Fault::Busy(0)),
        ("POST", Fault::Partly(400)),
        ("POST", Fault::Partly(409)),
        ("POST", Fault::PartlyAndSilent),
        ("POST", Fault::FailAll(0x0110)),
        ("POST", Fault::FailAll(0xA700)),
        ("POST", Fault::Lie),
        ("POST", Fault::Cut(10)),
        ("POST", slow),
    ] {
        let bench = Bench::new(6);
        bench.archive.fail(request, fault);
        let steps = bench.steps();
        let key = bench.enter(&steps);
        let record = finish(&steps, &key);
        assert!(bench.archive.state().faults.is_empty(), "{request} {fault:?} was never asked for");
        assert_answered(&bench, &steps, &record);
        // Nothing that was kept by the archive was sent to it again, but for one that had not stored it yet when it was asked.
        if !matches!(fault, Fault::Slow(_)) {
            assert_eq!(bench.archive.state().repeated, 0, "{request} {fault:?}");
        }
    }
}

#[test]
fn an_archive_that_is_down_costs_no_attempt_and_is_asked_until_it_is_back() {
    let bench = Bench::new(3);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let (address, state) = (bench.archive.address(), bench.archive.state.clone());
    let Bench { archive, folder, answer, rules } = bench;
    drop(archive);
    for _ in 0..12 {
        assert!(matches!(steps.advance(&key), Next::After(_)));
    }
    let record = steps.ledger.get(&key).unwrap().unwrap();
    assert_eq!((record.state, record.attempts), (StudyState::Seen, 0), "{record:?}");
    assert!(record.reason.as_ref().is_some_and(|r| r.contains("not available")), "{record:?}");
    let bench = Bench { archive: FakeArchive::at(&address, state), folder, answer, rules };
    let record = finish(&steps, &key);
    assert_answered(&bench, &steps, &record);
}

#[test]
fn retry_after_is_kept() {
    let bench = Bench::new(3);
    bench.archive.fail("GET", Fault::Busy(7));
    let steps = bench.steps();
    let key = bench.enter(&steps);
    assert!(matches!(steps.advance(&key), Next::After(wait) if wait >= Duration::from_secs(7)));
}

#[test]
fn what_is_too_large_at_once_goes_in_parts_and_what_is_too_large_alone_is_named() {
    let bench = Bench::new(3);
    // Larger than the heatmap alone, smaller than both.
    bench.archive.state().most_body = Some(9200);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_eq!(bench.archive.count("POST"), 3);
    assert_answered(&bench, &steps, &record);

    let bench = Bench::new(3);
    bench.archive.state().most_body = Some(2000);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_eq!(record.state, StudyState::Failed);
    let reason = record.reason.unwrap();
    assert!(
        reason.contains("1 of 2 objects are stored") && reason.contains("heatmap.dcm is too large"),
        "{reason}"
    );
    assert_eq!(bench.archive.own().len(), 1, "the report is there");
}

#[test]
fn an_object_that_spoils_its_request_does_not_keep_the_others() {
    let bench = Bench::new(3);
    bench.archive.state().poison = Some(MAP);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_eq!(record.state, StudyState::Failed);
    assert!(record.reason.unwrap().contains("answered 400"));
    assert_eq!(bench.archive.own().len(), 1, "the report is there");
    assert_eq!(bench.archive.state().repeated, 0);
}

#[test]
fn an_archive_that_confirms_what_it_never_keeps_is_given_up_after_its_attempts() {
    let bench = Bench::new(3);
    (0..40).for_each(|_| bench.archive.fail("POST", Fault::Lie));
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let mut waits = Vec::new();
    for _ in 0..200 {
        match steps.advance(&key) {
            Next::Finished => break,
            Next::Now => {}
            // A job is waited for longer than any repetition of these rules.
            Next::After(wait) if wait < Duration::from_millis(100) => waits.push(wait),
            Next::After(wait) => std::thread::sleep(wait),
        }
    }
    let record = steps.ledger.get(&key).unwrap().unwrap();
    assert_eq!((record.state, record.attempts, record.lost), (StudyState::Failed, 4, 4), "{record:?}");
    let reason = record.reason.unwrap();
    let expected = "2 objects that the archive had confirmed are not there; tried 4 times";
    assert_eq!(reason, expected);
    assert_eq!(bench.archive.count("POST"), 7, "both at once, then each alone in three more attempts");
    assert_eq!(waits.len(), 3, "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(10) && waits[2] >= Duration::from_millis(20), "{waits:?}");
}

#[test]
fn an_object_that_comes_through_begins_the_count_of_the_lost_anew() {
    let bench = Bench::new(3);
    // Five attempts where four may fail: both are lost, then one alone, and that one twice more.
    let kept = Fault::Slow(Duration::ZERO);
    for fault in [Fault::Lie, Fault::Lie, kept, Fault::Lie, Fault::Lie] {
        bench.archive.fail("POST", fault);
    }
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_answered(&bench, &steps, &record);
    assert_eq!(bench.archive.count("POST"), 6);
}

#[test]
fn a_fetch_that_was_cut_goes_on_with_what_is_missing() {
    let bench = Bench::new(12);
    // About nine of twelve instances.
    bench.archive.fail("GET /studies/1.2.3.4711/series/1.2.3.4711.1", Fault::Slow(Duration::ZERO));
    let whole = 12 * (bench.archive.state().instances.values().next().unwrap().bytes.len() + 60);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    // Lists come first: pages of three, and an empty one.
    for _ in 0..4 {
        bench.archive.fail("GET /studies/1.2.3.4711/series/1.2.3.4711.1", Fault::Slow(Duration::ZERO));
    }
    bench.archive.fail("GET /studies/1.2.3.4711/series/1.2.3.4711.1", Fault::Cut(whole * 3 / 4));
    let record = finish(&steps, &key);
    assert_answered(&bench, &steps, &record);
    let whole = bench.archive.state().requests.iter().filter(|r| r.ends_with("/series/1.2.3.4711.1")).count();
    assert_eq!(whole, 1, "the series was asked for once");
    let single =
        bench.archive.state().requests.iter().filter(|r| r.contains("/instances/1.2.3.4711.1.")).count();
    assert!((1..=4).contains(&single), "{single}");
}

#[test]
fn a_study_that_cannot_be_had_fails_with_its_reason_and_is_left_alone() {
    for (request, fault, says) in [
        ("GET /studies/1.2.3.4711/series/1.2.3.4711.1", Fault::Status(500), "tried 4 times"),
        ("GET /studies/1.2.3.4711/series/1.2.3.4711.1", Fault::Status(404), "answered 404"),
        ("POST", Fault::Status(409), "answered 409"),
        ("POST", Fault::FailAll(0x0122), "failure reason 0122"),
        ("POST", Fault::Status(415), "answered 415"),
    ] {
        let bench = Bench::new(3);
        for _ in 0..40 {
            bench.archive.fail(request, fault);
        }
        let steps = bench.steps();
        let key = bench.enter(&steps);
        let record = finish(&steps, &key);
        assert_eq!(record.state, StudyState::Failed, "{fault:?}");
        let reason = record.reason.unwrap();
        assert!(reason.contains(says), "{reason}");
        assert!(!reason.contains("4711"), "no UID: {reason}");
        // Results that could not be delivered stay; no scan does.
        let left = files_below(&steps.folder.join("studies"));
        assert_eq!(left.len(), record.objects.len(), "{left:?}");
        assert!(left.iter().all(|file| file.parent().unwrap().ends_with("outbox")), "{left:?}");
        let asked = bench.archive.state().requests.len();
        assert_eq!(steps.advance(&key), Next::Finished);
        assert_eq!(bench.archive.state().requests.len(), asked);
    }
}

#[test]
fn limits_hold_and_are_named() {
    for (limits, says) in [
        ("[limits]\nstudy_instances = 2\n", "study_instances"),
        ("[limits]\nstudy_mb = 0\n", "study_mb"),
        ("[limits]\ninstance_mb = 0\n", "instance_mb"),
    ] {
        let mut bench = Bench::new(6);
        bench.rules += limits;
        let steps = bench.steps();
        let key = bench.enter(&steps);
        let record = finish(&steps, &key);
        assert_eq!(record.state, StudyState::Failed);
        assert!(record.reason.as_ref().unwrap().contains(says), "{record:?}");
    }
}

#[test]
fn an_archive_that_corrects_the_patient_is_noted_and_one_that_holds_something_else_is_refused() {
    let bench = Bench::new(3);
    bench.archive.state().coerce = true;
    let steps = bench.steps();
    let key = bench.enter(&steps);
    let record = finish(&steps, &key);
    assert_eq!(record.state, StudyState::Verified);
    assert!(record.notes.iter().any(|n| n.contains("other bytes")), "{record:?}");

    let bench = Bench::new(3);
    let steps = bench.steps();
    let key = bench.enter(&steps);
    while steps.ledger.get(&key).unwrap().unwrap().state != StudyState::Stored {
        steps.advance(&key);
    }
    {
        // Somebody else's object under our UID.
        let mut state = bench.archive.state();
        let uid = state.instances.keys().find(|uid| uid.starts_with("2.25.")).unwrap().clone();
        let other = slice(STUDY, "1.9.9", &uid).bytes();
        state.instances.get_mut(&uid).unwrap().bytes = other;
    }
    let record = finish(&steps, &key);
    assert_eq!(record.state, StudyState::Failed);
    assert!(record.reason.unwrap().contains("another object in the archive"));
}
