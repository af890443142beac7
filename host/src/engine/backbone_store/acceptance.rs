//! Which licences were accepted on this machine, and what is asked of the others.

use super::card::BackboneCard;
use super::licence::Licence;
use crate::fs::write_atomically;
use crate::plugin::find::home;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A licence that must be accepted and is not.
#[derive(Debug, thiserror::Error)]
#[error("backbone {}: its licence `{}` binds who uses it and what is derived from it, and was not accepted on this machine; read {}", folder.display(), licence.name, text.display())]
pub struct Unaccepted {
    /// The backbone's folder.
    pub folder: PathBuf,
    /// Its licence.
    pub licence: Box<Licence>,
    /// What is to be read.
    pub text: PathBuf,
}

/// A licence that was accepted here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Accepted {
    licence: String,
    sha256: String,
    backbone: String,
    at: String,
}

static ACCEPT: AtomicBool = AtomicBool::new(false);

/// From here on this process accepts the licence of every backbone that it opens, and records it.
pub fn accept_licences() {
    ACCEPT.store(true, Ordering::Relaxed);
}

fn record_path() -> Option<PathBuf> {
    home().map(|home| home.join("accepted_licences.json"))
}

fn accepted() -> Vec<Accepted> {
    let text = record_path().and_then(|path| std::fs::read_to_string(path).ok());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// The licence of a backbone's folder, by its card, else by its files.
pub fn licence_of(folder: &Path) -> Option<Licence> {
    match BackboneCard::read(folder) {
        Ok(Some(card)) => card.licence,
        _ => Licence::detect(folder),
    }
}

/// Passes a backbone whose licence asks for nothing or was accepted on this machine; records it where it is accepted now.
///
/// # Errors
/// Where it was not accepted.
pub fn check_licence(folder: &Path) -> Result<(), Unaccepted> {
    let Some(licence) = licence_of(folder).filter(|licence| licence.must_accept) else { return Ok(()) };
    let mut all = accepted();
    if all.iter().any(|a| a.sha256 == licence.sha256 && a.licence == licence.name) {
        return Ok(());
    }
    let text = folder.join(licence.file.as_deref().unwrap_or("README.md"));
    if !ACCEPT.load(Ordering::Relaxed) {
        return Err(Unaccepted { folder: folder.to_owned(), licence: Box::new(licence), text });
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    all.push(Accepted {
        licence: licence.name.clone(),
        sha256: licence.sha256.clone(),
        backbone: name,
        at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
    });
    // Where there is no place to record it, it is asked again the next time.
    if let (Some(path), Ok(json)) = (record_path(), serde_json::to_vec_pretty(&all)) {
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(e) = written.and_then(|()| write_atomically(&path, &json)) {
            tracing::warn!("{}: the accepted licence cannot be recorded ({e})", path.display());
        }
    }
    Ok(())
}
