//! Packages through the real binary: what a registry, honest in everything else, cannot slip past an installation, and
//! what a result says of the package that answered.

use anymc3d_host::backbone::{Backbone, Precision};
use anymc3d_host::engine::result::CaseResult;
use anymc3d_registry::package::{Parts, pack};
use anymc3d_registry::publish::{IndexSigner, init};
use anymc3d_registry::{Candidate, GoldenReport, Home, Role, SecretKey, Trust, store};
use anymc3d_tests::{
    backbone_folder, edited_library, host_binary, plugin_library, random_weights, random_weights_on,
    tiny_backbone, workspace,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A publisher whose registry takes whatever he signs, and a hospital that trusts both.
struct World {
    folder: tempfile::TempDir,
    publisher: SecretKey,
    index: SecretKey,
}

fn scan() -> PathBuf {
    workspace().join("examples/scans/chest_phantom.nii.gz")
}

fn host(world: &World, arguments: &[&str]) -> Output {
    let mut command = Command::new(host_binary());
    command.args(arguments).current_dir(world.folder.path());
    command
        .env("ANYMC3D_HOME", world.folder.path().join("home"))
        .env("ANYMC3D_STORE", world.folder.path().join("store"));
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

impl World {
    fn new() -> Self {
        let key = || SecretKey::generate("test", None).unwrap().0;
        let world = Self { folder: tempfile::tempdir().unwrap(), publisher: key(), index: key() };
        let home = Home::new(world.folder.path().join("home"));
        let mut trust = Trust::default();
        trust.add(Role::Publisher, "Example Lab", world.publisher.public(), "added").unwrap();
        trust.add(Role::Registry, "plugins.example", world.index.public(), "added").unwrap();
        trust.save(&home).unwrap();
        world
    }

    /// A small task with a golden case, in a folder; `spoil` may change any of it before it is packed and published
    /// without a look.
    fn publish(&self, spoil: impl FnOnce(&Path)) {
        self.publish_version("0.1.0", spoil);
    }

    fn publish_version(&self, version: &str, spoil: impl FnOnce(&Path)) {
        self.publish_on(&backbone_folder(), version, spoil);
    }

    /// The same with weights on a backbone.
    fn publish_on(&self, backbone: &Path, version: &str, spoil: impl FnOnce(&Path)) {
        let folder = self.folder.path().join(format!("parts-{version}"));
        fs::create_dir_all(&folder).unwrap();
        let version = format!("version = \"{version}\"");
        let small = [
            ("slices = 40", "slices =  4"),
            // As in the library: few slices are meant here, and no warning about them.
            ("smallest_mm = 8.0", "smallest_mm = 1e3"),
            ("size = [168, 168]", "size = [ 56,  56]"),
            ("version = \"0.1.0\"", &version),
            ("min_embed_dim = 384", "min_embed_dim =  16"),
        ];
        let library = folder.join("liblung_nodule.so");
        edited_library(&plugin_library("lung_nodule"), &small, &library);
        let opened = Backbone::open(backbone, Precision::F32).unwrap();
        random_weights_on(opened.info(), &library, &folder.join("lung_nodule.safetensors"), 1, |_, _| {});
        let toml = fs::read_to_string(workspace().join("plugins/lung_nodule/plugin.toml")).unwrap();
        let toml = small.iter().fold(toml, |text, (old, new)| text.replace(old, new));
        fs::write(folder.join("plugin.toml"), toml).unwrap();
        let (scan, golden) = (scan(), folder.join("golden"));
        let arguments = ["plugin", "golden", "--plugin", library.to_str().unwrap(), scan.to_str().unwrap()];
        let (out, on) = (golden.to_str().unwrap(), backbone.to_str().unwrap());
        let made = host(self, &[&arguments[..], &["--out", out, "--backbone", on]].concat());
        assert!(made.status.success(), "{}", said(&made));
        spoil(&folder);
        let parts = Parts {
            library,
            abi: "1.0".parse().unwrap(),
            target: anymc3d_host::plugin::section::this_target(),
            weights: folder.join("lung_nodule.safetensors"),
            plugin_toml: folder.join("plugin.toml"),
            model_card: workspace().join("plugins/lung_nodule/README.md"),
            license: workspace().join("LICENSE"),
            golden,
            publisher: "Example Lab".to_owned(),
        };
        let (manifest, sources) = parts.manifest().unwrap();
        let archive = self.folder.path().join(manifest.archive_name());
        pack(&manifest, &sources, &self.publisher, &archive).unwrap();
        let store = store::open(self.folder.path().join("store").to_str().unwrap()).unwrap();
        let signer =
            IndexSigner { store: &*store, key: &self.index, valid: jiff::SignedDuration::from_hours(24) };
        if !self.folder.path().join("store").exists() {
            init(&signer, "plugins.example").unwrap();
        }
        let unseen = |_: &Candidate<'_>| Ok(GoldenReport::default());
        signer.publish(&archive, self.publisher.public(), &unseen).unwrap();
    }

    #[track_caller]
    fn refuses(&self, words: &str) {
        let ran = host(self, &["registry", "install", "lung_nodule"]);
        let said = said(&ran);
        assert!(ran.status.code() == Some(3) && said.contains(words), "{said}");
        let there = fs::read_dir(self.folder.path().join("home/plugins/lung_nodule")).into_iter().flatten();
        assert_eq!(there.count(), 0, "nothing is left");
    }
}

#[test]
fn a_golden_case_that_disagrees_on_this_machine_is_not_installed() {
    let world = World::new();
    world.publish(|parts| {
        let case = parts.join("golden/chest_phantom.json");
        let mut golden: serde_json::Value = serde_json::from_slice(&fs::read(&case).unwrap()).unwrap();
        let logit = golden["logits"][0]["logit"].as_f64().unwrap();
        golden["logits"][0]["logit"] = (logit + 0.01).into();
        fs::write(case, golden.to_string()).unwrap();
    });
    world.refuses("its author got");
}

#[test]
fn a_library_that_is_not_what_its_plugin_toml_says_is_not_installed() {
    let world = World::new();
    world.publish(|parts| {
        let library = parts.join("liblung_nodule.so");
        let other = [("Is there a lung nodule of 8 mm or more?", "Is there a lung nodule of 3 mm or more?")];
        edited_library(&library.clone(), &other, &library);
    });
    world.refuses("the library was built with another plugin.toml");
}

#[test]
fn a_library_that_ends_its_process_ends_a_child_and_is_not_installed() {
    let world = World::new();
    world.publish(|parts| {
        // The manifest is honest; the code behind it is not code.
        let library = parts.join("liblung_nodule.so");
        let mut bytes = fs::read(&library).unwrap();
        let file = object::File::parse(&bytes[..]).unwrap();
        let text = object::Object::section_by_name(&file, ".text").unwrap();
        let (from, n) = object::ObjectSection::file_range(&text).unwrap();
        bytes[from as usize..(from + n) as usize].fill(0xcc);
        fs::write(library, bytes).unwrap();
    });
    world.refuses("its golden cases: the process ended with");
}

#[test]
fn a_result_names_the_package_or_says_that_there_is_none() {
    let world = World::new();
    world.publish(|_| {});
    let installed = host(&world, &["registry", "install", "lung_nodule"]);
    assert!(installed.status.success(), "{}", said(&installed));
    let scan = scan();
    let run = |plugin: &str, more: &[&str]| -> CaseResult {
        let ran =
            host(&world, &[&["run", "--json", "--plugin", plugin, scan.to_str().unwrap()], more].concat());
        assert!(ran.status.success(), "{}", said(&ran));
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let package = run("lung_nodule@0.1", &[]).plugin.package.unwrap();
    let receipt = fs::read(world.folder.path().join("home/plugins/lung_nodule/0.1.0/receipt.json")).unwrap();
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(package.sha256, receipt["archive_sha256"].as_str().unwrap());
    assert_eq!(
        (package.publisher.as_str(), package.key.as_str()),
        ("Example Lab", world.publisher.public().id())
    );
    assert!(!package.weights_replaced);
    // Weights by hand are not the package's, and that is told.
    let own = world.folder.path().join("own.safetensors");
    random_weights(&world.folder.path().join("parts-0.1.0/liblung_nodule.so"), &own, 2, |_, _| {});
    let replaced = run("lung_nodule@0.1", &["--weights", own.to_str().unwrap()]);
    assert!(replaced.plugin.package.unwrap().weights_replaced);
    assert!(replaced.warnings.iter().any(|w| w.contains("weights of your own")), "{:?}", replaced.warnings);
    // A local file has no package, in words too.
    let local = world.folder.path().join("parts-0.1.0/liblung_nodule.so");
    assert_eq!(run(local.to_str().unwrap(), &[]).plugin.package, None);
    let ran = host(&world, &["run", "--plugin", local.to_str().unwrap(), scan.to_str().unwrap()]);
    assert!(said(&ran).contains("local files, not signed by anybody"), "{}", said(&ran));
    // Weights that were exchanged on the disk do not answer.
    fs::copy(&own, world.folder.path().join("home/plugins/lung_nodule/0.1.0/lung_nodule.safetensors"))
        .unwrap();
    let ran = host(&world, &["run", "--plugin", "lung_nodule@0.1", scan.to_str().unwrap()]);
    assert!(
        ran.status.code() == Some(3) && said(&ran).contains("changed since it was installed"),
        "{}",
        said(&ran)
    );
}

#[test]
fn a_rollback_stays_until_it_is_unpinned_and_update_says_what_it_kept() {
    let world = World::new();
    world.publish(|_| ());
    world.publish_version("0.1.1", |_| ());
    let registry = |arguments: &[&str]| {
        let ran = host(&world, &[&["registry"], arguments].concat());
        (ran.status.code(), said(&ran))
    };
    let locked = || fs::read_to_string(world.folder.path().join("anymc3d.lock")).unwrap();
    assert_eq!(registry(&["install", "lung_nodule", "--lock"]).0, Some(0));
    assert!(locked().contains("version = \"0.1.1\"") && !locked().contains("pinned"), "{}", locked());
    let (code, told) = registry(&["install", "lung_nodule@0.1.0", "--lock"]);
    assert_eq!(code, Some(0), "{told}");
    let pinned = locked();
    assert!(pinned.contains("version = \"0.1.0\"") && pinned.contains("pinned = true"), "{pinned}");

    for arguments in
        [vec!["update"], vec!["update", "lung_nodule"], vec!["update", "lung_nodule@0.1", "--lock"]]
    {
        let (code, told) = registry(&arguments);
        assert_eq!((code, locked()), (Some(0), pinned.clone()), "{told}");
        let kept = "lung_nodule 0.1.0: kept, pinned in anymc3d.lock; 0.1.1 would fit";
        assert!(told.contains(kept) && told.contains("update lung_nodule --unpin"), "{told}");
    }
    for arguments in
        [vec!["install"], vec!["install", "lung_nodule"], vec!["install", "lung_nodule", "--lock"]]
    {
        let (code, told) = registry(&arguments);
        assert_eq!((code, locked()), (Some(0), pinned.clone()), "{told}");
        assert_eq!(told.contains("--unpin lets it go"), arguments.len() > 1, "{told}");
    }
    let (code, told) = registry(&["update", "lung_nodule@>=0.1.1"]);
    assert!(code == Some(3) && told.contains("pins lung_nodule 0.1.0") && locked() == pinned, "{told}");

    let (code, told) = registry(&["update", "lung_nodule", "--unpin"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(locked().contains("version = \"0.1.1\"") && !locked().contains("pinned"), "{}", locked());
}

#[test]
fn a_package_whose_weights_derive_from_a_backbone_of_binding_terms_is_installed_once_they_are_accepted() {
    let world = World::new();
    world.publish_on(&tiny_backbone(), "0.1.0", |_| {});
    // The hospital has the backbone, and its licence.
    let source = world.folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for file in ["config.json", "model.safetensors", "preprocessor_config.json"] {
        fs::copy(tiny_backbone().join(file), source.join(file)).unwrap();
    }
    fs::write(source.join("LICENSE.md"), "Terms that bind whoever derives from the model.").unwrap();
    let imported = host(&world, &["backbone", "import", source.to_str().unwrap(), "--name", "bound"]);
    assert!(imported.status.success(), "{}", said(&imported));
    let record = world.folder.path().join("home/accepted_licences.json");
    for words in ["backbones/bound", "was not accepted", "LICENSE.md", "--accept-licence"] {
        world.refuses(words);
    }
    assert!(!record.exists());
    let installed = host(&world, &["registry", "install", "lung_nodule", "--accept-licence"]);
    assert!(installed.status.success(), "{}", said(&installed));
    let recorded = fs::read_to_string(&record).unwrap();
    assert!(recorded.contains("\"backbone\": \"bound\""), "{recorded}");
    // It is asked once on a machine: `run` asks no more.
    let scan = scan();
    let ran = host(&world, &["run", "--json", "--plugin", "lung_nodule@0.1", scan.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", said(&ran));
    let result: CaseResult = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(result.backbone.name, "bound");
}
