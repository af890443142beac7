//! What a training case of the 3D decoder costs: 40 slices of 12 × 12 patches, d = 384.
//!
//! `cargo bench -p anymc3d-tests --bench volume_decoder`. Median and fastest of 15, forward alone and with the backward
//! pass.

use anymc3d_host::plugin::{Context, ParameterSource, host_ops};
use anymc3d_plugin_api::abi::types::Entry;
use anymc3d_plugin_api::{Build, Host, Segmentation, ViewFeatures, VolumeDecoder};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use std::time::Instant;

const REPEATS: usize = 15;

fn main() {
    println!("ms: median [fastest]");
    for (upsamplings, fraction) in [(1, 2), (2, 2), (2, 1)] {
        let (forward, both) = times(upsamplings, fraction);
        println!(
            "{upsamplings} upsamplings, loss on 1/{fraction}:  forward {:6.1} [{:6.1}]  with backward {:6.1} [{:6.1}]",
            forward.0, forward.1, both.0, both.1
        );
    }
}

fn build(host: Host) -> Build {
    let settings = [
        ("backbone.family", "dinov2"),
        ("backbone.embed_dim", "384"),
        ("backbone.blocks", "12"),
        ("backbone.heads", "6"),
        ("backbone.patch_size", "14"),
        ("views", "axial"),
        ("outputs", "1"),
        ("loss.kind", "bce"),
        ("loss.gamma", "2"),
        ("loss.alpha", "0.25"),
        ("loss.class_weights", ""),
    ];
    let entries = settings.map(|(key, value)| Entry { key: key.into(), value: value.into() });
    Build::from_entries(host, &entries).expect("a build")
}

/// Median and fastest of the forward pass, and of forward and backward pass, ms.
fn times(upsamplings: usize, fraction: usize) -> ((f64, f64), (f64, f64)) {
    let source = ParameterSource::Training { seed: 3, start: BTreeMap::new() };
    let context = Context::create("volume_decoder", DType::F32, Device::Cpu, source);
    let host = Host::new(host_ops(), context.id());
    let decoder =
        VolumeDecoder::with(&build(host), 32, upsamplings).expect("a decoder").loss_fraction(fraction);
    let tokens = Var::from_tensor(&Tensor::randn(0f32, 1f32, (40, 144, 384), &Device::Cpu).expect("tokens"));
    let tokens = tokens.expect("a variable");
    // A ball in the middle, so that both terms of the loss have something to do.
    let inside = |i: usize| {
        let at = [i / (168 * 168), i / 168 % 168, i % 168];
        let far: f64 = at.iter().zip([20.0, 84.0, 84.0]).map(|(&n, c)| (n as f64 - c).powi(2)).sum();
        f32::from(u8::from(far < 100.0))
    };
    let mask: Vec<f32> = (0..40 * 168 * 168).map(inside).collect();
    let mask = host.tensor(&mask, &[40, 168, 168]).expect("a mask");
    let (mut forward, mut both) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let class_tokens = host.full(0.0, &[40, 384]).expect("class tokens");
        let patch_tokens = host.adopt(context.put(tokens.as_tensor().clone()));
        let view = ViewFeatures::new("axial", class_tokens, patch_tokens, [12, 12]);
        let start = Instant::now();
        let loss = decoder.loss(&view, &mask).expect("a loss");
        forward.push(start.elapsed().as_secs_f64() * 1e3);
        context.get(loss.handle()).expect("the loss").backward().expect("a backward pass");
        both.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let summary = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        (v[v.len() / 2], v[0])
    };
    (summary(forward), summary(both))
}
