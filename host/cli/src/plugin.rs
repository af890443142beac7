//! `host plugin`: lists plugins, shows a manifest, makes a new plugin, checks a plugin, makes golden cases, adopts weights. `list` and
//! `inspect` run no code of a plugin; `check` runs it in a child process.

mod adopt;
mod new;

use super::console::Console;
use super::outcome::{CommandError, Outcome};
use super::text;
use anymc3d_host::plugin::{PluginError, find, inspect, section::Embedded};
use anymc3d_host::task::Weights;
use anymc3d_manifest::{Intensity, LossKind, TaskKind, View};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  host plugin new my_task
  host plugin list
  host plugin inspect lung_nodule
  host plugin inspect path/to/liblung_nodule.so --json
  host plugin check target/release/libmine.so
  host plugin adopt-weights --plugin mine --weights mine-0.1.0.safetensors --out mine.safetensors
  host plugin golden --plugin lung_nodule phantom.nii.gz --out golden      a golden case for its package; see `host registry`";

/// List, inspect, make and check plugins
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Plugin {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(before_help = new::EXAMPLES)]
    New(new::New),
    /// List the plugins that the host finds by name
    #[command(before_help = EXAMPLES)]
    List {
        /// Print one line of JSON per plugin
        #[arg(long)]
        json: bool,
    },
    /// Show a plugin's manifest, digest and weights; the host runs none of its code
    #[command(before_help = EXAMPLES)]
    Inspect {
        /// Plugin, by name or path
        #[arg(value_name = "P")]
        plugin: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    #[cfg(unix)]
    Check(super::plugin_check::Check),
    #[command(before_help = adopt::EXAMPLES)]
    AdoptWeights(Box<adopt::AdoptWeights>),
    Golden(Box<super::golden::Golden>),
}

/// What is known of a library that was not loaded.
struct Found {
    path: PathBuf,
    sha256: String,
    bytes: usize,
    embedded: Embedded,
    weights: Result<Weights, PluginError>,
}

impl Plugin {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self.action {
            Action::New(new) => new.run(console),
            Action::Golden(golden) => golden.run(console),
            Action::AdoptWeights(adopt) => adopt.run(console),
            Action::List { json } => {
                list(json, console);
                Ok(Outcome::Done)
            }
            #[cfg(unix)]
            Action::Check(check) => check.run(console),
            Action::Inspect { plugin, json } => {
                let found =
                    find::library(&plugin).and_then(|path| open(&path)).map_err(CommandError::refused)?;
                console.result(if json { found.json().to_string() } else { found.facts() });
                Ok(Outcome::Done)
            }
        }
    }
}

fn list(json: bool, console: &Console) {
    let mut rows =
        vec![["NAME", "VERSION", "LABELS", "WEIGHTS", "SUMMARY", "LIBRARY"].map(str::to_owned).to_vec()];
    for path in find::all_libraries() {
        match open(&path) {
            Ok(found) if json => console.result(found.json()),
            Ok(found) => rows.push(found.row()),
            // Beside an executable there may be any library.
            Err(PluginError::NoManifest { .. }) => tracing::debug!("{}: not a plugin", path.display()),
            Err(e) => console.warning(e),
        }
    }
    match rows.len() {
        _ if json => {}
        1 => console.note("no plugin is installed or beside the executable; give a path to `--plugin`"),
        _ => console.result(text::table(&rows)),
    }
}

fn open(path: &Path) -> Result<Found, PluginError> {
    let library = inspect(path)?;
    let weights = Weights::find(&library.manifest().plugin.name, None, path);
    let bytes = library.size();
    Ok(Found { path: path.to_owned(), sha256: library.sha256, bytes, embedded: library.embedded, weights })
}

impl Found {
    fn row(&self) -> Vec<String> {
        let manifest = &self.embedded.manifest;
        let weights = match &self.weights {
            Ok(_) => "yes",
            Err(PluginError::NoWeights { .. }) => "none",
            Err(_) => "unusable",
        };
        vec![
            manifest.plugin.name.clone(),
            manifest.plugin.version.to_string(),
            manifest.task.labels.join(", "),
            weights.to_owned(),
            manifest.plugin.summary.clone(),
            self.path.display().to_string(),
        ]
    }

