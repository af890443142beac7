//! Brings a backbone into `$ANYMC3D_HOME/backbones`: opened, copied, opened again as the copy, and moved into place whole.

use super::card::{BackboneCard, CARD_FILE, FileDigest, SCHEMA, golden_of};
use super::licence::Licence;
use crate::backbone::{Backbone, BackboneError, Precision};
use crate::fs::write_atomically;
use crate::plugin::find::home;
use std::path::{Path, PathBuf};

/// Why a backbone was not imported or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It does not open.
    #[error(transparent)]
    Refused(#[from] BackboneError),
    /// Its name or place does not serve.
    #[error("{0}")]
    Place(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What is imported, and what is said of it besides its files.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// A folder, or the safetensors file of a folder.
    pub from: PathBuf,
    /// What the host calls it.
    pub name: String,
    /// Where it comes from; the path without it.
    pub source: Option<String>,
    /// A file with the licence's text, in the place of what the folder says.
    pub licence: Option<PathBuf>,
    /// Mean and deviation of the pixels, where no file of the folder gives them.
    pub statistics: Option<([f32; 3], [f32; 3])>,
}

/// A backbone that was imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Where it is now.
    pub folder: PathBuf,
    /// Its card.
    pub card: BackboneCard,
}

/// Where imported backbones are.
///
/// # Errors
/// When there is no home folder.
pub fn store_folder() -> Result<PathBuf, StoreError> {
    let none = || StoreError::Place("there is no home folder to import into; set ANYMC3D_HOME".to_owned());
    home().map(|home| home.join("backbones")).ok_or_else(none)
}

/// Small files that describe a model, beside its weights and its licence.
const DESCRIPTIONS: [&str; 5] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "open_clip_config.json",
    "README.md",
];

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Imports a backbone. Nothing is in its place unless all of it is.
///
/// # Errors
/// When the name is taken or no name, the files do not open as a backbone, or something cannot be written.
pub fn import(wanted: &Import) -> Result<Imported, StoreError> {
    let store = store_folder()?;
    let place = store.join(checked(&wanted.name)?);
    if place.exists() {
        let message = format!(
            "{}: there is a backbone of this name; remove it first, or take another name",
            place.display()
        );
        return Err(StoreError::Place(message));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    };
    std::fs::create_dir_all(&store).map_err(io(&store))?;
    let aside = tempfile::Builder::new().prefix(".importing-").tempdir_in(&store).map_err(io(&store))?;
    let folder = aside.path();
    for (from, name) in files_of(&wanted.from)? {
        std::fs::copy(&from, folder.join(name)).map_err(io(&from))?;
    }
    if let Some((mean, std)) = wanted.statistics {
        let path = folder.join("preprocessor_config.json");
        if path.exists() {
            let message = format!(
                "{}: gives mean and deviation itself; leave the given ones out",
                wanted.from.display()
            );
            return Err(StoreError::Place(message));
        }
        let json = serde_json::json!({ "image_mean": mean, "image_std": std });
        std::fs::write(&path, json.to_string()).map_err(io(&path))?;
    }
    let licence = match &wanted.licence {
        Some(text) => {
            std::fs::copy(text, folder.join("LICENCE")).map_err(io(text))?;
            Licence::of(folder, Some("LICENCE".to_owned()), None)
        }
        None => Licence::detect(folder),
    };
    let card = card_of(folder, wanted, licence)?;
    let json = serde_json::to_vec_pretty(&card).map_err(|e| StoreError::Place(e.to_string()))?;
    write_atomically(&folder.join(CARD_FILE), &json).map_err(io(folder))?;
    let aside = aside.keep();
    std::fs::rename(&aside, &place).map_err(|source| {
        let _ = std::fs::remove_dir_all(&aside);
        StoreError::Io { path: place.clone(), source }
    })?;
    Ok(Imported { folder: place, card })
}

