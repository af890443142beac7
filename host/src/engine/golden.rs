//! Golden cases: a scan and the logits that a plugin's author got for it, so that another machine can tell whether it
//! gets the same. Schema `anymc3d/golden/1`; always f32 on the CPU, whose answers differ least between machines.

use super::case::Case;
use super::predict::Engine;
use crate::scan::{RegionOfInterest, files_of, source};
use anymc3d_registry::{sha256, sha256_of_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The schema's name.
pub const SCHEMA: &str = "anymc3d/golden/1";
/// How far a logit may be from its author's where nothing else is said: f32 sums in another order differ by about 1e-5.
pub const TOLERANCE: f64 = 1e-3;

/// A case with the answers of its author.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCase {
    /// [`SCHEMA`].
    pub schema: String,
    /// The plugin's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The backbone it ran on.
    pub backbone_fingerprint: String,
    /// `f32`.
    pub precision: String,
    /// How far a logit may be from the one below.
    pub tolerance: f64,
    /// Scans by view, in this folder.
    pub scans: BTreeMap<String, GoldenScan>,
    /// The mask that says where to look, in this folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<GoldenScan>,
    /// The point that says where to look, RAS mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_mm: Option<[f64; 3]>,
    /// One per label or class, in the manifest's order, before temperature and sigmoid or softmax.
    pub logits: Vec<GoldenLogit>,
}

/// A scan of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenScan {
    /// Name beside the case's file.
    pub file: String,
    /// Of its bytes.
    pub sha256: String,
}

/// An answer of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenLogit {
    /// Label or class.
    pub label: String,
    /// Before temperature and sigmoid or softmax.
    pub logit: f64,
}

/// What a case gave here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The case's file.
    pub file: String,
    /// Largest difference of a logit.
    pub difference: f64,
    /// What it may be.
    pub tolerance: f64,
    /// The logit that differs most, where that is too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<String>,
}

/// Why golden cases could not be made or run. What they gave is no error.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct GoldenError {
    path: PathBuf,
    reason: String,
}

fn failed(path: &Path, reason: impl ToString) -> GoldenError {
    GoldenError { path: path.to_owned(), reason: reason.to_string() }
}

/// Runs an engine's one task on a case and writes it down: `NAME.json` and a copy of every scan.
///
/// # Errors
/// When the case cannot be answered, a scan is no NIfTI file of its own, or the folder cannot be written to.
pub fn record(engine: &Engine, case: &Case, tolerance: f64, into: &Path) -> Result<PathBuf, GoldenError> {
    let (task, logits) = answer(engine, case)?;
    let manifest = task.task.manifest();
    std::fs::create_dir_all(into).map_err(|e| failed(into, format!("cannot be made ({e})")))?;
    let mut scans = BTreeMap::new();
    for view in &manifest.views {
        let Some(path) = case.file(&manifest.plugin.name, &view.name) else { continue };
        let shared = case.image.as_deref() == Some(path);
        let name = if shared { case.name.clone() } else { format!("{}_{}", case.name, view.name) };
        let file = format!("{}{}", plain(&name), ending(path)?);
        scans.insert(view.name.clone(), copied(path, into, file)?);
    }
    let mask = case.region.mask.as_deref().map(|path| {
        let file = format!("{}_mask{}", plain(&case.name), ending(path)?);
        copied(path, into, file)
    });
    let golden = GoldenCase {
        schema: SCHEMA.to_owned(),
        plugin: manifest.plugin.name.clone(),
        version: manifest.plugin.version.to_string(),
        backbone_fingerprint: engine.backbone().info().fingerprint.clone(),
        precision: "f32".to_owned(),
        tolerance,
        scans,
        mask: mask.transpose()?,
        point_mm: case.region.point_mm,
        logits,
    };
    let to = into.join(format!("{}.json", plain(&case.name)));
    let json = serde_json::to_string_pretty(&golden).map_err(|e| failed(&to, e))?;
    write(&to, (json + "\n").as_bytes())?;
    Ok(to)
}

/// Runs every case of a folder through an engine's one task.
///
/// # Errors
/// When there is none, one is of another plugin, version or backbone, or one cannot be run.
pub fn check(engine: &Engine, folder: &Path) -> Result<Vec<Checked>, GoldenError> {
    let entries = std::fs::read_dir(folder).map_err(|e| failed(folder, format!("cannot be read ({e})")))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    if files.is_empty() {
        return Err(failed(folder, "no golden case; expected .json files that `host plugin golden` wrote"));
    }
    files.iter().map(|file| check_one(engine, folder, file)).collect()
}

