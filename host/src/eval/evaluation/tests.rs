//! What an evaluation says of made-up cases whose figures are known.

use super::*;
use crate::eval::predictions::ScoredCase;
use std::path::PathBuf;

fn made(n: usize, per_patient: usize, labels: Vec<ScoredLabel>) -> Predictions {
    let case = |i: usize| ScoredCase {
        group: None,
        case: format!("c{i}"),
        patient: Some(format!("p{}", i / per_patient)),
        fold: None,
        line: i as u64 + 2,
    };
    Predictions {
        path: PathBuf::from("a.csv"),
        cases: (0..n).map(case).collect(),
        labels,
        ignored: vec![],
        notes: vec![],
    }
}

fn binary(name: &str, truth: &[Option<bool>], p: &[f64]) -> ScoredLabel {
    let scores = Scores::Binary { truth: truth.to_vec(), probabilities: p.to_vec() };
    ScoredLabel { name: name.into(), scores }
}

fn classes(truth: &[Option<usize>], p: &[[f64; 3]]) -> ScoredLabel {
    let scores = Scores::Classes {
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        truth: truth.to_vec(),
        probabilities: p.iter().map(|row| row.to_vec()).collect(),
    };
    ScoredLabel { name: "grade".into(), scores }
}

fn of(predictions: &Predictions, draws: usize) -> Evaluation {
    let source = Source::Predictions {
        predictions: "a.csv".into(),
        sha256: String::new(),
        data: None,
        data_sha256: None,
    };
    let asked = questions(predictions, &vec![0.5; predictions.labels.len()]);
    evaluate(predictions, &asked, Bootstrap { draws, seed: 1 }, source)
}

#[test]
fn unknown_labels_are_left_out_of_their_label_and_one_class_alone_is_null() {
    let truth = [Some(true), None, Some(false), Some(true)];
    let alone = [Some(true), None, None, None];
    let p = [0.9, 0.1, 0.4, 0.3];
    let found = of(&made(4, 1, vec![binary("z", &truth, &p), binary("a", &alone, &p)]), 0);
    let json = serde_json::to_string(&found).unwrap();
    // In the order of the columns, not of the alphabet.
    assert!(json.find("\"z\":").unwrap() < json.find("\"a\":").unwrap(), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["cases"].as_u64(), json["patients"].as_u64()), (Some(4), Some(4)));
    assert_eq!(
        (json["labels"]["z"]["n"].as_u64(), json["labels"]["z"]["auroc"].as_f64()),
        (Some(3), Some(0.5))
    );
    assert!(json["labels"]["a"]["auroc"].is_null() && json["labels"]["a"]["specificity"].is_null());
    assert_eq!(json["macro_auroc"].as_f64(), Some(0.5));
    // Both means are of the same labels, and say which they leave out.
    assert_eq!(json["macro_average_precision"], json["labels"]["z"]["average_precision"]);
    assert_eq!(json["macro_left_out"], serde_json::json!(["a"]));
    assert!(json.get("bootstrap").is_none() && json["labels"]["z"].get("bootstrap_ci95").is_none());
}

