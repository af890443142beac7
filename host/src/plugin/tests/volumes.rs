//! Operations on volumes: convolution against itself computed otherwise, the decoder's shapes.

use crate::plugin::conv3d::{conv3d, shifted_conv3d};
use crate::plugin::resize::{resize_linear, resized_by_product};
use crate::plugin::{Context, ParameterSource, host_ops};
use anymc3d_plugin_api::abi::types::Entry;
use anymc3d_plugin_api::{Build, Host, Segmentation, ViewFeatures, VolumeDecoder, patch_mean};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;

fn context(dtype: DType) -> (&'static Context, Host) {
    let source = ParameterSource::Training { seed: 3, start: BTreeMap::new() };
    let context = Context::create("volumes", dtype, Device::Cpu, source);
    (context, Host::new(host_ops(), context.id()))
}

fn build(host: Host, d: usize) -> Build {
    let d = d.to_string();
    let settings = [
        ("backbone.family", "dinov2"),
        ("backbone.embed_dim", &d),
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
    Build::from_entries(host, &entries).unwrap()
}

fn noise(dims: &[usize]) -> Tensor {
    let n = dims.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919 + 31) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn the_convolution_of_this_machine_is_the_sum_of_its_shifted_products() {
    for (x, w, stride, padding) in [
        ([1, 32, 5, 12, 12], [32, 32, 3, 3, 3], [1; 3], [1; 3]),
        ([2, 5, 6, 9, 33], [17, 5, 3, 1, 5], [2, 1, 2], [1, 0, 4]),
        ([1, 1, 3, 40, 50], [1, 1, 3, 3, 3], [1; 3], [1; 3]),
    ] {
        let [x, w] = [noise(&x), noise(&w)].map(|t| Var::from_tensor(&t).unwrap());
        let one = conv3d(&x, &w, stride, padding).unwrap();
        let other = shifted_conv3d(&x, &w, stride, padding).unwrap();
        assert_eq!(one.dims(), other.dims());
        assert!(apart(&one, &other) < 2e-3, "{:?}: {}", x.dims(), apart(&one, &other));
        let g = noise(one.dims());
        let [mine, theirs] = [one, other].map(|y| (y * &g).unwrap().sum_all().unwrap().backward().unwrap());
        for var in [&x, &w] {
            let (a, b) = (mine.get(var).unwrap(), theirs.get(var).unwrap());
            let scale = b.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(apart(a, b) < 1e-4 * scale, "{:?}: {} of {scale}", var.dims(), apart(a, b));
        }
    }
}

#[test]
fn a_decoder_answers_on_the_pixels_and_every_parameter_has_a_gradient() {
    let (context, host) = context(DType::F64);
    let decoder = VolumeDecoder::with(&build(host, 6), 4, 1).unwrap();
    let tokens = noise(&[3, 6, 6]).to_dtype(DType::F64).unwrap();
    let class_tokens = host.full(0.0, &[3, 6]).unwrap();
    let view = ViewFeatures::new("axial", class_tokens, host.adopt(context.put(tokens)), [2, 3]);
    assert_eq!(decoder.logits(&view).unwrap().dims().unwrap(), [3, 28, 42]);
    let mut mask = vec![0f32; 3 * 28 * 42];
    mask[28 * 42 + 500..28 * 42 + 520].fill(1.0);
    let mask = host.tensor(&mask, &[3, 28, 42]).unwrap();
    assert_eq!(patch_mean(&mask, [14, 21]).unwrap().dims().unwrap(), [3, 14, 21]);
    let loss = decoder.loss(&view, &mask).unwrap();
    let gradients = context.get(loss.handle()).unwrap().sum_all().unwrap().backward().unwrap();
    let parameters = context.parameters();
    assert!(parameters.keys().all(|name| name.starts_with("segmentation.")) && parameters.len() == 8);
    for (name, parameter) in parameters {
        let g = gradients.get(parameter.tensor()).unwrap_or_else(|| panic!("{name}: no gradient"));
        let size = g.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(size > 0.0 && size.is_finite(), "{name}: {size}");
    }
    assert!(decoder.loss_fraction(5).loss(&view, &mask).is_err());
}

#[test]
fn a_volume_is_resized_by_a_product_as_by_its_two_neighbours() {
    for (dims, axis, to) in [([1, 3, 4, 5], 1, 7), ([2, 6, 3, 2], 2, 1), ([1, 2, 5, 9], 3, 4)] {
        let x = Var::from_tensor(&noise(&dims)).unwrap();
        let mut size = [dims[1], dims[2], dims[3]];
        size[axis - 1] = to;
        let (one, other) = (resize_linear(&x, size).unwrap(), resized_by_product(&x, axis, to).unwrap());
        assert_eq!(one.dims(), other.dims());
        assert!(apart(&one, &other) < 1e-6);
        let g = noise(one.dims());
        let [mine, theirs] = [one, other].map(|y| (y * &g).unwrap().sum_all().unwrap().backward().unwrap());
        assert!(apart(mine.get(&x).unwrap(), theirs.get(&x).unwrap()) < 1e-5);
    }
}
