//! `host backbone quantise`: the 8-bit integers of a backbone's layers, chosen once.

use super::store::fault;
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use crate::text;
use anymc3d_host::backbone::QUANTISED_FILE;
use anymc3d_host::engine::{DEFAULT_BACKBONE, backbone_store, find_backbone};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  host backbone quantise
  host run --plugin lung_nodule --precision int8 scan.nii.gz";

/// Round a backbone's layers to 8-bit integers for what goes into them, and say how near its class tokens stay
///
/// The file is written into the backbone's folder, and `--precision int8` computes with it from then on. It needs a processor with VNNI.
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Quantise {
    /// Backbone, by name or folder
    #[arg(value_name = "NAME|DIR", default_value = DEFAULT_BACKBONE)]
    backbone: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Quantise {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let folder = find_backbone(&self.backbone).map_err(CommandError::refused)?;
        backbone_store::check_licence(&folder).map_err(CommandError::refused)?;
        let mut bar = None;
        let mut done = |n: usize, all: usize| {
            bar.get_or_insert_with(|| console.progress(all, "blocks")).set_position(n as u64);
        };
        let record = backbone_store::quantise(&folder, &mut done).map_err(fault)?;
        let path = folder.join(QUANTISED_FILE).display().to_string();
        if self.json {
            let mut json = serde_json::to_value(&record).map_err(CommandError::failed)?;
            json["path"] = path.into();
            console.result(json);
            return Ok(Outcome::Done);
        }
        console.result(text::facts([
            ("written", path),
            ("rounded for", format!("{} slices of phantoms and of noise", record.slices)),
            ("measured on", format!("{} slices of other phantoms", record.measured)),
            (
                "class tokens",
                format!(
                    "cosine to f32 {:.5} in the mean, {:.5} at the lowest",
                    record.mean_cosine, record.lowest_cosine
                ),
            ),
        ]));
        Ok(Outcome::Done)
    }
}
