//! Everything that somebody on the way could try: each refused in its own words, and nothing of it installed.

mod support;

use anymc3d_registry::index::{Event, ROOT};
use anymc3d_registry::package::Limits;
use anymc3d_registry::{Home, Installation, Registry, RegistryError, Role, Trust, installed, sha256};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::io::Write;
use support::*;
use tar::EntryType;

const PLACE: &str = "packages/lung_nodule/lung_nodule-0.1.0-x86_64-linux.tar.zst";

#[test]
fn one_bit_in_any_part_of_a_stored_archive() {
    let world = World::with_one();
    let honest = fs::read(world.stored(PLACE)).unwrap();
    // Repacked: every part of the archive is where an attacker with the store alone would change it.
    for part in [
        "liblung_nodule.so",
        "lung_nodule.safetensors",
        "plugin.toml",
        "golden/chest.json",
        "golden/chest.nii.gz",
        "README.md",
        "package.json",
    ] {
        fs::write(world.stored(PLACE), &honest).unwrap();
        let mut entries = entries(&world.stored(PLACE));
        let entry = find(&mut entries, part);
        let middle = entry.bytes.len() / 2;
        entry.bytes[middle] ^= 1;
        fs::write(world.stored(PLACE), archive_of(&entries)).unwrap();
        let Err(RegistryError::Digest { .. } | RegistryError::Store { .. }) = world.install(NAME) else {
            panic!("{part}")
        };
        world.nothing_installed();
    }
    // And a bit of the archive as it lies there.
    let mut bytes = honest.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    fs::write(world.stored(PLACE), bytes).unwrap();
    world.refuses(NAME, &["sha256", "expected", "changed or damaged on its way"]);
    fs::write(world.stored(PLACE), honest).unwrap();
    world.install(NAME).unwrap();
}

#[test]
fn one_bit_in_any_part_by_somebody_who_holds_the_index_key_too() {
    for part in [
        "liblung_nodule.so",
        "lung_nodule.safetensors",
        "plugin.toml",
        "golden/chest.json",
        "README.md",
        "LICENSE",
    ] {
        let world = World::with_one();
        let mut entries = entries(&world.stored(PLACE));
        let entry = find(&mut entries, part);
        let middle = entry.bytes.len() / 2;
        entry.bytes[middle] ^= 1;
        world.replace_archive("0.1.0", &archive_of(&entries));
        world.refuses(NAME, &[part, "sha256", "changed or damaged"]);
    }
    // package.json itself is what the publisher's signature is over.
    let world = World::with_one();
    let mut entries = entries(&world.stored(PLACE));
    let json = String::from_utf8(entries[0].bytes.clone()).unwrap();
    entries[0].bytes = json.replace("Research only.", "For diagnosis!").into_bytes();
    world.replace_archive("0.1.0", &archive_of(&entries));
    world
        .refuses(NAME, &["package lung_nodule 0.1.0", "the signature by key", "changed after it was signed"]);
}

#[test]
fn one_bit_in_the_index() {
    let world = World::with_one();
    let root = fs::read(world.stored(ROOT)).unwrap();
    let at = root.windows(9).position(|w| w == b"Is there ").unwrap();
    let mut changed = root.clone();
    changed[at] ^= 1;
    fs::write(world.stored(ROOT), changed).unwrap();
    world.refuses(NAME, &["index", "the signature by key", "changed after it was signed"]);
    fs::write(world.stored(ROOT), root).unwrap();

    let lines = world.stored(&world.root().packages[NAME].place(NAME));
    let mut bytes = fs::read(&lines).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(lines, bytes).unwrap();
    world.refuses(NAME, &["index of lung_nodule", "sha256", "expected"]);
}

