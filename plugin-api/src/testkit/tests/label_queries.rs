//! One query per label: its formula, views that are missing, and what `--fusion` makes of it.

use crate::prelude::*;
use crate::testkit::{TestHost, check};

struct Queries;

impl TaskPlugin for Queries {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }
    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        LabelQueryPooling::new(build).boxed()
    }
}

fn manifest(views: &[&str]) -> String {
    let mut text = "schema = 1\n[plugin]\nname = \"probe\"\nversion = \"0.1.0\"\nsummary = \"A probe.\"\n\
         license = \"Apache-2.0\"\nintended_use = \"Tests.\"\n[task]\nkind = \"multilabel\"\nlabels = [\"a\", \"b\", \"c\"]\n\
         loss = { kind = \"focal\" }\npermutation_invariant = true\n[backbone]\nfamilies = [\"dinov2\"]\n"
        .to_owned();
    for name in views {
        text += &format!(
            "[[view]]\nname = \"{name}\"\nmodality = \"CT\"\naxis = \"axial\"\nslices = 4\nsize = [56, 56]\nrequired = false\n\
             intensity = {{ kind = \"window\", windows = [[-1000, 400]] }}\n"
        );
    }
    text
}

#[test]
fn a_head_with_a_query_per_label_passes_all_that_a_host_checks() {
    check(Queries, &manifest(&["axial"])).assert();
    check(Queries, &manifest(&["axial", "coronal"])).assert();
}

#[test]
fn each_label_pools_the_slices_by_its_own_query() {
    let task = TestHost::dinov2_small().task(Queries, &manifest(&["axial"])).unwrap();
    let context = task.context();
    let fill = |name: &str, scale: f32| {
        let n = context.parameters()[name].values.len();
        let values: Vec<f32> = (0..n).map(|i| scale * ((i * 37 % 101) as f32 - 50.0)).collect();
        context.set(name, &values).unwrap();
        values
    };
    let (q, w) = (fill("queries", 0.02), fill("head.weight", 0.001));
    let b = fill("head.bias", 0.01);
    let views = task.views(5, [2, 2], "a case").unwrap();
    let found = task.head(&views).unwrap();
    let (h, d) = (views[0].class_tokens.to_vec().unwrap(), 384);
    let row = |values: &[f32], i: usize| values[i * d..(i + 1) * d].to_vec();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let mut mean = [0.0; 5];
    for (label, bias) in b.iter().enumerate() {
        let scores: Vec<f64> =
            (0..5).map(|s| (dot(&row(&h, s), &row(&q, label)) / (d as f64).sqrt()).exp()).collect();
        let total: f64 = scores.iter().sum();
        let pooled: f64 = (0..5).map(|s| scores[s] / total * dot(&row(&h, s), &row(&w, label))).sum();
        (0..5).for_each(|s| mean[s] += scores[s] / total / 3.0);
        let logit = f64::from(found.logits.to_vec().unwrap()[label]);
        assert!((logit - pooled - f64::from(*bias)).abs() < 1e-4, "{logit} is not {pooled}");
    }
    let weights = found.slice_weights[0].to_vec().unwrap();
    assert!(weights.iter().zip(mean).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{weights:?}");
}

#[test]
fn asked_for_attention_the_head_is_the_papers() {
    let host = TestHost::dinov2_small().setting("pooling", "attention");
    let task = host.task(Queries, &manifest(&["axial"])).unwrap();
    let names: Vec<String> = task.context().parameters().into_keys().collect();
    assert_eq!(names, ["head.bias", "head.weight", "query"]);
}

#[test]
fn focal_loss_of_a_soft_target_is_the_mixture_of_both_and_of_hard_ones_as_before() {
    let context = crate::testkit::Context::new(0);
    let logits = context.tensor(&[-3.0, -0.5, 0.0, 2.0], &[1, 4]).unwrap();
    let of = |y: f32| {
        let targets = context.tensor(&[y; 4], &[1, 4]).unwrap();
        crate::loss::focal(&logits, &targets, 2.0, 0.25).unwrap().to_vec().unwrap()
    };
    let (negative, positive, soft) = (of(0.0), of(1.0), of(0.3));
    for i in 0..4 {
        assert!((soft[i] - 0.3 * positive[i] - 0.7 * negative[i]).abs() < 1e-6);
    }
    // torchvision.ops.sigmoid_focal_loss(z, y, alpha=0.25, gamma=2) at z = -0.5.
    let (p, z) = (1.0f64 / (1.0 + 0.5f64.exp()), -0.5f64);
    assert!((f64::from(positive[1]) - 0.25 * (1.0 - p).powi(2) * (1.0 + (-z).exp()).ln()).abs() < 1e-6);
    assert!((f64::from(negative[1]) - 0.75 * p.powi(2) * (1.0 + z.exp()).ln()).abs() < 1e-6);
}
