//! `host backbone`: lists backbones, shows what identifies one, and brings further ones here.

mod pull;
mod quantise;
mod store;

use super::console::Console;
use super::outcome::{CommandError, Outcome};
use super::text;
use anymc3d_host::backbone::{Backbone as Opened, BackboneInfo, Precision, lora_parameter_count};
use anymc3d_host::engine::backbone_store::{BackboneCard, Licence, licence_of};
use anymc3d_host::engine::{DEFAULT_BACKBONE, all_backbones, find_backbone};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host backbone list
  host backbone inspect dinov2-small
  host backbone inspect path/to/folder --json
  host backbone import models/siglip-base-patch16-224 --name siglip-base
  host backbone verify siglip-base
  host backbone quantise dinov2-small";

/// List, inspect, import, pull and verify the frozen vision transformers that tasks run on
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Backbone {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the backbones that the host finds by name
    #[command(before_help = EXAMPLES)]
    List {
        /// Print one line of JSON per backbone
        #[arg(long)]
        json: bool,
    },
    /// Show dimensions, normalisation and digests of a backbone
    #[command(before_help = EXAMPLES)]
    Inspect {
        /// Backbone, by name or folder
        #[arg(value_name = "NAME|DIR", default_value = DEFAULT_BACKBONE)]
        backbone: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    Import(store::Import),
    Pull(pull::Pull),
    Quantise(quantise::Quantise),
    Verify(store::Verify),
    Remove(store::Remove),
}

/// A backbone that could be opened: it is complete.
struct Found {
    path: PathBuf,
    info: BackboneInfo,
    bytes: u64,
    card: Option<BackboneCard>,
    licence: Option<Licence>,
}

impl Backbone {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self.action {
            Action::List { json } => list(json, console),
            Action::Inspect { backbone, json } => {
                let path = find_backbone(&backbone).map_err(CommandError::refused)?;
                let found = open(&path).map_err(CommandError::refused)?;
                console.result(if json { found.json() } else { found.facts() });
                Ok(Outcome::Done)
            }
            Action::Import(import) => import.run(console),
            Action::Pull(pull) => pull.run(console),
            Action::Quantise(quantise) => quantise.run(console),
            Action::Verify(verify) => verify.run(console),
            Action::Remove(remove) => remove.run(console),
        }
    }
}

fn list(json: bool, console: &Console) -> Result<Outcome, CommandError> {
    let mut rows = vec![
        ["NAME", "FAMILY", "WIDTH", "BLOCKS", "PATCH", "SIZE", "LICENCE", "FOLDER"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for path in all_backbones() {
        match open(&path) {
            Ok(found) if json => console.result(found.json()),
            Ok(found) => rows.push(found.row()),
            Err(e) => console.warning(e),
        }
    }
    match rows.len() {
        _ if json => {}
        1 => console
            .note("no backbone is found by name; `host backbone import DIR --name NAME` brings one into $ANYMC3D_HOME/backbones"),
        _ => console.result(text::table(&rows)),
    }
    Ok(Outcome::Done)
}

fn open(path: &Path) -> Result<Found, anymc3d_host::backbone::BackboneError> {
    let opened = Opened::open(path, Precision::F32)?;
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let weights = entries.filter(|e| e.path().extension().is_some_and(|x| x == "safetensors"));
    let bytes = weights.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
    let (card, licence) = (BackboneCard::read(path)?, licence_of(path));
    Ok(Found { path: path.to_owned(), info: opened.info().clone(), bytes, card, licence })
}

impl Found {
    fn row(&self) -> Vec<String> {
        let i = &self.info;
        let numbers = [i.embed_dim, i.blocks, i.patch_size].map(|n| n.to_string());
        let path = self.path.display().to_string();
        let rest = vec![text::size(self.bytes), self.licence(), path];
        [vec![i.name.clone(), i.family.clone()], numbers.to_vec(), rest].concat()
    }

    /// `-` where nothing is said of it.
    fn licence(&self) -> String {
        match &self.licence {
            None => "-".to_owned(),
            Some(l) if l.must_accept => format!("{}, must be accepted", l.name),
            Some(l) => l.name.clone(),
        }
    }

    fn facts(&self) -> String {
        let i = &self.info;
        text::facts([
            ("name", i.name.clone()),
            ("family", i.family.clone()),
            ("width", i.embed_dim.to_string()),
            ("blocks", i.blocks.to_string()),
            ("heads", i.heads.to_string()),
            ("patch", format!("{0} × {0} pixels", i.patch_size)),
            (
                "class token",
                if i.class_token { "yes".into() } else { "no, a pooling head's output".to_owned() },
            ),
            ("registers", i.registers.to_string()),
            ("LoRA of rank 8", format!("{} numbers", lora_parameter_count(i, 8))),
            ("mean", format!("{:?}", i.mean)),
            ("std", format!("{:?}", i.std)),
            ("sha256", i.sha256.clone()),
            ("fingerprint", i.fingerprint.clone()),
            ("size", text::size(self.bytes)),
            ("licence", self.licence()),
            ("source", self.card.as_ref().map(|c| c.source.clone()).unwrap_or_default()),
            ("imported", self.card.as_ref().map(|c| c.imported.clone()).unwrap_or_default()),
            ("folder", self.path.display().to_string()),
        ])
    }

    fn json(&self) -> String {
        let i = &self.info;
        json!({
            "name": i.name, "family": i.family, "embed_dim": i.embed_dim, "blocks": i.blocks, "heads": i.heads,
            "patch_size": i.patch_size, "registers": i.registers, "mean": as_written(i.mean), "std": as_written(i.std),
            "sha256": i.sha256, "fingerprint": i.fingerprint, "bytes": self.bytes,
            "class_token": i.class_token, "lora_parameters_rank_8": lora_parameter_count(i, 8),
            "licence": self.licence, "source": self.card.as_ref().map(|c| &c.source),
            "path": self.path.display().to_string(),
        })
        .to_string()
    }
}

/// 0.485 as f32 is 0.485 in JSON too, not 0.48500001430511475.
fn as_written(values: [f32; 3]) -> [f64; 3] {
    values.map(|v| v.to_string().parse().unwrap_or(f64::from(v)))
}
