//! What honest people do: interrupted downloads go on, keys rotate, versions are resolved, locks hold, two install at
//! once.

mod support;

use anymc3d_registry::index::{Event, WithdrawalReason};
use anymc3d_registry::package::Limits;
use anymc3d_registry::publish::IndexSigner;
use anymc3d_registry::{
    Home, Installation, LockFile, Registry, RegistryError, Role, Rotation, Trust, installed, store,
};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use support::*;

/// A static server that breaks the connection of archives after some bytes, and notes what was asked for.
fn server(folder: PathBuf, breaks_after: usize, ranges: bool) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)) else { continue };
            let range =
                lines.iter().find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let from: usize =
                range.as_deref().filter(|_| ranges).map_or(0, |r| r.trim_end_matches('-').parse().unwrap());
            log.lock().unwrap().push(format!("{path} {from}"));
            let Ok(content) = fs::read(folder.join(path.trim_start_matches('/'))) else {
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                continue;
            };
            let part = &content[from.min(content.len())..];
            let status = if from > 0 {
                format!(
                    "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                    content.len() - 1,
                    content.len()
                )
            } else {
                "200 OK".to_owned()
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                part.len()
            );
            let sent = if path.starts_with("/packages") { part.len().min(breaks_after) } else { part.len() };
            let _ = stream.write_all(&part[..sent]);
        }
    });
    (address, asked)
}

