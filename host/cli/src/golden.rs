//! `host plugin golden`: makes the golden cases of a package, and checks them.

use super::console::Console;
use super::options::{BackboneOptions, GeometryOption, ViewFile};
use super::outcome::{CommandError, Outcome};
use super::region::RegionOptions;
use anymc3d_host::backbone::Precision;
use anymc3d_host::engine::golden::{self, Checked, TOLERANCE};
use anymc3d_host::engine::{Case, Engine};
use anymc3d_host::plugin::find;
use anymc3d_host::scan::source::stem_of;
use anymc3d_host::task::LoadedTask;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host plugin golden --plugin lung_nodule phantom.nii.gz --out golden     golden/phantom.json and the scan
  host plugin golden --plugin brain_mri --view t1=a.nii.gz --view t2=b.nii.gz --out golden
  host plugin golden --plugin lung_nodule --check golden                  compares this machine's logits

The scan goes into the package unchanged: use a synthetic scan (`host phantom`), never a patient's.";

/// Store a scan with the logits it gives here, so that other machines can compare; or compare
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Golden {
    /// Plugin, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Trained weights [default: the file beside the library, else the installed one]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Scan (.nii, .nii.gz, .nrrd, .mha …) of every view that --view does not name
    #[arg(required_unless_present_any = ["view", "check"], conflicts_with = "check")]
    scan: Option<PathBuf>,
    /// Scan of view NAME
    #[arg(long, value_name = "NAME=FILE", conflicts_with = "check")]
    view: Vec<ViewFile>,
    /// Folder for the golden case
    #[arg(long, short, value_name = "DIR", required_unless_present = "check", conflicts_with = "check")]
    out: Option<PathBuf>,
    /// Largest difference allowed between another machine's logits and these
    #[arg(long, default_value_t = TOLERANCE, value_parser = tolerance)]
    tolerance: f64,
    /// Run the golden cases of a folder and compare; exit code 1 if a case differs
    #[arg(long, value_name = "DIR")]
    check: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    region: RegionOptions,
    #[command(flatten)]
    geometry: GeometryOption,
    #[command(flatten)]
    backbone: BackboneOptions,
}

/// What `--check --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GoldenAnswer {
    pub schema: String,
    pub cases: Vec<Checked>,
}

const ANSWER_SCHEMA: &str = "anymc3d/golden-check/1";

fn tolerance(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(t) if (0.0..=0.1).contains(&t) => Ok(t),
        _ => Err("expected a number from 0 to 0.1".to_owned()),
    }
}

impl Golden {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.geometry.apply();
        self.backbone.apply()?;
        let library = find::library(&self.plugin).map_err(CommandError::refused)?;
        let backbone = self.backbone.open(Precision::F32)?;
        let task = LoadedTask::open_found(&library, self.weights.as_deref(), &backbone, false);
        let engine = Engine::new(backbone, Precision::F32, vec![task.map_err(CommandError::refused)?]);
        match &self.check {
            Some(folder) => self.compare(&engine, folder, console),
            None => self.make(&engine, console),
        }
    }

    fn make(&self, engine: &Engine, console: &Console) -> Result<Outcome, CommandError> {
        let views = self.view.iter().map(|v| (v.view.clone(), v.file.clone())).collect();
        let first = self.scan.as_deref().or_else(|| self.view.first().map(|v| v.file.as_path()));
        let name = stem_of(first.unwrap_or(Path::new("case")));
        let case =
            Case { name, image: self.scan.clone(), views, region: self.region.of_case(), ..Case::default() };
        let out = self.out.as_deref().unwrap_or(Path::new("golden"));
        let written = golden::record(engine, &case, self.tolerance, out).map_err(CommandError::failed)?;
        console.result(written.display());
        Ok(Outcome::Done)
    }

    fn compare(&self, engine: &Engine, folder: &Path, console: &Console) -> Result<Outcome, CommandError> {
        let checked = golden::check(engine, folder).map_err(CommandError::failed)?;
        let mut outcome = Outcome::Done;
        for case in &checked {
            if let Some(worst) = &case.worst {
                console.error(format!("golden case {}: {worst}", case.file));
                outcome = Outcome::Failed;
            } else if !self.json {
                console.result(format!(
                    "{}: largest difference {:.1e}, tolerance {}",
                    case.file, case.difference, case.tolerance
                ));
            }
        }
        if self.json {
            let answer = GoldenAnswer { schema: ANSWER_SCHEMA.to_owned(), cases: checked };
            let json = serde_json::to_string(&answer).map_err(CommandError::failed)?;
            console.result(json);
        }
        Ok(outcome)
    }
}
