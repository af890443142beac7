//! Opening a large backbone takes about the memory of its file, whatever numbers are in it. A process of its own, whose peak is
//! nobody else's.
#![cfg(target_os = "linux")]

use anymc3d_host::backbone::{Backbone, Precision};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// DINOv2 of `blocks` blocks of width d with random weights; bytes of its file.
fn model(folder: &Path, d: usize, blocks: usize, dtype: Dtype) -> u64 {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.cls_token".into(), vec![1, 1, d]),
        ("embeddings.position_embeddings".into(), vec![1, 17, d]),
        ("embeddings.patch_embeddings.projection.weight".into(), vec![d, 3, 14, 14]),
        ("embeddings.patch_embeddings.projection.bias".into(), vec![d]),
        ("layernorm.weight".into(), vec![d]),
        ("layernorm.bias".into(), vec![d]),
    ];
    for i in 0..blocks {
        let mut add =
            |name: &str, shape: &[usize]| shapes.push((format!("encoder.layer.{i}.{name}"), shape.to_vec()));
        let mut linear = |name: &str, rows: usize, columns: usize| {
            add(&format!("{name}.weight"), &[rows, columns]);
            add(&format!("{name}.bias"), &[rows]);
        };
        for part in ["query", "key", "value"] {
            linear(&format!("attention.attention.{part}"), d, d);
        }
        linear("attention.output.dense", d, d);
        linear("mlp.fc1", 4 * d, d);
        linear("mlp.fc2", d, 4 * d);
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            add(name, &[d]);
        }
        add("layer_scale1.lambda1", &[d]);
        add("layer_scale2.lambda1", &[d]);
    }
    let width = if dtype == Dtype::F32 { 4 } else { 2 };
    // Sign, and an exponent of small numbers in every one of the types.
    let mut state = 1u32;
    let mut numbers = |count: usize| {
        let mut bytes = Vec::with_capacity(count * width);
        for _ in 0..count {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let bits = ((state >> 16) & 0x83ff) | 0x2400;
            match width {
                4 => bytes.extend_from_slice(&((bits << 16) | (state & 0xffff)).to_le_bytes()),
                _ => bytes.extend_from_slice(&(bits as u16).to_le_bytes()),
            }
        }
        bytes
    };
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let bytes = numbers(shape.iter().product());
            (name, shape, bytes)
        })
        .collect();
    let views: BTreeMap<&str, TensorView<'_>> =
        data.iter().map(|(n, s, b)| (n.as_str(), TensorView::new(dtype, s.clone(), b).unwrap())).collect();
    let path = folder.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let config = serde_json::json!({
        "model_type": "dinov2", "hidden_size": d, "num_hidden_layers": blocks, "num_attention_heads": d / 64,
        "mlp_ratio": 4, "patch_size": 14, "image_size": 56, "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6,
        "qkv_bias": true, "use_swiglu_ffn": false, "layerscale_value": 1.0,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let pixels = serde_json::json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    fs::write(folder.join("preprocessor_config.json"), pixels.to_string()).unwrap();
    fs::metadata(path).unwrap().len()
}

/// Bytes of a line of /proc/self/status.
fn status(key: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// Sets a variable for the process that this test starts anew: whose memory is measured must not have held the model before.
const CHILD: &str = "ANYMC3D_OPENING_TEST";

#[test]
fn opening_a_large_backbone_takes_about_its_files_memory() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let before = status("VmRSS:");
        let backbone = Backbone::open(Path::new(&folder), Precision::F32).unwrap();
        println!("grown {} {}", status("VmHWM:") - before, backbone.bytes());
        return;
    }
    // In f32 more than 512 MiB, so that 16-bit files stay 16 bits wide; of a 32-bit file any size will do.
    for (d, blocks, dtype) in [(1024, 11, Dtype::F16), (1024, 11, Dtype::BF16), (1024, 4, Dtype::F32)] {
        let folder = tempfile::tempdir().unwrap();
        let file = model(folder.path(), d, blocks, dtype);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "opening_a_large_backbone_takes_about_its_files_memory", "--nocapture"]);
        child.env(CHILD, folder.path()).env("RAYON_NUM_THREADS", "2");
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = said.lines().find_map(|l| l.split("grown ").nth(1));
        let told = told.unwrap_or_else(|| panic!("{said}{output:?}"));
        let numbers: Vec<u64> = told.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [grown, held] = numbers[..] else { panic!("{told}") };
        // What stays is as large as the file.
        assert!(held * 100 < file * 103, "{dtype:?}: {held} bytes for a file of {file}");
        // What comes and goes is a few layers, of each of the two threads: the whole blocks of a model would be more.
        let layer = (4 * d * d * 4) as u64;
        assert!(
            grown < held + 9 * layer,
            "{dtype:?}: {grown} bytes for {held} of weights and layers of {layer}"
        );
    }
}
