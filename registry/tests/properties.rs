//! Whatever bytes come: package manifests, signed indexes, index lines, archives and weights' headers are refused or
//! keep what they promise; nothing panics, and nothing is written outside the folder. `ANYMC3D_CASES` sets how many
//! inputs each gets.

mod support;

use anymc3d_registry::index::{Event, ROOT, SignedRoot, parse_lines, write_lines};
use anymc3d_registry::package::{Limits, PackageManifest, read_weights, unpack};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::fs;
use std::path::{Component, Path};
use std::time::Instant;
use support::*;

fn cases() -> u32 {
    std::env::var("ANYMC3D_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// What somebody does to honest bytes.
#[derive(Debug, Clone)]
enum Edit {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, prop::sample::Index),
    Number(prop::sample::Index, u64),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<prop::sample::Index>;
    let edit = prop_oneof![
        (at(), 0u8..8).prop_map(|(i, b)| Edit::Flip(i, b)),
        (at(), any::<u8>()).prop_map(|(i, b)| Edit::Set(i, b)),
        at().prop_map(Edit::Cut),
        (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(i, b)| Edit::Insert(i, b)),
        (at(), at()).prop_map(|(a, b)| Edit::Repeat(a, b)),
        (at(), any::<u64>()).prop_map(|(i, n)| Edit::Number(i, n)),
    ];
    prop::collection::vec(edit, 1..5)
}

fn edited(honest: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len();
        match edit {
            Edit::Flip(i, bit) => bytes[i.index(n)] ^= 1 << bit,
            Edit::Set(i, byte) => bytes[i.index(n)] = *byte,
            Edit::Cut(i) => bytes.truncate(i.index(n)),
            Edit::Insert(i, more) => drop(bytes.splice(i.index(n)..i.index(n), more.iter().copied())),
            Edit::Repeat(a, b) => {
                let (a, b) = (a.index(n).min(b.index(n)), a.index(n).max(b.index(n)));
                let part = bytes[a..b.min(a + 2000)].to_vec();
                drop(bytes.splice(b..b, part));
            }
            Edit::Number(i, number) => {
                let at = i.index(n);
                let digits = number.to_string();
                drop(bytes.splice(at..(at + digits.len()).min(n), digits.bytes()));
            }
        }
    }
    bytes
}

/// Runs a property on edited honest bytes and on rubbish, and says how many inputs were taken.
fn hold(what: &str, honest: &[u8], mut property: impl FnMut(&[u8]) -> bool) {
    let (start, taken, tried) = (Instant::now(), Cell::new(0u32), Cell::new(0u32));
    let property = std::cell::RefCell::new(&mut property);
    let inputs = prop_oneof![
        4 => edits().prop_map(|e| edited(honest, &e)),
        1 => prop::collection::vec(any::<u8>(), 0..2000),
    ];
    let mut runner =
        TestRunner::new(Config { cases: cases(), failure_persistence: None, ..Config::default() });
    let ran = runner.run(&inputs, |bytes| {
        tried.set(tried.get() + 1);
        if (property.borrow_mut())(&bytes) {
            taken.set(taken.get() + 1);
        }
        Ok(())
    });
    ran.unwrap();
    println!(
        "{what}: {} inputs in {:.1?}, {} of them taken, none harmful",
        tried.get(),
        start.elapsed(),
        taken.get()
    );
}

fn inside(path: &str) -> bool {
    !path.contains(['\\', ':', '\0'])
        && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

#[test]
fn package_manifests() {
    let world = World::new();
    let entries = entries(&world.archive(NAME, "0.1.0"));
    hold("package.json", &entries[0].bytes, |bytes| match PackageManifest::parse(bytes) {
        Ok(manifest) => {
            assert!(manifest.files.iter().all(|f| inside(&f.path)));
            assert!(inside(&manifest.archive_name()) && !manifest.name.is_empty());
            assert!(manifest.unpacked().is_some());
            true
        }
        Err(_) => false,
    });
}

#[test]
fn index_lines() {
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    let honest = fs::read(world.stored(&world.root().packages[NAME].place(NAME))).unwrap();
    hold("index lines", &honest, |bytes| match parse_lines(NAME, bytes) {
        Ok(events) => {
            for event in &events {
                let Event::Release(r) = event else { continue };
                assert!(r.name == NAME && inside(&r.archive()), "{}", r.archive());
            }
            // What was read can be written and read again.
            assert_eq!(parse_lines(NAME, &write_lines(&events).unwrap()).unwrap(), events);
            true
        }
        Err(_) => false,
    });
}

#[test]
fn signed_indexes() {
    let world = World::with_one();
    let honest = fs::read(world.stored(ROOT)).unwrap();
    let payload = |bytes: &[u8]| bytes.splitn(5, |&b| b == b'\n').last().unwrap().to_vec();
    let signed = payload(&honest);
    hold("signed index", &honest, |bytes| {
        let Ok(root) = SignedRoot::split("store", bytes) else { return false };
        let verified = root.verify("store", world.index.public()).is_ok();
        // A signature is good for one content alone.
        assert!(!verified || payload(bytes) == signed);
        if let Ok(root) = root.unverified("store") {
            assert!(root.packages.iter().all(|(name, listed)| inside(&listed.place(name))));
        }
        verified
    });
}

#[test]
fn weights_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    hold("safetensors header", &weights(NAME, "0.1.0"), |bytes| {
        fs::write(&path, bytes).unwrap();
        read_weights(&path).is_ok()
    });
}

#[test]
fn archives() {
    let world = World::new();
    let archive = world.archive(NAME, "0.1.0");
    let compressed = fs::read(&archive).unwrap();
    let tar = zstd::decode_all(&compressed[..]).unwrap();
    let manifest = manifest_of(&entries(&archive));
    let key = world.publisher.public();
    let folder = tempfile::tempdir().unwrap();
    let mut unpacked = |bytes: &[u8]| {
        let _ = fs::remove_dir_all(folder.path().join("in"));
        let into = folder.path().join("in/to");
        fs::create_dir_all(&into).unwrap();
        let accept = &mut |json: &[u8], signature: &str| {
            key.verify("it", json, signature)?;
            PackageManifest::parse(json)
        };
        let done = unpack("it", bytes, &into, Limits::default(), accept);
        let mut there = Vec::new();
        files(folder.path(), &mut there);
        assert!(there.iter().all(|f| f.starts_with(&into)), "{there:?}");
        let total: u64 = there.iter().map(|f| fs::symlink_metadata(f).unwrap().len()).sum();
        assert!(total <= manifest.unpacked().unwrap() + (1 << 20));
        // What is taken is exactly what was signed.
        if done.is_ok() {
            for file in &manifest.files {
                assert_eq!(anymc3d_registry::sha256_of_file(&into.join(&file.path)).unwrap().0, file.sha256);
            }
            assert_eq!(there.len(), manifest.files.len() + 2);
        }
        done.is_ok()
    };
    assert!(unpacked(&compressed));
    hold("archive, compressed bytes changed", &compressed, &mut unpacked);
    hold("archive, bytes changed before compression", &tar, |bytes| unpacked(&compress(bytes)));
}
