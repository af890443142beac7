//! `host plugin adopt-weights`: a new version of a plugin without training again.

use crate::console::Console;
use crate::doctor::{ExaminedTable, examined};
use crate::options::BackboneOptions;
use crate::outcome::{CommandError, Outcome};
use anymc3d_host::backbone::Precision;
use anymc3d_host::data::table::{LabelColumns, Part, Split, TableError, digest_of};
use anymc3d_host::scan::{ContentDigest, DecodedScans};
use anymc3d_host::task::{
    AdoptError, LoadedTask, TrainedFor, TrainingCases, Weights, WeightsInfo, adopted, weights,
};
use anymc3d_host::train::TrainingRecord;
use anymc3d_manifest::Manifest;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) const EXAMPLES: &str = "\
Examples:
  host plugin adopt-weights --plugin target/release/libmine.so --weights mine-0.1.0.safetensors --out mine.safetensors
  host plugin adopt-weights --plugin mine --weights old.safetensors --trained-with plugin-0.1.0.toml --out mine.safetensors";

/// Give a plugin's weights to its new version, where parameters, labels and preprocessing are the same
///
/// The tensors stay as they are. Refused where a parameter, a label or a key of a view that changes pixels differs from when
/// the weights were trained.
#[derive(Debug, Args)]
pub(super) struct AdoptWeights {
    /// The new version, by name or path
    #[arg(long, short, value_name = "P")]
    plugin: String,
    /// Weights of the version before
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,
    /// File for the weights of the new version
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// plugin.toml that the weights were trained with, for weights of a host that did not record it
    #[arg(long, value_name = "FILE")]
    trained_with: Option<PathBuf>,
    /// Table that the weights were trained on (the --data of that training), for weights of a host that did not record the
    /// cases: every scan is opened
    #[arg(long, value_name = "T.csv")]
    cases: Option<PathBuf>,
    /// Table of the validation cases, where that training had one (--val)
    #[arg(long, value_name = "V.csv", requires = "cases")]
    val: Option<PathBuf>,
    #[command(flatten)]
    backbone: BackboneOptions,
}

