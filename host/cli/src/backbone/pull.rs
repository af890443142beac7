//! `host backbone pull`: a backbone from a server that speaks as Hugging Face's does.

use super::store::{fault, tell};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::engine::backbone_store::{self, store_folder};
use anymc3d_registry::hub::{Hub, HubFile};
use clap::Args;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host backbone pull facebook/dinov2-base --name dinov2-base --from https://hub.example.org
  ANYMC3D_HUB=https://hub.example.org ANYMC3D_HUB_TOKEN=… host backbone pull google/medsiglip-448 --name medsiglip
  host backbone pull facebook/dinov2-base --revision 6f1c2a9 --name dinov2-base-pinned";

/// Download a backbone from a Hugging Face style server, check its digests and import it
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Pull {
    /// Repository, as OWNER/NAME
    #[arg(value_name = "OWNER/NAME")]
    repository: String,
    /// Name by which the host finds it
    #[arg(long)]
    name: String,
    /// Branch, tag or commit
    #[arg(long, default_value = "main")]
    revision: String,
    /// Address of the server; a token is read from $ANYMC3D_HUB_TOKEN
    #[arg(long, value_name = "URL", env = "ANYMC3D_HUB")]
    from: String,
    /// Print the card as one line of JSON
    #[arg(long)]
    json: bool,
}

/// Files that a backbone may consist of; everything else of the repository stays there.
fn is_wanted(file: &HubFile) -> bool {
    let name = file.path.to_ascii_lowercase();
    let described =
        ["config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json"];
    // `model.safetensors`, or its shards and their index.
    let weights =
        name.starts_with("model") && [".safetensors", ".index.json"].iter().any(|end| name.ends_with(end));
    let told = ["licen", "copying", "notice", "readme.md"].iter().any(|start| name.starts_with(start));
    !name.contains('/') && (described.contains(&name.as_str()) || weights || told)
}

impl Pull {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let store = store_folder().map_err(fault)?;
        let place = store.join(&self.name);
        if place.exists() {
            let message = format!("{}: there is a backbone of this name; remove it first", place.display());
            return Err(CommandError::refused(message));
        }
        let token = std::env::var("ANYMC3D_HUB_TOKEN").ok().filter(|token| !token.is_empty());
        let hub = Hub::new(&self.from, token);
        let files: Vec<HubFile> =
            hub.files(&self.repository, &self.revision)?.into_iter().filter(is_wanted).collect();
        if !files.iter().any(|f| f.path.ends_with(".safetensors")) {
            let message = format!(
                "{}: {} has no safetensors file at {}; a pickle is not read: convert it where PyTorch is, then `host backbone import`",
                hub.address(),
                self.repository,
                self.revision
            );
            return Err(CommandError::refused(message));
        }
        let parts = self.parts(&store);
        std::fs::create_dir_all(&parts)
            .map_err(|e| CommandError::failed(format!("{}: {e}", parts.display())))?;
        let all: u64 = files.iter().map(|f| f.bytes).sum();
        let (bar, mut before) = (console.progress(100, "downloading"), 0);
        for file in &files {
            let progress = |at: u64| bar.set_position((before + at) * 100 / all.max(1));
            hub.fetch(&self.repository, &self.revision, file, &parts, &progress)?;
            before += file.bytes;
        }
        bar.finish_and_clear();
        let imported = backbone_store::import(&backbone_store::Import {
            from: parts.clone(),
            name: self.name,
            source: Some(format!("{}/{} at {}", hub.address(), self.repository, self.revision)),
            ..backbone_store::Import::default()
        });
        // What was refused must not be gone on with.
        remove(&parts, console);
        tell(&imported.map_err(fault)?, self.json, console)
    }

    /// Where parts of a download wait to be gone on with.
    fn parts(&self, store: &Path) -> PathBuf {
        let plain = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
        store.join(format!(".pulling-{}-{}", plain(&self.repository), plain(&self.revision)))
    }
}

fn remove(folder: &Path, console: &Console) {
    if let Err(e) = std::fs::remove_dir_all(folder) {
        console.warning(format!("{}: cannot be removed ({e})", folder.display()));
    }
}
