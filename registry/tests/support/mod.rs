//! A publisher, a registry in a folder and a hospital, all made up on the spot; and archives that no honest tool makes.
#![allow(dead_code)]

use anymc3d_registry::index::{Event, ROOT, Root, SignedRoot, parse_lines, write_lines};
use anymc3d_registry::package::{Abi, Limits, PackageManifest, Parts, pack};
use anymc3d_registry::publish::{IndexSigner, init};
use anymc3d_registry::store::{self, Store};
use anymc3d_registry::{
    BackboneHere, Candidate, Done, GoldenReport, Home, Installation, Platform, Registry, Result, Role,
    SecretKey, Trust, sha256,
};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const NAME: &str = "lung_nodule";
pub const TARGET: &str = "x86_64-linux";
pub const PUBLISHER: &str = "Example Lab";
pub const REGISTRY: &str = "plugins.example";

pub fn fingerprint() -> String {
    sha256(b"backbone")
}

pub fn platform() -> Platform {
    let backbone = BackboneHere {
        name: "dinov2-small".into(),
        family: "dinov2".into(),
        embed_dim: 384,
        fingerprint: fingerprint(),
    };
    Platform { target: TARGET.into(), abi: "1.0".parse().unwrap(), backbones: vec![backbone] }
}

pub fn plugin_toml(name: &str, version: &str) -> String {
    format!(
        r#"schema = 1
[plugin]
name = "{name}"
version = "{version}"
summary = "Is there a lung nodule?"
license = "Apache-2.0"
intended_use = "Research only."
[task]
kind = "binary"
labels = ["nodule"]
[backbone]
families = ["dinov2"]
min_embed_dim = 384
[[view]]
name = "axial"
modality = "CT"
axis = "axial"
slices = 4
size = [56, 56]
intensity = {{ kind = "window", windows = [[-1000, 400]] }}
"#
    )
}

/// A safetensors file of one number, with the metadata that `host train` writes.
pub fn weights(name: &str, version: &str) -> Vec<u8> {
    let info = serde_json::json!({
        "plugin": name, "plugin_version": version, "backbone": "dinov2-small",
        "backbone_fingerprint": fingerprint(), "threshold": null, "training": {},
    });
    let header = serde_json::json!({
        "__metadata__": { "anymc3d.weights/1": info.to_string() },
        "bias": { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] },
    })
    .to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1.5f32.to_le_bytes()].concat()
}

