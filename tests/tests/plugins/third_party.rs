//! Adapters in code inside the real backbone: gradients, prefix, training and an answer, by a plugin of somebody else's.

use anymc3d_host::backbone::{Backbone, Features, Precision};
use anymc3d_host::plugin::{Parameter, ParameterSource};
use anymc3d_host::task::{Task, TaskAdapter, TaskOptions, Weights};
use anymc3d_host::task::{TaskSiteAdapter, as_plugins_see, open_library};
use anymc3d_tests::support;
use anymc3d_tests::{backbone_folder, host_binary, random_weights, workspace};
use candle_core::{DType, Device, Tensor, Var};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn backbone() -> Backbone {
    Backbone::open(&backbone_folder(), Precision::F32).unwrap()
}

fn task(library: &Path, backbone: &Backbone) -> Task {
    let library = open_library(text(library)).unwrap();
    let source = ParameterSource::Training { seed: 2, start: BTreeMap::new() };
    let seen = as_plugins_see(backbone.info());
    Task::build(&library, &seen, source, DType::F32, &Device::Cpu, &TaskOptions::default()).unwrap()
}

/// Two slices of 2 x 3 patches.
fn pixels() -> Tensor {
    let n = 2 * 3 * 28 * 42;
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_vec(values, (2, 3, 28, 42), &Device::Cpu).unwrap()
}

fn moved(from: &Tensor, to: &Tensor) -> f32 {
    (from - to).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// `Σ w · features` with fixed weights, so that every token is seen.
fn weighted(f: &Features) -> Tensor {
    let part = |t: &Tensor| {
        let n = t.elem_count();
        let w: Vec<f32> = (0..n).map(|i| ((i * 31 + 7) % 17) as f32 / 8.0 - 1.0).collect();
        (t * Tensor::from_vec(w, t.shape(), &Device::Cpu).unwrap()).unwrap().sum_all().unwrap()
    };
    (part(&f.class_tokens) + part(&f.patch_tokens)).unwrap()
}

#[test]
fn the_gradients_of_an_adapter_in_code_are_those_of_difference_quotients_in_the_real_backbone() {
    let (library, backbone) = (support::example("third_party_plugin"), backbone());
    let task = task(&library, &backbone);
    assert!(matches!(&task.adapters()[0], TaskAdapter::Custom(code) if code.first_block == 9));
    let adapter: Vec<(String, Var)> = task
        .parameters()
        .into_iter()
        .filter(|(name, _)| name.starts_with("adapter."))
        .filter_map(|(name, p)| match p {
            Parameter::Trained(var) => Some((name, var)),
            Parameter::Fixed(_) => None,
        })
        .collect();
    assert_eq!(adapter.len(), 9);
    let hidden = backbone.hidden_states(&pixels(), 9).unwrap();
    let frozen = backbone.forward_from(&hidden, &TaskSiteAdapter::new(&task.adapters()[0]), false).unwrap();
    // `up` is zero at the start: the adapted backbone is the frozen one.
    let none = backbone.forward(&pixels(), &TaskSiteAdapter::new(&TaskAdapter::None), false).unwrap();
    assert!(moved(&frozen.class_tokens, &none.class_tokens) < 2e-3);
    for (name, var) in &adapter {
        let n = var.elem_count();
        let away: Vec<f32> =
            (0..n).map(|i| 0.1 * (((i * 7919 + name.len()) % 211) as f32 / 105.5 - 1.0)).collect();
        let away = Tensor::from_vec(away, var.shape(), &Device::Cpu).unwrap();
        var.set(&(var.as_tensor() + away).unwrap()).unwrap();
    }
    let loss = || {
        let features =
            backbone.forward_from(&hidden, &TaskSiteAdapter::new(&task.adapters()[0]), false).unwrap();
        (weighted(&features), features)
    };
    let (value, features) = loss();
    assert!(moved(&features.class_tokens, &none.class_tokens) > 0.05);
    let gradients = value.backward().unwrap();
    for (name, var) in &adapter {
        let g = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient")).detach();
        let length = g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        assert!(length > 0.0, "{name}");
        // Along its own direction the derivative is the gradient's length.
        let start = var.as_tensor().copy().unwrap().detach();
        let h = 0.02;
        let at = |step: f32| {
            let by = (&g * f64::from(step / length)).unwrap();
            var.set(&(&start + by).unwrap()).unwrap();
            loss().0.to_scalar::<f32>().unwrap()
        };
        let numeric = (at(h) - at(-h)) / (2.0 * h);
        var.set(&start).unwrap();
        assert!((numeric - length).abs() < 0.02 * length, "{name}: {length} against {numeric}");
    }
    // Validation sees the same numbers without a graph behind them.
    let detached =
        backbone.forward_from(&hidden, &TaskSiteAdapter::detached(&task.adapters()[0]), false).unwrap();
    assert_eq!(moved(&detached.class_tokens, &features.class_tokens), 0.0);
    assert!(!detached.class_tokens.track_op() && features.class_tokens.track_op());
}

#[test]
fn code_that_begins_at_a_block_is_never_asked_about_what_comes_before_it() {
    let code = "plugin/src/lib.rs";
    let library = support::foreign(
        "adapts_everywhere",
        "lung_nodule",
        &[
            (
                code,
                "Ok(Lora::paper(backbone).from_block(backbone.blocks / 2).into())",
                "let first = backbone.blocks / 2; Ok(Adapter::Custom(Box::new(Everywhere(first))))",
            ),
            (
                code,
                "struct LungNodule;",
                "struct LungNodule;\n\nstruct Everywhere(usize);\nimpl SiteAdapter for Everywhere {\n    fn first_block(&self) -> usize { self.0 }\n    \
              fn apply(&self, _: Site, _: &Tensor, output: Tensor) -> Result<Tensor> { output.scale(1.25) }\n}",
            ),
        ],
    );
    let backbone = backbone();
    let task = task(&library, &backbone);
    let adapter = TaskSiteAdapter::new(&task.adapters()[0]);
    let whole = backbone.forward(&pixels(), &adapter, true).unwrap();
    let hidden = backbone.hidden_states(&pixels(), 6).unwrap();
    let from = backbone.forward_from(&hidden, &adapter, true).unwrap();
    assert!(moved(&whole.class_tokens, &from.class_tokens) < 2e-3);
    assert!(moved(&whole.patch_tokens, &from.patch_tokens) < 2e-3);
    let none = backbone.forward(&pixels(), &TaskSiteAdapter::new(&TaskAdapter::None), true).unwrap();
    assert!(moved(&whole.class_tokens, &none.class_tokens) > 0.05);
    // A shorter prefix is as good, a longer one is refused.
    assert!(backbone.forward_from(&backbone.hidden_states(&pixels(), 7).unwrap(), &adapter, false).is_err());
}

fn host(arguments: &[&str]) -> String {
    let mut command = Command::new(host_binary());
    let home = workspace().join("target").join("no-such-home");
    let output = command.args(arguments).current_dir(workspace()).env("ANYMC3D_HOME", home).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?}\n{out}\n{err}");
    out
}

