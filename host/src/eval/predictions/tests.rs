//! What a predictions file must give, and what it must refuse by name, line and column.

use super::*;

fn open(csv: &str) -> Result<Predictions, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.csv");
    std::fs::write(&path, csv).unwrap();
    Predictions::open(&path).map_err(|e| e.to_string().replace(&path.display().to_string(), "P"))
}

#[test]
fn labels_probabilities_patients_and_classes_are_read() {
    let csv = "\u{feff}case,patient, a ,grade,p_a,p_grade.low,p_grade.very.high,site\nx,p1,1,low,0.9,0.7,0.3,north\ny,,,very.high,1e-3,0.2,0.8,\nz,p1,0.0,,0,1,0,south\n";
    let read = open(csv).unwrap();
    assert_eq!(read.ignored, ["site"]);
    assert_eq!(read.patients(), (vec![0, 1, 0], 2));
    assert_eq!(
        read.cases[1],
        ScoredCase { case: "y".into(), patient: None, fold: None, group: None, line: 3 }
    );
    let [a, grade] = read.labels.as_slice() else { panic!("two labels") };
    assert_eq!(
        a.scores,
        Scores::Binary { truth: vec![Some(true), None, Some(false)], probabilities: vec![0.9, 1e-3, 0.0] }
    );
    assert_eq!(
        grade.scores,
        Scores::Classes {
            classes: vec!["low".into(), "very.high".into()],
            truth: vec![Some(0), Some(1), None],
            probabilities: vec![vec![0.7, 0.3], vec![0.2, 0.8], vec![1.0, 0.0]],
        }
    );
}

#[test]
fn a_percentile_of_0_or_1_that_a_batch_tells_of_its_cases_is_no_label() {
    let told = open(
        "case,a,p_a,novelty,novelty_distance,p/novelty_percentile\nx,1,0.9,inside,1,0\ny,0,0.2,inside,1,1\n",
    );
    let read = told.unwrap();
    assert_eq!((read.labels.len(), read.ignored.len()), (1, 3), "{read:?}");
    assert!(open("case,a,p_a,b\nx,1,0.9,0\ny,0,0.2,1\n").unwrap_err().contains("column `b` holds 0 and 1"));
}

#[test]
fn what_is_written_reads_back_to_the_last_digit() {
    let p: Vec<f64> = vec![0.1 + 0.2, 1.0 / 3.0, 5e-324, 1.0, 0.0, f64::EPSILON];
    let cases: Vec<ScoredCase> = (0..6)
        .map(|i| ScoredCase {
            group: None,
            case: format!("c, {i}"),
            patient: (i > 2).then(|| "q\"".into()),
            fold: Some(format!("{}", i % 2)),
            line: i + 2,
        })
        .collect();
    let scores =
        Scores::Binary { truth: vec![Some(true), None, Some(false), None, None, None], probabilities: p };
    let classes = Scores::Classes {
        classes: vec!["low".into(), "high".into()],
        truth: vec![Some(1), None, Some(0), None, None, None],
        probabilities: (0..6).map(|i| vec![f64::from(i) / 7.0, 1.0 - f64::from(i) / 7.0]).collect(),
    };
    let labels = vec![
        ScoredLabel { name: "p_wave".into(), scores },
        ScoredLabel { name: "class".into(), scores: classes },
    ];
    let said = Predictions { path: PathBuf::new(), cases, labels, ignored: vec![], notes: vec![] };
    let text = String::from_utf8(said.csv()).unwrap();
    assert!(text.starts_with("case,patient,fold,p_wave,class,p_p_wave,p_class.low,p_class.high\n"), "{text}");
    let back = open(&text).unwrap();
    assert_eq!((&back.cases, &back.labels), (&said.cases, &said.labels));
    assert_eq!(String::from_utf8(back.csv()).unwrap(), text);
}

