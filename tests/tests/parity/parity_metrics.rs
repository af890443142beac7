//! Metrics against scikit-learn and DeLong's definition (`metrics.json`, made by `make_metrics.py`).

use anymc3d_host::eval::metrics::{
    LabelMetrics, accuracy, auroc, balanced_accuracy, fold_auroc, fold_average_precision, known, macro_auroc,
    one_vs_rest, paired_delong, youden_threshold,
};
use serde_json::Value;
use std::path::Path;

/// The fixture; `None`, with a note, where the variable is unset and the default place lacks it.
fn fixture() -> Option<Value> {
    let told = std::env::var_os("ANYMC3D_FIXTURES").map(|given| anymc3d_tests::workspace().join(given));
    let folder = told.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"));
    let path = folder.join("metrics.json");
    if !path.exists() {
        assert!(told.is_none(), "{}: missing, and ANYMC3D_FIXTURES says to read it", path.display());
        println!("skipped: {} is missing; set ANYMC3D_FIXTURES to the folder that has it", path.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn truths(v: &Value) -> Vec<bool> {
    numbers(v).into_iter().map(|x| x > 0.5).collect()
}

#[track_caller]
fn close(found: Option<f64>, expected: &Value, tolerance: f64) {
    let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn binary_metrics_in_parity_with_scikit_learn() {
    let Some(all) = fixture() else { return };
    for (name, case) in all["binary"].as_object().unwrap() {
        println!("{name}");
        let (y, p) = (truths(&case["labels"]), numbers(&case["probabilities"]));
        let m = LabelMetrics::of(&y, &p, case["threshold"].as_f64().unwrap());
        close(m.auroc, &case["auroc"], 1e-9);
        close(auroc(&y, &p).unwrap().variance, &case["delong_variance"], 1e-9);
        close(m.auroc_ci95.map(|c| c[0]), &case["delong_ci95"][0], 1e-6);
        close(m.auroc_ci95.map(|c| c[1]), &case["delong_ci95"][1], 1e-6);
        close(m.average_precision, &case["average_precision"], 1e-9);
        close(m.brier, &case["brier"], 1e-9);
        close(m.ece, &case["ece_15_equal_width"], 1e-9);
        close(m.sensitivity, &case["sensitivity"], 1e-9);
        close(m.specificity, &case["specificity"], 1e-9);
        close(m.f1, &case["f1"], 1e-9);
        close(m.balanced_accuracy, &case["balanced_accuracy"], 1e-9);
        close(youden_threshold(&y, &p), &case["youden_threshold"], 1e-9);
    }
}

#[test]
fn paired_delong_in_parity_with_its_definition() {
    let Some(all) = fixture() else { return };
    let case = &all["paired_delong"];
    let test = paired_delong(&truths(&case["labels"]), &numbers(&case["a"]), &numbers(&case["b"])).unwrap();
    close(Some(test.auroc_a), &case["auroc_a"], 1e-9);
    close(Some(test.auroc_b), &case["auroc_b"], 1e-9);
    close(Some(test.z), &case["z"], 1e-9);
    close(Some(test.p_value), &case["p_value"], 1e-9);
}

#[test]
fn multiclass_metrics_in_parity_with_scikit_learn() {
    let Some(all) = fixture() else { return };
    let case = &all["multiclass"];
    let y: Vec<usize> = numbers(&case["labels"]).into_iter().map(|x| x as usize).collect();
    let p: Vec<Vec<f64>> = case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
    close(macro_auroc(&one_vs_rest(&y, &p)), &case["macro_auroc_one_vs_rest"], 1e-9);
    close(accuracy(&y, &p), &case["accuracy"], 1e-9);
    close(balanced_accuracy(&y, &p), &case["balanced_accuracy"], 1e-9);
}

#[test]
fn unknown_labels_in_parity_are_left_out() {
    let Some(all) = fixture() else { return };
    let case = &all["multilabel_with_unknowns"];
    let labels = case["labels"].as_array().unwrap();
    let probabilities: Vec<Vec<f64>> =
        case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
    let mut areas = Vec::new();
    for label in 0..3 {
        let y: Vec<Option<f32>> = labels.iter().map(|row| row[label].as_f64().map(|x| x as f32)).collect();
        let p: Vec<f64> = probabilities.iter().map(|row| row[label]).collect();
        let (y, p) = known(&y, &p);
        areas.push(auroc(&y, &p));
        close(areas[label].map(|a| a.value), &case["auroc"][label], 1e-9);
    }
    close(macro_auroc(&areas), &case["macro_auroc"], 1e-9);
}

#[test]
fn fold_auroc_in_parity_with_the_influence_curves_of_cv_auc() {
    // Numbers of the repository's own: `make_folds.py`.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join("folds.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for (name, most) in [("large", 0.01), ("small", 0.08)] {
        let case = &all[name];
        let (y, p) = (truths(&case["labels"]), numbers(&case["probabilities"]));
        let folds: Vec<usize> = numbers(&case["folds"]).into_iter().map(|f| f as usize).collect();
        let found = fold_auroc(&y, &p, &folds).unwrap();
        close(Some(found.area.value), &case["cv_auc"], 1e-9);
        close(fold_average_precision(&y, &p, &folds), &case["average_precision"], 1e-9);
        close(auroc(&y, &p).map(|a| a.value), &case["pooled"], 1e-9);
        // DeLong divides by n - 1 where influence curves divide by n.
        let ratio = found.area.variance.unwrap().sqrt() / case["cv_auc_se"].as_f64().unwrap();
        assert!(ratio > 1.0 && ratio < 1.0 + most, "{name}: {ratio}");
    }
}
