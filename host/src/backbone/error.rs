//! What can go wrong between a backbone's folder and its features, written for whoever reads it at night.

use std::path::{Path, PathBuf};

/// An error of the backbone: its message is one line that names the file, what was found, what was
/// expected and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    #[error("{}: {source}; check that the path exists and can be read", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: model_type \"{found}\" is not a backbone this host reads; it reads: {}", path.display(), known.join(", "))]
    UnknownFamily { path: PathBuf, found: String, known: Vec<&'static str> },
    #[error("{}: {message}", path.display())]
    Config { path: PathBuf, message: String },
    #[error("{}: {message}", path.display())]
    Weights { path: PathBuf, message: String },
    #[error("{}: {} tensors are missing: {}; use a complete checkpoint of this model", path.display(), names.len(), names.join(", "))]
    MissingTensors { path: PathBuf, names: Vec<String> },
    #[error("{}: {} tensors belong to nothing that config.json describes: {}; use the configuration of this checkpoint", path.display(), names.len(), names.join(", "))]
    UnknownTensors { path: PathBuf, names: Vec<String> },
    #[error("{}: {message}", path.display())]
    Adapter { path: PathBuf, message: String },
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Compute(#[from] candle_core::Error),
}

impl BackboneError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }
    pub(crate) fn config(path: &Path, message: impl Into<String>) -> Self {
        Self::Config { path: path.to_path_buf(), message: message.into() }
    }
    pub(crate) fn weights(path: &Path, message: impl Into<String>) -> Self {
        Self::Weights { path: path.to_path_buf(), message: message.into() }
    }
    /// The same of a file that was copied to `folder`, by the place that it was copied from.
    pub(crate) fn of_original(mut self, folder: &Path, original: impl Fn(&Path) -> PathBuf) -> Self {
        if let Self::Io { path, .. }
        | Self::UnknownFamily { path, .. }
        | Self::Config { path, .. }
        | Self::Weights { path, .. }
        | Self::MissingTensors { path, .. }
        | Self::UnknownTensors { path, .. } = &mut self
            && let Ok(below) = path.strip_prefix(folder)
        {
            *path = original(below);
        }
        self
    }
    pub(crate) fn adapter(path: &Path, message: impl Into<String>) -> Self {
        Self::Adapter { path: path.to_path_buf(), message: message.into() }
    }
}

/// Lets a forward pass stand in a function that returns candle's errors.
impl From<BackboneError> for candle_core::Error {
    fn from(error: BackboneError) -> Self {
        match error {
            BackboneError::Compute(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}
