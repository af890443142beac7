//! Wrong input: each one clear message, before anything is computed.

use super::*;

#[test]
fn a_shard_that_is_not_there_or_not_told_is_refused() {
    let (scans, out) = (cohort(2), tempfile::tempdir().unwrap());
    let call =
        |more: &[&str]| batch(&[&[&text(&scans), "--out", &text(out.path().join("o"))], more].concat());
    ran(call(&["--shard", "9/8"]))
        .refused(&["--shard 9/8: there is no shard 9 of 8; shards are counted from 0, the last is 7/8"]);
    ran(call(&["--shard", "nine"])).refused(&["--shard nine: expected I/N, for example 0/8"]);
    ran(call(&["--shards", "8"])).refused(&["the environment names no task of an array", "give --shard I/N"]);
    let mut again = call(&["--shards", "8"]);
    again.envs(
        [("ID", "5"), ("MIN", "5"), ("MAX", "5"), ("STEP", "1")]
            .map(|(n, v)| (format!("SLURM_ARRAY_TASK_{n}"), v)),
    );
    ran(again).refused(&[
        "the array has 1 tasks (5 to 5, step 1), and there are 8 shards; give --first-index INDEX",
    ]);
    ran(batch(&[&text(&scans), "--out", "s3://bucket/prefix"]))
        .refused(&["s3://bucket/prefix: this build reads and writes files alone", "feature `object-store`"]);
    ran(batch(&["s3://bucket/prefix", "--out", &text(out.path().join("o"))]))
        .refused(&["s3://bucket/prefix: this build reads and writes files alone"]);
    let list = out.path().join("list.csv");
    fs::write(&list, "case,image\nx,s3://bucket/x.nii\n").unwrap();
    ran(batch(&["--manifest", &text(&list), "--out", &text(out.path().join("listed"))]))
        .refused(&["s3://bucket/x.nii: this build reads and writes files alone"]);
    assert!(!out.path().join("o").exists(), "nothing was begun");
}

#[test]
fn a_manifest_without_cases_or_with_a_case_twice_is_refused() {
    let (scans, out) = (cohort(2), tempfile::tempdir().unwrap());
    let list = out.path().join("list.csv");
    let call = || ran(batch(&["--manifest", &text(&list), "--out", &text(out.path().join("o"))]));
    fs::write(&list, "case,image\n").unwrap();
    call().refused(&["list.csv: lists no case; expected one line per case after the header"]);
    let scan = text(scans.path().join("c000.nii"));
    fs::write(&list, format!("case,image\nx,{scan}\ny,{scan}\nX,{scan}\n")).unwrap();
    call().refused(&["list.csv: line 4: case `X` is already on line 2; each case stands once"]);
    fs::write(&list, "case,scan\nx,y\n").unwrap();
    call().refused(&["expected columns `case` and `image`"]);
    let empty = tempfile::tempdir().unwrap();
    let none = ran(batch(&[&text(empty.path()), "--out", &text(out.path().join("o"))]));
    assert_eq!(none.code, Some(2), "{none:#?}");
    assert!(
        none.err.contains("no scan in this folder") && none.err.contains("the inputs give no case"),
        "{none:#?}"
    );
}

#[test]
fn a_folder_of_other_options_other_work_or_an_edited_list_is_refused() {
    let (scans, more, out) = (cohort(4), cohort(3), tempfile::tempdir().unwrap());
    let to = text(out.path());
    let (at, others) = (text(&scans), text(&more));
    assert_eq!(ran(batch(&[&at, "--out", &to])).code, Some(0));
    ran(batch(&[&at, "--out", &to, "--heatmap=false"])).refused(&[
        "holds a batch with other options: heatmap was true, is false; give another --out, or --overwrite",
    ]);
    ran(batch(&[&others, "--out", &to]))
        .refused(&["holds a batch of other work: of /", "give another --out"]);
    let list = out.path().join("work.csv");
    let text_of_list = fs::read_to_string(&list).unwrap();
    let line = text_of_list.lines().last().unwrap();
    fs::write(&list, format!("{text_of_list}{line}\n")).unwrap();
    ran(batch(&[&at, "--out", &to])).refused(&["work.csv: line 6: case `c003` is already on line 5"]);
    fs::write(&list, text_of_list.replace(&format!("{line}\n"), "")).unwrap();
    ran(batch(&[&at, "--out", &to])).refused(&["work.csv is not the one that the batch began with"]);
    fs::write(&list, &text_of_list).unwrap();
    // Told to, it does everything anew.
    let anew = ran(batch(&[&at, "--out", &to, "--heatmap=false", "--overwrite"]));
    assert!(anew.code == Some(0) && anew.err.contains("4 results are made anew: other options"), "{anew:#?}");
}

#[test]
fn a_failure_under_other_options_is_missing_and_no_row() {
    let (scans, out) = (cohort(4), tempfile::tempdir().unwrap());
    let (at, to) = (text(&scans), text(out.path()));
    // The smallest file: alone in the last of four shards.
    fs::write(scans.path().join("c001.nii"), "damaged").unwrap();
    assert_eq!(ran(batch(&[&at, "--out", &to])).code, Some(1));
    assert_eq!(merge(out.path(), &[]).code, Some(0));
    assert!(predictions(out.path()).contains("\nc001,"));
    ran(batch(&[&at, "--out", &to, "--heatmap=false", "--overwrite", "--shard", "0/4"]));
    let missing = merge(out.path(), &["--partial"]);
    assert!(!predictions(out.path()).contains("\nc001,"), "{missing:#?}");
    ran(batch(&[&at, "--out", &to, "--heatmap=false"]));
    assert_eq!(merge(out.path(), &[]).code, Some(0));
    assert!(predictions(out.path()).contains("\nc001,"));
}

#[test]
fn a_second_writer_of_a_shard_is_refused_while_the_first_lives() {
    let (scans, out) = (cohort(60), tempfile::tempdir().unwrap());
    let call = |shard: &str| batch(&[&text(&scans), "--out", &text(out.path()), "--shard", shard]);
    let mut first = begun(call("0/2"), out.path(), 3);
    ran(call("0/2")).refused(&["shard 0/2 is being written by process", "wait for it, or do another shard"]);
    ran(call("0/3")).refused(&["shard 0/2 is being written by process"]);
    let other = ran(call("1/2"));
    assert!(other.code.is_some_and(|code| code < 2), "{other:#?}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(ran(call("0/2")).code.is_some_and(|code| code < 2), "its lock ends with it");
}

#[test]
fn a_folder_that_is_no_batch_cannot_be_merged() {
    let out = tempfile::tempdir().unwrap();
    merge(out.path(), &[])
        .refused(&["no batch there: batch.json is missing; give the --out of `host batch`"]);
}