#[test]
fn every_problem_is_named_with_line_and_column_in_one_message() {
    let message =
        open("case,a,b,p_a,p_b\nx,1,0,1.2,0.1\nx,2,,NaN,0.1\n,0,yes,-0.1,\ny,1,1,inf,0.2\n").unwrap_err();
    for part in [
        "line 2: case `x`: `p_a` is `1.2`; expected a probability, 0 to 1",
        "line 3: case `x` is already on line 2",
        "line 3: case `x`: label `a` is `2`; expected 0, 1 or nothing (unknown)",
        "line 3: case `x`: `p_a` is `NaN`; expected a probability",
        "line 4: column `case` is empty",
        "line 4: case ``: `p_b` is empty; expected a probability",
        "line 4: case ``: label `b` is `yes`",
        "line 5: case `y`: `p_a` is `inf`",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn columns_that_do_not_pair_are_named_with_what_was_found() {
    let error = |csv: &str| open(csv).unwrap_err();
    assert_eq!(error("name,a,p_a\nx,1,0.5\n"), "P: line 1: no column `case`; found `name,a,p_a`");
    assert_eq!(error("case,a\nx,1\n"), "P: line 1: no column `p_LABEL` with a probability; found `case,a`");
    assert_eq!(
        error("case,p_a\nx,1\n"),
        "P: line 1: column `p_a`, but no column `a` with its label; found `case,p_a`"
    );
    assert!(error("case,a,b,p_a\nx,1,0,0.5\n").contains("there is no column `p_b`"));
    assert!(error("case,a,p_a,a\nx,1,0.5,1\n").contains("two columns are called `a`"));
    assert!(error("case,g,p_g.low\nx,low,0.5\n").contains("class `low` is the only one"));
    assert!(error("case,g,p_g,p_g.low\nx,1,0.5,1\n").contains("one label or several classes?"));
    assert_eq!(
        error("case,g,p_g.low,p_g.high\nx,mid,0.5,0.5\n"),
        "P: line 2: case `x`: class `g` is `mid`; expected one of low, high, or nothing (unknown)"
    );
}

#[test]
fn a_ragged_line_no_case_no_known_label_and_no_file_are_refused() {
    assert_eq!(open("case,a,p_a\nx,1\n").unwrap_err(), "P: line 2: 2 fields where the header has 3");
    assert!(open("case,a,p_a\n").unwrap_err().contains("no case; expected one line per case"));
    assert!(open("case,a,p_a\nx,,0.5\n").unwrap_err().contains("no known label in 1 cases"));
    let gone = Predictions::open("/nowhere/p.csv").unwrap_err().to_string();
    assert!(gone.starts_with("/nowhere/p.csv: cannot be read:"), "{gone}");
}

#[test]
fn a_class_asks_whether_it_is_the_most_probable_one() {
    let read = open("case,g,p_g.a,p_g.b,p_g.c\nx,a,0.4,0.3,0.3\ny,b,0.4,0.4,0.2\nz,,1,0,0\n").unwrap();
    let questions = read.labels[0].questions(0.5);
    assert_eq!(questions.iter().map(|q| q.name.as_str()).collect::<Vec<_>>(), ["g.a", "g.b", "g.c"]);
    assert_eq!((questions[0].cases.clone(), questions[0].threshold), (vec![0, 1], None));
    assert_eq!(questions[0].positive, [true, true]);
    assert_eq!(
        (questions[1].truth.clone(), questions[1].positive.clone()),
        (vec![false, true], vec![false; 2])
    );
}

#[test]
fn class_probabilities_that_do_not_sum_to_one_are_refused_with_their_row() {
    let table = |row: &str| open(&format!("case,g,p_g.low,p_g.mid,p_g.high\nx,low,0.5,0.25,0.25\n{row}\n"));
    for (row, sum) in
        [("y,mid,0.9,0.8,0.7", "2.4000"), ("y,mid,0.2,0.2,0.2", "0.6000"), ("y,,0,0,0", "0.0000")]
    {
        let message = table(row).unwrap_err();
        let expected =
            format!("P: line 3: case `y`: the probabilities of the classes of `g` sum to {sum}; expected 1");
        assert!(message.starts_with(&expected), "{message}");
    }
    // Three digits of each class.
    assert!(table("y,mid,0.333,0.333,0.333").is_ok());
    // What is no probability is the row's only problem.
    assert!(!table("y,mid,0.9,0.8,x").unwrap_err().contains("sum to"));
}

#[test]
fn a_fold_column_says_whose_model_scored_a_case_and_is_whole_or_absent() {
    let read = open("case,fold,a,p_a\nx,0,1,0.5\ny,1,0,0.5\nz,0,0,0.1\n").unwrap();
    assert_eq!((read.folds(), read.ignored.len()), (Some(vec![0, 1, 0]), 0));
    assert_eq!(open("case,fold,a,p_a\nx,1,1,0.5\ny,1,0,0.5\n").unwrap().folds(), None);
    assert_eq!(
        open("case,fold,a,p_a\nx,0,1,0.5\ny,,0,0.5\n").unwrap_err(),
        "P: line 3: case `y`: column `fold` is empty; expected the fold of every case, or of none"
    );
    // A label of this name is a label.
    let read = open("case,fold,p_fold\nx,0,0.5\ny,1,0.5\n").unwrap();
    assert_eq!((read.folds(), read.labels[0].name.as_str()), (None, "fold"));
}

fn open_as(csv: &str, names: &str, data: Option<&str>) -> Result<Predictions, String> {
    let folder = tempfile::tempdir().unwrap();
    let [path, table] = ["p.csv", "t.csv"].map(|name| folder.path().join(name));
    std::fs::write(&path, csv).unwrap();
    std::fs::write(&table, data.unwrap_or_default()).unwrap();
    let names = if names.is_empty() { ColumnNames::default() } else { names.parse()? };
    let read = Predictions::open_as(&path, &names, data.map(|_| table.as_path()));
    read.map_err(|e| e.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn columns_of_another_program_are_read_under_their_names() {
    let read = open_as("ID;case;y;p\nx;old;1;0,9\nz;old;0;0,2\n", "case=ID,truth=y,score=p", None).unwrap();
    assert_eq!(read.cases[1].case, "z");
    assert_eq!(read.labels, open("case,y,p_y\nx,1,0.9\nz,0,0.2\n").unwrap().labels);
    let said = open_as("ID,y,p\nx,1,0.9\n", "case=Id,truth=y,score=p", None).unwrap_err();
    assert!(said.contains("no column `Id`, which --columns names; found `ID,y,p`"), "{said}");
    for (names, says) in
        [("case", "expected ROLE=COLUMN"), ("truth=y", "belong together"), ("case=a,case=b", "twice")]
    {
        assert!(names.parse::<ColumnNames>().unwrap_err().contains(says), "{names}");
    }
}

#[test]
fn truth_and_patients_may_stand_in_a_data_table() {
    let table = "case,image,nodule,class,patient\na,a.nii,1,low,p1\nb,b.nii,0,high,p1\nc,c.nii,0,low,p2\n";
    let read = open_as("case,p_nodule\nb,0.3\na,0.8\n", "", Some(table)).unwrap();
    assert_eq!(read.patients(), (vec![0, 0], 1));
    assert_eq!(read.labels, open("case,nodule,p_nodule\nb,0,0.3\na,1,0.8\n").unwrap().labels);
    assert_eq!(read.notes.len(), 1);
    assert!(
        read.notes[0].starts_with("1 cases of ")
            && read.notes[0].ends_with("have no score and are not measured")
    );
    let read = open_as("id,s\na,0.3\n", "case=id,truth=nodule,score=s", Some(table)).unwrap();
    assert_eq!(read.labels[0].name, "nodule");
    let read = open_as("case,p_class.low,p_class.high\na,0.3,0.7\n", "", Some(table)).unwrap();
    assert_eq!(read.labels[0].scores.known(), 1);
    let said = open_as("case,p_nodule\nd,0.3\n", "", Some(table)).unwrap_err();
    assert!(said.starts_with("p.csv: line 2: case `d` is not in t.csv"), "{said}");
    let said = open_as("case,nodule,p_nodule\na,0,0.3\n", "", Some(table)).unwrap_err();
    assert!(said.contains("case `a`: `nodule` is `0` here and `1` in t.csv"), "{said}");
}

#[test]
fn logits_become_probabilities_and_are_told() {
    let read = open("case,a,p_a\nx,1,2.5\ny,0,-3\nz,1,0\n").unwrap();
    let Scores::Binary { probabilities, .. } = &read.labels[0].scores else { unreachable!() };
    assert_eq!((probabilities[2], probabilities[0]), (0.5, 1.0 / (1.0 + (-2.5f64).exp())));
    assert_eq!(read.notes, ["`p_a` holds logits (-3 to 2.5), not probabilities: their sigmoid is measured"]);
    let read = open("case,g,p_g.a,p_g.b\nx,a,2,-1\ny,b,-2,1\n").unwrap();
    let Scores::Classes { probabilities, .. } = &read.labels[0].scores else { unreachable!() };
    assert!((probabilities[0][0] - 1.0 / (1.0 + (-3.0f64).exp())).abs() < 1e-12);
    assert!(read.notes[0].contains("their softmax is measured"), "{:?}", read.notes);
    // One slip among probabilities is a slip.
    assert!(
        open("case,a,p_a\nx,1,0.5\ny,0,-3\nz,1,0.1\nu,1,0.2\nv,1,0.3\n")
            .unwrap_err()
            .contains("`p_a` is `-3`")
    );
    assert!(open("case,a,p_a\nx,1,80\ny,0,3\n").unwrap_err().contains("seems to be in percent"));
}
