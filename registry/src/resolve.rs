//! From what was asked for to one release, or to why each release was left out.

use crate::error::{RegistryError, Result};
use crate::index::{Event, Release, Withdrawal};
use crate::package::{Abi, check_name};
use semver::{Version, VersionReq};

/// What this machine has.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Architecture and system.
    pub target: String,
    /// ABI the host speaks.
    pub abi: Abi,
    /// Backbones that are here.
    pub backbones: Vec<BackboneHere>,
}

/// A backbone that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneHere {
    /// Name.
    pub name: String,
    /// Family.
    pub family: String,
    /// Width.
    pub embed_dim: usize,
    /// Fingerprint.
    pub fingerprint: String,
}

/// `lung_nodule`, `lung_nodule@^1.2`, `lung_nodule@0.1` (any 0.1.x), `lung_nodule@0.1.0` (exactly that).
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The package.
    pub name: String,
    /// Which versions would do.
    pub versions: Wanted,
}

/// Which versions would do.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// The newest.
    Any,
    /// A range.
    Range(VersionReq),
    /// One.
    Exact(Version),
}

impl std::str::FromStr for Request {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self> {
        let usage = |reason: String| RegistryError::Usage(format!("`{text}`: {reason}"));
        let (name, versions) = match text.split_once('@') {
            None => (text, Wanted::Any),
            Some((name, version)) => {
                let wanted = match Version::parse(version.trim_start_matches('=').trim()) {
                    // Three numbers without an operator are one version, as in `cargo install name@1.2.3`.
                    Ok(exact) => Wanted::Exact(exact),
                    Err(_) => Wanted::Range(VersionReq::parse(version).map_err(|e| {
                        usage(format!("{e}; expected a version or a range, for example lung_nodule@^1.2"))
                    })?),
                };
                (name, wanted)
            }
        };
        check_name(name).map_err(usage)?;
        Ok(Self { name: name.to_owned(), versions })
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.versions {
            Wanted::Any => f.write_str(&self.name),
            Wanted::Range(range) => write!(f, "{}@{range}", self.name),
            Wanted::Exact(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

impl Wanted {
    /// Why a version would not do.
    pub fn refuses(&self, version: &Version) -> Option<String> {
        match self {
            Self::Any if !version.pre.is_empty() => {
                Some("a pre-release; ask for it by its version".to_owned())
            }
            Self::Any => None,
            Self::Range(range) => (!range.matches(version)).then(|| format!("not {range}")),
            Self::Exact(exact) => (version != exact).then(|| format!("not {exact}")),
        }
    }

    /// Whether one version alone was named.
    pub fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

/// What is yanked, after all events of a package.
pub fn yanked(events: &[Event], version: &Version) -> Option<Withdrawal> {
    events.iter().fold(None, |state, event| match event {
        Event::Yank(w) if &w.version == version => Some(w.clone()),
        Event::Restore { version: v, .. } if v == version => None,
        _ => state,
    })
}

/// The highest release that fits.
///
/// # Errors
/// [`RegistryError::NothingFits`] with every release and the reason.
pub fn resolve<'a>(request: &Request, events: &'a [Event], platform: &Platform) -> Result<&'a Release> {
    let mut left_out: Vec<(&Release, String)> = Vec::new();
    let mut best: Option<&Release> = None;
    for event in events {
        let Event::Release(release) = event else { continue };
        match reason(request, release, events, platform) {
            Some(reason) => left_out.push((release, reason)),
            None if best.is_none_or(|b| b.version < release.version) => best = Some(release),
            None => {}
        }
    }
    best.ok_or_else(|| {
        left_out.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version).then_with(|| a.target.cmp(&b.target)));
        let line = |(r, why): &(&Release, String)| format!("  {} for {}: {why}", r.version, r.target);
        let left_out = left_out.iter().map(line).collect();
        RegistryError::NothingFits { request: request.to_string(), left_out }
    })
}

fn reason(request: &Request, release: &Release, events: &[Event], platform: &Platform) -> Option<String> {
    if let Some(reason) = request.versions.refuses(&release.version) {
        return Some(reason);
    }
    if release.target != platform.target {
        return Some(format!("this machine is {}", platform.target));
    }
    if let Some(w) = yanked(events, &release.version) {
        return Some(format!("withdrawn for {}: {}", w.reason, w.detail));
    }
    if release.abi.major != platform.abi.major || release.abi.minor > platform.abi.minor {
        return Some(format!("needs ABI {}, this host speaks {}", release.abi, platform.abi));
    }
    let needs = &release.backbone;
    if !platform.backbones.iter().any(|b| b.fingerprint == needs.fingerprint) {
        let here: Vec<String> =
            platform.backbones.iter().map(|b| format!("{} ({})", b.name, short(&b.fingerprint))).collect();
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        return Some(format!("needs backbone {} ({}), here: {here}", needs.name, short(&needs.fingerprint)));
    }
    None
}

/// The first digits of a digest, for people.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