/// A name that is a folder of the store and nothing else.
fn checked(name: &str) -> Result<&str, StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !name.is_empty() && !name.starts_with('.') && name.chars().all(plain) {
        true => Ok(name),
        false => Err(StoreError::Place(format!(
            "`{name}` is no backbone's name; expected letters, digits, `-`, `_` and `.`"
        ))),
    }
}

/// The files that belong to a backbone, and what they are called as a backbone's.
fn files_of(from: &Path) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let is_weights = |p: &Path| p.extension().is_some_and(|x| x == "safetensors");
    let (folder, single) = match from.is_file() {
        true if is_weights(from) => (from.parent().unwrap_or(Path::new(".")), true),
        true => {
            let message = format!("{}: expected a folder or a safetensors file", from.display());
            return Err(StoreError::Place(message));
        }
        false => (from, false),
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries =
        std::fs::read_dir(folder).map_err(|source| StoreError::Io { path: folder.to_owned(), source })?;
    let index = std::fs::read_to_string(folder.join(INDEX)).unwrap_or_default();
    let mut files = Vec::new();
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.is_file()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lower = name.to_ascii_lowercase();
        let of_licence = ["licen", "copying", "notice"].iter().any(|start| lower.starts_with(start));
        // Shards by their index; other tensors of the folder are not the model's.
        let shard = is_weights(&path) && index.contains(&format!("\"{name}\""));
        let of_weights = !single && (name == WEIGHTS || name == INDEX || shard);
        if DESCRIPTIONS.contains(&name.as_str()) || of_licence || of_weights {
            files.push((path, name));
        }
    }
    if single {
        files.push((from.to_owned(), WEIGHTS.to_owned()));
    } else if !files.iter().any(|(path, _)| is_weights(path)) {
        // The folder's own complaint, with the advice about pickles.
        Backbone::open(folder, Precision::F32)?;
    }
    files.sort();
    Ok(files)
}

fn card_of(folder: &Path, wanted: &Import, licence: Option<Licence>) -> Result<BackboneCard, StoreError> {
    // The copy is gone by the time somebody reads the message.
    let from = &wanted.from;
    let original = |below: &Path| match from.is_file() {
        true if below == Path::new(WEIGHTS) => from.clone(),
        true => from.parent().unwrap_or(Path::new("")).join(below),
        false => from.join(below),
    };
    let backbone = Backbone::open(folder, Precision::F32).map_err(|e| e.of_original(folder, original))?;
    let golden = golden_of(&backbone)?;
    if golden.iter().any(|x| !x.is_finite()) {
        let message = format!(
            "{}: the golden image's class token is not finite; the weights are damaged",
            wanted.from.display()
        );
        return Err(StoreError::Place(message));
    }
    let io = |path: PathBuf| move |source| StoreError::Io { path, source };
    let entries = std::fs::read_dir(folder).map_err(io(folder.to_owned()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let files = paths.into_iter().map(|p| FileDigest::of(&p).map_err(io(p))).collect::<Result<_, _>>()?;
    let info = backbone.info();
    Ok(BackboneCard {
        schema: SCHEMA.to_owned(),
        name: wanted.name.clone(),
        family: info.family.clone(),
        source: wanted.source.clone().unwrap_or_else(|| wanted.from.display().to_string()),
        licence,
        sha256: info.sha256.clone(),
        fingerprint: info.fingerprint.clone(),
        files,
        golden,
        imported: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
    })
}

/// Removes a backbone that was imported.
///
/// # Errors
/// When the store has none of that name with a card, or it cannot be removed.
pub fn remove(name: &str) -> Result<PathBuf, StoreError> {
    let place = store_folder()?.join(checked(name)?);
    if !place.join(CARD_FILE).is_file() {
        let message = format!("{}: no backbone was imported by this name", place.display());
        return Err(StoreError::Place(message));
    }
    std::fs::remove_dir_all(&place).map_err(|source| StoreError::Io { path: place.clone(), source })?;
    Ok(place)
}
