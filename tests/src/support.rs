//! Plugins and programs that stand in workspaces of their own, as other people build them.
//!
//! All of them share one target folder, `target/foreign/target`, and what none of them edits (dependencies, the macros,
//! the manifest's parser, often plugin-api itself) is one package to cargo, and so is built once. A file is written only
//! where its text differs: a second run finds everything built.

pub use crate::plugin_library as plugin;
use crate::workspace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `…/target/release` of the test that runs.
fn profile_folder() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its executable");
    let folder = exe.ancestors().find(|p| p.file_name().is_some_and(|n| n == "deps"));
    folder.and_then(Path::parent).expect("tests run from target/PROFILE/deps").to_owned()
}

/// Where the foreign workspaces lie; their common target folder is in it.
fn foreign_folder() -> PathBuf {
    profile_folder().parent().expect("a profile's folder lies in target").join("foreign")
}

/// Whether the plugins are built as they are shipped.
pub fn released() -> bool {
    profile_folder().ends_with("release")
}

/// Held while one is built and taken out of the target folder: variants of a plugin share the library's name.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static BUILDING: Mutex<()> = Mutex::new(());
    BUILDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `cargo build` in a folder and answers what it made: libraries and programs by the names of their targets.
fn build(folder: &Path, arguments: &[&str]) -> BTreeMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--message-format=json-render-diagnostics"]).args(arguments);
    cargo.current_dir(folder).env("CARGO_TARGET_DIR", foreign_folder().join("target"));
    // A test run's own package must not leak into another workspace.
    cargo.env_remove("CARGO_MANIFEST_DIR");
    let output = cargo.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}\n{text}", folder.display());
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let artifacts = messages.filter(|m| m["reason"] == "compiler-artifact");
    let named = artifacts.filter_map(|m| {
        let name = m["target"]["name"].as_str()?.to_owned();
        if let Some(program) = m["executable"].as_str() {
            return Some((name, PathBuf::from(program)));
        }
        let library = |f: &&str| f.ends_with(std::env::consts::DLL_SUFFIX);
        let shared = m["target"]["kind"][0] == "cdylib";
        let file = m["filenames"].as_array()?.iter().filter_map(|f| f.as_str()).find(library);
        Some((name, PathBuf::from(file.filter(|_| shared)?)))
    });
    named.collect()
}

/// A plugin of a workspace of its own, `tests/outside/NAME`, as it lies there.
pub fn outside(name: &str) -> PathBuf {
    standing(&workspace().join("tests/outside").join(name), name)
}

/// The plugin of `examples/NAME`, in a workspace of its own, as it lies there.
pub fn example(name: &str) -> PathBuf {
    standing(&workspace().join("examples").join(name), name)
}

/// A plugin or program of a workspace of its own, in any folder, as it lies there.
pub fn standing(folder: &Path, name: &str) -> PathBuf {
    let _one = one_at_a_time();
    let mut built = build(folder, &[]);
    built.remove(name).unwrap_or_else(|| panic!("{name} is not among {built:?}"))
}

