//! The test kit of plugin-api against the real host: the same plugin code through both tables, values and gradients.

use anymc3d_host::plugin::{Context, Parameter, ParameterSource, host_ops};
use anymc3d_plugin_api::abi::types::Entry;
use anymc3d_plugin_api::loss::{Targets, manifest_loss};
use anymc3d_plugin_api::testkit;
use anymc3d_plugin_api::{
    AttentionPooling, Build, Head, Host, PatchEvidence, PatchPooling, Pooling, Result, Segmentation,
    Tensor as Seen, TokenDecoder, ViewFeatures, VolumeDecoder,
};
use anymc3d_tests::devices;
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;

fn real(device: &Device) -> &'static Context {
    let source = ParameterSource::Training { seed: 5, start: BTreeMap::new() };
    Context::create("test kit", DType::F32, device.clone(), source)
}

/// Distinct numbers without ties, the same every time.
fn numbers(n: usize, offset: usize, (low, high): (f32, f32)) -> Vec<f32> {
    (0..n)
        .map(|i| low + (high - low) * (((i * 7919 + offset * 104_729) % 10_007) as f32 + 0.5) / 10_007.0)
        .collect()
}

/// Relative to the largest number of either.
fn close(what: &str, real: &[f32], kit: &[f32], tolerance: f32) {
    assert_eq!(real.len(), kit.len(), "{what}");
    let largest = real.iter().chain(kit).fold(1.0f32, |m, v| m.max(v.abs()));
    let worst = real.iter().zip(kit).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance * largest, "{what}: off by {worst} of {largest}");
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// Its name, the inputs' shapes and range, whether it has a gradient, and the call.
type Operation = (&'static str, &'static [&'static [usize]], (f32, f32), bool, fn(&[Seen]) -> Result<Seen>);

/// Every operation that gives a number; those without a gradient are compared in value alone.
const OPERATIONS: &[Operation] = &[
    ("neg", &[&[3, 5]], ANY, true, |x| x[0].neg()),
    ("exp", &[&[3, 5]], ANY, true, |x| x[0].exp()),
    ("log", &[&[3, 5]], POSITIVE, true, |x| x[0].log()),
    ("sqrt", &[&[3, 5]], POSITIVE, true, |x| x[0].sqrt()),
    ("square", &[&[3, 5]], ANY, true, |x| x[0].square()),
    ("abs", &[&[3, 5]], ANY, true, |x| x[0].abs()),
    ("recip", &[&[3, 5]], POSITIVE, true, |x| x[0].recip()),
    ("relu", &[&[3, 5]], ANY, true, |x| x[0].relu()),
    ("gelu", &[&[40, 5]], (-8.0, 8.0), true, |x| x[0].gelu()),
    ("silu", &[&[3, 5]], ANY, true, |x| x[0].silu()),
    ("sigmoid", &[&[3, 5]], (-90.0, 90.0), true, |x| x[0].sigmoid()),
    ("tanh", &[&[3, 5]], ANY, true, |x| x[0].tanh()),
    ("softplus", &[&[3, 5]], (-90.0, 90.0), true, |x| x[0].softplus()),
    ("sign", &[&[3, 5]], ANY, false, |x| x[0].sign()),
    ("floor", &[&[3, 5]], ANY, false, |x| x[0].floor()),
    ("round", &[&[3, 5]], ANY, false, |x| x[0].round()),
    ("halves round away from zero", &[&[1]], ANY, false, |x| {
        let zero = x[0].floor()?.sub(&x[0].floor()?)?;
        x[0].host().tensor(&[-2.5, -0.5, 0.5, 1.5, 2.5], &[5])?.add(&zero)?.round()
    }),
    ("nothing times zero has a gradient", &[&[3]], ANY, true, |x| x[0].floor()?.scale(0.0)?.add(&x[0])),
    ("add", &[&[2, 3, 4], &[3, 1]], ANY, true, |x| x[0].add(&x[1])),
    ("sub", &[&[2, 3, 4], &[3, 1]], ANY, true, |x| x[0].sub(&x[1])),
    ("mul", &[&[2, 3, 4], &[3, 1]], ANY, true, |x| x[0].mul(&x[1])),
    ("div", &[&[2, 3, 4], &[3, 1]], POSITIVE, true, |x| x[0].div(&x[1])),
    ("maximum", &[&[2, 3, 4], &[3, 1]], ANY, true, |x| x[0].maximum(&x[1])),
    ("minimum", &[&[2, 3, 4], &[3, 1]], ANY, true, |x| x[0].minimum(&x[1])),
    ("maximum of equals", &[&[4]], ANY, true, |x| x[0].maximum(&x[0])),
    ("greater", &[&[3, 5], &[5]], ANY, false, |x| x[0].greater(&x[1])),
    ("greater_equal", &[&[3, 5], &[5]], ANY, false, |x| x[0].greater_equal(&x[1])),
    ("equal", &[&[3, 5]], ANY, false, |x| x[0].equal(&x[0])),
    ("affine", &[&[3, 5]], ANY, true, |x| x[0].affine(-1.7, 0.3)),
    ("power", &[&[3, 5]], POSITIVE, true, |x| x[0].power(1.7)),
    ("clamp", &[&[3, 5]], ANY, true, |x| x[0].clamp(-0.6, 0.8)),
    ("matmul", &[&[5, 1, 3, 4], &[2, 4, 2]], ANY, true, |x| x[0].matmul(&x[1])),
    ("matrix times vector", &[&[3, 4], &[4]], ANY, true, |x| x[0].matmul(&x[1])),
    ("sum", &[&[2, 3, 4]], ANY, true, |x| x[0].sum(1)),
    ("mean", &[&[2, 3, 4]], ANY, true, |x| x[0].mean(1)),
    ("max", &[&[2, 3, 4]], ANY, true, |x| x[0].max(1)),
    ("min", &[&[2, 3, 4]], ANY, true, |x| x[0].min(2)),
    ("median of an even number", &[&[2, 3, 4]], ANY, true, |x| x[0].median(2)),
    ("argmax", &[&[2, 3, 4]], ANY, false, |x| x[0].argmax(1)),
    ("softmax", &[&[2, 3, 4]], (-40.0, 40.0), true, |x| x[0].softmax(1)),
    ("log_softmax", &[&[2, 3, 4]], (-40.0, 40.0), true, |x| x[0].log_softmax(1)),
    ("layer_norm", &[&[2, 3, 4], &[4], &[4]], ANY, true, |x| x[0].layer_norm(&x[1], &x[2], 1e-6)),
    ("reshape", &[&[2, 3, 4]], ANY, true, |x| x[0].reshape(&[4, 6])),
    ("permute", &[&[2, 3, 4]], ANY, true, |x| x[0].permute(&[2, 0, 1])),
    ("broadcast_to", &[&[3, 1]], ANY, true, |x| x[0].broadcast_to(&[2, 3, 4])),
    ("narrow", &[&[2, 3, 4]], ANY, true, |x| x[0].narrow(2, 1, 2)),
    ("concat", &[&[2, 3, 4], &[2, 2, 4]], ANY, true, |x| Seen::concat(&[&x[0], &x[1], &x[0]], 1)),
    ("index_select", &[&[2, 3, 4]], ANY, true, |x| x[0].index_select(1, &[2, 0, 2])),
    ("conv3d", &[&[2, 4, 6, 7], &[3, 2, 3, 3, 3]], ANY, true, |x| x[0].conv3d(&x[1], [1, 2, 1], [1, 0, 2])),
    ("conv3d of a batch", &[&[2, 2, 3, 3, 4], &[5, 2, 2, 1, 3]], ANY, true, |x| {
        x[0].conv3d(&x[1], [1, 1, 1], [0, 1, 2])
    }),
    ("resize_linear", &[&[2, 3, 4, 5]], ANY, true, |x| x[0].resize_linear([2, 9, 3])),
];
const ANY: (f32, f32) = (-3.0, 3.0);
const POSITIVE: (f32, f32) = (0.3, 3.0);

#[test]
fn every_operation_has_the_real_hosts_values_and_gradients() {
    devices().iter().for_each(every_operation_agrees);
}

fn every_operation_agrees(device: &Device) {
    for (name, shapes, range, gradient, run) in OPERATIONS {
        let drawn: Vec<Vec<f32>> =
            shapes.iter().enumerate().map(|(i, s)| numbers(s.iter().product(), i, *range)).collect();
        let (real, kit) = (real(device), testkit::Context::new(0));
        let host = Host::new(host_ops(), real.id());
        let vars: Vec<Var> = drawn
            .iter()
            .zip(*shapes)
            .map(|(v, s)| Var::from_tensor(&Tensor::from_slice(v, *s, device).unwrap()).unwrap())
            .collect();
        let seen: Vec<Seen> = vars.iter().map(|v| host.adopt(real.put(v.as_tensor().clone()))).collect();
        let inputs: Vec<Seen> = drawn.iter().zip(*shapes).map(|(v, s)| kit.variable(v, s).unwrap()).collect();
        let (a, b) = (run(&seen).unwrap(), run(&inputs).unwrap());
        assert_eq!(a.dims().unwrap(), b.dims().unwrap(), "{name}");
        close(name, &a.to_vec().unwrap(), &b.to_vec().unwrap(), 2e-6);
        let (dims, n) = (a.dims().unwrap(), a.to_vec().unwrap().len());
        let w = numbers(n, 31, (-1.0, 1.0));
        let loss = |out: &Seen| out.mul(&out.host().tensor(&w, &dims).unwrap()).unwrap().sum_all().unwrap();
        let (a, b) = (loss(&a), loss(&b));
        let (by_real, by_kit) = (real.get(a.handle()).unwrap().backward(), kit.gradients(&b));
        if !gradient {
            let (real, kit) = (by_real.unwrap_err().to_string(), by_kit.err().unwrap().to_string());
            assert!(real.contains("has no gradient") && kit.contains("has no gradient"), "{real} {kit}");
            continue;
        }
        let (by_real, by_kit) = (by_real.unwrap(), by_kit.unwrap());
        for (i, (var, input)) in vars.iter().zip(&inputs).enumerate() {
            close(
                &format!("{name}, input {i}"),
                &flat(by_real.get(var).unwrap()),
                &by_kit.of(input).unwrap(),
                1e-5,
            );
        }
    }
}

fn settings(views: &[&str], pooling: Option<Pooling>) -> Vec<Entry> {
    let views = views.join(",");
    let mut all = vec![
        ("backbone.family", "dinov2"),
        ("backbone.embed_dim", "24"),
        ("backbone.blocks", "2"),
        ("backbone.heads", "3"),
        ("backbone.patch_size", "4"),
        ("views", &views),
        ("outputs", "3"),
        ("loss.kind", "focal"),
        ("loss.gamma", "2"),
        ("loss.alpha", "0.25"),
        ("loss.class_weights", "1,2,0.5"),
    ];
    all.extend(pooling.map(|p| ("pooling", p.name())));
    all.into_iter().map(|(key, value)| Entry { key: key.into(), value: value.into() }).collect()
}

/// What a task computes of a case in training: logits, and the loss with a mask where there is a branch.
fn step(host: Host, entries: &[Entry], make: Parts, views: &[&str]) -> (Seen, Seen) {
    let build = Build::from_entries(host, entries).unwrap();
    let (head, branch) = make(&build).unwrap();
    let (s, grid, d) = (3, [2, 3], 24);
    let features: Vec<ViewFeatures> = views
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let class_tokens = host.tensor(&numbers(s * d, 3 + i, (-2.0, 2.0)), &[s, d]).unwrap();
            let patch_tokens = host.tensor(&numbers(s * 6 * d, 7 + i, (-2.0, 2.0)), &[s, 6, d]).unwrap();
            ViewFeatures::new(*name, class_tokens, patch_tokens, grid)
        })
        .collect();
    let logits = head.forward(&features).unwrap().logits;
    let targets = Targets::new(
        host.tensor(&[1.0, 0.0, 1.0], &[1, 3]).unwrap(),
        host.tensor(&[1.0, 1.0, 0.0], &[1, 3]).unwrap(),
    );
    let mut loss = manifest_loss(build.loss(), &logits.reshape(&[1, 3]).unwrap(), &targets).unwrap();
    if let Some(branch) = branch {
        let mask: Vec<f32> = numbers(s * 8 * 12, 2, (0.0, 1.0)).iter().map(|v| v.round()).collect();
        let mask = host.tensor(&mask, &[s, 8, 12]).unwrap();
        loss = loss.add(&branch.loss(&features[0], &mask).unwrap()).unwrap();
    }
    (logits, loss)
}

