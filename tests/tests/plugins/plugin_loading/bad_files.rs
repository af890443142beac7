//! Files that are no plugin for this machine: each is refused with one line, and no code of it runs.

use super::*;
use object::{Object, ObjectSymbol};

fn refused_with(name: &str, bytes: &[u8], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let error = refused(&path);
    assert!(error.contains(words) && error.contains(name) && error.lines().count() == 1, "{error}");
}

#[test]
fn files_that_are_no_library_are_refused_with_one_line() {
    refused_with("text.so", b"#!/bin/sh\necho hello\n", "(text)");
    refused_with("empty.so", b"", "(an empty file)");
    refused_with("gzip.so", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "(gzip data)");
    let library = std::fs::read(support::plugin("mean_probe")).unwrap();
    for part in [4, 64, library.len() / 2, library.len() - 1] {
        refused_with("truncated.so", &library[..part], "truncated.so: ");
    }
    let missing = refused(Path::new("/nowhere/libx.so"));
    assert!(missing.contains("cannot be read") && missing.lines().count() == 1, "{missing}");
}

/// The library with `from` replaced by `to`, of the same length, wherever it stands.
fn patched(library: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (from, mut bytes, mut hits) = (from.as_bytes(), library.to_vec(), 0);
    for i in 0..bytes.len() - from.len() {
        if bytes[i..].starts_with(from) {
            bytes[i..i + from.len()].copy_from_slice(to.as_bytes());
            hits += 1;
        }
    }
    assert!(hits > 0, "the library has no such bytes");
    bytes
}

#[test]
fn libraries_for_another_machine_abi_or_schema_are_refused_with_one_line() {
    let library = std::fs::read(support::plugin("mean_probe")).unwrap();
    let ours = format!("target = \"{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let theirs =
        format!("target = \"{:_<1$}-{2}", "other", std::env::consts::ARCH.len(), std::env::consts::OS);
    refused_with("other_target.so", &patched(&library, &ours, &theirs), "this machine is");
    refused_with("other_abi.so", &patched(&library, "abi = \"1.1\"", "abi = \"2.0\""), "built for ABI 2.0");
    refused_with("newer_schema.so", &patched(&library, "schema = 1\n", "schema = 9\n"), "upgrade the host");
    refused_with(
        "no_manifest.so",
        &patched(&library, ".plugin_manifest", ".plugin_manifesT"),
        "without an AnyMC3D",
    );
    refused_with("no_magic.so", &patched(&library, "ANYMC3D\u{1}", "ANYMC3D\u{2}"), "without an AnyMC3D");
    let damaged = patched(&library, "kind = \"binary\"", "kind = \"bynary\"");
    refused_with("damaged.so", &damaged, "bynary");
    // A key that says how pixels are made is not for a host to pass over.
    let newer = patched(&library, "fit = \"square\"", "fot = \"square\"");
    refused_with("newer_key.so", &newer, "`view[0].fot` is unknown to this host");
    // A manifest and no header: what says it is a plugin has nothing to show.
    let headless = patched(&library, "ANYMC3D_PLUGIN_HEADER", "ANYMC3D_PLUGIN_HEADEr");
    refused_with("headless.so", &headless, "has no symbol ANYMC3D_PLUGIN_HEADER");
}

#[test]
fn a_plugin_links_neither_candle_nor_cuda_and_shows_its_header_alone() {
    let path = support::plugin("lung_nodule");
    let bytes = std::fs::read(&path).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let name = |n: &[u8]| String::from_utf8_lossy(n).into_owned();
    let exports: Vec<String> =
        file.exports().unwrap().map(|e| name(e.unwrap().name().name().unwrap_or_default())).collect();
    assert!(exports.iter().any(|e| e.ends_with("ANYMC3D_PLUGIN_HEADER")), "{exports:?}");
    let others: Vec<&String> = exports.iter().filter(|e| !e.ends_with("ANYMC3D_PLUGIN_HEADER")).collect();
    assert!(others.iter().all(|e| e.starts_with("rust_eh_personality") || e.starts_with('_')), "{others:?}");
    let imports: Vec<_> = file.imports().unwrap().map(Result::unwrap).collect();
    let needed: Vec<String> = imports.iter().map(|i| name(i.library())).filter(|l| !l.is_empty()).collect();
    let dynamic = file.dynamic_symbols().chain(file.symbols());
    let symbols: Vec<String> = dynamic.filter_map(|s| s.name().ok().map(str::to_owned)).collect();
    for word in ["candle", "cuda", "cublas", "gemm"] {
        let found = symbols.iter().chain(&needed).find(|n| n.to_lowercase().contains(word));
        assert_eq!(found, None);
    }
    println!("liblung_nodule: {} bytes, exports {exports:?}, needs {needed:?}", bytes.len());
    if support::released() {
        assert!(bytes.len() < 1_000_000, "{} bytes", bytes.len());
    }
}
