//! `host registry pack`: packs a plugin's parts into one signed archive.

use super::machine::Machine;
use super::options::secret_key;
use super::probe;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::plugin::{find, inspect};
use anymc3d_registry::package::{PackageManifest, Parts, pack};
use anymc3d_registry::{RegistryError, SecretKey};
use clap::Args;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host registry pack --plugin target/release/liblung_nodule.so --from plugins/lung_nodule \\
      --golden golden --publisher \"Example Lab\" --key lab.key --out dist";

/// Pack a plugin's parts into one signed archive, after running its golden cases
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Pack {
    #[command(flatten)]
    parts: PartOptions,
    /// Folder for the archive
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// The parts of a package; the host looks for missing parts in the folder of `--from`.
#[derive(Debug, Args)]
pub(super) struct PartOptions {
    /// Library of the plugin, by path or name
    #[arg(long, short, value_name = "P")]
    plugin: Option<String>,
    /// Folder of all parts that no option below gives: plugin.toml, NAME.safetensors, README.md, LICENSE, golden/
    /// [default: plugins/NAME, if it exists]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Trained weights
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Model card
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// Text of the licence [default: LICENSE beside the model card, or in the working folder]
    #[arg(long, value_name = "FILE")]
    license: Option<PathBuf>,
    /// Folder of golden cases, made by `host plugin golden`
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
    /// Name of the publisher; clients trust its key under this name
    #[arg(long, value_name = "NAME")]
    publisher: Option<String>,
    /// Secret key of the publisher
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// An archive that was just made.
pub(super) struct Packed {
    pub manifest: PackageManifest,
    pub key: SecretKey,
    pub archive: PathBuf,
    pub sha256: String,
    pub bytes: u64,
}

impl PartOptions {
    /// Whether any part was given.
    pub fn any(&self) -> bool {
        self.plugin.is_some()
    }

    /// Checks every part and writes the archive.
    pub fn pack(&self, into: &Path, console: &Console) -> Result<Packed, CommandError> {
        let needed =
            |what: &str| CommandError::usage(format!("give {what}; see `host registry pack --help`"));
        let wanted = self.plugin.as_deref().ok_or_else(|| needed("--plugin"))?;
        let publisher = self.publisher.clone().ok_or_else(|| needed("--publisher"))?;
        let key = secret_key(self.key.as_deref().ok_or_else(|| needed("--key"))?)?;
        let library = find::library(wanted).map_err(CommandError::refused)?;
        let embedded = inspect(&library).map_err(CommandError::refused)?.embedded;
        let name = embedded.manifest.plugin.name;
        let from = self.from.clone().unwrap_or_else(|| Path::new("plugins").join(&name));
        let or = |given: &Option<PathBuf>, file: &str| given.clone().unwrap_or_else(|| from.join(file));
        let license = self.license.clone().unwrap_or_else(|| {
            let beside = from.join("LICENSE");
            if beside.is_file() { beside } else { PathBuf::from("LICENSE") }
        });
        let parts = Parts {
            abi: embedded.build.abi.parse().map_err(CommandError::refused)?,
            target: embedded.build.target,
            weights: or(&self.weights, &format!("{name}.safetensors")),
            plugin_toml: from.join("plugin.toml"),
            model_card: or(&self.card, "README.md"),
            license,
            golden: or(&self.golden, "golden"),
            library,
            publisher,
        };
        let (manifest, sources) = parts.manifest()?;
        let incomplete =
            |reason: String| CommandError::from(RegistryError::Incomplete { reasons: vec![reason] });
        probe::same_manifest(&parts.library, &parts.plugin_toml).map_err(incomplete)?;
        match probe::plugin_check(&parts.library, &parts.weights).map_err(incomplete)? {
            Some(()) => console.note("`host plugin check`: no problems"),
            None => console.note("this host has no `plugin check`; it was not run"),
        }
        let machine = Machine::look(console)?;
        let fingerprint = &manifest.backbone.fingerprint;
        let golden = probe::golden(&machine, &parts.library, &parts.weights, &parts.golden, fingerprint);
        let golden = golden.map_err(incomplete)?;
        console.note(format!(
            "{} golden cases, largest difference {:.1e}",
            golden.cases, golden.largest_difference
        ));
        std::fs::create_dir_all(into)
            .map_err(|e| CommandError::failed(format!("{}: cannot be made ({e})", into.display())))?;
        let archive = into.join(manifest.archive_name());
        let (sha256, bytes) = pack(&manifest, &sources, &key, &archive)?;
        Ok(Packed { manifest, key, archive, sha256, bytes })
    }
}

impl Pack {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let packed = self.parts.pack(&self.out, console)?;
        console.result(packed.archive.display());
        let (label, key) = (packed.manifest.label(), packed.key.public().id());
        console
            .note(format!("{label}, signed by key {key}, {} bytes, sha256 {}", packed.bytes, packed.sha256));
        Ok(Outcome::Done)
    }
}
