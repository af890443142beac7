//! Where training cases lie against scikit-learn's probabilistic PCA (`reference.json`, made by `make_reference.py`).

use anymc3d_host::train::{CaseVector, fit_reference};
use serde_json::Value;
use std::path::Path;

fn fixture() -> Value {
    let given = std::env::var_os("ANYMC3D_FIXTURES").map(|given| anymc3d_tests::workspace().join(given));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let path = given.unwrap_or(here).join("reference.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn vector(v: &Value) -> Vec<f32> {
    numbers(v).into_iter().map(|x| x as f32).collect()
}

#[track_caller]
fn near(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let off = (f64::from(*found) - expected).abs();
        assert!(off <= tolerance * expected.abs().max(1.0), "{what}: {found} is not {expected}");
    }
}

#[test]
fn distances_and_quantiles_of_training_cases_in_parity_with_scikit_learn() {
    let all = fixture();
    let patients = all["patients"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned());
    let vectors = all["vectors"].as_array().unwrap().iter().map(vector);
    let cases: Vec<CaseVector> =
        patients.zip(vectors).map(|(patient, vector)| CaseVector { patient, vector }).collect();
    let reference = fit_reference("axial", Some(8), &cases).unwrap().unwrap();
    near("mean", &reference.mean, &numbers(&all["mean"]), 1e-6);
    near("variances", &reference.variances, &numbers(&all["variances"]), 1e-5);
    near("residual", &[reference.residual_variance], &[all["residual_variance"].as_f64().unwrap()], 1e-6);
    for (found, expected) in reference.directions.iter().zip(all["directions"].as_array().unwrap()) {
        let along: f64 = found.iter().zip(numbers(expected)).map(|(a, b)| f64::from(*a) * b).sum();
        assert!((along.abs() - 1.0).abs() < 1e-5, "{along}");
    }
    near("quantiles", &reference.quantiles, &numbers(&all["quantiles"]), 1e-4);
    let others = all["others"].as_array().unwrap().iter().map(|x| reference.distance(&vector(x)) as f32);
    near("distances", &others.collect::<Vec<_>>(), &numbers(&all["distances"]), 1e-4);
}
