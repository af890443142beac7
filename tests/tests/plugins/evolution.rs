//! The ABI over time: kept binaries and the newest, hosts and plugins, in both orders, fresh and loaded once more; what
//! was appended does no harm, what was changed is refused.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use anymc3d_host::plugin::{Library, ParameterSource, PluginError, load};
use anymc3d_host::task::{HeadAnswer, Task, TaskOptions, ViewTokens};
use anymc3d_plugin_api::{BackboneInfo, SliceGeometry};
use anymc3d_tests::support::{self, Edit};
use anymc3d_tests::workspace;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const TABLE: &str = "plugin-api/src/abi/table.rs";
const OPS: &str = "plugin-api/src/abi/ops.rs";
const OBJECTS: &str = "plugin-api/src/abi/objects.rs";

/// ABI 1.2 as it could be: a function more in the host's table, another in the head's.
const APPENDED: [Edit; 9] = [
    ("plugin-api/Cargo.toml", "\nversion = \"1.1.0\"", "\nversion = \"1.2.0\""),
    (
        TABLE,
        "    pub token_spacing: extern \"C\" fn(ContextId, ViewId) -> Answer<RVec<f64>>,\n",
        "    pub token_spacing: extern \"C\" fn(ContextId, ViewId) -> Answer<RVec<f64>>,\n    /// Twice as much.\n    pub doubled: extern \"C\" fn(ContextId, Handle) -> Answer<Handle>,\n",
    ),
    (
        OPS,
        "        token_spacing: Self::token_spacing,\n",
        "        token_spacing: Self::token_spacing,\n        doubled: Self::doubled,\n",
    ),
    (
        OPS,
        "    extern \"C\" fn token_spacing(",
        "    extern \"C\" fn doubled(context: ContextId, x: Handle) -> Answer<Handle> {\n        Self::affine(context, x, 2.0, 0.0)\n    }\n\n    extern \"C\" fn token_spacing(",
    ),
    (
        OBJECTS,
        "    ) -> Answer<RVec<NamedHandle>>,\n}",
        "    ) -> Answer<RVec<NamedHandle>>,\n    /// A number to know it by.\n    pub number: extern \"C\" fn() -> u32,\n}",
    ),
    (OBJECTS, "pub const ABI_VERSION: u32 = 1 << 16 | 1;", "pub const ABI_VERSION: u32 = 1 << 16 | 2;"),
    (OBJECTS, "ABI_VERSION_TEXT: &str = \"1.1\"", "ABI_VERSION_TEXT: &str = \"1.2\""),
    (
        "plugin-api/src/abi/shims.rs",
        "forward: head_forward };",
        "forward: head_forward, number: the_number };\n        extern \"C\" fn the_number() -> u32 { 11 }",
    ),
    (
        "plugin-api/src/tensor.rs",
        "    /// The host this tensor lives in.",
        "    /// Twice as much.\n    pub fn doubled(&self) -> Result<Tensor> {\n        match self.host.ops.doubled() {\n            Some(doubled) => self.host.own(doubled(self.host.context, self.handle)),\n            None => Err(self.host.too_old(\"doubled\", \"1.2\")),\n        }\n    }\n\n    /// The host this tensor lives in.",
    ),
];

/// The same on the side of a host.
const ITS_HOST: [Edit; 3] = [
    (
        "tests/evolution/host/src/main.rs",
        "// More functions of the table stand here.",
        "extern \"C\" fn doubled(context: ContextId, x: Handle) -> Answer<Handle> {\n    affine(context, x, 2.0, 0.0)\n}",
    ),
    (
        "tests/evolution/host/src/main.rs",
        "        // More fields of the table stand here.",
        "        doubled,",
    ),
    (
        "tests/evolution/host/src/main.rs",
        "let more = String::new();",
        "let more = head.table.number().map_or(String::new(), |number| format!(\", number {}\", number()));",
    ),
];

/// What uses the function that was appended.
const NEEDS_IT: Edit = (
    "plugin/src/lib.rs",
    "AttentionPooling::new(build).boxed()",
    "let two = build.host().full(1.0, &[1])?.doubled()?.to_vec()?;\n        assert!(two == [2.0]);\n        AttentionPooling::new(build).boxed()",
);

const CHANGED: [Edit; 3] = [
    (
        OPS,
        "extern \"C\" fn affine(context: ContextId, handle: Handle, mul: f64, add: f64) -> Answer<Handle> {",
        "extern \"C\" fn affine(context: ContextId, handle: Handle, mul: f64, add: f32) -> Answer<Handle> {\n        let add = f64::from(add);",
    ),
    (
        TABLE,
        "pub affine: extern \"C\" fn(ContextId, Handle, f64, f64)",
        "pub affine: extern \"C\" fn(ContextId, Handle, f64, f32)",
    ),
    ("plugin-api/src/tensor.rs", "self.handle, mul, add))", "self.handle, mul, add as f32))"),
];

