//! The command's figures against scikit-learn and DeLong's definition (`metrics.json` of the fixtures).

use super::{host, measured, metrics, text};
use anymc3d_tests::{fixtures, required};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(found: &Value, expected: &Value, tolerance: f64) {
    let difference = found.as_f64().unwrap() - expected.as_f64().unwrap();
    assert!(difference.abs() <= tolerance, "{found} is not {expected}");
}

/// `case,a,p_a` of one label.
fn scores(labels: &Value, p: &Value) -> String {
    let mut csv = String::from("case,a,p_a\n");
    for (i, (y, p)) in numbers(labels).iter().zip(numbers(p)).enumerate() {
        writeln!(csv, "c{i},{y},{p}").unwrap();
    }
    csv
}

#[test]
fn parity_of_the_command_with_scikit_learn() {
    let Some(path) = required(fixtures(), "metrics.json") else { return };
    let all: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for case in all["binary"].as_object().unwrap().values() {
        let (folder, ran) = measured(&scores(&case["labels"], &case["probabilities"]), &["--bootstrap", "0"]);
        assert_eq!(ran.code, 0, "{ran:#?}");
        let found = &metrics(&folder.path().join("out"))["labels"]["a"];
        let same =
            ["auroc", "average_precision", "brier", "sensitivity", "specificity", "f1", "balanced_accuracy"];
        same.into_iter().for_each(|figure| close(&found[figure], &case[figure], 1e-9));
        close(&found["ece"], &case["ece_15_equal_width"], 1e-9);
        (0..2).for_each(|i| close(&found["auroc_ci95"][i], &case["delong_ci95"][i], 1e-6));
    }

    let case = &all["multiclass"];
    let rows: Vec<Vec<f64>> = case["probabilities"].as_array().unwrap().iter().map(numbers).collect();
    let classes: Vec<String> = (0..rows[0].len()).map(|c| format!("k{c}")).collect();
    let mut csv = format!(
        "case,grade,{}\n",
        classes.iter().map(|c| format!("p_grade.{c}")).collect::<Vec<_>>().join(",")
    );
    for (i, (y, row)) in numbers(&case["labels"]).iter().zip(&rows).enumerate() {
        let row: Vec<String> = row.iter().map(f64::to_string).collect();
        writeln!(csv, "c{i},k{y},{}", row.join(",")).unwrap();
    }
    let (folder, ran) = measured(&csv, &["--bootstrap", "20"]);
    assert!(ran.code == 0 && ran.out.contains("grade: accuracy"), "{ran:#?}");
    let found = metrics(&folder.path().join("out"));
    close(&found["macro_auroc"], &case["macro_auroc_one_vs_rest"], 1e-9);
    for figure in ["accuracy", "balanced_accuracy"] {
        close(&found["multiclass"]["grade"][figure], &case[figure], 1e-9);
    }

    let case = &all["multilabel_with_unknowns"];
    let mut csv = String::from("case,a,b,c,p_a,p_b,p_c\n");
    let rows = case["labels"].as_array().unwrap().iter().zip(case["probabilities"].as_array().unwrap());
    for (i, (y, p)) in rows.enumerate() {
        let y: Vec<String> = y
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().map_or(String::new(), |v| v.to_string()))
            .collect();
        let p: Vec<String> = numbers(p).iter().map(f64::to_string).collect();
        writeln!(csv, "c{i},{},{}", y.join(","), p.join(",")).unwrap();
    }
    let (folder, ran) = measured(&csv, &["--bootstrap", "0"]);
    assert_eq!(ran.code, 0, "{ran:#?}");
    let found = metrics(&folder.path().join("out"));
    for (i, label) in ["a", "b", "c"].into_iter().enumerate() {
        close(&found["labels"][label]["auroc"], &case["auroc"][i], 1e-9);
    }
    close(&found["macro_auroc"], &case["macro_auroc"], 1e-9);
}

#[test]
fn parity_of_two_models_compared() {
    let Some(path) = required(fixtures(), "metrics.json") else { return };
    let all: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let case = &all["paired_delong"];
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|model| {
        let file = folder.path().join(format!("{model}.csv"));
        fs::write(&file, scores(&case["labels"], &case[model])).unwrap();
        text(file)
    });
    let ran = host(&["eval", "--compare", &a, &b, "--json"]);
    assert!(ran.code == 0 && ran.err.is_empty(), "{ran:#?}");
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    for figure in ["auroc_a", "auroc_b", "z", "p_value"] {
        close(&found["a"][figure], &case[figure], 1e-9);
    }
}