fn check_one(engine: &Engine, folder: &Path, file: &Path) -> Result<Checked, GoldenError> {
    let text = std::fs::read_to_string(file).map_err(|e| failed(file, format!("cannot be read ({e})")))?;
    let golden: GoldenCase = serde_json::from_str(&text).map_err(|e| failed(file, e))?;
    let Some(task) = engine.tasks().first() else { return Err(failed(file, "no plugin to run it with")) };
    let manifest = task.task.manifest();
    let expected = [
        ("schema", golden.schema.clone(), SCHEMA.to_owned()),
        ("plugin", golden.plugin.clone(), manifest.plugin.name.clone()),
        ("version", golden.version.clone(), manifest.plugin.version.to_string()),
        ("backbone", golden.backbone_fingerprint.clone(), engine.backbone().info().fingerprint.clone()),
        ("precision", golden.precision.clone(), "f32".to_owned()),
    ];
    if let Some((what, found, expected)) = expected.into_iter().find(|(_, found, expected)| found != expected)
    {
        return Err(failed(file, format!("is of {what} {found}, expected {expected}")));
    }
    if !(golden.tolerance >= 0.0 && golden.tolerance <= 0.1) {
        return Err(failed(file, format!("tolerance {}, expected 0 to 0.1", golden.tolerance)));
    }
    let mut views = BTreeMap::new();
    for (view, scan) in &golden.scans {
        views.insert(view.clone(), verified(scan, folder, file)?);
    }
    let mask = golden.mask.as_ref().map(|mask| verified(mask, folder, file)).transpose()?;
    let region = RegionOfInterest { mask, point_mm: golden.point_mm };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (_, logits) = answer(engine, &Case { name, views, region, ..Case::default() })?;
    let labels = |logits: &[GoldenLogit]| logits.iter().map(|l| l.label.clone()).collect::<Vec<_>>();
    if labels(&logits) != labels(&golden.logits) {
        let (found, expected) = (labels(&golden.logits), labels(&logits));
        return Err(failed(file, format!("has logits of {found:?}, the plugin gives {expected:?}")));
    }
    let mut checked = Checked {
        file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        difference: 0.0,
        tolerance: golden.tolerance,
        worst: None,
    };
    for (here, there) in logits.iter().zip(&golden.logits) {
        let difference = (here.logit - there.logit).abs();
        // A logit that is no number in the file is a difference too.
        if difference.is_nan() || difference > checked.difference {
            checked.difference = difference;
            let too_much = difference.is_nan() || difference > golden.tolerance;
            checked.worst = too_much.then(|| {
                let (label, got, expected) = (&here.label, here.logit, there.logit);
                format!(
                    "{label}: logit {got:.6}, its author got {expected:.6}, tolerance {}",
                    golden.tolerance
                )
            });
        }
    }
    Ok(checked)
}

/// Copies a case's file into its folder.
fn copied(path: &Path, into: &Path, file: String) -> Result<GoldenScan, GoldenError> {
    let bytes = std::fs::read(path).map_err(|e| failed(path, format!("cannot be read ({e})")))?;
    write(&into.join(&file), &bytes)?;
    Ok(GoldenScan { file, sha256: sha256(&bytes) })
}

/// The path of a case's file, whose bytes are those that the case was made with.
fn verified(scan: &GoldenScan, folder: &Path, file: &Path) -> Result<PathBuf, GoldenError> {
    let path = folder.join(&scan.file);
    if Path::new(&scan.file).components().count() != 1 || scan.file.starts_with('.') {
        return Err(failed(file, format!("scan `{}`: expected a file beside it", scan.file)));
    }
    let (found, _) = sha256_of_file(&path).map_err(|e| failed(file, e))?;
    if found != scan.sha256 {
        return Err(failed(&path, format!("sha256 {found}, the case was made with {}", scan.sha256)));
    }
    Ok(path)
}

fn answer<'a>(
    engine: &'a Engine,
    case: &Case,
) -> Result<(&'a crate::task::LoadedTask, Vec<GoldenLogit>), GoldenError> {
    let path = case.any_file();
    let (Some(task), Some(answer)) = (engine.tasks().first(), engine.predict(case, false).into_iter().next())
    else {
        return Err(failed(path, "no plugin to run it with"));
    };
    let prediction = answer.map_err(|e| failed(path, e))?;
    let logit = |p: &super::result::LabelPrediction| GoldenLogit { label: p.label.clone(), logit: p.logit };
    Ok((task.as_ref(), prediction.result.predictions.iter().map(logit).collect()))
}

fn ending(path: &Path) -> Result<&'static str, GoldenError> {
    let found = source::extension_of(path).filter(|_| path.is_file() && files_of(path).len() == 1);
    found.ok_or_else(|| failed(path, "expected one file, .nii.gz or .nii, for a golden case"))
}

/// A name that every file system and archive takes.
fn plain(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    name.get(..60).unwrap_or(&name).to_owned()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), GoldenError> {
    crate::fs::write_atomically(path, bytes).map_err(|e| failed(path, format!("cannot be written ({e})")))
}