#[test]
fn a_third_partys_adapter_head_and_loss_train_on_phantoms_and_answer() {
    let folder = tempfile::tempdir().unwrap();
    let library = support::example("third_party_plugin");
    let data = folder.path().join("phantoms");
    host(&["phantom", "lung_nodule", "--count", "4", "--seed", "5", "--out", text(&data)]);
    let table = data.join("table.csv");
    let rows = std::fs::read_to_string(&table).unwrap();
    let rows = rows
        .lines()
        .enumerate()
        .map(|(i, row)| format!("{row},{}\n", if i == 0 { "split" } else { "train" }));
    std::fs::write(&table, rows.collect::<String>()).unwrap();
    let out = folder.path().join("run");
    let train =
        ["train", "--plugin", text(&library), "--data", text(&table), "--out", text(&out), "--seed", "3"];
    let more = ["--epochs", "8", "--batch", "2", "--lr", "0.002", "--head-lr", "0.005"];
    let rest = ["--augment", "none", "--cache-size", "0", "--precision", "f32"];
    host(&[&train[..], &more, &rest].concat());
    let log = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    let losses: Vec<f64> =
        log.lines().skip(1).map(|l| l.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert!(losses.len() == 8 && losses.iter().all(|l| l.is_finite()) && losses[7] < losses[0], "{losses:?}");

    let weights = out.join("third_party_plugin.safetensors");
    let trained = Weights::open(&weights).unwrap().tensors;
    let start = folder.path().join("start.safetensors");
    random_weights(&library, &start, 3, |_, _| {});
    for (name, from) in Weights::open(&start).unwrap().tensors {
        let by = moved(&from, &trained[&name]);
        assert!(by > 1e-4, "{name} has moved by {by}");
    }
    let first = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().path());
    let scan = first.filter(|p| text(p).ends_with(".nii.gz") && !text(p).contains("mask")).min().unwrap();
    let answer =
        host(&["run", "--plugin", text(&library), "--weights", text(&weights), "--json", text(&scan)]);
    let answer: serde_json::Value = serde_json::from_str(answer.lines().next().unwrap()).unwrap();
    assert!(
        answer["predictions"][0]["probability"].as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)),
        "{answer}"
    );
    let slices = answer["views"][0]["weights"].as_array().unwrap();
    let sum: f64 = slices.iter().map(|w| w.as_f64().unwrap()).sum();
    assert!(slices.len() == 8 && (sum - 1.0).abs() < 1e-4, "{answer}");
}