#[test]
fn weights_of_another_version() {
    // By somebody on the way.
    let world = World::with_one();
    let mut entries = entries(&world.stored(PLACE));
    find(&mut entries, "lung_nodule.safetensors").bytes = weights(NAME, "0.2.0");
    world.replace_archive("0.1.0", &archive_of(&entries));
    world.refuses(NAME, &["lung_nodule.safetensors", "sha256"]);

    // By the publisher, who is told before it is signed.
    let mixed = parts(&world.path().join("mixed"), NAME, "0.3.0");
    fs::write(&mixed.weights, weights(NAME, "0.2.0")).unwrap();
    let error = mixed.manifest().unwrap_err().to_string();
    assert!(error.contains("weights of lung_nodule 0.2.0, expected those of lung_nodule 0.3.0"), "{error}");

    // By a publisher with tools of his own: refused by who installs.
    fs::write(&mixed.weights, weights(NAME, "0.3.0")).unwrap();
    let archive = world.pack(&mixed, &world.publisher);
    let mut forged = support::entries(&archive);
    let mut manifest = manifest_of(&forged);
    let swapped = weights(NAME, "0.2.0");
    let file = manifest.files.iter_mut().find(|f| f.path.ends_with("safetensors")).unwrap();
    (file.sha256, file.bytes) = (sha256(&swapped), swapped.len() as u64);
    find(&mut forged, "lung_nodule.safetensors").bytes = swapped;
    forged[0].bytes = serde_json::to_vec(&manifest).unwrap();
    forged[1].bytes = world.publisher.sign(&forged[0].bytes, "").unwrap().into_bytes();
    fs::write(&archive, archive_of(&forged)).unwrap();
    let error =
        world.index_signer().publish(&archive, world.publisher.public(), &agree).err().unwrap().to_string();
    assert!(error.contains("weights of lung_nodule 0.2.0, expected those of lung_nodule 0.3.0"), "{error}");
}

#[test]
fn a_wrong_key() {
    // The package, signed by somebody else.
    let world = World::with_one();
    let mut entries = entries(&world.stored(PLACE));
    entries[1].bytes = key().sign(&entries[0].bytes, "").unwrap().into_bytes();
    world.replace_archive("0.1.0", &archive_of(&entries));
    world.refuses(NAME, &["signed by key", "the index says"]);
    // The index names that key too.
    let stranger = key();
    entries[1].bytes = stranger.sign(&entries[0].bytes, "").unwrap().into_bytes();
    world.replace_archive("0.1.0", &archive_of(&entries));
    world.rewrite_line(NAME, |events| {
        let Event::Release(r) = &mut events[0] else { panic!() };
        r.key = stranger.public().id().to_owned();
    });
    world.refuses(
        NAME,
        &["package lung_nodule 0.1.0: signed by key", "not trusted here", "another key of Example Lab"],
    );
    // Nor does trust on first use help against a publisher who is known.
    let registry = Registry::open(&world.home, &*world.store, true, Timestamp::now()).unwrap();
    assert!(matches!(install(&registry, NAME), Err(RegistryError::Untrusted { .. })));
    world.nothing_installed();

    // The index, signed by somebody else.
    let world = World::with_one();
    world.write_root(world.root(), &key());
    world.refuses(NAME, &["index: signed by key", "of plugins.example, which is not trusted here"]);

    // A hospital that trusts nobody gets nothing, and is told which key to compare.
    let world = World::with_one();
    let other = Home::new(world.path().join("other"));
    let error = Registry::open(&other, &*world.store, false, Timestamp::now()).err().unwrap().to_string();
    assert!(
        error.contains("trust add --registry \"plugins.example\"")
            && error.contains(world.index.public().as_str()),
        "{error}"
    );
    // With trust on first use it installs; and the second time nothing needs to be said.
    let registry = Registry::open(&other, &*world.store, true, Timestamp::now()).unwrap();
    install(&registry, NAME).unwrap();
    let trust = Trust::open(&other).unwrap();
    assert!(trust.knows(Role::Publisher, PUBLISHER) && trust.knows(Role::Registry, REGISTRY));
    Registry::open(&other, &*world.store, false, Timestamp::now()).unwrap();
}

#[test]
fn a_removed_signature() {
    let world = World::with_one();
    let mut entries = entries(&world.stored(PLACE));
    entries.remove(1);
    world.replace_archive("0.1.0", &archive_of(&entries));
    world.refuses(NAME, &["is not signed", "nothing unsigned is taken from a registry"]);

    let root = fs::read(world.stored(ROOT)).unwrap();
    let payload = root.splitn(5, |&b| b == b'\n').last().unwrap();
    fs::write(world.stored(ROOT), payload).unwrap();
    world.refuses(NAME, &["index: is not signed"]);
}

