//! Why the registry refused or failed: each with the thing's name, what was found, what was expected, what to do.

use std::path::{Path, PathBuf};

/// Result of everything here.
pub type Result<T, E = RegistryError> = std::result::Result<T, E>;

/// A refusal or a failure. [`RegistryError::is_refusal`] tells which.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file system.
    #[error("{}: {what}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// A store could not be reached, or answered with something else.
    #[error("{store}: {reason}")]
    Store {
        /// Its address.
        store: String,
        /// What happened.
        reason: String,
    },
    /// Used wrongly.
    #[error("{0}")]
    Usage(String),
    /// A document of ours that cannot be read.
    #[error("{what}: {reason}")]
    Form {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret or public key that cannot be used.
    #[error("{what}: {reason}")]
    Key {
        /// File or place.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A signature is missing.
    #[error("{what}: is not signed; nothing unsigned is taken from a registry")]
    Unsigned {
        /// What.
        what: String,
    },
    /// A signature that does not fit its content.
    #[error(
        "{what}: the signature by key {key} does not fit the content ({reason}); it was changed after it was signed"
    )]
    BadSignature {
        /// What.
        what: String,
        /// Key's id.
        key: String,
        /// The verifier's words.
        reason: String,
    },
    /// A good signature by a key nobody trusted.
    #[error("{what}: signed by key {key} of {who}, which is not trusted here; {advice}")]
    Untrusted {
        /// What.
        what: String,
        /// Key's id.
        key: String,
        /// Who it is said to belong to.
        who: String,
        /// What to do.
        advice: String,
    },
    /// A key that was replaced before this was published.
    #[error(
        "{what}: signed by key {key} of {who}, which was replaced at revision {retired}; this was published at {revision}"
    )]
    RetiredKey {
        /// What.
        what: String,
        /// Key's id.
        key: String,
        /// Whose.
        who: String,
        /// Revision of the rotation.
        retired: u64,
        /// Revision of the release.
        revision: u64,
    },
    /// An index older than one that was seen.
    #[error(
        "{store}: index of {registry} is at revision {found}, revision {seen} was seen before: an old index is being replayed; nothing was changed"
    )]
    Replayed {
        /// Store.
        store: String,
        /// Registry.
        registry: String,
        /// In the index.
        found: u64,
        /// Highest seen.
        seen: u64,
    },
    /// Two indexes of one revision.
    #[error(
        "{store}: index of {registry} at revision {revision} is not the one of that revision that was seen before; ask the registry's operator"
    )]
    TwoFaced {
        /// Store.
        store: String,
        /// Registry.
        registry: String,
        /// Revision.
        revision: u64,
    },
    /// An index past its date.
    #[error(
        "{store}: index of {registry} expired on {expired} (now {now}): the store may be frozen; ask for a newer one, or `host registry renew` with the index key"
    )]
    Expired {
        /// Store.
        store: String,
        /// Registry.
        registry: String,
        /// Date.
        expired: String,
        /// Date.
        now: String,
    },
    /// A file that is not the one that was promised.
    #[error("{what}: sha256 {found}, expected {expected}; it was changed or damaged on its way")]
    Digest {
        /// Which file.
        what: String,
        /// Of what came.
        found: String,
        /// As signed.
        expected: String,
    },
    /// An archive that is not as strict as it must be.
    #[error("{archive}: {reason}; nothing of it was kept")]
    Archive {
        /// Which archive.
        archive: String,
        /// The rule it broke.
        reason: String,
    },
    /// A package whose parts do not belong together.
    #[error("package {package}: {reason}")]
    Package {
        /// Name and version.
        package: String,
        /// What does not fit.
        reason: String,
    },
    /// No such package.
    #[error("{name}: no such package in {store}{}", nearest.as_ref().map(|n| format!("; nearest: {n}")).unwrap_or_default())]
    NoSuchPackage {
        /// As asked.
        name: String,
        /// Store.
        store: String,
        /// A name like it.
        nearest: Option<String>,
    },
    /// Every version was left out.
    #[error("{request}: nothing fits this machine\n{}", left_out.join("\n"))]
    NothingFits {
        /// As asked.
        request: String,
        /// One line per release, with why it was left out.
        left_out: Vec<String>,
    },
    /// Two publishers, one name.
    #[error("{name}: belongs to {owner} {place}, this is of {found}; nothing was changed")]
    OtherPublisher {
        /// Package.
        name: String,
        /// Whose it is.
        owner: String,
        /// Where it is.
        place: String,
        /// Who came.
        found: String,
    },
    /// A release that exists already, with another content.
    #[error("{what}: is published already; a version never changes, publish a higher one")]
    Exists {
        /// Name, version, target.
        what: String,
    },
    /// The package does not do on this machine what it did at its author's.
    #[error("package {package}: {reason}; it was not installed")]
    Probe {
        /// Name and version.
        package: String,
        /// What the child process said.
        reason: String,
    },
    /// An incomplete package.
    #[error("cannot be published:\n{}", reasons.iter().map(|r| format!("  {r}")).collect::<Vec<_>>().join("\n"))]
    Incomplete {
        /// Everything that is missing.
        reasons: Vec<String>,
    },
    /// Withdrawn by its publisher.
    #[error("{what}: withdrawn for {reason}: {detail}; {advice}")]
    Yanked {
        /// Name and version.
        what: String,
        /// safety, accuracy, licence.
        reason: String,
        /// The publisher's words.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// An installed file that changed.
    #[error("{}: {reason}; `host registry verify --repair` fetches it anew", path.display())]
    Tampered {
        /// File.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// The lock file names something else, or something that is not there.
    #[error("{}: {reason}", path.display())]
    Lock {
        /// Lock file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Another publisher was faster.
    #[error("{store}: the index changed while it was being written; nothing was published, try again")]
    Raced {
        /// Store.
        store: String,
    },
}

impl RegistryError {
    /// Whether something was refused (exit code 3) rather than used wrongly or failed.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Store { .. } | Self::Usage(_) | Self::Raced { .. })
    }

    pub(crate) fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, what, source }
    }

    pub(crate) fn store(store: &str, reason: impl ToString) -> Self {
        Self::Store { store: store.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn form(what: impl ToString, reason: impl ToString) -> Self {
        Self::Form { what: what.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn package(package: impl ToString, reason: impl ToString) -> Self {
        Self::Package { package: package.to_string(), reason: reason.to_string() }
    }
}
