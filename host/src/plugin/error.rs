//! Why a plugin or its weights were refused, or failed: always naming the file or the task.

use std::path::PathBuf;

/// A library, its manifest or its weights were refused; nothing was run with it.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// No file by that name.
    #[error(
        "plugin `{wanted}`: not found{}; looked for {}; give a path, or build it with `cargo build --release`",
        nearest.as_ref().map_or_else(String::new, |name| format!("; did you mean `{name}`?")),
        looked.join(", ")
    )]
    NotFound {
        /// As typed.
        wanted: String,
        /// The name of a plugin that is there and differs little.
        nearest: Option<String>,
        /// Where.
        looked: Vec<String>,
    },
    /// No package of that name is installed.
    #[error("plugin `{wanted}`: not installed; looked for {}; `host registry install {wanted}`", looked.join(", "))]
    NotInstalled {
        /// As typed.
        wanted: String,
        /// Where.
        looked: Vec<String>,
    },
    /// The file could not be read or copied.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// Not a dynamic library of this platform.
    #[error("{}: not a library this machine can load ({found}); expected {expected}", path.display())]
    NotALibrary {
        /// File.
        path: PathBuf,
        /// What it looks like.
        found: String,
        /// What would do.
        expected: String,
    },
    /// A library without a manifest section.
    #[error(
        "{}: a library without an AnyMC3D manifest; expected one built with `export_plugin!` of anymc3d-plugin-api",
        path.display()
    )]
    NoManifest {
        /// File.
        path: PathBuf,
    },
    /// Another library than the one that was chosen.
    #[error(
        "{}: changed since it was chosen (sha256 {chosen}…, now {found}…); nothing of it was run: run the command again",
        path.display()
    )]
    Changed {
        /// File.
        path: PathBuf,
        /// Beginning of the digest of what was chosen.
        chosen: String,
        /// Beginning of the digest of what is there.
        found: String,
    },
    /// A manifest that cannot be used.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The library could not be opened.
    #[error("{}: cannot be opened: {reason}; rebuild it for this machine", path.display())]
    Open {
        /// File.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The layouts of host and plugin differ.
    #[error("{}: built against another plugin-api\n{}", path.display(), lines.join("\n"))]
    Layout {
        /// File.
        path: PathBuf,
        /// At most four lines that say where.
        lines: Vec<String>,
    },
    /// The plugin's own code failed while the task was set up.
    #[error("plugin {name}: {method}: {reason}")]
    Setup {
        /// Plugin.
        name: String,
        /// Method that failed.
        method: &'static str,
        /// Its message.
        reason: String,
    },
    /// The backbone does not fit.
    #[error("plugin {name}: {reason}")]
    Backbone {
        /// Plugin.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// An installed package was refused.
    #[error(transparent)]
    Package(Box<anymc3d_registry::RegistryError>),
    /// No weights were found.
    #[error(
        "plugin {name}: no weights; looked for {}; train some with `host train --plugin {name} …`, or give --weights FILE",
        looked.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoWeights {
        /// Plugin.
        name: String,
        /// Where.
        looked: Vec<PathBuf>,
    },
    /// Weights that do not fit.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// File.
        path: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

impl From<anymc3d_registry::RegistryError> for PluginError {
    fn from(e: anymc3d_registry::RegistryError) -> Self {
        Self::Package(Box::new(e))
    }
}