#[test]
fn an_old_index_replayed() {
    let world = World::with_one();
    let old = fs::read(world.stored(ROOT)).unwrap();
    world.publish(NAME, "0.2.0");
    world.open().unwrap();
    fs::write(world.stored(ROOT), &old).unwrap();
    world.refuses(NAME, &["revision 2, revision 3 was seen before", "old index is being replayed"]);
}

#[test]
fn two_indexes_of_one_revision() {
    let world = World::with_one();
    let old = fs::read(world.stored(ROOT)).unwrap();
    world.publish(NAME, "0.2.0");
    world.open().unwrap();
    fs::write(world.stored(ROOT), &old).unwrap();
    world.publish(NAME, "0.3.0");
    world.refuses(NAME, &["revision 3 is not the one of that revision that was seen before"]);
}

#[test]
fn an_expired_index() {
    let world = World::with_one();
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 31);
    let error = Registry::open(&world.home, &*world.store, false, later).err().unwrap().to_string();
    assert!(error.contains("expired on") && error.contains("may be frozen"), "{error}");
    world.nothing_installed();
    // Signed again, it is believed again.
    world.index_signer().renew(None).unwrap();
    world.install(NAME).unwrap();
}

/// An archive whose manifest is honest and whose entries are not.
fn with_entries(edit: impl FnOnce(&mut Vec<Entry>)) -> World {
    let world = World::with_one();
    let mut entries = entries(&world.stored(PLACE));
    edit(&mut entries);
    world.replace_archive("0.1.0", &archive_of(&entries));
    world
}

#[test]
fn paths_that_lead_out_links_devices_duplicates_and_strangers() {
    let odd = |path: &str, kind: EntryType, bytes: &[u8]| Entry {
        path: path.as_bytes().to_vec(),
        kind,
        bytes: bytes.to_vec(),
    };
    let add = |entry: Entry| with_entries(|e| e.push(entry));
    add(plain("../evil", b"x")).refuses(NAME, &["`../evil`", "leads out of the package"]);
    add(plain("golden/../../evil", b"x")).refuses(NAME, &["leads out of the package"]);
    add(plain("/tmp/evil", b"x")).refuses(NAME, &["`/tmp/evil`", "an absolute path"]);
    add(odd("link", EntryType::Symlink, b"/etc/passwd")).refuses(NAME, &["`link` is a symbolic link"]);
    add(odd("hard", EntryType::Link, b"/etc/passwd")).refuses(NAME, &["`hard` is a hard link"]);
    add(odd("null", EntryType::Char, b"")).refuses(NAME, &["`null` is a device"]);
    add(odd("disk", EntryType::Block, b"")).refuses(NAME, &["`disk` is a device"]);
    add(odd("pipe", EntryType::Fifo, b"")).refuses(NAME, &["`pipe` is a pipe"]);
    add(odd("folder", EntryType::Directory, b"")).refuses(NAME, &["`folder` is a folder entry"]);
    add(odd("long", EntryType::GNULongName, b"../evil")).refuses(NAME, &["`long` is an extended entry"]);
    add(odd("pax", EntryType::XHeader, b"20 path=../evil\n")).refuses(NAME, &["`pax` is an extended entry"]);
    add(plain("stranger", b"x")).refuses(NAME, &["`stranger` is not in package.json"]);
    add(plain("package.json", b"{}")).refuses(NAME, &["`package.json` is in it twice"]);
    with_entries(|e| e.push(plain("README.md", &[b'x'; 504]))).refuses(NAME, &["`README.md` is in it twice"]);
    with_entries(|e| drop(e.pop())).refuses(NAME, &["is missing"]);
    with_entries(|e| find(e, "LICENSE").bytes.push(b'x'))
        .refuses(NAME, &["`LICENSE` has 19 bytes, package.json says 18"]);
    with_entries(|e| e.swap(0, 2)).refuses(NAME, &["begins with", "expected package.json"]);
    assert!(!std::path::Path::new("/tmp/evil").exists());
}