    fn facts(&self) -> String {
        let Embedded { manifest, unknown_keys, build, .. } = &self.embedded;
        let (plugin, task) = (&manifest.plugin, &manifest.task);
        let views: Vec<String> = manifest.views.iter().map(view).collect();
        let backbone = format!(
            "{}, width {} or more",
            manifest.backbone.families.join(" or "),
            manifest.backbone.min_embed_dim
        );
        let (weights, training) = match &self.weights {
            Ok(w) => {
                let on = format!("{} (on {}, sha256 {})", w.path.display(), w.info.backbone, w.sha256);
                (on, trained(&w.info.training))
            }
            Err(e) => (e.to_string(), String::new()),
        };
        text::facts([
            ("name", plugin.name.clone()),
            ("version", plugin.version.to_string()),
            ("summary", plugin.summary.clone()),
            ("intended use", plugin.intended_use.clone()),
            ("authors", plugin.authors.join(", ")),
            ("licence", plugin.license.clone()),
            ("task", format!("{}: {}", kind(task.kind), task.labels.join(", "))),
            ("loss", loss(&task.loss)),
            ("threshold", task.threshold.to_string()),
            ("smallest", task.smallest_mm.map_or(String::new(), |mm| format!("findings of {mm} mm"))),
            ("views", views.join("; ")),
            ("backbone", backbone),
            ("library", self.path.display().to_string()),
            ("sha256", self.sha256.clone()),
            ("size", text::size(self.bytes as u64)),
            ("ABI", build.abi.clone()),
            ("target", build.target.clone()),
            ("weights", weights),
            ("training", training),
            ("unknown keys", unknown_keys.join(", ")),
        ])
    }

    fn json(&self) -> Value {
        let Embedded { manifest, unknown_keys, build, .. } = &self.embedded;
        let (plugin, task) = (&manifest.plugin, &manifest.task);
        let weights = match &self.weights {
            Ok(w) => json!({"path": w.path.display().to_string(), "sha256": w.sha256, "info": w.info}),
            Err(PluginError::NoWeights { .. }) => Value::Null,
            Err(e) => json!({"error": e.to_string()}),
        };
        json!({
            "name": plugin.name, "version": plugin.version.to_string(), "summary": plugin.summary,
            "intended_use": plugin.intended_use, "authors": plugin.authors, "license": plugin.license,
            "kind": task.kind, "labels": task.labels, "loss": task.loss, "threshold": task.threshold,
            "sided_labels": task.sided_labels,
            "permutation_invariant": task.permutation_invariant, "smallest_mm": task.smallest_mm, "views": manifest.views, "backbone": manifest.backbone,
            "path": self.path.display().to_string(), "sha256": self.sha256, "bytes": self.bytes,
            "abi": build.abi, "target": build.target, "unknown_keys": unknown_keys, "weights": weights,
        })
    }
}

/// A training record in a sentence; older ones as they are.
fn trained(record: &serde_json::Value) -> String {
    let Some(description) = record["description"].as_str() else { return record.to_string() };
    let auroc = record["val_auroc"].as_f64().map_or("not defined".to_owned(), |a| format!("{a:.3}"));
    let figure = |name: &str| record[name].to_string();
    format!(
        "{description} Validation AUROC {auroc} (epoch {} of {}). Data sha256 {}.",
        figure("best_epoch"),
        record["options"]["epochs"],
        record["data_sha256"].as_str().unwrap_or("unknown")
    )
}

fn kind(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Binary => "binary",
        TaskKind::Multiclass => "one class of several",
        TaskKind::Multilabel => "several labels",
        TaskKind::Ordinal => "one label with levels",
        TaskKind::Regression => "numbers",
    }
}

fn loss(loss: &anymc3d_manifest::Loss) -> String {
    match loss.kind {
        LossKind::Focal => format!("focal (gamma {}, alpha {})", loss.gamma, loss.alpha),
        LossKind::Bce => "binary cross-entropy".to_owned(),
        LossKind::CrossEntropy => "cross-entropy".to_owned(),
        LossKind::Mse => "mean squared error".to_owned(),
    }
}

/// `axial: CT, axial, 40 slices of 168 × 168, region lungs, window [-1000, 400]`
fn view(view: &View) -> String {
    let lower = |text: String| text.to_lowercase();
    let slices = match (view.slices, view.slice_spacing_mm) {
        (Some(n), _) => format!("{n} slices"),
        (None, mm) => format!("a slice every {} mm", mm.unwrap_or_default()),
    };
    let intensity = match &view.intensity {
        Intensity::Window { windows } => {
            windows.iter().map(|[lo, hi]| format!("window {lo} to {hi}")).collect::<Vec<_>>().join(", ")
        }
        Intensity::Percentile { low, high, .. } => format!("percentiles {low} to {high}"),
    };
    let crop = match view.crop {
        Some(shares) => {
            let of = |[from, to]: [f64; 2]| format!("{from} to {to}");
            format!(" cropped to {} × {} × {}", of(shares[0]), of(shares[1]), of(shares[2]))
        }
        None => String::new(),
    };
    format!(
        "{}: {:?}, {}, {slices} of {} × {}, fit {}, region {}{crop}, {intensity}{}",
        view.name,
        view.modality,
        lower(format!("{:?}", view.axis)),
        view.size[0],
        view.size[1],
        lower(format!("{:?}", view.fit)),
        lower(format!("{:?}", view.region)),
        if view.required { "" } else { " (may be missing)" },
    )
}