/// The parts of a version, written into a folder.
pub fn parts(folder: &Path, name: &str, version: &str) -> Parts {
    let golden = folder.join("golden");
    fs::create_dir_all(&golden).unwrap();
    let write = |file: &str, bytes: &[u8]| {
        fs::write(folder.join(file), bytes).unwrap();
        folder.join(file)
    };
    write("golden/chest.json", br#"{"schema": "anymc3d/golden/1"}"#);
    write("golden/chest.nii.gz", b"a scan");
    let library: Vec<u8> = format!("code of {name} {version} ").bytes().cycle().take(40_000).collect();
    Parts {
        library: write(&format!("lib{name}.so"), &library),
        abi: Abi { major: 1, minor: 0 },
        target: TARGET.into(),
        weights: write("weights.safetensors", &weights(name, version)),
        plugin_toml: write("plugin.toml", plugin_toml(name, version).as_bytes()),
        model_card: write(
            "card.md",
            "What it was trained on, how good it is, where it fails. ".repeat(9).as_bytes(),
        ),
        license: write("LICENSE", b"Apache License 2.0"),
        golden,
        publisher: PUBLISHER.into(),
    }
}

pub fn key() -> SecretKey {
    SecretKey::generate("test", None).unwrap().0
}

/// Everybody and everything.
pub struct World {
    pub folder: tempfile::TempDir,
    pub publisher: SecretKey,
    pub index: SecretKey,
    pub store: Box<dyn Store>,
    pub home: Home,
}

pub fn agree(_: &Candidate<'_>) -> std::result::Result<GoldenReport, String> {
    Ok(GoldenReport { cases: 1, largest_difference: 0.0 })
}

impl World {
    /// A registry in a folder, and a hospital that trusts it and the publisher.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = store::open(folder.path().join("store").to_str().unwrap()).unwrap();
        let home = Home::new(folder.path().join("home"));
        let world = Self { publisher: key(), index: key(), store, home, folder };
        init(&world.index_signer(), REGISTRY).unwrap();
        world.trusted(&world.home);
        world
    }

    /// The same with version 0.1.0 in it.
    pub fn with_one() -> Self {
        let world = Self::new();
        world.publish(NAME, "0.1.0");
        world
    }

    pub fn trusted(&self, home: &Home) {
        let mut trust = Trust::open(home).unwrap();
        trust.add(Role::Publisher, PUBLISHER, self.publisher.public(), "added").unwrap();
        trust.add(Role::Registry, REGISTRY, self.index.public(), "added").unwrap();
        trust.save(home).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the store.
    pub fn stored(&self, name: &str) -> PathBuf {
        self.path().join("store").join(name)
    }

    pub fn index_signer(&self) -> IndexSigner<'_> {
        IndexSigner { store: &*self.store, key: &self.index, valid: SignedDuration::from_hours(24 * 30) }
    }

    /// An archive as an honest publisher makes it.
    pub fn archive(&self, name: &str, version: &str) -> PathBuf {
        let parts = parts(&self.path().join(format!("{name}-{version}")), name, version);
        self.pack(&parts, &self.publisher)
    }

    pub fn pack(&self, parts: &Parts, key: &SecretKey) -> PathBuf {
        let (manifest, sources) = parts.manifest().unwrap();
        let to = self.path().join(manifest.archive_name());
        pack(&manifest, &sources, key, &to).unwrap();
        to
    }

    pub fn publish(&self, name: &str, version: &str) {
        self.index_signer().publish(&self.archive(name, version), self.publisher.public(), &agree).unwrap();
    }

    pub fn open(&self) -> Result<Registry<'_>> {
        Registry::open(&self.home, &*self.store, false, Timestamp::now())
    }

    pub fn install(&self, request: &str) -> Result<Done> {
        install(&self.open()?, request)
    }

    /// What an attacker does who holds the index key too: lines changed, root signed anew.
    pub fn rewrite_line(&self, name: &str, edit: impl FnOnce(&mut Vec<Event>)) {
        let bytes = fs::read(self.stored(ROOT)).unwrap();
        let mut root = SignedRoot::split("test", &bytes).unwrap().unverified("test").unwrap();
        let listed = root.packages.get_mut(name).unwrap();
        let mut events = parse_lines(name, &fs::read(self.stored(&listed.place(name))).unwrap()).unwrap();
        edit(&mut events);
        let lines = write_lines(&events).unwrap();
        (listed.sha256, listed.bytes) = (sha256(&lines), lines.len() as u64);
        fs::write(self.stored(&listed.place(name)), lines).unwrap();
        self.write_root(root, &self.index);
    }

    pub fn root(&self) -> Root {
        let bytes = fs::read(self.stored(ROOT)).unwrap();
        SignedRoot::split("test", &bytes).unwrap().unverified("test").unwrap()
    }

    pub fn write_root(&self, mut root: Root, key: &SecretKey) {
        root.revision += 1;
        fs::write(self.stored(ROOT), root.sign(key).unwrap()).unwrap();
    }

    /// Puts another archive in the place of a version's, and its digest into the index.
    pub fn replace_archive(&self, version: &str, archive: &[u8]) {
        let place = format!("packages/{NAME}/{NAME}-{version}-{TARGET}.tar.zst");
        fs::write(self.stored(&place), archive).unwrap();
        self.rewrite_line(NAME, |events| {
            for event in events {
                if let Event::Release(r) = event
                    && r.version.to_string() == version
                {
                    (r.sha256, r.bytes) = (sha256(archive), archive.len() as u64);
                }
            }
        });
    }

    /// Refused with these words, and nothing is installed or left lying about.
    #[track_caller]
    pub fn refuses(&self, request: &str, words: &[&str]) {
        let Err(error) = self.install(request) else { panic!("{request} was installed") };
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "`{text}` does not say `{word}`");
        }
        self.nothing_installed();
    }

    #[track_caller]
    pub fn nothing_installed(&self) {
        let mut there = Vec::new();
        files(&self.home.plugins(), &mut there);
        assert!(there.is_empty(), "{there:?}");
    }
}

pub fn install(registry: &Registry<'_>, request: &str) -> Result<Done> {
    let platform = platform();
    let how =
        Installation { platform: &platform, probe: &agree, limits: Limits::default(), progress: &|_, _| {} };
    registry.install(&request.parse()?, None, &how)
}

pub fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() { files(&entry.path(), out) } else { out.push(entry.path()) }
    }
}

/// An entry of an archive made by hand.
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: tar::EntryType,
    pub bytes: Vec<u8>,
}

pub fn plain(path: &str, bytes: &[u8]) -> Entry {
    Entry { path: path.as_bytes().to_vec(), kind: tar::EntryType::Regular, bytes: bytes.to_vec() }
}

/// The entries of an archive.
pub fn entries(archive: &Path) -> Vec<Entry> {
    let mut tar = tar::Archive::new(zstd::Decoder::new(fs::File::open(archive).unwrap()).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let (path, kind) = (entry.path_bytes().to_vec(), entry.header().entry_type());
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        Entry { path, kind, bytes }
    };
    tar.entries().unwrap().map(read).collect()
}

/// Compressed, with whatever names and kinds.
pub fn archive_of(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        // Past the checks of an honest writer.
        let field = &mut header.as_mut_bytes()[..100];
        field.fill(0);
        field[..entry.path.len()].copy_from_slice(&entry.path);
        header.set_entry_type(entry.kind);
        header.set_mode(0o644);
        let link = matches!(entry.kind, tar::EntryType::Symlink | tar::EntryType::Link);
        header.set_size(if link { 0 } else { entry.bytes.len() as u64 });
        if link {
            header.as_mut_bytes()[157..157 + entry.bytes.len()].copy_from_slice(&entry.bytes);
        }
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        if !link {
            tar.extend_from_slice(&entry.bytes);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    compress(&tar)
}

pub fn compress(tar: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(tar).unwrap();
    encoder.finish().unwrap()
}

pub fn find<'a>(entries: &'a mut [Entry], path: &str) -> &'a mut Entry {
    entries.iter_mut().find(|e| e.path == path.as_bytes()).unwrap()
}

/// The manifest of an archive's entries.
pub fn manifest_of(entries: &[Entry]) -> PackageManifest {
    PackageManifest::parse(&entries[0].bytes).unwrap()
}