#[test]
fn a_manifest_that_a_publisher_signed_is_held_to_the_same_rules() {
    for (path, words) in [
        ("../evil", "leads out"),
        ("/evil", "absolute"),
        ("README.MD", "named twice"),
        ("receipt.json", "a name that is taken"),
    ] {
        let world = World::with_one();
        let mut entries = entries(&world.stored(PLACE));
        let mut manifest = manifest_of(&entries);
        let mut file = manifest.files[0].clone();
        file.path = path.to_owned();
        file.role = anymc3d_registry::package::FileRole::Golden;
        manifest.files.push(file);
        entries[0].bytes = serde_json::to_vec(&manifest).unwrap();
        entries[1].bytes = world.publisher.sign(&entries[0].bytes, "").unwrap().into_bytes();
        world.replace_archive("0.1.0", &archive_of(&entries));
        world.refuses(NAME, &["package.json", words]);
    }
}

#[test]
fn a_zip_bomb() {
    // 16 GB of zeros in half a megabyte, behind an honest beginning.
    let world = World::with_one();
    let entries = entries(&world.stored(PLACE));
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let tar = zstd::decode_all(&archive_of(&entries)[..]).unwrap();
    bomb.write_all(&tar[..tar.len() - 1024]).unwrap();
    let zeros = vec![0u8; 1 << 24];
    let mut header = tar::Header::new_ustar();
    header.set_path("golden/bomb").unwrap();
    header.set_size(1 << 34);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    world.replace_archive("0.1.0", &bomb.finish().unwrap());
    world.refuses(NAME, &["`golden/bomb` is not in package.json"]);

    // The same behind the end of the archive, where tar does not look.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    bomb.write_all(&tar).unwrap();
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    world.replace_archive("0.1.0", &bomb.finish().unwrap());
    world.refuses(NAME, &["it unpacks to more than it announces"]);

    // In package.json, before anything is signed.
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("package.json").unwrap();
    header.set_size(1 << 34);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    for _ in 0..64 {
        bomb.write_all(&zeros).unwrap();
    }
    world.replace_archive("0.1.0", &bomb.finish().unwrap());
    world.refuses(NAME, &["package.json of 17179869184 bytes", "at most"]);

    // An honest manifest of more than the index announced, or this machine takes.
    let world = World::with_one();
    world.rewrite_line(NAME, |events| {
        let Event::Release(r) = &mut events[0] else { panic!() };
        r.unpacked = 1000;
    });
    world.refuses(NAME, &["at most", "1000 are taken"]);
}

#[test]
fn a_store_that_sends_more_than_the_index_says() {
    let world = World::with_one();
    let mut bytes = fs::read(world.stored(PLACE)).unwrap();
    bytes.extend(vec![0; 1 << 20]);
    fs::write(world.stored(PLACE), bytes).unwrap();
    world.refuses(NAME, &["goes on behind the", "bytes that the index says"]);
}

#[test]
fn a_package_renamed() {
    let world = World::with_one();
    world.publish("brain_mri", "0.1.0");
    let other = fs::read(world.stored("packages/brain_mri/brain_mri-0.1.0-x86_64-linux.tar.zst")).unwrap();
    world.replace_archive("0.1.0", &other);
    world.refuses(
        NAME,
        &["the archive holds plugin brain_mri, the index says lung_nodule", "renamed or exchanged"],
    );

    // An older version in the place of a newer one.
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    world.replace_archive("0.2.0", &fs::read(world.stored(PLACE)).unwrap());
    world.refuses(NAME, &["the archive holds version 0.1.0, the index says 0.2.0"]);
}

