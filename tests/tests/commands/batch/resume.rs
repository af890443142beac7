//! Processes that end too early: nothing is lost, nothing is done twice, nothing lies there half-written.

use super::*;

fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_batch_that_is_killed_loses_nothing_and_does_nothing_twice() {
    let (scans, out) = (cohort(120), tempfile::tempdir().unwrap());
    let (killed, whole) = (out.path().join("killed"), out.path().join("whole"));
    let call = || batch(&[&text(&scans), "--out", &text(&killed)]);
    for n in [7, 30, 60] {
        let mut child = begun(call(), &killed, n);
        signal(&child, "-KILL");
        child.wait().unwrap();
        // Whatever moment it was: every result that lies there is whole.
        for case in fs::read_dir(&killed)
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with('c'))
        {
            let result = case.path().join("mean_probe/result.json");
            if case.path().is_dir() && result.exists() {
                serde_json::from_slice::<serde_json::Value>(&fs::read(&result).unwrap()).unwrap();
                assert!(case.path().join("mean_probe/heatmap.nii.gz").exists(), "{case:?}");
            }
        }
    }
    let last = ran(call());
    assert_eq!(last.code, Some(1), "{last:#?}");
    assert!(last.err.contains(" of 120 cases are done"), "{last:#?}");
    let nothing_left = ran(call());
    assert!(
        nothing_left.err.contains("103 of 120 cases are done, and 17 failed before"),
        "{nothing_left:#?}"
    );
    merge(&killed, &[]);
    assert!(times_done(&killed).values().all(|n| *n == 1), "{:?}", times_done(&killed));
    let aside = fs::read_dir(&killed)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(".writing-"));
    assert_eq!(aside.count(), 0, "what a killed process left is removed");
    ran(batch(&[&text(&scans), "--out", &text(&whole)]));
    merge(&whole, &[]);
    assert_eq!(predictions(&killed), predictions(&whole));
}

#[test]
fn sigterm_ends_after_the_case_at_hand_with_the_code_for_trying_again() {
    let (scans, out) = (cohort(60), tempfile::tempdir().unwrap());
    let to = out.path().join("out");
    let call = |more: &[&str]| batch(&[&[&text(&scans), "--out", &text(&to)], more].concat());
    let mut child = begun(call(&[]), &to, 5);
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let done = journal(&to).len();
    assert!((5..60).contains(&done), "{done}");
    // The plugins' process gets the signal too, from engines that send it to all.
    let isolated = out.path().join("isolated");
    let isolate = || batch(&["--isolate", &text(&scans), "--out", &text(&isolated)]);
    let mut apart = begun(isolate(), &isolated, 5);
    let children = format!("/proc/{0}/task/{0}/children", apart.id());
    let worker = fs::read_to_string(children).unwrap();
    signal(&apart, "-TERM");
    worker.split_whitespace().for_each(|id| drop(Command::new("kill").args(["-TERM", id]).status()));
    assert_eq!(apart.wait().unwrap().code(), Some(75));
    let before = journal(&isolated);
    assert!((5..60).contains(&before.len()), "{}", before.len());
    assert!(before.iter().all(|line| !line.contains("\"kind\":\"plugin\"")), "the signal is no case's fault");
    let records =
        |out: &Path| (0..60).filter(|i| out.join(format!("c{i:03}/mean_probe/result.json")).exists()).count();
    let done = before.iter().filter(|line| line.contains("\"outcome\":\"done\"")).count();
    assert_eq!(records(&isolated), done, "no record without its line, no line without its record");
    let rest = ran(call(&["--progress", "json"]));
    let lines: Vec<serde_json::Value> = rest.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let end = lines.last().unwrap();
    assert_eq!((&end["cases"], &end["ended"]), (&60.into(), &true.into()), "{rest:#?}");
    assert_eq!(end["skipped"].as_u64().unwrap() + end["done"].as_u64().unwrap(), 60);
    merge(&to, &[]);
    assert!(times_done(&to).values().all(|n| *n == 1));
    // The resumed run asks the plugins' process for what is left, and for nothing else.
    assert_eq!(ran(isolate()).code, Some(1));
    assert_eq!(journal(&isolated).len(), 60);
    merge(&isolated, &[]);
    let times = times_done(&isolated);
    assert!(times.len() == 60 && times.values().all(|n| *n == 1), "{times:?}");
    assert_eq!(predictions(&isolated), predictions(&to));
}

#[test]
fn failures_are_tried_again_on_request_and_a_repaired_scan_without_one() {
    let (scans, out) = (cohort(14), tempfile::tempdir().unwrap());
    let call = |more: &[&str]| ran(batch(&[&[&text(&scans), "--out", &text(out.path())], more].concat()));
    let most = call(&["--max-failures", "1"]);
    assert_eq!(most.code, Some(1));
    assert!(
        most.err.contains("1 cases failed, as many as --max-failures allows; 8 cases are left"),
        "{most:#?}"
    );
    call(&[]);
    assert_eq!(journal(out.path()).len(), 14);
    call(&["--retry-failed"]);
    assert_eq!(journal(out.path()).len(), 16);
    let repaired = scans.path().join("c005.nii");
    write_nifti_i16(&repaired, &voxels(5), SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
    call(&[]);
    assert_eq!(journal(out.path()).len(), 17);
    // A scan that is another one now is done anew, and that is told.
    write_nifti_i16(&repaired, &voxels(99), SHAPE, &Affine::aligned([9.0, 9.0, 12.0], [0.0; 3])).unwrap();
    let other = call(&[]);
    assert!(other.err.contains("1 results are made anew: another scan"), "{other:#?}");
    // One that was only touched is read and left.
    let bytes = fs::read(&repaired).unwrap();
    fs::write(&repaired, bytes).unwrap();
    assert!(!call(&[]).err.contains("made anew"));
    assert_eq!(journal(out.path()).len(), 18);
}

#[test]
fn a_disk_that_is_full_stops_the_batch_and_what_was_done_is_whole() {
    let (scans, out) = (cohort(30), tempfile::tempdir().unwrap());
    let to = out.path().join("small");
    fs::create_dir(&to).unwrap();
    let mount = |arguments: &[&str]| {
        Command::new(arguments[0]).args(&arguments[1..]).status().is_ok_and(|s| s.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", &text(&to)]) {
        println!("skipped: this user mounts no file system");
        return;
    }
    let full = ran(batch(&[&text(&scans), "--out", &text(&to)]));
    let whole = journal(&to).len();
    let json = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).is_ok();
    let results: Vec<PathBuf> =
        (0..30).map(|i| to.join(format!("c{i:03}/mean_probe/result.json"))).filter(|p| p.exists()).collect();
    let all_whole = results.iter().all(|path| json(path));
    let grown = mount(&["mount", "-o", "remount,size=64m", &text(&to)]);
    let rest = ran(batch(&[&text(&scans), "--out", &text(&to)]));
    let merged = merge(&to, &[]);
    let times = if merged.code == Some(0) { times_done(&to) } else { BTreeMap::new() };
    mount(&["umount", &text(&to)]);
    assert_eq!(full.code, Some(1), "{full:#?}");
    assert!(full.err.contains("No space left on device"), "{full:#?}");
    assert!(full.err.contains("all results so far are whole"), "{full:#?}");
    assert!(grown && all_whole && (1..30).contains(&whole), "{whole} {full:#?}");
    assert_eq!((rest.code, merged.code, times.len()), (Some(1), Some(0), 30), "{rest:#?} {merged:#?}");
}
