//! What a table must give, and what it must refuse by name and line.

use super::{LabelColumns, Part, Row, Table};
use anymc3d_manifest::{Axis, Manifest, TaskKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const MANIFEST: &str = r#"
schema = 1
[plugin]
name = "toy"
version = "0.1.0"
summary = "A toy."
license = "Apache-2.0"
intended_use = "Tests."
[task]
kind = "multilabel"
labels = ["nodule", "fluid"]
loss = { kind = "focal" }
[backbone]
families = ["dinov2"]
[[view]]
name = "axial"
modality = "CT"
axis = "axial"
slices = 8
size = [224, 224]
intensity = { kind = "window", windows = [[-1000, 400]] }
"#;

fn manifest(change: impl Fn(&mut Manifest)) -> Manifest {
    let mut manifest = Manifest::parse(MANIFEST).unwrap().manifest;
    change(&mut manifest);
    manifest
}

fn multiclass() -> Manifest {
    manifest(|m| {
        m.task.kind = TaskKind::Multiclass;
        m.task.labels = vec!["low".into(), "mid".into(), "high".into()];
    })
}

fn folder(csv: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    std::fs::write(&path, csv).unwrap();
    (folder, path)
}

fn open(csv: &str, manifest: &Manifest) -> Result<Table, String> {
    let (_keep, path) = folder(csv);
    Table::open(&path, manifest).map_err(|e| e.to_string().replace(&path.display().to_string(), "T"))
}

#[test]
fn labels_paths_masks_and_patients_are_read() {
    let csv = "\u{feff}case, image ,nodule,fluid,patient,mask,note\na,scans/a.nii.gz,1,,p1,masks/a.nii.gz,x\nb,/abs/b.nii,0,1.0,,,\n";
    let (keep, path) = folder(csv);
    let table = Table::open(&path, &manifest(|_| {})).unwrap();
    let [a, b] = table.rows.as_slice() else { panic!("two rows") };
    assert_eq!(a.images["axial"], keep.path().join("scans/a.nii.gz"));
    assert_eq!(b.images["axial"], Path::new("/abs/b.nii"));
    assert_eq!((a.labels.clone(), b.labels.clone()), (vec![Some(1.0), None], vec![Some(0.0), Some(1.0)]));
    assert_eq!((a.patient.as_deref(), b.patient.as_deref()), (Some("p1"), None));
    assert_eq!((a.mask.clone(), b.mask.clone()), (Some(keep.path().join("masks/a.nii.gz")), None));
    assert_eq!((a.line, b.line), (2, 3));
}

#[test]
fn every_problem_is_named_with_its_line_in_one_message() {
    let csv = "case,image,nodule,fluid,patient,split\na,a.nii,2,0,p,train\na,,1,yes,p,val\n\
               c/d,c.nii,,,,later\n.e,e.nii,,,,\n";
    let message = open(csv, &manifest(|_| {})).unwrap_err();
    for part in [
        "line 2: case `a`: label `nodule` is `2`; expected 0, 1, a share between them, or nothing (unknown)",
        "line 3: case `a` is already on line 2",
        "line 3: case `a`: no image for the view `axial`",
        "line 3: case `a`: label `fluid` is `yes`",
        "line 3: patient `p` is in val here (case `a`) and in train on line 2 (case `a`)",
        "line 4: case `c/d`: a name is that of a folder; expected no slash, no NUL and no point at its start",
        "line 4: case `c/d`: split `later`; expected train, val, test or nothing",
        "line 5: case `.e`: a name is that of a folder; expected no slash, no NUL and no point at its start",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_patient_who_is_tested_may_not_train_through_a_row_without_a_split() {
    let table = |split: &str| {
        open(
            &format!("case,image,nodule,fluid,patient,split\na,a.nii,1,0,p,{split}\nb,b.nii,1,0,p,\n"),
            &manifest(|_| {}),
        )
    };
    for split in ["val", "test"] {
        let message = table(split).unwrap_err();
        assert!(message.contains("a patient belongs to one split"), "{message}");
    }
    assert!(table("train").is_ok() && table("").is_ok());
}

#[test]
fn missing_columns_are_named_with_what_was_found() {
    let message = open("name,image,nodule\na,a.nii,1\n", &manifest(|_| {})).unwrap_err();
    assert_eq!(
        message,
        "T: line 1: no column `case`; found `name,image,nodule`; line 1: no column `fluid` for the label; found `name,image,nodule`"
    );
    let message = open("case,image.axail,nodule,fluid\na,a.nii,1,0\n", &manifest(|_| {})).unwrap_err();
    assert!(message.contains("column `image.axail`, but toy has the views: axial"), "{message}");
}

#[test]
fn a_ragged_line_an_empty_table_and_no_table_are_refused() {
    let toy = manifest(|_| {});
    let ragged = open("case,image,nodule,fluid\na,a.nii,1\n", &toy).unwrap_err();
    assert_eq!(ragged, "T: line 2: 3 fields where the header has 4");
    assert!(
        open("case,image,nodule,fluid\n", &toy).unwrap_err().contains("no case; expected one line per case")
    );
    let gone = Table::open("/nowhere/table.csv", &toy).unwrap_err().to_string();
    assert!(gone.starts_with("/nowhere/table.csv: cannot be read:"), "{gone}");
}

#[test]
fn a_table_to_run_on_needs_no_labels() {
    let (_keep, path) = folder("case,image\na,a.nii\n");
    assert!(Table::open(&path, &manifest(|_| {})).is_err());
    let tables = Table::open_unlabelled(&path, &[manifest(|_| {}), multiclass()]).unwrap();
    assert_eq!(tables[0].rows[0].labels, vec![None, None]);
    assert_eq!(tables[1].rows[0].labels, vec![None; 3]);
}

/// A pipe gives its bytes once: whoever opens it again gets what is written next.
#[cfg(unix)]
#[test]
fn a_table_is_read_once_however_many_tasks_look_at_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.csv");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let pipe = path.clone();
    std::thread::spawn(move || {
        for n in 0.. {
            std::fs::write(&pipe, format!("case,image\nopened{n},a.nii\n")).unwrap();
            // Until the reader has seen the end.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    });
    let tasks = [manifest(|_| {}), multiclass(), manifest(|m| m.plugin.name = "third".into())];
    let tables = Table::open_unlabelled(&path, &tasks).unwrap();
    let cases: Vec<&str> = tables.iter().map(|t| t.rows[0].case.as_str()).collect();
    assert_eq!(cases, ["opened0"; 3]);
}

#[test]
fn one_image_column_serves_every_view_without_its_own() {
    let two = manifest(|m| {
        let mut view = m.views[0].clone();
        view.name = "coronal".into();
        view.axis = Axis::Coronal;
        view.required = false;
        m.views.push(view);
    });
    let table =
        open("case,image,image.coronal,nodule,fluid\na,a.nii,c.nii,1,0\nb,b.nii,,1,0\n", &two).unwrap();
    let views: Vec<Vec<&str>> =
        table.rows.iter().map(|r| r.images.keys().map(String::as_str).collect()).collect();
    assert_eq!(views, [vec!["axial", "coronal"], vec!["axial"]]);
    assert!(table.rows[0].images["coronal"].ends_with("c.nii"));
    let both = open("case,image,nodule,fluid\na,a.nii,1,0\n", &two).unwrap();
    assert_eq!(both.rows[0].images["axial"], both.rows[0].images["coronal"]);
}

#[test]
fn a_class_is_one_among_zeros_and_an_unknown_class_is_refused() {
    let table = open("case,image,class\na,a.nii,mid\nb,b.nii,\n", &multiclass()).unwrap();
    assert_eq!(table.rows[0].labels, vec![Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(table.rows[1].labels, vec![None; 3]);
    let message = open("case,image,class\na,a.nii,middle\n", &multiclass()).unwrap_err();
    assert_eq!(message, "T: line 2: case `a`: class `middle`; expected one of low, mid, high");
}

#[test]
fn what_is_written_reads_back() {
    let csv = "case,image,nodule,fluid,patient,mask,split\n\"a, b\",scans/a.nii.gz,1,,p1,m/a.nii.gz,train\nb,b.nii,0,1,,,\n";
    let (_keep, path) = folder(csv);
    let table = Table::open(&path, &manifest(|_| {})).unwrap();
    table.write().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), csv);
    let csv = "case,image,class\na,a.nii,mid\nb,b.nii,\n";
    std::fs::write(&path, csv).unwrap();
    Table::open(&path, &multiclass()).unwrap().write().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), csv);
}

/// `n` cases, positive every `every`th, `per_patient` cases a patient.
fn made(n: usize, every: usize, per_patient: usize) -> Table {
    let rows = (0..n)
        .map(|i| Row {
            case: format!("c{i}"),
            line: i as u64 + 2,
            images: BTreeMap::new(),
            labels: vec![Some(f32::from(u8::from((i / per_patient).is_multiple_of(every))))],
            patient: (per_patient > 1).then(|| format!("p{}", i / per_patient)),
            weights: Vec::new(),
            group: None,
            mask: None,
            point_mm: None,
            split: None,
        })
        .collect();
    Table { path: "made.csv".into(), kind: TaskKind::Binary, labels: vec!["x".into()], range: None, rows }
}

fn positives(table: &Table, part: &[usize]) -> usize {
    part.iter().filter(|&&i| table.rows[i].labels[0] == Some(1.0)).count()
}

#[test]
fn a_split_keeps_the_share_of_each_label_and_is_the_same_every_time() {
    let table = made(200, 4, 1);
    let split = table.split(0.2, 7);
    assert_eq!((split.train.len(), split.val.len()), (160, 40));
    assert_eq!(positives(&table, &split.val), 10);
    assert_eq!(split, table.split(0.2, 7));
    assert_ne!(split, table.split(0.2, 8));
}

#[test]
fn a_patient_is_never_on_both_sides() {
    for per_patient in [2, 3, 7, 10] {
        let table = made(210, 3, per_patient);
        let patients = |part: &[usize]| -> BTreeSet<String> {
            part.iter().map(|&i| table.rows[i].patient_or_case().to_owned()).collect()
        };
        for seed in 0..5 {
            let split = table.split(0.25, seed);
            assert!(patients(&split.train).is_disjoint(&patients(&split.val)));
            assert_eq!(split.train.len() + split.val.len(), 210);
            assert!((35..=70).contains(&split.val.len()), "{} of 210", split.val.len());
        }
    }
}

#[test]
fn the_tables_own_split_goes_first_and_test_cases_are_in_neither_part() {
    let mut table = made(10, 2, 1);
    table.rows[3].split = Some(Part::Test);
    let drawn = table.split(0.3, 0);
    assert!(!drawn.train.contains(&3) && !drawn.val.contains(&3));
    table.rows[5].split = Some(Part::Val);
    assert_eq!(table.split(0.3, 0), super::Split { train: vec![0, 1, 2, 4, 6, 7, 8, 9], val: vec![5] });
}

#[test]
fn folds_share_no_case_and_miss_none() {
    let table = made(103, 5, 1);
    let folds = table.folds(5, 3);
    let mut all: Vec<usize> = folds.iter().flat_map(|f| f.val.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..103).collect::<Vec<_>>());
    for fold in &folds {
        assert!((4..=5).contains(&positives(&table, &fold.val)));
        assert_eq!(fold.train.len() + fold.val.len(), 103);
    }
}

#[test]
fn small_tables_leave_neither_part_empty() {
    for n in 2..6 {
        let split = made(n, 2, 1).split(0.05, 1);
        assert!(!split.train.is_empty() && !split.val.is_empty());
    }
}

/// Two sequences that nothing but their names tells apart.
fn sequences(m: &mut Manifest) {
    let view = &mut m.views[0];
    view.name = "t2".into();
    let flair = anymc3d_manifest::View { name: "flair".into(), required: false, ..view.clone() };
    m.views.push(flair);
}

#[test]
fn one_image_for_two_sequences_is_refused_with_the_columns_to_give() {
    let toy = manifest(sequences);
    for labelled in [true, false] {
        let (_keep, path) = folder("case,image,nodule,fluid\na,a.nii,0,1\n");
        let read = match labelled {
            true => Table::open(&path, &toy).map(|t| vec![t]),
            false => Table::open_unlabelled(&path, std::slice::from_ref(&toy)),
        };
        let message = read.unwrap_err().to_string();
        assert!(message.contains("column `image` would be the views t2, flair of toy"), "{message}");
        assert!(message.contains("expected a column for each instead: image.t2, image.flair"), "{message}");
    }
    let own = "case,image.t2,image.flair,nodule,fluid\na,a.nii,b.nii,0,1\n";
    assert_eq!(open(own, &toy).unwrap().rows[0].images.len(), 2);
    // Only one of them is left to it.
    let rest = "case,image.t2,image,nodule,fluid\na,a.nii,b.nii,0,1\n";
    assert_eq!(open(rest, &toy).unwrap().rows[0].images["flair"].file_name().unwrap(), "b.nii");
}

#[test]
fn one_image_serves_views_that_differ_in_axis() {
    let planes = manifest(|m| {
        sequences(m);
        (m.views[0].name, m.views[1].name) = ("axial".into(), "coronal".into());
        m.views[1].axis = anymc3d_manifest::Axis::Coronal;
    });
    let row = open("case,image,nodule,fluid\na,a.nii,0,1\n", &planes).unwrap().rows.remove(0);
    assert_eq!(row.images["axial"], row.images["coronal"]);
}

#[test]
fn a_spreadsheets_table_reads_as_a_plain_one() {
    let plain = open("case,image,nodule,fluid\na,a.nii,1,0\nb,b.nii,0,\n", &manifest(|_| {})).unwrap();
    let excel = "case;image;nodule;fluid;\r\na;a.nii;1,0;0;\r\n;;;;\r\nb;b.nii;0;;\r\n;;;;\r\n";
    let read = open(excel, &manifest(|_| {})).unwrap();
    let facts = |t: &Table| t.rows.iter().map(|r| (r.case.clone(), r.labels.clone())).collect::<Vec<_>>();
    assert_eq!(facts(&read), facts(&plain));
    assert_eq!(read.rows.iter().map(|r| r.line).collect::<Vec<_>>(), [2, 4]);
    let message = open("case|image|nodule|fluid\na|a.nii|1|0\n", &manifest(|_| {})).unwrap_err();
    assert!(
        message.starts_with("T: line 1: no column `case`; found `case|image|nodule|fluid`, one column"),
        "{message}"
    );
}

#[test]
fn a_class_error_names_the_line_that_an_editor_shows() {
    let message =
        open("case,image,class\r\na,a.nii,mid\r\n\r\nb,b.nii,middle\r\n", &multiclass()).unwrap_err();
    assert_eq!(message, "T: line 4: case `b`: class `middle`; expected one of low, mid, high");
}

#[test]
fn soft_labels_and_weights_are_read_and_what_is_none_is_refused_by_its_cell() {
    let csv = "case,image,nodule,fluid,weight.fluid,group\na,a.nii,0.25,1,0.5,s1\nb,b.nii,,0,,\n";
    let rows = open(csv, &manifest(|_| {})).unwrap().rows;
    assert_eq!(rows[0].labels, [Some(0.25), Some(1.0)]);
    assert_eq!([0, 1].map(|i| rows[0].weight(i)), [1.0, 0.5]);
    // An unknown label counts nothing, and an empty weight is 1.
    assert_eq!([0, 1].map(|i| rows[1].weight(i)), [0.0, 1.0]);
    assert_eq!((rows[0].group.as_deref(), rows[1].group.as_deref()), (Some("s1"), None));
    let plain = open("case,image,nodule,fluid\na,a.nii,1,\n", &manifest(|_| {})).unwrap().rows.remove(0);
    assert_eq!((plain.weights.len(), plain.weight(0), plain.weight(1)), (0, 1.0, 0.0));
    let refused = |cell: &str| {
        open(&format!("case,image,nodule,fluid,weight.nodule\na,a.nii,1,0,{cell}\n"), &manifest(|_| {}))
            .unwrap_err()
    };
    for cell in ["-1", "x", "NaN", "inf"] {
        assert!(
            refused(cell).contains(&format!("weight `{cell}`; expected a number of 0 or more")),
            "{cell}"
        );
    }
    let message =
        open("case,image,nodule,fluid,weight.nodul\na,a.nii,1,0,1\n", &manifest(|_| {})).unwrap_err();
    assert!(message.contains("column `weight.nodul`, but there is no label `nodul`"), "{message}");
    assert!(open("case,image,nodule,fluid\na,a.nii,1.5,0\n", &manifest(|_| {})).is_err());
}

#[test]
fn a_table_that_is_written_with_groups_weights_and_points_reads_back() {
    let csv = "case,image,nodule,fluid,weight.fluid,group,point,mask\na,a.nii,0.25,1,0.5,s1,1 -2.5 3,m.nii\nb,b.nii,,0,,,,\n";
    let (keep, path) = folder(csv);
    let table = Table::open(&path, &manifest(|_| {})).unwrap();
    assert_eq!(table.rows[0].point_mm, Some([1.0, -2.5, 3.0]));
    let again = Table { path: keep.path().join("again.csv"), ..table.clone() };
    again.write().unwrap();
    let read = Table::open(&again.path, &manifest(|_| {})).unwrap();
    for (read, written) in read.rows.iter().zip(&again.rows) {
        let weights = |r: &Row| [0, 1].map(|i| r.weight(i));
        assert_eq!(weights(read), weights(written));
        let plain = |r: &Row| Row { weights: Vec::new(), ..r.clone() };
        assert_eq!(plain(read), plain(written));
    }
}

#[test]
fn folds_by_group_keep_groups_and_patients_together_and_miss_no_case() {
    let mut table = made(60, 4, 1);
    for (i, row) in table.rows.iter_mut().enumerate() {
        // Six scanners of unequal size; patient 7 was in two of them.
        row.group = Some(format!("scanner{}", [0, 0, 0, 1, 1, 2, 2, 3, 4, 5][i % 10]));
        row.patient = Some(if i == 0 || i == 3 { "p7".to_owned() } else { format!("q{i}") });
    }
    let folds = table.folds_by_group(3, 1);
    let mut all: Vec<usize> = folds.iter().flat_map(|f| f.val.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    let fold_of = |i: usize| folds.iter().position(|f| f.val.contains(&i)).unwrap();
    for i in 0..60 {
        for j in 0..60 {
            let (a, b) = (&table.rows[i], &table.rows[j]);
            if a.group == b.group || a.patient == b.patient {
                assert_eq!(fold_of(i), fold_of(j), "{i} {j}");
            }
        }
        assert!(folds.iter().all(|f| f.train.contains(&i) != f.val.contains(&i)));
    }
    // More folds than groups leave some empty, for the caller to refuse.
    assert!(table.folds_by_group(9, 1).iter().any(|f| f.val.is_empty()));
}

#[test]
fn a_column_of_another_name_may_serve_a_label() {
    let toy = manifest(|_| {});
    let (_keep, path) = folder("case,image,blob,fluid\na,a.nii,1,0\nb,b.nii,0,2\n");
    let columns = LabelColumns::new([("nodule", "blob")], &toy).unwrap();
    let (table, problems) = columns.read_all(&path, &toy);
    assert_eq!(table.labels, ["nodule", "fluid"]);
    assert_eq!(table.rows[0].labels, vec![Some(1.0), Some(0.0)]);
    assert!(problems.len() == 1 && problems[0].what.contains("label `fluid` is `2`"), "{problems:?}");
    let wrong = LabelColumns::new([("mass", "blob")], &toy).unwrap_err();
    assert_eq!(wrong, "`mass` is no label of toy; expected one of nodule, fluid");
    assert!(LabelColumns::new([("nodule", "fluid")], &toy).unwrap_err().contains("two labels"));
}

#[test]
fn a_class_of_another_name_may_serve_a_class() {
    let (_keep, path) = folder("case,image,class\na,a.nii,medium\nb,b.nii,low\n");
    let columns = LabelColumns::new([("mid", "medium")], &multiclass()).unwrap();
    let table = columns.open(&path, &multiclass()).unwrap();
    assert_eq!((table.rows[0].labels[1], table.labels[1].as_str()), (Some(1.0), "mid"));
}

#[test]
fn a_value_comes_back_as_the_table_said_it_whatever_the_range() {
    for (low, high, step) in
        [(0.0, 100.0, 1.0), (0.0, 10.0, 0.1), (-1000.0, 400.0, 1.0), (0.0, 3000.0, 0.5), (0.0, 1e6, 1.0)]
    {
        let manifest = manifest(|m| {
            m.task.kind = TaskKind::Regression;
            m.task.labels = vec!["v".into()];
            m.task.range = Some([low, high]);
        });
        let of = |i: i32| format!("{:.1}", low + f64::from(i) * step);
        let rows: String = (0..=100).map(|i| format!("c{i},c{i}.nii,{}\n", of(i))).collect();
        let table = open(&format!("case,image,v\n{rows}"), &manifest).unwrap();
        for (row, i) in table.rows.iter().zip(0..) {
            let expected: f64 = of(i).parse().unwrap();
            assert_eq!(table.values_of(row), [Some(expected)], "{low} to {high}");
        }
    }
}
