//! Plugins as a user has them: built libraries. Made by nested cargo in the profile of the test run.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Every plugin of the workspace that a test may ask for: built together, so that they share what they depend on.
const PLUGINS: [&str; 9] = [
    "lung_nodule",
    "mean_probe",
    "attention_probe",
    "position_probe",
    "panics",
    "misbehaves",
    "careless",
    "constructor_panics",
    "paper",
];

/// The checkout.
pub fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout").to_owned()
}

/// `…/target/debug` of the test that runs.
fn profile_folder() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its executable");
    let folder = exe.ancestors().find(|p| p.file_name().is_some_and(|n| n == "deps"));
    folder.and_then(Path::parent).expect("tests run from target/PROFILE/deps").to_owned()
}

fn target() -> PathBuf {
    profile_folder().parent().expect("a profile's folder lies in target").to_owned()
}

/// Whether the plugins are built as they are shipped.
pub fn released() -> bool {
    profile_folder().ends_with("release")
}

/// A plugin of the workspace.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: OnceLock<BTreeMap<String, PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut cargo = cargo(&checkout(), &target());
        if released() {
            cargo.arg("--release");
        }
        for name in PLUGINS {
            cargo.args(["-p", name]);
        }
        libraries(cargo)
    });
    built.get(name).unwrap_or_else(|| panic!("no library of {name} among {built:?}")).clone()
}

fn cargo(folder: &Path, target: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--message-format=json-render-diagnostics"]);
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", target);
    // A test run under `cargo test --profile …` or with coverage flags must not leak them into another workspace.
    cargo.env_remove("CARGO_MANIFEST_DIR");
    cargo
}

/// Runs cargo and answers which library each package became.
fn libraries(mut cargo: Command) -> BTreeMap<String, PathBuf> {
    let output = cargo.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let artifacts =
        messages.filter(|m| m["reason"] == "compiler-artifact" && m["target"]["kind"][0] == "cdylib");
    let named = artifacts.filter_map(|m| {
        let file = m["filenames"].as_array()?.iter().filter_map(|f| f.as_str()).find(|f| {
            Path::new(f)
                .extension()
                .is_some_and(|e| e == std::env::consts::DLL_SUFFIX.trim_start_matches('.'))
        })?;
        Some((m["target"]["name"].as_str()?.to_owned(), PathBuf::from(file)))
    });
    named.collect()
}

/// A plugin of a workspace of its own, `tests/outside/NAME`, as it lies there.
pub fn outside(name: &str) -> PathBuf {
    let folder = checkout().join("tests/outside").join(name);
    let mut built = libraries(cargo(&folder, &target().join("foreign/target")));
    built.remove(name).unwrap_or_else(|| panic!("{name} is not among {built:?}"))
}

/// The plugin of `examples/NAME`, in a workspace of its own, as it lies there.
pub fn example(name: &str) -> PathBuf {
    standing(&checkout().join("examples").join(name), name)
}

/// A plugin of a workspace of its own, in any folder.
pub fn standing(folder: &Path, name: &str) -> PathBuf {
    let mut built = libraries(cargo(folder, &target().join("foreign/target")));
    built.remove(name).unwrap_or_else(|| panic!("{name} is not among {built:?}"))
}

