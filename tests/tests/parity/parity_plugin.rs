//! Parity with PyTorch of what plugins compute through the host's table: losses, pooling, fusion, volumes.

use anymc3d_host::plugin::{Context, ParameterSource, host_ops};
use anymc3d_plugin_api::loss::{Targets, cross_entropy, manifest_loss};
use anymc3d_plugin_api::{Host, LossSpec, MaskLoss, Pooling, Tensor as Seen, pool};
use anymc3d_tests::devices;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// A golden file, or `None` (said aloud) where no fixtures were asked for and none are there.
fn fixture(name: &str) -> Option<HashMap<String, Tensor>> {
    let asked = std::env::var_os("ANYMC3D_FIXTURES").map(|given| anymc3d_tests::workspace().join(given));
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let path = asked.clone().unwrap_or(default).join(name);
    if !path.exists() && asked.is_none() {
        eprintln!("skipped: {} is not there; set ANYMC3D_FIXTURES", path.display());
        return None;
    }
    let loaded = candle_core::safetensors::load(&path, &Device::Cpu);
    Some(loaded.unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// A golden file of the project's own, beside those that the variable may replace.
fn own(name: &str) -> HashMap<String, Tensor> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    candle_core::safetensors::load(&path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn host(device: &Device) -> (&'static Context, Host) {
    let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
    let context = Context::create("parity", DType::F32, device.clone(), source);
    (context, Host::new(host_ops(), context.id()))
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn close(what: &str, ours: &[f32], theirs: &Tensor, tolerance: f32) {
    let theirs = values(theirs);
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}, allowed {tolerance}");
}

#[test]
fn parity_losses() {
    let Some(f) = fixture("losses.safetensors") else { return };
    devices().iter().for_each(|device| losses_agree(&f, device));
}

fn losses_agree(f: &HashMap<String, Tensor>, device: &Device) {
    let (context, host) = host(device);
    let seen = |name: &str| {
        host.adopt(context.put(f[name].to_dtype(DType::F32).unwrap().to_device(device).unwrap()))
    };
    for (kind, name) in [("bce", "bce"), ("focal", "focal_g2_a025")] {
        let spec = LossSpec::new(kind).focal(2.0, 0.25);
        let logits = seen("logits");
        let known = host.full(1.0, &logits.dims().unwrap()).unwrap();
        let loss = manifest_loss(&spec, &logits, &Targets::new(seen("targets"), known)).unwrap();
        close(kind, &loss.to_vec().unwrap(), &f[name], 1e-5);
    }
    let classes: Vec<usize> = values(&f["mc_targets"]).iter().map(|&c| c as usize).collect();
    let loss = cross_entropy(&seen("mc_logits"), &classes).unwrap();
    close("cross_entropy", &loss.to_vec().unwrap(), &f["cross_entropy"], 1e-5);
    // The same by the manifest's way, with one-hot targets.
    let (n, c) = (classes.len(), f["mc_logits"].dims()[1]);
    let mut one_hot = vec![0f32; n * c];
    classes.iter().enumerate().for_each(|(i, &k)| one_hot[i * c + k] = 1.0);
    let spec = LossSpec::new("cross_entropy").focal(0.0, 0.5);
    let targets = Targets::new(host.tensor(&one_hot, &[n, c]).unwrap(), host.full(1.0, &[n, c]).unwrap());
    let loss = manifest_loss(&spec, &seen("mc_logits"), &targets).unwrap();
    close("cross_entropy by the manifest", &loss.to_vec().unwrap(), &f["cross_entropy"], 1e-5);
}

#[test]
fn parity_attention_pooling_and_two_view_fusion() {
    let Some(f) = fixture("attention_pooling.safetensors") else { return };
    devices().iter().for_each(|device| pooling_agrees(&f, device));
}

fn pooling_agrees(f: &HashMap<String, Tensor>, device: &Device) {
    let (context, host) = host(device);
    let seen = |name: &str| host.adopt(context.put(f[name].to_device(device).unwrap()));
    let attend = |rows: &Seen, query: &str| pool(Pooling::Attention, rows, Some(&seen(query))).unwrap();
    let (v1, a1) = attend(&seen("H1"), "q1");
    let (v2, a2) = attend(&seen("H2"), "q2");
    for (name, ours) in [("v1", &v1), ("a1", &a1), ("v2", &v2), ("a2", &a2)] {
        close(name, &ours.to_vec().unwrap(), &f[name], 1e-5);
    }
    let (v, a) = attend(&Seen::stack(&[&v1, &v2], 0).unwrap(), "q_fusion");
    close("a_fusion", &a.to_vec().unwrap(), &f["a_fusion"], 1e-5);
    close("v", &v.to_vec().unwrap(), &f["v"], 1e-5);
    let logits = |v: &Seen| seen("W").matmul(v).unwrap().add(&seen("b")).unwrap().to_vec().unwrap();
    close("logits_single", &logits(&v1), &f["logits_single"], 1e-4);
    close("logits_fused", &logits(&v), &f["logits_fused"], 1e-4);
}

/// Output and gradients of an operation on volumes, as `make_volumes.py` names them.
fn volumes(f: &HashMap<String, Tensor>, name: &str, inputs: &[&str], run: impl Fn(&[Seen]) -> Seen) {
    devices().iter().for_each(|device| volumes_on(device, f, name, inputs, &run));
}

fn volumes_on(
    device: &Device,
    f: &HashMap<String, Tensor>,
    name: &str,
    inputs: &[&str],
    run: &impl Fn(&[Seen]) -> Seen,
) {
    let (context, host) = host(device);
    let of = |part: &str| &f[&format!("{name}.{part}")];
    let inputs: Vec<(&str, Var)> =
        inputs.iter().map(|i| (*i, Var::from_tensor(&of(i).to_device(device).unwrap()).unwrap())).collect();
    let seen: Vec<Seen> =
        inputs.iter().map(|(_, v)| host.adopt(context.put(v.as_tensor().clone()))).collect();
    let out = run(&seen);
    assert_eq!(out.dims().unwrap(), of("out").dims(), "{name}");
    close(name, &out.to_vec().unwrap(), of("out"), 2e-5);
    let mut sum = context.get(out.handle()).unwrap();
    if let Some(w) = f.get(&format!("{name}.w")) {
        sum = (sum * w.to_device(device).unwrap()).unwrap();
    }
    let gradients = sum.sum_all().unwrap().backward().unwrap();
    for (input, var) in &inputs {
        let theirs = of(&format!("{input}.grad"));
        let largest = theirs.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        close(
            &format!("{name} {input}"),
            &values(gradients.get(var).unwrap()),
            theirs,
            1e-5 * largest.max(1e-3),
        );
    }
}

#[test]
fn volumes_are_convolved_resized_and_judged_as_pytorch_does() {
    let f = own("volumes.safetensors");
    for name in ["conv_plain", "conv_stride", "conv_wide", "conv_flat"] {
        let three = |part: &str| -> [usize; 3] {
            let v: Vec<usize> = values(&f[&format!("{name}.{part}")]).iter().map(|&v| v as usize).collect();
            v.try_into().unwrap()
        };
        volumes(&f, name, &["x", "k"], |x| x[0].conv3d(&x[1], three("stride"), three("padding")).unwrap());
    }
    for name in ["resize_up", "resize_odd", "resize_down"] {
        let dims = f[&format!("{name}.out")].dims().to_vec();
        let size = [dims[1], dims[2], dims[3]];
        volumes(&f, name, &["x"], |x| x[0].resize_linear(size).unwrap());
    }
    let mask = values(&f["loss.y"]);
    let dims = f["loss.y"].dims().to_vec();
    let loss = MaskLoss::default().positive_weight(3.0);
    volumes(&f, "loss", &["z"], |x| loss.of(&x[0], &x[0].host().tensor(&mask, &dims).unwrap()).unwrap());
}

#[test]
fn pooling_is_permutation_invariant_and_its_weights_sum_to_one() {
    let (_, host) = host(&Device::Cpu);
    let rows: Vec<f32> = (0..28).map(|i| ((i * 37 % 19) as f32 - 9.0) / 5.0).collect();
    let rows = host.tensor(&rows, &[7, 4]).unwrap();
    let order = [3, 6, 0, 2, 5, 1, 4];
    let mixed = rows.index_select(0, &order).unwrap();
    let query = host.tensor(&[0.5, -1.0, 0.25, 2.0], &[4]).unwrap();
    for pooling in [Pooling::Attention, Pooling::Mean, Pooling::Median, Pooling::Max] {
        let (v, a) = pool(pooling, &rows, Some(&query)).unwrap();
        let (w, b) = pool(pooling, &mixed, Some(&query)).unwrap();
        let a = a.to_vec().unwrap();
        let moved: Vec<f32> = order.iter().map(|&i| a[i]).collect();
        assert!((a.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{pooling:?}");
        let near = |x: &[f32], y: &[f32]| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-6);
        assert!(near(&moved, &b.to_vec().unwrap()), "{pooling:?}");
        assert!(near(&v.to_vec().unwrap(), &w.to_vec().unwrap()), "{pooling:?}");
    }
}

/// The settings of a task with one view and one output on a backbone of width 24 with three heads.
fn settings() -> Vec<anymc3d_plugin_api::abi::types::Entry> {
    [
        ("backbone.family", "test"),
        ("backbone.embed_dim", "24"),
        ("backbone.blocks", "2"),
        ("backbone.heads", "3"),
        ("backbone.patch_size", "14"),
        ("views", "axial"),
        ("outputs", "1"),
        ("loss.kind", "bce"),
        ("loss.gamma", "2"),
        ("loss.alpha", "0.25"),
        ("loss.class_weights", ""),
    ]
    .map(|(key, value)| anymc3d_plugin_api::abi::types::Entry { key: key.into(), value: value.into() })
    .to_vec()
}

#[test]
fn an_lstm_and_a_transformer_layer_pool_slices_as_pytorchs_do() {
    use anymc3d_plugin_api::{Build, Pool};
    let f = own("pooling.safetensors");
    let ours = |k: &&String| k.starts_with("lstm.") || k.starts_with("transformer.");
    let tensors = f.keys().filter(ours).map(|k| (k.clone(), f[k].clone())).collect();
    let context = Context::create("pooling", DType::F32, Device::Cpu, ParameterSource::Weights(tensors));
    let host = Host::new(host_ops(), context.id());
    let build = Build::from_entries(host, &settings()).unwrap();
    let rows = host.adopt(context.put(f["rows"].clone()));
    for (way, name) in [(Pooling::Lstm, "lstm_v"), (Pooling::Transformer, "transformer_v")] {
        let (v, a) = Pool::new(&build, way, None).unwrap().forward(&rows).unwrap();
        close(name, &v.to_vec().unwrap(), &f[name], 1e-5);
        let a = a.to_vec().unwrap();
        assert!((a.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{name}: {a:?}");
        if way == Pooling::Transformer {
            close("transformer_a", &a, &f["transformer_a"], 1e-5);
        }
    }
    assert!(context.mismatches().is_empty(), "{:?}", context.mismatches());
}
