//! What loading a plugin costs, step by step, and what a call through the table costs.
//!
//! `cargo bench -p anymc3d-tests --bench plugin_load`. Every load is the first of a process of its own; the same
//! process loads once more for the warm figure.

use anymc3d_tests::support;

use anymc3d_host::plugin::{Context, ParameterSource, host_ops, load, section};
use anymc3d_host::task::{Task, TaskOptions};
use anymc3d_plugin_api::{BackboneInfo, Host};
use candle_core::{DType, Device};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const LOADS: usize = 31;
const STEPS: [&str; 7] =
    ["manifest read", "checks and digest", "private copy", "open", "layout", "task build", "all together"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|a| a == "--one-load") {
        Some(at) => one_load(Path::new(&arguments[at + 1])),
        None => {
            let library = support::plugin("lung_nodule");
            let bytes = std::fs::metadata(&library).map(|m| m.len()).unwrap_or_default();
            println!(
                "{} ({:.2} MB), {LOADS} processes each, ms: median [fastest .. slowest]",
                library.display(),
                bytes as f64 / 1e6
            );
            loads("first load, copy made", &library, true);
            loads("first load, copy there", &library, false);
            calls();
        }
    }
}

/// Steps of one load on one line, in nanoseconds, and those of the next load on another.
fn one_load(library: &Path) {
    let backbone = BackboneInfo::new("dinov2", 384, 12, 6, 14);
    for _ in 0..2 {
        let bytes = std::fs::read(library).expect("the library is read");
        let start = Instant::now();
        black_box(section::read(library, &bytes).expect("a manifest"));
        let read = start.elapsed();
        let start = Instant::now();
        let loaded = load(library).unwrap_or_else(|e| panic!("{e}"));
        let built = Instant::now();
        let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
        let task = Task::build(&loaded, &backbone, source, DType::F32, &Device::Cpu, &TaskOptions::default());
        let (build, all) = (built.elapsed(), start.elapsed());
        task.unwrap_or_else(|e| panic!("{e}"));
        let t = loaded.timing;
        let steps = [read, t.check.saturating_sub(read), t.copy, t.open, t.layout, build, all];
        println!("{}", steps.map(|d| d.as_nanos().to_string()).join(" "));
    }
}

fn loads(what: &str, library: &Path, new_home: bool) {
    let shared = tempfile::tempdir().expect("a folder");
    let (mut first, mut warm) = (vec![Vec::new(); STEPS.len()], vec![Vec::new(); STEPS.len()]);
    // One more than is counted: it fills the caches, and makes the copy where it is to be there.
    for run in 0..=LOADS {
        let own = tempfile::tempdir().expect("a folder");
        let home = if new_home { own.path() } else { shared.path() };
        let exe = std::env::current_exe().expect("a bench knows its executable");
        let output = Command::new(exe).arg("--one-load").arg(library).env("ANYMC3D_HOME", home).output();
        let output = output.expect("the bench runs itself");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (line, times) in text.lines().zip([&mut first, &mut warm]) {
            for (step, nanoseconds) in line.split(' ').enumerate().filter(|_| run > 0) {
                times[step].push(Duration::from_nanos(nanoseconds.parse().expect("a number")));
            }
        }
    }
    print_steps(what, &mut first);
    print_steps(&format!("{what}; the same again in that process"), &mut warm);
}

fn print_steps(what: &str, times: &mut [Vec<Duration>]) {
    println!("\n{what}");
    for (step, times) in STEPS.iter().zip(times) {
        times.sort();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let (median, low, high) = (times[times.len() / 2], times[0], times[times.len() - 1]);
        println!("  {step:18} {:8.3}  [{:.3} .. {:.3}]", ms(median), ms(low), ms(high));
    }
}

fn calls() {
    let source = ParameterSource::Training { seed: 0, start: BTreeMap::new() };
    let context = Context::create("bench", DType::F32, Device::Cpu, source);
    let host = Host::new(host_ops(), context.id());
    let (x, y) = (host.full(1.0, &[40]).expect("a tensor"), host.full(2.0, &[40]).expect("a tensor"));
    println!("\none call through the table, ns: median [fastest .. slowest] of 31 batches of 20 000");
    per_call("abi_version (no handle)", || {
        black_box(host.abi_version());
    });
    per_call("dims [40]", || drop(black_box(x.dims())));
    per_call("clone and release", || drop(black_box(x.try_clone())));
    per_call("add [40] + [40] and release", || drop(black_box(x.add(&y))));
}

fn per_call(what: &str, mut call: impl FnMut()) {
    const BATCH: u32 = 20_000;
    let mut times: Vec<f64> = (0..31)
        .map(|_| {
            let start = Instant::now();
            (0..BATCH).for_each(|_| call());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("  {what:28} {:8.1}  [{:.1} .. {:.1}]", times[15], times[0], times[30]);
}