/// What is changed in a foreign workspace's file: path, text, its replacement.
pub type Edit = (&'static str, &'static str, &'static str);

/// A plugin built in a workspace of its own: a copy of it below `plugin/`, and of plugin-api where that is edited too.
pub fn foreign(variant: &str, plugin: &str, edits: &[Edit]) -> PathBuf {
    let home = if plugin == "lung_nodule" { "plugins" } else { "tests/plugins" };
    let mut files = Vec::new();
    collect(&workspace().join(home).join(plugin), Path::new("plugin"), &mut files);
    built_of_copies(variant, plugin, edits, files, "plugin")
}

/// A program of a workspace of its own below the checkout, built against a copy of plugin-api, both edited.
pub fn foreign_program(variant: &str, folder: &str, name: &str, edits: &[Edit]) -> PathBuf {
    let root = workspace();
    // The program has the loader's own layout check.
    let layout = "host/src/plugin/layout.rs";
    let mut files = vec![(root.join(layout), layout.into())];
    collect(&root.join(folder), Path::new(folder), &mut files);
    built_of_copies(variant, name, edits, files, folder)
}

/// Copies `files` (from, to) into `target/foreign/VARIANT`, edits them, builds the package in `package` and keeps what
/// became of it beside the copies: the next variant's has the same name.
fn built_of_copies(
    variant: &str,
    name: &str,
    edits: &[Edit],
    mut files: Vec<(PathBuf, PathBuf)>,
    package: &str,
) -> PathBuf {
    let _one = one_at_a_time();
    let (checkout, root) = (workspace(), foreign_folder().join(variant));
    let own_api = edits.iter().any(|(path, ..)| path.starts_with("plugin-api/")) || package != "plugin";
    if own_api {
        for part in ["plugin-api/src", "plugin-api/Cargo.toml", "plugin-api/README.md"] {
            collect(&checkout.join(part), Path::new(part), &mut files);
        }
    }
    let mut left = edits.to_vec();
    for (from, to) in &files {
        let mut text = std::fs::read_to_string(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
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
    write(&root.join("Cargo.toml"), &workspace_manifest(own_api, package));
    let lock = if package == "plugin" { PathBuf::new() } else { package.into() };
    let locked = std::fs::read_to_string(checkout.join(&lock).join("Cargo.lock")).expect("Cargo.lock");
    write(&root.join(&lock).join("Cargo.lock"), &locked);
    // Cargo keeps one library of this name for all variants: one that it takes for up to date may be another variant's by now.
    for source in ["src/lib.rs", "src/main.rs"].map(|file| root.join(package).join(file)) {
        if let Ok(file) = std::fs::File::options().append(true).open(source) {
            file.set_modified(std::time::SystemTime::now()).expect("a time of a file that was just written");
        }
    }
    let built = build(&root.join(package), &[]);
    let made = built.get(name).unwrap_or_else(|| panic!("{name} is not among {built:?}"));
    let kept = root.join("built").join(made.file_name().expect("it has a name"));
    std::fs::create_dir_all(root.join("built")).expect("a folder for it");
    std::fs::copy(made, &kept).expect("a copy of it");
    kept
}

/// The manifest of a foreign workspace: the tables that packages inherit from are the checkout's; members are its own.
/// What is not copied stays in the checkout.
fn workspace_manifest(own_api: bool, package: &str) -> String {
    let checkout = workspace();
    let manifest = std::fs::read_to_string(checkout.join("Cargo.toml")).expect("the workspace's manifest");
    let inherited = &manifest[manifest.find("[workspace.package]").expect("[workspace.package]")..];
    let (tables, rest) = inherited.split_once("# The crates of this workspace build").expect("profiles");
    let lints = &rest[rest.find("[workspace.lints.rust]").expect("[workspace.lints.rust]")..];
    let mut tables = tables.to_owned();
    for folder in ["plugin-api", "plugin-api/manifest", "plugin-api/macros"] {
        if folder != "plugin-api" || !own_api {
            let path = checkout.join(folder).display().to_string();
            tables = tables.replace(&format!("path = \"{folder}\""), &format!("path = {path:?}"));
        }
    }
    let mut members = Vec::new();
    if own_api {
        members.push("plugin-api");
    }
    // A program is a workspace by itself and uses plugin-api alone.
    if package == "plugin" {
        members.push("plugin");
    }
    format!(
        "[workspace]\nresolver = \"3\"\nmembers = {members:?}\n\n[profile.dev]\ndebug = false\n\
         incremental = false\n\n{tables}{lints}"
    )
}

/// A file, or those of a folder: source and manifest files only, as (from, to).
fn collect(from: &Path, to: &Path, files: &mut Vec<(PathBuf, PathBuf)>) {
    if from.is_dir() {
        let entries = std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
        for entry in entries.map(|e| e.expect("an entry")).filter(|e| e.file_name() != "target") {
            collect(&entry.path(), &to.join(entry.file_name()), files);
        }
    } else if from.extension().is_some_and(|e| ["rs", "toml", "md"].iter().any(|x| e == *x)) {
        files.push((from.to_owned(), to.to_owned()));
    }
}

/// Only where the text is another: a file's time is what cargo goes by.
fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("its folder");
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
