//! Losses of plugin-api over the host's table: gradients where it is hard, and labels that are unknown.

use super::device;
use crate::plugin::{Context, ParameterSource, host_ops};
use anymc3d_plugin_api::loss::{Targets, binary_cross_entropy, focal, manifest_loss};
use anymc3d_plugin_api::{Host, LossSpec};
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;

fn host() -> (&'static Context, Host) {
    let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
    let context = Context::create("losses", DType::F64, device(), source);
    (context, Host::new(host_ops(), context.id()))
}

#[test]
fn losses_stay_finite_and_right_for_extreme_logits() {
    let (_, host) = host();
    let z = host.tensor(&[-200.0, 200.0, 0.0], &[3]).unwrap();
    let y = host.tensor(&[1.0, 1.0, 0.0], &[3]).unwrap();
    let bce = binary_cross_entropy(&z, &y).unwrap().to_vec().unwrap();
    assert_eq!(bce[0], 200.0);
    assert!(bce[1].abs() < 1e-30 && (bce[2] - std::f32::consts::LN_2).abs() < 1e-6);
    let focal = focal(&z, &y, 2.0, 0.25).unwrap().to_vec().unwrap();
    // Missed positive: 0.25 · 1 · 200; easy positive: 0; negative at p = 1/2: 0.75 · 0.25 · ln 2.
    assert!((focal[0] - 50.0).abs() < 1e-4 && focal[1] == 0.0);
    assert!((focal[2] - 0.75 * 0.25 * std::f32::consts::LN_2).abs() < 1e-6);
}

#[test]
fn an_unknown_label_has_no_part_in_the_loss_nor_in_its_gradient() {
    let (context, host) = host();
    let spec = LossSpec::new("bce").focal(2.0, 0.25);
    let z = Var::from_tensor(&Tensor::new(&[[0.3f64, -0.2], [1.0, 5.0]], &device()).unwrap()).unwrap();
    let logits = host.adopt(context.put(z.as_tensor().clone()));
    let values = host.tensor(&[1.0, 0.0, 1.0, 0.0], &[2, 2]).unwrap();
    let known = host.tensor(&[1.0, 1.0, 1.0, 0.0], &[2, 2]).unwrap();
    let loss = manifest_loss(&spec, &logits, &Targets::new(values, known)).unwrap();
    let loss = context.get(loss.handle()).unwrap();
    let softplus = |x: f64| (1.0 + x.exp()).ln();
    let expected = (softplus(-0.3) + softplus(-0.2) + softplus(-1.0)) / 3.0;
    assert!((loss.to_scalar::<f64>().unwrap() - expected).abs() < 1e-12);
    let gradient = loss.backward().unwrap().get(&z).unwrap().to_vec2::<f64>().unwrap();
    assert_eq!(gradient[1][1], 0.0);
    assert!(gradient[1][0] < 0.0);
}

#[test]
fn a_class_weight_counts_though_each_case_comes_alone() {
    let (_, host) = host();
    let ln4 = 4f32.ln();
    // Four classes told apart by nothing: every case's loss is ln 4, times the weight of its class.
    let spec = LossSpec::new("cross_entropy").focal(0.0, 0.5).class_weights(vec![1.0, 50.0, 1.0, 1.0]);
    let of = |class: usize| {
        let mut one_hot = [0f32; 4];
        one_hot[class] = 1.0;
        let values = host.tensor(&one_hot, &[1, 4]).unwrap();
        let known = host.tensor(&[1.0; 4], &[1, 4]).unwrap();
        let logits = host.tensor(&[0.0; 4], &[1, 4]).unwrap();
        manifest_loss(&spec, &logits, &Targets::new(values, known)).unwrap().to_vec().unwrap()[0]
    };
    assert!((of(0) - ln4).abs() < 1e-6 && (of(1) - 50.0 * ln4).abs() < 1e-4);
    // And of one label, whose two sides share its weight.
    let spec = LossSpec::new("bce").class_weights(vec![3.0]);
    let one = |x: f32| host.tensor(&[x], &[1, 1]).unwrap();
    let targets = Targets::new(one(1.0), one(1.0));
    let loss = manifest_loss(&spec, &one(0.0), &targets).unwrap().to_vec().unwrap()[0];
    assert!((loss - 3.0 * std::f32::consts::LN_2).abs() < 1e-6);
}
