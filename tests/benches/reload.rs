//! What a hot reload costs: 200 generations of a plugin in one process, each another file, each answering once.
//!
//! `cargo bench -p anymc3d-tests --bench reload`. Every generation is a library with another version in its manifest, so
//! that the loader makes a copy of its own and opens it as another library; the task's parameters are carried over.

use anymc3d_tests::support;

use anymc3d_host::plugin::{Library, ParameterSource, load};
use anymc3d_host::task::{Task, TaskOptions, ViewTokens};
use anymc3d_plugin_api::BackboneInfo;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const RELOADS: usize = 200;
const WARM: usize = 5;

fn main() {
    let home = tempfile::tempdir().expect("a folder");
    // Generations are copied into a home of this bench's own, which goes with it.
    if std::env::var_os("ANYMC3D_HOME").is_none_or(|h| !Path::new(&h).ends_with("reload-bench")) {
        let exe = std::env::current_exe().expect("a bench knows its executable");
        let home = home.path().join("reload-bench");
        let status = std::process::Command::new(exe).env("ANYMC3D_HOME", home).status();
        assert!(status.expect("the bench runs itself").success());
        return;
    }
    for plugin in ["attention_probe", "lung_nodule"] {
        reload(plugin, true);
    }
    reload("lung_nodule", false);
}

/// Memory of this process in kB: resident, and of that what no file stands behind: heap, and pages of libraries that were
/// written to. The rest is mapped code, which the system takes back where it needs room.
fn memory() -> [u64; 2] {
    let read = |file: &str, key: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix(key).map(str::to_owned)).unwrap_or_default();
        line.trim().trim_end_matches("kB").trim().parse().unwrap_or(0)
    };
    let private =
        read("/proc/self/smaps_rollup", "Private_Clean:") + read("/proc/self/smaps_rollup", "Anonymous:");
    [read("/proc/self/status", "VmRSS:"), private]
}

fn built(library: &Library, start: &BTreeMap<String, Tensor>) -> Task {
    let backbone = BackboneInfo::new("dinov2", 384, 12, 6, 14);
    let source = if start.is_empty() {
        ParameterSource::Training { seed: 1, start: BTreeMap::new() }
    } else {
        ParameterSource::Weights(start.clone())
    };
    let options = TaskOptions { segmentation: true, ..TaskOptions::default() };
    Task::build(library, &backbone, source, DType::F32, &Device::Cpu, &options)
        .unwrap_or_else(|e| panic!("{e}"))
}

fn reload(plugin: &str, other_each_time: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = std::fs::read(support::plugin(plugin)).expect("the library");
    let old = b"version = \"0.1.0\"";
    let at = bytes.windows(old.len()).position(|w| w == old).expect("its version");
    let path = folder.path().join("task.so");
    let class = Tensor::ones((40, 384), DType::F32, &Device::Cpu).expect("tokens");
    let patch = Tensor::ones((40, 4, 384), DType::F32, &Device::Cpu).expect("tokens");
    let mut weights = BTreeMap::new();
    let mut current: Option<Task> = None;
    let mut times: Vec<Duration> = Vec::new();
    let mut before = memory();
    for generation in 0..RELOADS + WARM {
        if generation == WARM {
            before = memory();
        }
        let mut next = bytes.clone();
        if other_each_time {
            // `0.1.0` to `123`-like numbers of the same length: 1.0.0 to 9.9.9.
            let version = format!("{}.{}.{}", 1 + generation / 100, generation / 10 % 10, generation % 10);
            next[at + 11..at + 16].copy_from_slice(version.as_bytes());
        }
        std::fs::write(&path, next).expect("the library is written");
        let start = Instant::now();
        let library = load(&path).unwrap_or_else(|e| panic!("{e}"));
        let task = built(&library, &weights);
        let old = current.replace(task);
        if let Some(old) = old {
            old.close().expect("the old generation lets go");
        }
        if generation >= WARM {
            times.push(start.elapsed());
        }
        let Some(task) = &current else { continue };
        if weights.is_empty() {
            weights = task.parameters().into_iter().map(|(name, p)| (name, p.tensor().detach())).collect();
        }
        let name = task.manifest().views[0].name.clone();
        let view = ViewTokens {
            name: &name,
            class_tokens: &class,
            patch_tokens: &patch,
            grid: (2, 2),
            geometry: None,
            mask: Default::default(),
        };
        task.head(&[view]).unwrap_or_else(|e| panic!("{e}"));
    }
    let after = memory();
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let grown = |i: usize| (after[i] as f64 - before[i] as f64) / RELOADS as f64;
    println!(
        "{plugin} ({:.2} MB), {RELOADS} reloads of {}: {:.2} ms each (median) [{:.2} .. {:.2}]; resident {:+.1} kB, without a file behind it {:+.1} kB per reload",
        bytes.len() as f64 / 1e6,
        if other_each_time { "another library each time" } else { "the same library" },
        ms(times[times.len() / 2]),
        ms(times[0]),
        ms(times[times.len() - 1]),
        grown(0),
        grown(1),
    );
}
