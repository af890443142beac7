//! `host weights`: a task's weights from PyTorch, and to PyTorch, and what they know of their training cases.

mod reference;

use crate::console::Console;
use crate::options::BackboneOptions;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::backbone::{LoraWeights, PeftNames, Precision, load_peft};
use anymc3d_host::device::one_line;
use anymc3d_host::task::{LoadedTask, export_lora, import_lora, open_library, weights};
use candle_core::{Device, Tensor};
use clap::{Args, Subcommand};
use reference::ReferenceCommand;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host weights import --plugin lung_nodule --peft adapter/ --head head.safetensors --out w.safetensors
  host weights export --plugin lung_nodule --out peft/
  host weights reference --plugin lung_nodule --data train.csv --out w.safetensors";

/// Bring weights from PyTorch, take them there, or tell them where their training cases lie
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct WeightsCommand {
    #[command(subcommand)]
    command: Direction,
}

#[derive(Debug, Subcommand)]
enum Direction {
    Import(Import),
    Export(Export),
    Reference(ReferenceCommand),
}

/// Write an adapter of Hugging Face's peft, and a head, as a plugin's weights
///
/// The folder holds adapter_config.json and adapter_model.safetensors. With --head the weights run; without it they are a start
/// for `host train --start`.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
struct Import {
    /// Plugin, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Folder of the adapter
    #[arg(long, value_name = "DIR")]
    peft: PathBuf,
    /// Tensors of the head (.safetensors), by the plugin's names, with or without `head.`
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// File for the weights
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// What these weights may be used for, in a sentence [default: the plugin's]
    #[arg(long, value_name = "TEXT")]
    intended_use: Option<String>,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// Write a plugin's adapter as a folder of Hugging Face's peft, and its head as head.safetensors
///
/// A plugin with several views gets a folder for each.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
struct Export {
    /// Plugin, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Trained weights [default: those that `host run` finds]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Folder for the adapter and the head
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Major version of transformers, which names the layers
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=5))]
    transformers: u8,
    #[command(flatten)]
    backbone: BackboneOptions,
}

impl WeightsCommand {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self.command {
            Direction::Import(command) => command.run(console),
            Direction::Export(command) => command.run(console),
            Direction::Reference(command) => command.run(console),
        }
    }
}

impl Import {
    fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.backbone.apply()?;
        let library = open_library(&self.plugin).map_err(CommandError::refused)?;
        crate::options::out_file("--out", &self.out).map_err(CommandError::failed)?;
        let backbone = self.backbone.open(Precision::F32)?;
        let lora: LoraWeights = load_peft(&self.peft, backbone.info()).map_err(CommandError::refused)?;
        let head = self.head.as_deref().map(tensors).transpose().map_err(CommandError::refused)?;
        let imported = import_lora(&library, &backbone, &lora, &head.unwrap_or_default());
        let (tensors, mut info) = imported.map_err(CommandError::refused)?;
        info.intended_use = self.intended_use;
        weights::write(&self.out, &tensors, &info).map_err(CommandError::failed)?;
        let (out, name) = (self.out.display(), &library.embedded.manifest.plugin.name);
        let rank = info.variant.rank.unwrap_or_default();
        console.result(match &self.head {
            Some(_) => {
                format!("{out}: weights of {name}, rank {rank}; host run --plugin {name} --weights {out}")
            }
            None => format!(
                "{out}: a start without a head, rank {rank}; host train --plugin {name} --start {out}"
            ),
        });
        Ok(Outcome::Done)
    }
}

/// All tensors of a safetensors file.
fn tensors(file: &Path) -> Result<BTreeMap<String, Tensor>, String> {
    let at = file.display();
    let bytes = std::fs::read(file).map_err(|e| format!("{at}: cannot be read ({e})"))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
        .map_err(|e| format!("{at}: {}; expected a .safetensors file", one_line(&e)))?;
    Ok(tensors.into_iter().collect())
}

impl Export {
    fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.backbone.apply()?;
        let backbone = self.backbone.open(Precision::F32)?;
        let task = LoadedTask::open(&self.plugin, self.weights.as_deref(), &backbone);
        let task = task.map_err(CommandError::refused)?;
        let names = match self.transformers {
            4 => PeftNames::Transformers4,
            _ => PeftNames::Transformers5,
        };
        let written = export_lora(&task, backbone.info(), &self.out, names).map_err(CommandError::failed)?;
        written.iter().for_each(|path| console.result(path.display()));
        Ok(Outcome::Done)
    }
}
