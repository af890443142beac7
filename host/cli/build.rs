//! Packs plugin-api into the binary, for `host plugin new`: a new plugin builds from what the host carries.
//!
//! What the crates inherit from the workspace is written out, and a Cargo.lock holds the versions they were built with.
//! Without plugin-api beside this crate (a published copy of it) the package is empty, and `host plugin new` asks for
//! `--plugin-api`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};
use toml::{Table, Value};

/// The crates by their folders in plugin-api, and the way from each to those it depends on.
const CRATES: [(&str, &[(&str, &str)]); 3] = [
    ("", &[("anymc3d-plugin-macros", "macros"), ("anymc3d-manifest", "manifest")]),
    ("macros", &[("anymc3d-manifest", "../manifest")]),
    ("manifest", &[]),
];
const PACKAGE: &str = "anymc3d-plugin-api";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo gives a folder to write to"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is"));
    let root = root.ancestors().nth(2).expect("the crate lies in host/cli of the checkout").to_owned();
    println!("cargo::rerun-if-changed=build.rs");
    let (files, lock) = if root.join("plugin-api/Cargo.toml").is_file() {
        pack(&root, &out)
    } else {
        (BTreeMap::new(), Vec::new())
    };
    let mut code = String::from("pub(super) const FILES: &[(&str, &str)] = &[\n");
    for (name, path) in files {
        let _ = writeln!(code, "    ({name:?}, include_str!({:?})),", path.display().to_string());
    }
    code += "];\npub(super) const LOCKED: &[(&str, &str)] = &[\n";
    for (name, text) in lock {
        let _ = writeln!(code, "    ({name:?}, {text:?}),");
    }
    code += "];\n";
    fs::write(out.join("vendored.rs"), code).expect("the generated code is written");
}

/// Files by their names in the package, and the packages of its Cargo.lock.
fn pack(root: &Path, out: &Path) -> (BTreeMap<String, PathBuf>, Vec<(String, String)>) {
    for watched in ["plugin-api", "Cargo.toml", "Cargo.lock", "LICENSE"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let api = root.join("plugin-api");
    let workspace = read(&root.join("Cargo.toml"));
    let workspace = workspace["workspace"].as_table().expect("[workspace]");
    let mut files = BTreeMap::from([("LICENSE".to_owned(), root.join("LICENSE"))]);
    for (folder, paths) in CRATES {
        let (from, prefix) = match folder {
            "" => (api.clone(), String::new()),
            folder => (api.join(folder), format!("{folder}/")),
        };
        let manifest = resolved(read(&from.join("Cargo.toml")), workspace, paths);
        let text = toml::to_string(&manifest).expect("a manifest is TOML");
        let text =
            format!("# Written by `host plugin new`, with what the workspace of AnyMC3D adds.\n{text}");
        let to = out.join(format!("{}Cargo.toml", prefix.replace('/', "-")));
        fs::write(&to, text).expect("a manifest is written");
        files.insert(format!("{prefix}Cargo.toml"), to);
        for document in ["README.md", "CHANGELOG.md"] {
            let path = from.join(document);
            if path.is_file() {
                files.insert(format!("{prefix}{document}"), path);
            }
        }
        sources(&from.join("src"), &format!("{prefix}src"), &mut files);
    }
    (files, locked(&root.join("Cargo.lock")))
}

fn read(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn sources(folder: &Path, name: &str, files: &mut BTreeMap<String, PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries.map(|e| e.expect("an entry of a folder")) {
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            sources(&entry.path(), &name, files);
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            files.insert(name, entry.path());
        }
    }
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// A crate's manifest with what it inherits in its place.
fn resolved(mut manifest: Table, workspace: &Table, paths: &[(&str, &str)]) -> Table {
    let section = |name: &str| workspace[name].as_table().expect("a table of the workspace");
    if let Some(package) = manifest.get_mut("package").and_then(Value::as_table_mut) {
        for (key, value) in package.iter_mut().filter(|(_, value)| inherits(value)) {
            *value = section("package")[key.as_str()].clone();
        }
    }
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        let Some(dependencies) = manifest.get_mut(kind).and_then(Value::as_table_mut) else { continue };
        for (name, value) in dependencies.iter_mut().filter(|(_, value)| inherits(value)) {
            let mut full = match &section("dependencies")[name.as_str()] {
                Value::Table(table) => table.clone(),
                version => Table::from_iter([("version".to_owned(), version.clone())]),
            };
            let own = value.as_table().expect("`workspace = true` stands in a table").clone();
            full.extend(own.into_iter().filter(|(key, _)| key != "workspace"));
            if full.contains_key("path") {
                let (_, path) =
                    paths.iter().find(|(n, _)| n == name).expect("every path of the package is known");
                full.insert("path".to_owned(), Value::from(*path));
            }
            *value = full.into();
        }
    }
    if manifest.get("lints").is_some_and(inherits) {
        manifest.insert("lints".to_owned(), section("lints").clone().into());
    }
    manifest
}

/// The package and all it depends on: name, and its entry in a Cargo.lock.
fn locked(path: &Path) -> Vec<(String, String)> {
    let lock = read(path);
    let packages = lock["package"].as_array().expect("[[package]]");
    let text = |p: &Value, key: &str| p.get(key).and_then(Value::as_str).map(str::to_owned);
    // A dependency is a name, with a version where the name alone is not enough.
    let find = |dependency: &str| -> usize {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next(), words.next());
        let fits = |p: &Value| {
            text(p, "name").as_deref() == name
                && (version.is_none() || text(p, "version").as_deref() == version)
        };
        packages.iter().position(fits).unwrap_or_else(|| panic!("Cargo.lock has no {dependency}"))
    };
    let (mut reached, mut left) = (BTreeSet::new(), vec![find(PACKAGE)]);
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            let dependencies = packages[next].get("dependencies").and_then(Value::as_array);
            left.extend(dependencies.into_iter().flatten().filter_map(Value::as_str).map(find));
        }
    }
    let once = |name: &str| {
        reached.iter().filter(|&&i| text(&packages[i], "name").as_deref() == Some(name)).count() == 1
    };
    reached
        .iter()
        .map(|&i| {
            let package = &packages[i];
            let mut entry = String::from("[[package]]\n");
            for key in ["name", "version", "source", "checksum"] {
                if let Some(value) = text(package, key) {
                    let _ = writeln!(entry, "{key} = {value:?}");
                }
            }
            if let Some(dependencies) = package.get("dependencies").and_then(Value::as_array) {
                entry += "dependencies = [\n";
                for dependency in dependencies.iter().filter_map(Value::as_str) {
                    let name = dependency.split(' ').next().unwrap_or_default();
                    let _ = writeln!(entry, " {:?},", if once(name) { name } else { dependency });
                }
                entry += "]\n";
            }
            (text(package, "name").unwrap_or_default(), entry)
        })
        .collect()
}