#[test]
fn a_broken_download_goes_on_where_it_broke_as_often_as_it_breaks() {
    let world = World::with_one();
    let bytes = fs::metadata(world.stored("packages/lung_nodule/lung_nodule-0.1.0-x86_64-linux.tar.zst"))
        .unwrap()
        .len();
    let piece = bytes as usize / 6 + 1;
    let (address, asked) = server(world.path().join("store"), piece, true);
    let http = store::open(&address).unwrap();
    let registry = Registry::open(&world.home, &*http, false, Timestamp::now()).unwrap();
    install(&registry, NAME).unwrap();
    let asked = asked.lock().unwrap();
    let offsets: Vec<usize> = asked
        .iter()
        .filter(|a| a.starts_with("/packages"))
        .map(|a| a.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(offsets, (0..6).map(|i| i * piece).collect::<Vec<_>>());
}

#[test]
fn what_an_earlier_process_downloaded_is_not_downloaded_again() {
    let world = World::with_one();
    let archive =
        fs::read(world.stored("packages/lung_nodule/lung_nodule-0.1.0-x86_64-linux.tar.zst")).unwrap();
    let (address, asked) = server(world.path().join("store"), usize::MAX, true);
    let http = store::open(&address).unwrap();
    let registry = Registry::open(&world.home, &*http, false, Timestamp::now()).unwrap();
    let downloads = world.path().join("home/registry/downloads");
    fs::create_dir_all(&downloads).unwrap();
    let part = downloads.join(format!("{}.part", anymc3d_registry::sha256(&archive)));
    fs::write(&part, &archive[..1000]).unwrap();
    install(&registry, NAME).unwrap();
    assert!(asked.lock().unwrap().iter().any(|a| a.ends_with(".tar.zst 1000")));
    assert!(!part.exists());

    // A part that was damaged on the disk costs a second download, not the installation.
    let second = Home::new(world.path().join("second"));
    world.trusted(&second);
    let downloads = world.path().join("second/registry/downloads");
    fs::create_dir_all(&downloads).unwrap();
    fs::write(downloads.join(part.file_name().unwrap()), [7; 500]).unwrap();
    install(&Registry::open(&second, &*http, false, Timestamp::now()).unwrap(), NAME).unwrap();
}

#[test]
fn a_server_without_ranges_and_one_that_always_breaks() {
    let world = World::with_one();
    let (address, _) = server(world.path().join("store"), usize::MAX, false);
    let http = store::open(&address).unwrap();
    let downloads = world.path().join("home/registry/downloads");
    fs::create_dir_all(&downloads).unwrap();
    let archive =
        fs::read(world.stored("packages/lung_nodule/lung_nodule-0.1.0-x86_64-linux.tar.zst")).unwrap();
    fs::write(downloads.join(format!("{}.part", anymc3d_registry::sha256(&archive))), &archive[..1000])
        .unwrap();
    install(&Registry::open(&world.home, &*http, false, Timestamp::now()).unwrap(), NAME).unwrap();

    let world = World::with_one();
    let (address, _) = server(world.path().join("store"), 0, true);
    let http = store::open(&address).unwrap();
    let registry = Registry::open(&world.home, &*http, false, Timestamp::now()).unwrap();
    assert!(matches!(install(&registry, NAME), Err(RegistryError::Store { .. })));
    world.nothing_installed();
}

#[test]
fn resolution_takes_the_highest_that_fits_and_says_why_not_the_others() {
    let world = World::new();
    for version in ["0.1.0", "0.1.5", "0.2.0", "1.0.0-rc.1"] {
        world.publish(NAME, version);
    }
    world.rewrite_line(NAME, |events| {
        let mut more = Vec::new();
        for event in events.iter() {
            let Event::Release(r) = event else { continue };
            let mut r = (**r).clone();
            match r.version.to_string().as_str() {
                "0.1.5" => (r.version, r.target) = ("0.3.0".parse().unwrap(), "aarch64-macos".into()),
                "0.2.0" => (r.version, r.abi) = ("0.4.0".parse().unwrap(), "1.7".parse().unwrap()),
                "0.1.0" => {
                    (r.version, r.backbone.fingerprint) =
                        ("0.5.0".parse().unwrap(), anymc3d_registry::sha256(b"other"))
                }
                _ => continue,
            }
            more.push(Event::Release(Box::new(r)));
        }
        events.extend(more);
    });
    let registry = world.open().unwrap();
    let chosen = |request: &str| {
        registry.resolve(&request.parse().unwrap(), &platform()).map(|r| r.version.to_string())
    };
    assert_eq!(chosen("lung_nodule").unwrap(), "0.2.0");
    assert_eq!(chosen("lung_nodule@^0.1").unwrap(), "0.1.5");
    assert_eq!(chosen("lung_nodule@0.1").unwrap(), "0.1.5");
    assert_eq!(chosen("lung_nodule@0.1.0").unwrap(), "0.1.0");
    assert_eq!(chosen("lung_nodule@=0.1.0").unwrap(), "0.1.0");
    assert_eq!(chosen("lung_nodule@>=0.1, <0.2").unwrap(), "0.1.5");
    assert_eq!(chosen("lung_nodule@1.0.0-rc.1").unwrap(), "1.0.0-rc.1");
    let error = chosen("lung_nodule@>=0.3").unwrap_err().to_string();
    for why in [
        "0.3.0 for aarch64-macos: this machine is x86_64-linux",
        "0.4.0 for x86_64-linux: needs ABI 1.7, this host speaks 1.0",
        "0.5.0 for x86_64-linux: needs backbone dinov2-small (",
        "0.2.0 for x86_64-linux: not >=0.3",
    ] {
        assert!(error.contains(why), "{error}");
    }
    let error = registry.resolve(&"lung_nodul".parse().unwrap(), &platform()).unwrap_err().to_string();
    assert!(error.contains("nearest: lung_nodule"), "{error}");
    assert!(
        "Lung".parse::<anymc3d_registry::Request>().is_err()
            && "lung_nodule@banana".parse::<anymc3d_registry::Request>().is_err()
    );
}

#[test]
fn versions_lie_side_by_side_and_the_lock_decides() {
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    let first = world.install("lung_nodule@0.1.0").unwrap();
    world.install(NAME).unwrap();
    assert!(!world.install("lung_nodule@0.1.0").unwrap().new);
    let choose = |request: &str, lock: Option<&LockFile>| {
        installed::choose(&world.home, &request.parse().unwrap(), lock, false)
    };
    let version = |request: &str, lock: Option<&LockFile>| {
        choose(request, lock).unwrap().unwrap().manifest.version.to_string()
    };
    assert_eq!(version(NAME, None), "0.2.0");
    assert_eq!(version("lung_nodule@0.1", None), "0.1.0");
    assert!(choose("lung_nodule@0.3", None).unwrap_err().to_string().contains("0.2.0: not ^0.3"));
    assert!(choose("brain_mri", None).unwrap().is_none());

    let path = world.path().join("anymc3d.lock");
    let mut lock = LockFile::new(&path, TARGET);
    lock.set(&first.release, REGISTRY, false);
    lock.save().unwrap();
    let lock = LockFile::open(&path, TARGET).unwrap().unwrap();
    assert_eq!(version(NAME, Some(&lock)), "0.1.0");
    // On another target nothing is locked.
    assert_eq!(LockFile::open(&path, "aarch64-macos").unwrap().unwrap().packages().count(), 0);
    // A lock of another archive is not satisfied by the same version.
    let other = fs::read_to_string(&path).unwrap().replace(&first.release.sha256, &"0".repeat(64));
    fs::write(&path, other).unwrap();
    let lock = LockFile::open(&path, TARGET).unwrap().unwrap();
    assert!(
        choose(NAME, Some(&lock))
            .unwrap_err()
            .to_string()
            .contains("locks lung_nodule 0.1.0 with archive sha256 0000")
    );
    anymc3d_registry::remove(&world.home, &"lung_nodule@0.1.0".parse().unwrap()).unwrap();
    assert!(choose(NAME, Some(&lock)).unwrap_err().to_string().contains("which is not installed"));
    fs::write(&path, "rubbish").unwrap();
    assert!(matches!(LockFile::open(&path, TARGET), Err(RegistryError::Lock { .. })));
}

#[test]
fn what_is_withdrawn_goes_to_nobody_new_and_safety_stops_it() {
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    let done = world.install(NAME).unwrap();
    let version = &done.release.version;
    let revision = world
        .index_signer()
        .withdraw(NAME, version, WithdrawalReason::Accuracy, "misses the pleura")
        .unwrap();
    assert_eq!(revision, 4);
    assert_eq!(world.root().packages[NAME].newest, Some("0.1.0".parse().unwrap()));
    // It is the only one that is installed: it runs, and says so.
    let registry = world.open().unwrap();
    registry.heed(NAME, &registry.events(NAME).unwrap()).unwrap();
    let choose = |allow| installed::choose(&world.home, &NAME.parse().unwrap(), None, allow);
    assert_eq!(choose(false).unwrap().unwrap().yanked().unwrap().unwrap().detail, "misses the pleura");
    // Installing takes the older one; that one is then preferred.
    assert_eq!(install(&registry, NAME).unwrap().release.version.to_string(), "0.1.0");
    assert_eq!(choose(false).unwrap().unwrap().manifest.version.to_string(), "0.1.0");
    anymc3d_registry::remove(&world.home, &"lung_nodule@0.1.0".parse().unwrap()).unwrap();

    world.index_signer().withdraw(NAME, version, WithdrawalReason::Safety, "mirrors left and right").unwrap();
    let registry = world.open().unwrap();
    registry.heed(NAME, &registry.events(NAME).unwrap()).unwrap();
    assert!(matches!(choose(false), Err(RegistryError::Yanked { .. })));
    assert!(choose(true).is_ok());
    world.index_signer().restore(NAME, version).unwrap();
    let registry = world.open().unwrap();
    registry.heed(NAME, &registry.events(NAME).unwrap()).unwrap();
    assert!(choose(false).unwrap().unwrap().yanked().unwrap().is_none());
}

#[test]
fn a_rotated_key_is_followed_and_the_old_one_signs_nothing_new() {
    let world = World::with_one();
    let (new, new_index) = (key(), key());
    let rotation = Rotation::make(PUBLISHER, Role::Publisher, &world.publisher, &new).unwrap();
    world.index_signer().renew(Some(rotation)).unwrap();
    // What the old key signed before is still good.
    world.install(NAME).unwrap();
    // The registry takes nothing new from it, and takes the new one.
    let archive = world.archive(NAME, "0.2.0");
    let error =
        world.index_signer().publish(&archive, world.publisher.public(), &agree).err().unwrap().to_string();
    assert!(error.contains("which was replaced"), "{error}");
    let parts = parts(&world.path().join("new"), NAME, "0.2.0");
    world.index_signer().publish(&world.pack(&parts, &new), new.public(), &agree).unwrap();
    assert_eq!(world.install(NAME).unwrap().release.version.to_string(), "0.2.0");
    let trust = Trust::open(&world.home).unwrap();
    assert!(
        trust
            .find(Role::Publisher, PUBLISHER, new.public().id())
            .is_some_and(|k| k.how.starts_with("cross-signed"))
    );
    // Nor does the hospital take it, if the registry is fooled.
    world.rewrite_line(NAME, |events| {
        let Event::Release(r) = &mut events[0] else { panic!() };
        (r.revision, r.version) = (9, "0.9.0".parse().unwrap());
    });
    assert!(matches!(world.install("lung_nodule@0.9.0"), Err(RegistryError::RetiredKey { .. })));

    // The index key too: by a chain, for a hospital that was away for a while.
    let rotation = Rotation::make(REGISTRY, Role::Registry, &world.index, &new_index).unwrap();
    let signer = IndexSigner { store: &*world.store, key: &new_index, valid: SignedDuration::from_hours(24) };
    signer.renew(Some(rotation)).unwrap();
    let registry = world.open().unwrap();
    assert!(registry.learned().iter().any(|l| l.contains("took the place of")), "{:?}", registry.learned());
    // The old index key is worth nothing now.
    world.write_root(world.root(), &world.index);
    assert!(matches!(world.open(), Err(RegistryError::RetiredKey { .. })));
}

#[test]
fn a_registry_with_one_name_more_takes_no_name_away() {
    let world = World::with_one();
    world.publish("brain_mri", "1.0.0");
    let registry = world.open().unwrap();
    let names = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
        registry.search(&words).into_iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["brain_mri", "lung_nodule"]);
    assert_eq!(names(&["NODULE", "example"]), ["brain_mri", "lung_nodule"]);
    assert_eq!(names(&["brain"]), ["brain_mri"]);
    // The same version with another content is no version.
    let changed = parts(&world.path().join("changed"), NAME, "0.1.0");
    fs::write(&changed.model_card, "Another card. ".repeat(30)).unwrap();
    let archive = world.pack(&changed, &world.publisher);
    assert!(matches!(
        world.index_signer().publish(&archive, world.publisher.public(), &agree),
        Err(RegistryError::Exists { .. })
    ));
}

