//! The object stores' code on a folder, and on a real S3 (or other) server where `$ANYMC3D_TEST_STORE` names one, for
//! example `s3://bucket/prefix` with the account in the environment. With feature `object-store`.
#![cfg(feature = "object-store")]

mod support;

use anymc3d_registry::index::WithdrawalReason;
use anymc3d_registry::publish::{IndexSigner, init};
use anymc3d_registry::{Home, Registry, RegistryError, installed, sha256, store};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use support::*;

/// Publish two versions, search, install with half an archive there, withdraw, mirror, install from the mirror.
fn whole_way(address: &str) {
    let world = World::new();
    let objects = store::open(address).unwrap();
    let signer = IndexSigner { store: &*objects, key: &world.index, valid: SignedDuration::from_hours(24) };
    init(&signer, REGISTRY).unwrap();
    assert!(matches!(init(&signer, REGISTRY), Err(RegistryError::Usage(_))));
    let archives = ["0.1.0", "0.2.0"].map(|v| world.archive(NAME, v));
    for archive in &archives {
        signer.publish(archive, world.publisher.public(), &agree).unwrap();
    }
    // Another client with what the index was before is too late.
    let stale = objects.exchange("index.signed", Some(b"what it never was"), b"x");
    assert!(matches!(stale, Err(RegistryError::Raced { .. })));
    assert!(matches!(objects.exchange("index.signed", None, b"x"), Err(RegistryError::Raced { .. })));

    let home = Home::new(world.path().join("elsewhere"));
    world.trusted(&home);
    let registry = Registry::open(&home, &*objects, false, Timestamp::now()).unwrap();
    assert_eq!(registry.search(&["nodule".to_owned()]).len(), 1);
    let whole = fs::read(&archives[1]).unwrap();
    let downloads = world.path().join("elsewhere/registry/downloads");
    fs::create_dir_all(&downloads).unwrap();
    fs::write(downloads.join(format!("{}.part", sha256(&whole))), &whole[..1000]).unwrap();
    assert_eq!(install(&registry, NAME).unwrap().release.version.to_string(), "0.2.0");
    let folder = home.package(NAME, &"0.2.0".parse().unwrap());
    assert!(installed::open(&home, &folder).unwrap().audit().is_empty());

    signer.withdraw(NAME, &"0.2.0".parse().unwrap(), WithdrawalReason::Accuracy, "misses").unwrap();
    let registry = Registry::open(&home, &*objects, false, Timestamp::now()).unwrap();
    assert_eq!(install(&registry, NAME).unwrap().release.version.to_string(), "0.1.0");

    let stick = store::open(world.path().join("stick").to_str().unwrap()).unwrap();
    registry.mirror(&[NAME.parse().unwrap()], None, &*stick, &|_, _| {}).unwrap();
    let island = Home::new(world.path().join("island"));
    world.trusted(&island);
    install(&Registry::open(&island, &*stick, false, Timestamp::now()).unwrap(), NAME).unwrap();
    assert!(objects.read("no/such/file", 10).unwrap().is_none());
    assert!(objects.read("index.signed", 10).is_err());
}

#[test]
fn the_whole_way_through_object_store_on_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    whole_way(&format!("object+file://{}", folder.path().display()));
}

#[test]
fn the_whole_way_through_a_real_object_store() {
    match std::env::var("ANYMC3D_TEST_STORE") {
        Ok(address) => whole_way(&address),
        Err(_) => println!("skipped: no $ANYMC3D_TEST_STORE"),
    }
}
