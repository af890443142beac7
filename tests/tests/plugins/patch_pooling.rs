//! `PatchPooling` through a loaded plugin, against its formula in plain f64 arithmetic.

use anymc3d_host::plugin::ParameterSource;
use anymc3d_host::task::{Task, TaskOptions, ViewTokens};
use anymc3d_host::task::{as_plugins_see, open_library};
use anymc3d_tests::{backbone_info, plugin_library};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

const VIEWS: [&str; 3] = ["t1", "t2", "flair"];
const GRID: (usize, usize) = (2, 3);
const CLASSES: usize = 4;

/// Numbers without a pattern, the same every time, between -1 and 1.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(next).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|x| (x - top).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Attention of `query` over rows of width d: what is pooled.
fn attended(rows: &[Vec<f64>], query: &[f64]) -> Vec<f64> {
    let d = query.len();
    let scores: Vec<f64> = rows.iter().map(|r| dot(r, query) / (d as f64).sqrt()).collect();
    let a = softmax(&scores);
    (0..d).map(|i| rows.iter().zip(&a).map(|(r, a)| r[i] * a).sum()).collect()
}

/// One view of a case: class tokens [S, d], patch tokens [S, h·w, d].
struct Case {
    name: &'static str,
    slices: usize,
    class: Vec<f32>,
    patch: Vec<f32>,
}

impl Case {
    fn rows(values: &[f32], d: usize) -> Vec<Vec<f64>> {
        values.chunks_exact(d).map(|r| r.iter().map(|v| f64::from(*v)).collect()).collect()
    }
}

/// The formula of `PatchPooling`'s documentation.
fn expected(cases: &[&Case], of: &dyn Fn(&str) -> Vec<f64>, d: usize) -> Vec<f64> {
    let root = (d as f64).sqrt();
    let linear =
        |weight: &[f64], x: &[f64]| weight.chunks_exact(d).map(|w| dot(w, x) / root).collect::<Vec<_>>();
    let pooled: Vec<Vec<f64>> =
        cases.iter().map(|c| attended(&Case::rows(&c.class, d), &of(&format!("query.{}", c.name)))).collect();
    let v = if pooled.len() == 1 { pooled[0].clone() } else { attended(&pooled, &of("query_fusion")) };
    let mut logits: Vec<f64> =
        linear(&of("head.weight"), &v).iter().zip(of("head.bias")).map(|(x, b)| x + b).collect();
    for case in cases {
        let tokens = Case::rows(&case.patch, d);
        let (weight, bias) = (of("segmentation.weight"), of("segmentation.bias")[0]);
        let scores: Vec<f64> = tokens.iter().map(|t| dot(t, &weight) + bias).collect();
        let a = softmax(&scores);
        let evidence = dot(&a, &scores) + 2.0;
        let p: Vec<f64> = (0..d).map(|i| tokens.iter().zip(&a).map(|(t, a)| t[i] * a).sum()).collect();
        let seen = linear(&of(&format!("head.patches.{}", case.name)), &p);
        let gain = of(&format!("head.evidence.{}", case.name));
        for c in 0..CLASSES {
            logits[c] += (seen[c] + gain[c] * evidence) / cases.len() as f64;
        }
    }
    logits
}

#[test]
fn logits_are_those_of_the_formula_with_any_of_the_views() {
    let library = open_library(&plugin_library("brain_mri").display().to_string()).unwrap();
    let seen = as_plugins_see(backbone_info());
    let d = seen.embed_dim;
    let build = |source| {
        let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
        Task::build(&library, &seen, source, DType::F32, &Device::Cpu, &options).unwrap()
    };
    // Every parameter a random number, those that start at 0 or 1 too.
    let names = build(ParameterSource::Training { seed: 1, start: BTreeMap::new() }).parameters();
    let mut weights = BTreeMap::new();
    for (i, (name, parameter)) in names.iter().enumerate() {
        let dims = parameter.tensor().dims().to_vec();
        let values = numbers(i as u64 + 1, dims.iter().product());
        weights.insert(name.clone(), Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
    }
    let task = build(ParameterSource::Weights(weights.clone()));
    let of = |name: &str| -> Vec<f64> {
        let flat = weights[name].flatten_all().unwrap().to_dtype(DType::F64).unwrap();
        flat.to_vec1().unwrap()
    };

    let case = |(i, name): (usize, &&'static str)| {
        let (slices, seed) = (2 + i, 100 + i as u64);
        Case {
            name,
            slices,
            class: numbers(seed, slices * d),
            patch: numbers(seed + 50, slices * GRID.0 * GRID.1 * d),
        }
    };
    let all: Vec<Case> = VIEWS.iter().enumerate().map(case).collect();
    for chosen in [vec![0, 1, 2], vec![0, 2], vec![1]] {
        let cases: Vec<&Case> = chosen.iter().map(|&i| &all[i]).collect();
        let tensors: Vec<(Tensor, Tensor)> = cases
            .iter()
            .map(|c| {
                let class = Tensor::from_slice(&c.class, (c.slices, d), &Device::Cpu).unwrap();
                let dims = (c.slices, GRID.0 * GRID.1, d);
                (class, Tensor::from_slice(&c.patch, dims, &Device::Cpu).unwrap())
            })
            .collect();
        let views: Vec<ViewTokens<'_>> = cases
            .iter()
            .zip(&tensors)
            .map(|(c, (class_tokens, patch_tokens))| ViewTokens {
                name: c.name,
                class_tokens,
                patch_tokens,
                grid: GRID,
                geometry: None,
                mask: Default::default(),
            })
            .collect();
        let found: Vec<f32> = task.head(&views).unwrap().logits.to_vec1().unwrap();
        let theirs = expected(&cases, &of, d);
        for (ours, theirs) in found.iter().zip(&theirs) {
            let off = (f64::from(*ours) - theirs).abs();
            assert!(off < 1e-3 * (1.0 + theirs.abs()), "{chosen:?}: {found:?}, expected {theirs:?}");
        }
    }
}