#[test]
fn a_multi_class_label_has_its_classes_and_itself_as_a_whole() {
    let truth = [Some(0), Some(1), Some(2), Some(0), None];
    let p = [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]];
    let found = of(&made(5, 1, vec![classes(&truth, &p)]), 50);
    assert_eq!(
        found.labels.iter().map(|l| l.0.as_str()).collect::<Vec<_>>(),
        ["grade.a", "grade.b", "grade.c"]
    );
    let (name, whole) = &found.multiclass[0];
    assert_eq!((name.as_str(), whole.n, whole.accuracy), ("grade", 4, Some(0.75)));
    assert_eq!(whole.confusion, [[2, 0, 0], [0, 1, 0], [1, 0, 0]]);
    assert!((whole.balanced_accuracy.unwrap() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(whole.macro_auroc, found.macro_auroc);
    // scikit-learn's brier_score_loss(scale_by_half=False): (0.06 + 0.14 + 0.98 + 0.26) / 4
    assert!((whole.brier.unwrap() - 0.36).abs() < 1e-12, "{:?}", whole.brier);
    let a = &found.labels[0].1.metrics;
    assert_eq!((a.threshold, a.sensitivity, a.specificity), (None, Some(1.0), Some(0.5)));
    assert!(whole.accuracy_bootstrap_ci95.is_some());
}

#[test]
fn intervals_are_of_patients_and_not_of_cases() {
    // Twenty cases of each patient say what one of them says.
    let n = 20 * 20;
    let truth: Vec<Option<bool>> = (0..n).map(|i| Some((i / 20) % 2 == 0)).collect();
    let p: Vec<f64> = (0..n).map(|i| ((i / 20) * 13 % 20) as f64 / 20.0).collect();
    let width = |per_patient: usize| {
        let found = of(&made(n, per_patient, vec![binary("x", &truth, &p)]), 300);
        let [low, high] = found.labels[0].1.bootstrap_ci95.unwrap().auroc.unwrap();
        assert_eq!(found.macro_auroc_bootstrap_ci95, Some([low, high]));
        high - low
    };
    assert!(width(20) > 3.0 * width(1), "{} and {}", width(20), width(1));
}

#[test]
fn a_comparison_finds_its_cases_in_any_order() {
    let truth = [Some(true), Some(false), Some(true), Some(false), Some(true), None];
    let (x, y) = ([0.9, 0.2, 0.7, 0.4, 0.6, 0.1], [0.9, 0.3, 0.2, 0.4, 0.6, 0.5]);
    let a = made(6, 1, vec![binary("x", &truth, &x)]);
    let straight = made(6, 1, vec![binary("x", &truth, &y)]);
    let turned = |v: &[f64]| v.iter().rev().copied().collect::<Vec<_>>();
    let mut b = made(6, 1, vec![binary("x", &truth.iter().rev().copied().collect::<Vec<_>>(), &turned(&y))]);
    b.cases.reverse();
    let b = same_cases(&a, &b).unwrap();
    assert_eq!(b.labels, straight.labels);
    let [(name, found)] = compare(&a, &b).try_into().unwrap();
    assert_eq!((name.as_str(), found.auroc_a, found.auroc_b), ("x", Some(1.0), Some(4.0 / 6.0)));
    assert!(found.z.unwrap() > 0.0 && found.p_value.unwrap() < 1.0);
    let same = compare(&a, &a)[0].1;
    assert_eq!((same.z, same.p_value), (Some(0.0), Some(1.0)));
}

#[test]
fn the_first_difference_of_two_files_is_named() {
    let truth = [Some(true), Some(false)];
    let a = made(2, 1, vec![binary("x", &truth, &[0.9, 0.2])]);
    let mut b = a.clone();
    b.path = "b.csv".into();
    b.labels[0].name = "y".into();
    let said = same_cases(&a, &b).unwrap_err();
    assert!(said.contains("label `x` is in a.csv and not in b.csv"), "{said}");
    b = a.clone();
    b.path = "b.csv".into();
    b.cases[1].case = "other".into();
    let said = same_cases(&a, &b).unwrap_err();
    assert!(said.contains("case `c1` is on line 3 of a.csv and not in b.csv"), "{said}");
    b.cases[1].case = "c1".into();
    b.labels = vec![binary("x", &[Some(true), None], &[0.9, 0.2])];
    let said = same_cases(&a, &b).unwrap_err();
    assert!(
        said.contains("case `c1`: label `x` is 0 on line 3 of a.csv and unknown on line 3 of b.csv"),
        "{said}"
    );
}

/// Five folds that rank alike on scales of their own.
fn cross_validated() -> Predictions {
    let n = 100;
    let truth: Vec<Option<bool>> = (0..n).map(|i| Some(i % 10 < 4)).collect();
    let p: Vec<f64> = (0..n)
        .map(|i| {
            let noise = (i * 37 % 23) as f64 / 23.0;
            (0.35 * f64::from(u8::from(truth[i] == Some(true))) + 0.65 * noise)
                * [0.1, 0.3, 0.5, 0.8, 1.0][i / 20]
        })
        .collect();
    let mut all = made(n, 1, vec![binary("x", &truth, &p)]);
    all.cases.iter_mut().enumerate().for_each(|(i, case)| case.fold = Some((i / 20).to_string()));
    all
}

#[test]
fn cases_of_several_folds_are_ranked_within_their_folds() {
    let all = cross_validated();
    let x = of(&all, 100).labels.remove(0).1;
    let (area, pooled) = (x.metrics.auroc.unwrap(), x.metrics.auroc_pooled.unwrap());
    assert!(x.metrics.folds == Some(5) && area > pooled + 0.1, "{area} and {pooled}");
    let [low, high] = x.metrics.auroc_ci95.unwrap();
    let [drawn_low, drawn_high] = x.bootstrap_ci95.unwrap().auroc.unwrap();
    assert!(low < area && area < high && drawn_low < area && area < drawn_high);
    // Bootstrap and DeLong agree on how much is not known.
    assert!(((drawn_high - drawn_low) / (high - low) - 1.0).abs() < 0.3);
    let mut one_model = all;
    one_model.cases.iter_mut().for_each(|case| case.fold = None);
    let x = of(&one_model, 0).labels.remove(0).1.metrics;
    assert_eq!((x.auroc, x.folds, x.auroc_pooled), (Some(pooled), None, None));
}

#[test]
fn a_comparison_is_within_folds_and_refuses_other_folds() {
    let a = cross_validated();
    let mut b = a.clone();
    b.path = "b.csv".into();
    let Scores::Binary { probabilities, .. } = &mut b.labels[0].scores else { unreachable!() };
    // Another scale in each fold, the same order: no difference between the models.
    probabilities.iter_mut().enumerate().for_each(|(i, p)| *p *= 0.2 + 0.1 * (i / 20) as f64);
    let found = compare(&a, &same_cases(&a, &b).unwrap())[0].1;
    assert_eq!((found.z, found.p_value, found.folds), (Some(0.0), Some(1.0), Some(5)));
    assert_eq!(found.auroc_a, found.auroc_b);
    // The folds of one file are enough.
    b.cases.iter_mut().for_each(|case| case.fold = None);
    assert_eq!(compare(&a, &same_cases(&a, &b).unwrap())[0].1, found);
    b.cases.iter_mut().for_each(|case| case.fold = Some("0".into()));
    let said = same_cases(&a, &b).unwrap_err();
    assert!(
        said.contains("case `c20` is of fold 1 on line 22 of a.csv and of fold 0 on line 22 of b.csv"),
        "{said}"
    );
}