/// What is changed in a foreign workspace's file: path, text, its replacement.
pub type Edit = (&'static str, &'static str, &'static str);

/// A plugin built in a workspace of its own: a copy of plugin-api and of one plugin, edited.
///
/// The copies and their target folder stay in `target/foreign`, so that a second run finds what they depend on built.
pub fn foreign(variant: &str, plugin: &str, edits: &[Edit]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (checkout, foreign) = (checkout(), target().join("foreign"));
    let root = foreign.join(variant);
    let mut edits = edits.to_vec();
    let mut files: Vec<(PathBuf, PathBuf)> = vec![("Cargo.lock".into(), "Cargo.lock".into())];
    collect(&checkout.join("plugin-api"), Path::new("plugin-api"), &mut files);
    let home = if plugin == "lung_nodule" { "plugins" } else { "tests/plugins" };
    collect(&checkout.join(home).join(plugin), Path::new("plugin"), &mut files);
    let manifest = std::fs::read_to_string(checkout.join("Cargo.toml")).expect("the workspace's manifest");
    // The tables that packages inherit from stay; profiles and members are this workspace's own.
    let inherited = &manifest[manifest.find("[workspace.package]").expect("[workspace.package]")..];
    let (before, lints) = inherited.split_once("# The crates of this workspace build").expect("profiles");
    let lints = &lints[lints.find("[workspace.lints.rust]").expect("[workspace.lints.rust]")..];
    let own = "[workspace]\nresolver = \"3\"\nmembers = [\"plugin-api\", \"plugin-api/manifest\", \
               \"plugin-api/macros\", \"plugin\"]\n\n[profile.dev]\ndebug = false\nincremental = false\n\n";
    write(&root.join("Cargo.toml"), &format!("{own}{before}{lints}"));
    for (to, from) in &files {
        let from = if from.starts_with("plugin-api") || from.ends_with("Cargo.lock") {
            checkout.join(from)
        } else {
            checkout
                .join(home)
                .join(plugin)
                .join(from.strip_prefix("plugin").expect("collected under plugin"))
        };
        let mut text = std::fs::read_to_string(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        edits.retain(|(path, old, new)| {
            let here = Path::new(path) == to;
            if here {
                assert!(text.contains(old), "{variant}: {path} has no `{old}`");
                text = text.replace(old, new);
            }
            !here
        });
        write(&root.join(to), &text);
    }
    assert!(edits.is_empty(), "{variant}: no such file for {edits:?}");
    let built = libraries({
        let mut cargo = cargo(&root, &foreign.join("target"));
        cargo.args(["-p", plugin]);
        cargo
    });
    // The next variant's library has the same name.
    let kept = root.join("built").join(built[plugin].file_name().expect("a library has a name"));
    std::fs::create_dir_all(root.join("built")).expect("a folder for the library");
    std::fs::copy(&built[plugin], &kept).expect("a copy of the library");
    kept
}

/// A program of a workspace of its own below the checkout, built against a copy of plugin-api, both edited.
pub fn foreign_program(variant: &str, program: &str, edits: &[Edit]) -> PathBuf {
    let (checkout, foreign) = (checkout(), target().join("foreign"));
    let root = foreign.join(variant);
    let mut files: Vec<(PathBuf, PathBuf)> = vec![(LAYOUT.into(), LAYOUT.into())];
    for folder in ["plugin-api", program] {
        collect(&checkout.join(folder), Path::new(folder), &mut files);
    }
    files.push((Path::new(program).join("Cargo.lock"), PathBuf::new()));
    let manifest = std::fs::read_to_string(checkout.join("Cargo.toml")).expect("the workspace's manifest");
    let inherited = &manifest[manifest.find("[workspace.package]").expect("[workspace.package]")..];
    let (before, lints) = inherited.split_once("# The crates of this workspace build").expect("profiles");
    let lints = &lints[lints.find("[workspace.lints.rust]").expect("[workspace.lints.rust]")..];
    let own = "[workspace]\nresolver = \"3\"\nmembers = [\"plugin-api\", \"plugin-api/manifest\", \
               \"plugin-api/macros\"]\n\n";
    write(&root.join("Cargo.toml"), &format!("{own}{before}{lints}"));
    let mut left = edits.to_vec();
    for (to, _) in &files {
        let from = checkout.join(to);
        let mut text = std::fs::read_to_string(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        left.retain(|(path, old, new)| {
            let here = Path::new(path) == to;
            if here {
                assert!(text.contains(old), "{variant}: {path} has no `{old}`");
                text = text.replace(old, new);
            }
            !here
        });
        write(&root.join(to), &text);
    }
    assert!(left.is_empty(), "{variant}: no such file for {left:?}");
    let folder = root.join(program);
    let built = cargo(&folder, &foreign.join("target")).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&built.stdout);
    assert!(built.status.success(), "{}\n{text}", String::from_utf8_lossy(&built.stderr));
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut made = messages.filter_map(|m| m["executable"].as_str().map(PathBuf::from));
    made.next_back().expect("cargo names the program")
}

/// The loader's own layout check, which the programs use.
const LAYOUT: &str = "host/src/plugin/layout.rs";

/// Files of a folder as they are to be named, source and manifest files only.
fn collect(folder: &Path, name: &Path, files: &mut Vec<(PathBuf, PathBuf)>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.map(|e| e.expect("an entry")) {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, &name, files);
        } else if path.extension().is_some_and(|e| ["rs", "toml", "md"].iter().any(|x| e == *x)) {
            files.push((name.clone(), name));
        }
    }
}

/// Always anew: variants share a target folder and the names of their packages, and a file's time is all that cargo
/// goes by, so an older file would pass for what another variant built.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("its folder");
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
