//! `host backbone import`, `verify` and `remove`: backbones in `$ANYMC3D_HOME/backbones`, each with a card.

use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_host::engine::backbone_store::{self, BackboneCard, Imported, StoreError};
use anymc3d_host::engine::{DEFAULT_BACKBONE, find_backbone};
use clap::Args;
use std::path::PathBuf;

const IMPORT_EXAMPLES: &str = "\
Examples:
  host backbone import models/siglip-base-patch16-224 --name siglip-base
  host backbone import vit/model.safetensors --name my-vit --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5
  host backbone import models/dinov3-vits16 --name dinov3-small --licence models/LICENSE.md";

const VERIFY_EXAMPLES: &str = "\
Examples:
  host backbone verify siglip-base
  host backbone verify siglip-base --json";

const REMOVE_EXAMPLES: &str = "\
Examples:
  host backbone remove siglip-base";

/// Copy a backbone into $ANYMC3D_HOME: opened and tried first, with a card of source, licence and digests
#[derive(Debug, Args)]
#[command(before_help = IMPORT_EXAMPLES)]
pub(super) struct Import {
    /// Folder of transformers or timm, or its safetensors file
    #[arg(value_name = "DIR|FILE")]
    from: PathBuf,
    /// Name by which the host finds it
    #[arg(long)]
    name: String,
    /// Where it comes from, for the card [default: the path]
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// Text of its licence, where the folder has none; it must be accepted before the backbone computes
    #[arg(long, value_name = "FILE")]
    licence: Option<PathBuf>,
    /// Mean of the three channels, where no file gives it
    #[arg(long, value_name = "R,G,B", value_parser = three_numbers, requires = "std")]
    mean: Option<Three>,
    /// Deviation of the three channels, where no file gives it
    #[arg(long, value_name = "R,G,B", value_parser = three_numbers, requires = "mean")]
    std: Option<Three>,
    /// Print the card as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
struct Three([f32; 3]);

fn three_numbers(text: &str) -> Result<Three, String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|v| v.trim().parse().ok()).collect();
    let finite = numbers.filter(|all| all.iter().all(|v: &f32| v.is_finite()));
    let three = finite.and_then(|all| all.try_into().ok());
    three.map(Three).ok_or_else(|| "expected three numbers, for example 0.485,0.456,0.406".to_owned())
}

/// Check a backbone against its card: digests of all files, and the class token of a golden image
#[derive(Debug, Args)]
#[command(before_help = VERIFY_EXAMPLES)]
pub(super) struct Verify {
    /// Backbone, by name or folder
    #[arg(value_name = "NAME|DIR", default_value = DEFAULT_BACKBONE)]
    backbone: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Remove a backbone that was imported or pulled
#[derive(Debug, Args)]
#[command(before_help = REMOVE_EXAMPLES)]
pub(super) struct Remove {
    /// Its name
    name: String,
}

/// A file that cannot be read or written is a failure; anything else is a refusal.
pub(super) fn fault(error: StoreError) -> CommandError {
    match error {
        StoreError::Io { .. } => CommandError::failed(error),
        other => CommandError::refused(other),
    }
}

impl Import {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let statistics = self.mean.zip(self.std).map(|(mean, std)| (mean.0, std.0));
        let imported = backbone_store::import(&backbone_store::Import {
            from: self.from,
            name: self.name,
            source: self.source,
            licence: self.licence,
            statistics,
        });
        tell(&imported.map_err(fault)?, self.json, console)
    }
}

/// Says what is there now.
pub(super) fn tell(imported: &Imported, json: bool, console: &Console) -> Result<Outcome, CommandError> {
    let Imported { folder, card } = imported;
    if card.licence.is_none() {
        console.warning(format!(
            "{}: its files name no licence; give its text with --licence FILE when you import it again",
            folder.display()
        ));
    }
    if json {
        console.result(serde_json::to_string(card).map_err(CommandError::failed)?);
    } else {
        console.result(format!("imported {} into {}\n{}", card.name, folder.display(), facts(card)));
    }
    Ok(Outcome::Done)
}

fn facts(card: &BackboneCard) -> String {
    text::facts([
        ("family", card.family.clone()),
        ("source", card.source.clone()),
        ("licence", licence(card)),
        ("sha256", card.sha256.clone()),
        ("fingerprint", card.fingerprint.clone()),
        ("files", format!("{}, {}", card.files.len(), text::size(card.bytes()))),
        ("imported", card.imported.clone()),
    ])
}

fn licence(card: &BackboneCard) -> String {
    match &card.licence {
        None => "unknown".to_owned(),
        Some(licence) if licence.must_accept => format!("{}, must be accepted", licence.name),
        Some(licence) => licence.name.clone(),
    }
}

impl Verify {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let folder = find_backbone(&self.backbone).map_err(CommandError::refused)?;
        let verified = backbone_store::verify(&folder).map_err(CommandError::refused)?;
        let sound = verified.problems.is_empty();
        if self.json {
            let json = serde_json::json!({
                "name": verified.card.name, "sound": sound, "problems": verified.problems,
                "golden_difference": f64::from(verified.golden_difference),
                "files": verified.card.files.len(), "path": folder.display().to_string(),
            });
            console.result(json);
        } else if sound {
            let (name, files) = (&verified.card.name, verified.card.files.len());
            let golden = verified.golden_difference;
            console.result(format!(
                "{name}: {files} files are as they were imported; the golden image's class token differs by {golden:.1e}"
            ));
        }
        verified.problems.iter().for_each(|problem| console.error(problem));
        Ok(if sound { Outcome::Done } else { Outcome::Refused })
    }
}

impl Remove {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let place = backbone_store::remove(&self.name).map_err(fault)?;
        console.result(format!("removed {}", place.display()));
        Ok(Outcome::Done)
    }
}