#[test]
fn an_incomplete_package_is_told_everything_that_is_missing() {
    let world = World::new();
    let parts = parts(&world.path().join("p"), NAME, "0.1.0");
    fs::write(&parts.model_card, "TODO").unwrap();
    fs::remove_file(&parts.license).unwrap();
    fs::remove_file(parts.golden.join("chest.json")).unwrap();
    fs::write(&parts.weights, weights("brain_mri", "0.1.0")).unwrap();
    let error = parts.manifest().unwrap_err().to_string();
    for what in [
        "no model card",
        "no licence",
        "no golden case",
        "weights of brain_mri 0.1.0, expected those of lung_nodule",
    ] {
        assert!(error.contains(what), "{error}");
    }
    let toml = plugin_toml(NAME, "0.1.0").replace("Research only.", " ");
    fs::write(&parts.plugin_toml, toml).unwrap();
    let error = parts.manifest().unwrap_err().to_string();
    assert!(error.contains("intended"), "{error}");
}

#[test]
fn installations_at_the_same_moment_do_not_harm_each_other() {
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    world.publish("brain_mri", "0.1.0");
    std::thread::scope(|scope| {
        for request in
            ["lung_nodule@0.1.0", "lung_nodule@0.1.0", "lung_nodule", "lung_nodule", "brain_mri", "brain_mri"]
        {
            let world = &world;
            let (home, folder) = (Home::new(world.home.root()), world.path().join("store"));
            scope.spawn(move || {
                let store = store::open(folder.to_str().unwrap()).unwrap();
                let registry = Registry::open(&home, &*store, false, Timestamp::now()).unwrap();
                install(&registry, request).unwrap();
            });
        }
    });
    let all = installed::all(&world.home);
    assert_eq!(all.len(), 3);
    for (_, _, folder) in all {
        assert!(installed::open(&world.home, &folder).unwrap().audit().is_empty());
    }
    let mut files_there = Vec::new();
    files(&world.home.plugins(), &mut files_there);
    assert!(files_there.iter().all(|f| !f.to_string_lossy().contains(".unfinished-")));
}

