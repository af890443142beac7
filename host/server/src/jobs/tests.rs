use super::*;

fn jobs(data: &Path) -> Jobs {
    Jobs::open(data, vec!["a".into(), "b".into()], Arc::default(), 3).unwrap()
}

fn submit(jobs: &Jobs, key: Option<&str>, plugin: &str) -> Result<Submitted, SubmitError> {
    let intake = jobs.intake().unwrap();
    std::fs::write(intake.folder().join("scan.nii"), "a scan").unwrap();
    let submission = Submission {
        scan: "scan.nii".into(),
        region: JobRegion::default(),
        plugins: vec![plugin.to_owned()],
        submitter: Submitter { channel: Channel::Http, name: "pacs".into() },
        key: key.map(str::to_owned),
        upload_sha256: Some("ab".repeat(32)),
    };
    jobs.submit(intake, submission)
}

#[test]
fn a_key_has_one_job_and_another_scan_under_it_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let jobs = jobs(data.path());
    let first = submit(&jobs, Some("k"), "a").unwrap();
    assert_eq!(submit(&jobs, Some("k"), "a").unwrap(), Submitted::Known(first.id().clone()));
    assert!(matches!(submit(&jobs, Some("k"), "b"), Err(SubmitError::KeyOfAnother(_))));
    assert!(matches!(submit(&jobs, None, "c"), Err(SubmitError::UnknownPlugin { .. })));
    let folders = std::fs::read_dir(data.path().join("jobs")).unwrap().count();
    assert_eq!(folders, 1, "what was not submitted leaves nothing");
    assert!(jobs.delete(first.id()).unwrap());
    assert!(matches!(submit(&jobs, Some("k"), "b").unwrap(), Submitted::New(_)), "the key went with its job");
}

#[test]
fn what_had_not_ended_waits_again_after_a_restart_and_what_was_begun_is_gone() {
    let data = tempfile::tempdir().unwrap();
    let (ran, waited, done) = {
        let jobs = jobs(data.path());
        let ids = [(); 3].map(|()| submit(&jobs, None, "a").unwrap().id().clone());
        let [ran, waited, done] = ids;
        for id in [&ran, &done] {
            jobs.begin(id).unwrap();
            std::fs::create_dir_all(jobs.results_folder(id).join("c/a")).unwrap();
        }
        jobs.end(&done, |job| job.state = JobState::Done).unwrap();
        // A killed process removes nothing.
        std::fs::create_dir(data.path().join("jobs").join(JobId::new().unwrap().as_str())).unwrap();
        (ran, waited, done)
    };
    let jobs = jobs(data.path());
    assert!(!jobs.results_folder(&ran).exists() && jobs.results_folder(&done).exists());
    let state = |id| jobs.get(id).unwrap().unwrap().state;
    assert_eq!(
        [state(&ran), state(&waited), state(&done)],
        [JobState::Queued, JobState::Queued, JobState::Done]
    );
    assert_eq!((jobs.place(&ran), jobs.place(&waited), jobs.place(&done)), (Some(1), Some(2), None));
    assert_eq!(jobs.get(&ran).unwrap().unwrap().attempts, 1);
    assert_eq!(std::fs::read_dir(data.path().join("jobs")).unwrap().count(), 3);
}

#[test]
fn a_full_queue_refuses_and_a_second_process_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let jobs = jobs(data.path());
    for _ in 0..3 {
        submit(&jobs, None, "a").unwrap();
    }
    assert!(matches!(submit(&jobs, None, "a"), Err(SubmitError::QueueFull(3))));
    let second = Jobs::open(data.path(), Vec::new(), Arc::default(), 3);
    assert!(matches!(second, Err(OpenJobsError::Store { .. })));
}

#[test]
fn old_jobs_go_by_age_and_by_size_and_jobs_that_wait_stay() {
    let data = tempfile::tempdir().unwrap();
    let jobs = jobs(data.path());
    let ids = [(); 3].map(|()| submit(&jobs, None, "a").unwrap().id().clone());
    for id in &ids[..2] {
        jobs.begin(id).unwrap();
        jobs.end(id, |job| job.state = JobState::Done).unwrap();
    }
    let everything = Retention { age: Some(std::time::Duration::ZERO), bytes: None };
    let later = Timestamp::now() + jiff::SignedDuration::from_secs(1);
    assert_eq!(jobs.tidy(&everything, later).unwrap(), 0, "the audit log does not have them yet");
    ids[..2].iter().for_each(|id| jobs.audited(id).unwrap());
    assert_eq!(
        jobs.tidy(&Retention { age: None, bytes: Some(6) }, later).unwrap(),
        1,
        "two of six bytes each"
    );
    assert!(jobs.get(&ids[0]).unwrap().is_none() && jobs.get(&ids[1]).unwrap().is_some(), "the oldest goes");
    assert_eq!(jobs.tidy(&everything, later).unwrap(), 1);
    assert_eq!(jobs.get(&ids[2]).unwrap().unwrap().state, JobState::Queued);
    assert!(!jobs.job_folder(&ids[1]).exists() && jobs.job_folder(&ids[2]).exists());
}

#[test]
fn whoever_watches_a_job_hears_of_its_end() {
    let data = tempfile::tempdir().unwrap();
    let jobs = jobs(data.path());
    let id = submit(&jobs, None, "a").unwrap().id().clone();
    let mut finished = jobs.finished();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            jobs.begin(&id).unwrap();
            jobs.end(&id, |job| job.state = JobState::Failed).unwrap();
        });
        assert_eq!(runtime.block_on(jobs.end_of(&id)).unwrap().unwrap().state, JobState::Failed);
    });
    assert_eq!(runtime.block_on(finished.recv()).unwrap(), id);
    assert!(jobs.watch(&id).is_none());
}