impl AdoptWeights {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        self.backbone.apply()?;
        crate::options::out_file("--out", &self.out).map_err(CommandError::failed)?;
        let backbone = self.backbone.open(Precision::F32)?;
        // Opening compares every tensor with what the plugin asks for.
        let task =
            LoadedTask::open(&self.plugin, Some(&self.weights), &backbone).map_err(CommandError::refused)?;
        let manifest = task.task.manifest();
        let old = Weights::open(&self.weights).map_err(CommandError::refused)?;
        let trained_for = self.trained_with.as_deref().map(|toml| trained_with(toml, &old)).transpose()?;
        let (mut members, version) = (old, &manifest.plugin.version);
        if self.cases.is_some() && !members.further.is_empty() {
            return Err(CommandError::usage(format!(
                "--cases: {} is an ensemble, whose members trained on different cases",
                self.weights.display()
            )));
        }
        let old_version = members.info.plugin_version.clone();
        for member in
            std::iter::once(&mut members.info).chain(members.further.iter_mut().map(|w| &mut w.info))
        {
            *member = self.adopt(member, manifest, trained_for.clone())?;
        }
        if let Some(table) = &self.cases {
            members.info.cases =
                Some(self.training_cases(table, &members.info.training, manifest, console)?);
        }
        weights::write_ensemble(&self.out, &[members]).map_err(CommandError::failed)?;
        let plugin = &manifest.plugin;
        console.result(format!(
            "{}: weights of {} {} for version {}",
            self.out.display(),
            plugin.name,
            old_version,
            version
        ));
        Ok(Outcome::Done)
    }

    /// What one member's weights say of themselves as this version's own.
    fn adopt(
        &self,
        info: &WeightsInfo,
        manifest: &Manifest,
        trained_for: Option<TrainedFor>,
    ) -> Result<WeightsInfo, CommandError> {
        adopted(info, manifest, trained_for).map_err(|e| {
            let hint = match e {
                AdoptError::Unrecorded => {
                    "; give the plugin.toml they were trained with: --trained-with FILE"
                }
                AdoptError::Changed { .. } => "",
            };
            CommandError::refused(format!("{}: {e}{hint}", self.weights.display()))
        })
    }

    /// Salted digests of the scans that trained and of those that validated, split as the training's record says.
    fn training_cases(
        &self,
        table: &Path,
        record: &serde_json::Value,
        manifest: &Manifest,
        console: &Console,
    ) -> Result<TrainingCases, CommandError> {
        let record: TrainingRecord = serde_json::from_value(record.clone()).map_err(|e| {
            CommandError::failed(format!("--cases: the weights have no record of a training ({e})"))
        })?;
        let unreadable = |e| CommandError::failed(format!("{}: cannot be read ({e})", table.display()));
        let sha256 = digest_of(table).map_err(unreadable)?;
        if sha256 != record.data_sha256 {
            return Err(CommandError::failed(format!(
                "{}: sha256 {sha256}, the weights were trained on a table of {}",
                table.display(),
                record.data_sha256
            )));
        }
        let known = scans_of(table, manifest, console)?;
        let (training, validation) = match &self.val {
            Some(val) => {
                let validating = scans_of(val, manifest, console)?;
                (contents(&known, &not_tests(&known)), contents(&validating, &not_tests(&validating)))
            }
            None => {
                let Split { train, val } =
                    known.table.split(record.options.val_fraction, record.options.seed);
                (contents(&known, &train), contents(&known, &val))
            }
        };
        let run = format!("{}\n{}\n{}", record.data_sha256, record.split_sha256, record.options.seed);
        Ok(TrainingCases::new(&run, &training, &validation))
    }
}

/// What the scans of some rows show.
fn contents(known: &ExaminedTable, rows: &[usize]) -> Vec<ContentDigest> {
    let contents: BTreeMap<&Path, &ContentDigest> = known.examination.contents().collect();
    let images = rows.iter().flat_map(|&row| known.table.rows[row].images.values());
    images.filter_map(|path| contents.get(path.as_path()).map(|digest| **digest)).collect()
}

fn not_tests(known: &ExaminedTable) -> Vec<usize> {
    let rows = known.table.rows.iter().enumerate();
    rows.filter(|(_, row)| row.split != Some(Part::Test)).map(|(i, _)| i).collect()
}

/// A table whose scans can all be read.
fn scans_of(table: &Path, manifest: &Manifest, console: &Console) -> Result<ExaminedTable, CommandError> {
    let known = examined(table, manifest, &LabelColumns::default(), &DecodedScans::default(), console);
    let problems = known.examination.findings.errors.clone();
    match problems.is_empty() {
        true => Ok(known),
        false => Err(CommandError::failed(TableError { path: table.to_owned(), problems })),
    }
}

/// What the task was, by the plugin.toml of the weights' own version.
fn trained_with(toml: &Path, weights: &Weights) -> Result<TrainedFor, CommandError> {
    let wrong = |e: String| CommandError::failed(format!("{}: {e}", toml.display()));
    let text = std::fs::read_to_string(toml).map_err(|e| wrong(format!("cannot be read ({e})")))?;
    let manifest = Manifest::parse(&text).map_err(|e| wrong(e.to_string()))?.manifest;
    let (name, version) = (&manifest.plugin.name, manifest.plugin.version.to_string());
    let (plugin, plugin_version) = (&weights.info.plugin, &weights.info.plugin_version);
    if (name, &version) != (plugin, plugin_version) {
        return Err(wrong(format!("is of {name} {version}, the weights are of {plugin} {plugin_version}")));
    }
    Ok(TrainedFor::of(&manifest))
}
