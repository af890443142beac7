//! The task in memory, by plugin-api's test kit: no host, no backbone, no scan.

use super::*;
use anymc3d_plugin_api::testkit::{self, Context, TestHost};

const MANIFEST: &str = include_str!("../plugin.toml");

#[test]
fn the_task_is_what_a_host_expects() {
    testkit::check(ThirdParty, MANIFEST).assert();
}

#[test]
fn it_has_as_many_parameters_as_its_layers_say() {
    let task = TestHost::dinov2_small().task(ThirdParty, MANIFEST).unwrap();
    let adapter = 3 * (384 * 16 + 16 + 16 * 384);
    let head = 2 * 384 * 32 + 32 + 384 + 1;
    assert_eq!(task.parameter_counts(), (adapter, head, 0));
}

#[test]
fn the_adapter_changes_nothing_at_the_start_and_only_the_outputs_of_the_last_blocks_later() {
    let task = TestHost::dinov2_small().task(ThirdParty, MANIFEST).unwrap();
    let x = task.context().random("x", &[2, 5, 384]).unwrap();
    let at = |site| task.apply(0, site, &x, x.try_clone().unwrap()).unwrap().to_vec().unwrap();
    let before = x.to_vec().unwrap();
    assert_eq!(at(Site::AttentionOutput(10)), before);
    for block in 9..12 {
        task.context().set(&format!("adapter.block.{block}.up"), &[0.01; 16 * 384]).unwrap();
    }
    assert_ne!(at(Site::AttentionOutput(10)), before);
    for untouched in [Site::PatchEmbed, Site::AttentionOutput(8), Site::Qkv(10)] {
        assert_eq!(at(untouched), before, "{untouched:?}");
    }
}

#[test]
fn the_loss_is_its_formula() {
    let context = Context::new(0);
    let (z, y) = ([1.5f32, -0.5, -4.0], [1.0f32, 0.0, 0.0]);
    let targets = Targets::new(
        context.tensor(&y, &[1, 3]).unwrap(),
        context.tensor(&[1.0, 1.0, 1.0], &[1, 3]).unwrap(),
    );
    let found = loss::asymmetric(&context.tensor(&z, &[1, 3]).unwrap(), &targets).unwrap();
    let p = |z: f32| 1.0 / (1.0 + (-f64::from(z)).exp());
    let positive = -(1.0 - p(z[0])) * p(z[0]).ln();
    let q = p(z[1]) - 0.05;
    // The third is below the margin: not counted at all.
    let expected = (positive - q * q * (1.0 - q).ln()) / 3.0;
    assert!((f64::from(found.to_vec().unwrap()[0]) - expected).abs() < 1e-6);
}