#[test]
fn two_publishers_with_one_name() {
    // The registry keeps the name for the first.
    let world = World::with_one();
    let rival = key();
    let mut theirs = parts(&world.path().join("rival"), NAME, "9.0.0");
    theirs.publisher = "Rival Lab".into();
    let archive = world.pack(&theirs, &rival);
    let error = world.index_signer().publish(&archive, rival.public(), &agree).err().unwrap().to_string();
    assert!(
        error.contains("lung_nodule: belongs to Example Lab") && error.contains("this is of Rival Lab"),
        "{error}"
    );
    // Nor does calling oneself as the first help, with another key.
    theirs.publisher = PUBLISHER.into();
    let archive = world.pack(&theirs, &rival);
    let error = world.index_signer().publish(&archive, rival.public(), &agree).err().unwrap().to_string();
    assert!(error.contains("lung_nodule: belongs to Example Lab with key"), "{error}");
    // Under a name that is free, but not the publisher's.
    let mut theirs = parts(&world.path().join("free"), "free_name", "1.0.0");
    theirs.publisher = PUBLISHER.into();
    let archive = world.pack(&theirs, &rival);
    assert!(matches!(
        world.index_signer().publish(&archive, rival.public(), &agree),
        Err(RegistryError::OtherPublisher { .. })
    ));

    // Another registry that the hospital trusts has the same name from somebody else whom it trusts.
    world.install(NAME).unwrap();
    let second = World::new();
    let mut theirs = parts(&second.path().join("rival"), NAME, "9.0.0");
    theirs.publisher = "Rival Lab".into();
    let archive = second.pack(&theirs, &rival);
    second.index_signer().publish(&archive, rival.public(), &agree).unwrap();
    let mut trust = Trust::open(&world.home).unwrap();
    trust.remove(REGISTRY);
    trust.add(Role::Registry, REGISTRY, second.index.public(), "added").unwrap();
    trust.add(Role::Publisher, "Rival Lab", rival.public(), "added").unwrap();
    trust.save(&world.home).unwrap();
    fs::remove_file(world.path().join("home/registry/seen.json")).unwrap();
    let registry = Registry::open(&world.home, &*second.store, false, Timestamp::now()).unwrap();
    let error = install(&registry, NAME).err().unwrap().to_string();
    assert!(error.contains("belongs to Example Lab where it is installed, this is of Rival Lab"), "{error}");
    assert_eq!(installed::versions(&world.home, NAME).len(), 1);
}

#[test]
fn a_golden_case_that_disagrees() {
    let world = World::with_one();
    let platform = platform();
    let probe = |c: &anymc3d_registry::Candidate<'_>| {
        assert!(c.golden().join("chest.json").is_file(), "the probe sees the unpacked package");
        Err("golden case chest.json: nodule: logit 1.0, its author got 2.0".to_owned())
    };
    let how =
        Installation { platform: &platform, probe: &probe, limits: Limits::default(), progress: &|_, _| {} };
    let registry = world.open().unwrap();
    let error = registry.install(&NAME.parse().unwrap(), None, &how).err().unwrap().to_string();
    assert!(error.contains("its author got 2.0; it was not installed"), "{error}");
    world.nothing_installed();
}

#[test]
fn what_is_installed_and_changed_afterwards_does_not_run() {
    let world = World::with_one();
    let done = world.install(NAME).unwrap();
    let open = || installed::choose(&world.home, &NAME.parse().unwrap(), None, false);
    let package = open().unwrap().unwrap();
    assert!(package.audit().is_empty());
    let library = package.library().unwrap();
    let mut bytes = fs::read(&library).unwrap();
    bytes[100] ^= 1;
    fs::write(&library, &bytes).unwrap();
    let role = anymc3d_registry::package::FileRole::Library;
    let error = package.check(role, &sha256(&bytes)).unwrap_err().to_string();
    assert!(error.contains("changed since it was installed"), "{error}");
    fs::write(done.folder.join("extra.so"), b"x").unwrap();
    assert_eq!(package.audit().len(), 2);
    // A second installation does not take it for good.
    assert!(matches!(world.install(NAME), Err(RegistryError::Tampered { .. })));
    // package.json itself.
    let json = fs::read_to_string(done.folder.join("package.json")).unwrap();
    fs::write(done.folder.join("package.json"), json.replace("Research only.", "For diagnosis!")).unwrap();
    assert!(matches!(open(), Err(RegistryError::BadSignature { .. })));
    // And nobody whose key went runs.
    fs::write(done.folder.join("package.json"), json).unwrap();
    let mut trust = Trust::open(&world.home).unwrap();
    trust.remove(PUBLISHER);
    trust.save(&world.home).unwrap();
    assert!(matches!(open(), Err(RegistryError::Untrusted { .. })));
}

#[test]
fn an_installed_package_is_repaired_from_the_registry() {
    let world = World::with_one();
    let done = world.install(NAME).unwrap();
    fs::write(done.folder.join("liblung_nodule.so"), b"rubbish").unwrap();
    fs::remove_file(done.folder.join("golden/chest.json")).unwrap();
    let package = installed::open(&world.home, &done.folder).unwrap();
    let platform = platform();
    let how =
        Installation { platform: &platform, probe: &agree, limits: Limits::default(), progress: &|_, _| {} };
    assert_eq!(world.open().unwrap().repair(&package, &how).unwrap(), 2);
    assert!(package.audit().is_empty());
}