fn kept(name: &str) -> PathBuf {
    workspace().join("tests/evolution/kept").join(name)
}

fn newest() -> PathBuf {
    support::plugin("attention_probe")
}

/// What a host program says of libraries, one line or more each, in their order.
fn says(host: &Path, libraries: &[&Path]) -> Vec<String> {
    let output = Command::new(host).args(libraries).output().expect("the host program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}", host.display());
    let mut told: Vec<String> = Vec::new();
    for line in text.lines().skip(1) {
        match told.last_mut() {
            Some(last) if line.starts_with("  ") => *last += &format!("\n{line}"),
            _ => told.push(line.to_owned()),
        }
    }
    told
}

fn opened(path: &Path) -> Library {
    load(path).unwrap_or_else(|e| panic!("{e}"))
}

fn built(library: &Library) -> Result<Task, PluginError> {
    let backbone = BackboneInfo::new("dinov2", 384, 12, 6, 14);
    let source = ParameterSource::Training { seed: 5, start: BTreeMap::new() };
    Task::build(library, &backbone, source, DType::F32, &Device::Cpu, &TaskOptions::default())
}

/// What the real host, in this process, has of a library: it is loaded anew each time.
fn answer(path: &Path) -> Vec<f32> {
    head(path).logits.to_vec1().unwrap()
}