type Parts = fn(&Build) -> Result<(Box<dyn Head>, Option<Box<dyn Segmentation>>)>;

#[test]
fn heads_losses_and_decoders_compute_the_same_in_the_kit_and_in_the_real_host() {
    let one: &[&str] = &["axial"];
    let pooling: Parts = |b| Ok((Box::new(AttentionPooling::new(b)?), None));
    let mut cases: Vec<(String, Parts, &[&str], Option<Pooling>)> =
        Pooling::ALL.iter().map(|p| (p.name().to_owned(), pooling, one, Some(*p))).collect();
    cases.push(("two views".to_owned(), pooling, &["axial", "coronal"], None));
    let evidence: Parts = |b| Ok((Box::new(PatchEvidence::new(b)?), Some(Box::new(TokenDecoder::new(b)?))));
    cases.push(("evidence".to_owned(), evidence, one, None));
    let patches: Parts = |b| Ok((Box::new(PatchPooling::new(b)?), Some(Box::new(TokenDecoder::new(b)?))));
    cases.push(("patches".to_owned(), patches, &["t1", "t2"], None));
    let volume: Parts =
        |b| Ok((Box::new(AttentionPooling::new(b)?), Some(Box::new(VolumeDecoder::with(b, 8, 2)?))));
    cases.push(("volume".to_owned(), volume, one, None));
    let everywhere =
        devices().into_iter().flat_map(|device| cases.iter().map(move |case| (device.clone(), case)));
    for (device, (name, parts, views, pooling)) in everywhere {
        let entries = settings(views, *pooling);
        let (real, kit) = (real(&device), testkit::Context::new(1));
        let (logits, loss) = step(Host::new(host_ops(), real.id()), &entries, *parts, views);
        // Once to ask for the parameters, then with the real host's draw of them.
        drop(step(kit.host(), &entries, *parts, views));
        let parameters = real.parameters();
        let names: Vec<&String> = parameters.keys().collect();
        assert_eq!(names, kit.parameters().keys().collect::<Vec<_>>(), "{name}");
        for (name, parameter) in &parameters {
            kit.set(name, &flat(parameter.tensor())).unwrap();
        }
        let (kit_logits, kit_loss) = step(kit.host(), &entries, *parts, views);
        close(name, &logits.to_vec().unwrap(), &kit_logits.to_vec().unwrap(), 5e-6);
        close(name, &loss.to_vec().unwrap(), &kit_loss.to_vec().unwrap(), 5e-6);
        let by_real = real.get(loss.handle()).unwrap().backward().unwrap();
        let by_kit = kit.gradients(&kit_loss).unwrap();
        for (parameter, value) in &parameters {
            let Parameter::Trained(var) = value else { panic!("{parameter} is not trained") };
            match (by_real.get(var), by_kit.get(parameter)) {
                (Some(a), Some(b)) => close(&format!("{name}: {parameter}"), &flat(a), b, 2e-5),
                (None, None) => {}
                (a, b) => panic!("{name}: {parameter}: {} and {}", a.is_some(), b.is_some()),
            }
        }
    }
}