#[test]
fn publishers_at_the_same_moment_lose_nothing() {
    let world = World::new();
    let archives: Vec<PathBuf> = (0..4).map(|i| world.archive(&format!("task_{i}"), "0.1.0")).collect();
    std::thread::scope(|scope| {
        for archive in &archives {
            let world = &world;
            scope.spawn(move || {
                loop {
                    match world.index_signer().publish(archive, world.publisher.public(), &agree) {
                        Ok(_) => return,
                        Err(RegistryError::Raced { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                }
            });
        }
    });
    let root = world.root();
    assert_eq!((root.packages.len(), root.revision), (4, 5));
}

#[test]
fn a_mirror_holds_a_selection_and_is_verified_as_the_original_is() {
    let world = World::with_one();
    world.publish(NAME, "0.2.0");
    world.publish("brain_mri", "0.1.0");
    let registry = world.open().unwrap();
    let stick = store::open(world.path().join("stick").to_str().unwrap()).unwrap();
    let requests = ["lung_nodule".parse().unwrap()];
    let done = registry.mirror(&requests, Some(TARGET), &*stick, &|_, _| {}).unwrap();
    assert_eq!(done.releases.iter().map(|r| r.label()).collect::<Vec<_>>(), ["lung_nodule 0.2.0"]);

    let island = Home::new(world.path().join("island"));
    world.trusted(&island);
    let offline = Registry::open(&island, &*stick, false, Timestamp::now()).unwrap();
    install(&offline, NAME).unwrap();
    assert!(
        install(&offline, "brain_mri").err().unwrap().to_string().contains("does a mirror leave it out?")
    );
    assert!(
        install(&offline, "lung_nodule@0.1.0")
            .err()
            .unwrap()
            .to_string()
            .contains("does a mirror leave it out?")
    );

    // Later another one is added: what was there before follows to the new revision.
    world.publish(NAME, "0.3.0");
    let registry = world.open().unwrap();
    registry.mirror(&["brain_mri".parse().unwrap()], None, &*stick, &|_, _| {}).unwrap();
    let offline = Registry::open(&island, &*stick, false, Timestamp::now()).unwrap();
    install(&offline, "brain_mri").unwrap();
    install(&offline, "lung_nodule@0.2.0").unwrap();
    // It cannot be mixed with another registry's.
    let other = World::with_one();
    other.write_root(
        {
            let mut r = other.root();
            r.registry = "other.example".into();
            r
        },
        &other.index,
    );
    let mut trust = Trust::open(&other.home).unwrap();
    trust.remove(REGISTRY);
    trust.add(Role::Registry, "other.example", other.index.public(), "added").unwrap();
    trust.save(&other.home).unwrap();
    let error = other.open().unwrap().mirror(&requests, None, &*stick, &|_, _| {}).err().unwrap().to_string();
    assert!(error.contains("is a mirror of plugins.example, not of other.example"), "{error}");
}

#[test]
fn a_locked_release_is_installed_by_digest_even_if_withdrawn_and_never_another() {
    let world = World::with_one();
    let done = world.install(NAME).unwrap();
    let mut lock = LockFile::new(&world.path().join("anymc3d.lock"), TARGET);
    lock.set(&done.release, REGISTRY, false);
    let locked = lock.find(NAME).unwrap().clone();
    world.index_signer().withdraw(NAME, &done.release.version, WithdrawalReason::Licence, "expired").unwrap();
    anymc3d_registry::remove(&world.home, &"lung_nodule@0.1.0".parse().unwrap()).unwrap();
    let platform = platform();
    let how =
        Installation { platform: &platform, probe: &agree, limits: Limits::default(), progress: &|_, _| {} };
    let registry = world.open().unwrap();
    let request = NAME.parse().unwrap();
    let again = registry.install(&request, Some(&locked), &how).unwrap();
    assert!(again.notes[0].contains("withdrawn for licence: expired; it is locked"), "{:?}", again.notes);
    let chosen = installed::choose(&world.home, &request, None, false).unwrap().unwrap();
    assert_eq!(chosen.yanked().unwrap().unwrap().reason, WithdrawalReason::Licence);
    let mut other = locked.clone();
    other.sha256 = "0".repeat(64);
    assert!(
        registry
            .install(&request, Some(&other), &how)
            .err()
            .unwrap()
            .to_string()
            .contains("is locked with archive sha256 0000")
    );
    other = locked;
    other.publisher = "Somebody".into();
    assert!(matches!(
        registry.install(&request, Some(&other), &how),
        Err(RegistryError::OtherPublisher { .. })
    ));
}

#[test]
fn a_pin_stays_for_a_name_and_a_range_it_fits_and_goes_for_another_exact_version() {
    let world = World::with_one();
    let done = world.install("lung_nodule@0.1.0").unwrap();
    let path = world.path().join("anymc3d.lock");
    let mut lock = LockFile::new(&path, TARGET);
    let pinned = |lock: &LockFile, request: &str| {
        lock.pinned(&request.parse().unwrap()).map(|entry| entry.map(|e| e.version.to_string()))
    };
    lock.set(&done.release, REGISTRY, false);
    lock.save().unwrap();
    // As hosts wrote it that knew no pins, and read it.
    assert!(!fs::read_to_string(&path).unwrap().contains("pinned"));
    assert_eq!(pinned(&LockFile::open(&path, TARGET).unwrap().unwrap(), NAME).unwrap(), None);

    lock.set(&done.release, REGISTRY, true);
    lock.save().unwrap();
    let lock = LockFile::open(&path, TARGET).unwrap().unwrap();
    for request in [NAME, "lung_nodule@0.1", "lung_nodule@>=0.1, <0.3"] {
        assert_eq!(pinned(&lock, request).unwrap().as_deref(), Some("0.1.0"), "{request}");
    }
    for request in ["lung_nodule@0.2.0", "lung_nodule@=0.1.0", "brain_mri"] {
        assert_eq!(pinned(&lock, request).unwrap(), None, "{request}");
    }
    let message = pinned(&lock, "lung_nodule@^0.2").unwrap_err().to_string();
    assert!(message.contains("pins lung_nodule 0.1.0, and lung_nodule@^0.2 was asked for"), "{message}");
    assert!(message.contains("--unpin"), "{message}");
}