fn head(path: &Path) -> HeadAnswer {
    let task = built(&opened(path)).unwrap_or_else(|e| panic!("{e}"));
    let values: Vec<f32> = (0..5 * 384).map(|i| ((i * 37 % 101) as f32 - 50.0) / 25.0).collect();
    let class_tokens = Tensor::from_vec(values, (5, 384), &Device::Cpu).unwrap();
    let patch_tokens = Tensor::zeros((5, 4, 384), DType::F32, &Device::Cpu).unwrap();
    let view = ViewTokens {
        name: "axial",
        class_tokens: &class_tokens,
        patch_tokens: &patch_tokens,
        grid: (2, 2),
        geometry: Some(Arc::new(SliceGeometry::evenly_spaced(5, [5.0, 14.0, 14.0]))),
        mask: Default::default(),
    };
    task.head(&[view]).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn kept_and_newest_plugins_answer_alike_on_kept_and_newest_hosts_in_both_orders_fresh_and_reloaded() {
    let (old, new) = (kept("attention_probe-1.0.so"), newest());
    println!("{:8} {:8} {:9} {:9} answer", "plugin", "host", "order", "loaded");
    // The newest host is the real one; each library is loaded twice, before and after the other.
    let orders = [("old first", [&old, &new]), ("new first", [&new, &old])];
    let expected = answer(&new);
    for (order, libraries) in orders {
        for loaded in ["fresh", "again"] {
            for path in libraries {
                let found = answer(path);
                let plugin = if *path == old { "1.0 kept" } else { "newest" };
                println!("{plugin:8} {:8} {order:9} {loaded:9} {found:?}", "newest");
                assert_eq!(found, expected, "{plugin} on the newest host, {order}, {loaded}");
            }
        }
        // The kept host is a process of its own for each order.
        let four = [libraries[0], libraries[1], libraries[0], libraries[1]].map(PathBuf::as_path);
        let told = says(&kept("host-1.0"), &four);
        for (i, line) in told.iter().enumerate() {
            let plugin = if four[i] == old { "1.0 kept" } else { "newest" };
            println!(
                "{plugin:8} {:8} {order:9} {:9} {line}",
                "1.0 kept",
                if i < 2 { "fresh" } else { "again" }
            );
            assert!(line.contains("[-3.56165") && line.ends_with(", 0 handles left"), "{line}");
        }
        assert_eq!(told.len(), 4);
    }
}

#[test]
fn a_plugin_that_asks_for_slice_positions_has_them_on_a_host_of_1_1_and_is_refused_by_one_of_1_0() {
    let (old, asks) = (kept("attention_probe-1.0.so"), support::plugin("position_probe"));
    // The same plugin that does not say so when its head is built: refused in the call, by the same words.
    let late = ("plugin/src/lib.rs", "        build.needs_slice_positions()?;\n", "");
    let late = support::foreign("asks_late", "position_probe", &[late]);
    let newest_host = support::standing(&workspace().join("tests/evolution/host"), "evolution_host");
    let refusal = "op `slice_positions` needs plugin-api >= 1.1, this host has 1.0; upgrade the host";
    println!("{:14} {:14} {:9} answer", "plugin", "host", "order");
    for (order, libraries) in
        [("old first", [&old, &asks, &late, &old]), ("new first", [&asks, &late, &old, &asks])]
    {
        for (name, host) in [("1.0 kept", kept("host-1.0")), ("1.1", newest_host.clone())] {
            let told = says(&host, &libraries.map(PathBuf::as_path));
            assert_eq!(told.len(), 4);
            for (path, line) in libraries.iter().zip(&told) {
                let plugin = if *path == &old { "1.0 kept" } else { "1.1, positions" };
                println!("{plugin:14} {name:14} {order:9} {line}");
                if *path == &old {
                    assert!(line.starts_with("plugin 1.0 ") && line.contains("[-3.56165"), "{line}");
                } else if name == "1.1" {
                    // A thousandth of a position between -10 and 10 mm beside the others' answer.
                    assert!(line.starts_with("plugin 1.1 ") && line.contains("[-3.5"), "{line}");
                    assert!(!line.contains("[-3.56165") && line.ends_with(", 0 handles left"), "{line}");
                } else {
                    assert_eq!(*line, format!("plugin 1.1 failed: {refusal}"));
                }
            }
        }
        // The real host.
        for path in libraries {
            let found = answer(path);
            let expected = answer(&old)[0] + if path == &old { 0.0 } else { 1e-3 * attended(&old) };
            println!(
                "{:14} {:14} {order:9} {found:?}",
                if path == &old { "1.0 kept" } else { "1.1, positions" },
                "newest"
            );
            assert!((found[0] - expected).abs() < 1e-6, "{found:?}, expected {expected}");
        }
    }
}

/// The position that a plugin's slice weights are at, mm.
fn attended(path: &Path) -> f32 {
    let weights: Vec<f32> = head(path).slice_weights[0].to_vec1().unwrap();
    weights.iter().zip([-10.0, -5.0, 0.0, 5.0, 10.0]).map(|(w, mm)| w * mm).sum()
}

#[test]
fn what_was_appended_does_no_harm_and_what_needs_it_says_so() {
    let old = kept("attention_probe-1.0.so");
    let unused = support::foreign("abi_1_2", "attention_probe", &APPENDED);
    let mut edits = APPENDED.to_vec();
    edits.push(NEEDS_IT);
    let needs = support::foreign("abi_1_2_needed", "attention_probe", &edits);
    let host = support::foreign_program(
        "abi_1_2_host",
        "tests/evolution/host",
        "evolution_host",
        &[&APPENDED[..], &ITS_HOST].concat(),
    );
    let refusal =
        |host: &str| format!("op `doubled` needs plugin-api >= 1.2, this host has {host}; upgrade the host");

    // On the host that has it: old plugins answer as ever, new ones have both new functions. In both orders.
    for libraries in [[&old, &unused, &needs, &old], [&needs, &unused, &old, &needs]] {
        let told = says(&host, &libraries.map(PathBuf::as_path));
        for (path, line) in libraries.iter().zip(&told) {
            println!("on 1.2: {line}");
            let (version, number) =
                if *path == &old { ("plugin 1.0 ", "") } else { ("plugin 1.2 ", ", number 11") };
            assert!(line.starts_with(version) && line.contains("[-3.56165"), "{line}");
            assert!(line.contains(&format!("]{number}, 0 handles left")), "{line}");
        }
        assert_eq!(told.len(), 4);
    }
    // On hosts of 1.0: one that does not call it answers, one that does says what it needs.
    for libraries in [[&old, &unused, &needs], [&needs, &unused, &old]] {
        let told = says(&kept("host-1.0"), &libraries.map(PathBuf::as_path));
        for (path, line) in libraries.iter().zip(&told) {
            println!("on 1.0 kept: {line}");
            if *path == &needs {
                assert_eq!(*line, format!("plugin 1.2 failed: {}", refusal("1.0")));
            } else {
                assert!(line.contains("[-3.56165"), "{line}");
            }
        }
    }
    let error = built(&opened(&needs)).err().expect("it needs what this host does not have").to_string();
    println!("on the newest: {error}");
    assert_eq!(error, format!("plugin attention_probe: head: {}", refusal("1.1")));
    assert_eq!(answer(&unused), answer(&old));
}

#[test]
fn what_was_changed_is_refused_by_every_host_in_five_readable_lines() {
    let (old, changed) =
        (kept("attention_probe-1.0.so"), support::foreign("changed", "attention_probe", &CHANGED));
    let line = "at HostOps > affine: host fn(ContextId, Handle, f64, f64) -> RResult, plugin fn(ContextId, Handle, f64, f32) -> RResult";
    let expected = answer(&old);
    for _ in 0..2 {
        let error = load(&changed).err().expect("it is refused").to_string();
        assert!(error.contains(line) && error.lines().count() <= 5, "{error}");
        assert_eq!(answer(&old), expected);
    }
    for libraries in [[&old, &changed, &old], [&changed, &old, &changed]] {
        let told = says(&kept("host-1.0"), &libraries.map(PathBuf::as_path));
        for (path, said) in libraries.iter().zip(&told) {
            println!("{said}");
            let refused = said.starts_with("refused ") && said.contains(line) && said.lines().count() <= 5;
            assert_eq!(refused, *path == &changed, "{said}");
        }
    }
}
