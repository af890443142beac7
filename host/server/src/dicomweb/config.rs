//! rules.toml: rules, how an archive is asked, what is accepted over DIMSE, where results go.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::backoff::Backoff;
use super::credentials::{CredentialSource, Credentials};
use super::rules::Rule;

/// The file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// At least one.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    #[serde(default)]
    pub archive: ArchiveSettings,
    #[serde(default)]
    pub results: ResultSettings,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub retry: Retry,
    /// A C-STORE receiver; none without it.
    pub receiver: Option<ReceiverSettings>,
}

/// How the archive of `--dicomweb URL` is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveSettings {
    /// Seconds between two looks at the list of studies; 0: only the webhook.
    pub poll_seconds: f64,
    /// Studies whose StudyDate is at most this many days ago; 0: all.
    pub window_days: u32,
    /// Answers per request of QIDO-RS.
    pub page: u32,
    /// A study is complete once its number of instances has not changed for so long.
    pub quiet_seconds: f64,
    /// To connect.
    pub connect_seconds: u64,
    /// Between two bytes, and until an answer begins.
    pub timeout_seconds: u64,
    /// PEM file of certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Whether plugins whose results lie in the study already are left out: another server's, or of a lost ledger.
    pub skip_answered: bool,
    pub credentials: CredentialSource,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            poll_seconds: 30.0,
            window_days: 7,
            page: 100,
            quiet_seconds: 60.0,
            connect_seconds: 10,
            timeout_seconds: 60,
            ca_file: None,
            skip_answered: true,
            credentials: CredentialSource::default(),
        }
    }
}

/// A kind of result object.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// sr.dcm
    Report,
    /// heatmap*.dcm
    Heatmap,
    /// segmentation.dcm
    Segmentation,
    /// preview.dcm
    Preview,
}

impl ObjectKind {
    /// By the name of its file in `dicom/`.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        Some(match name.strip_suffix(".dcm")? {
            "sr" => Self::Report,
            "segmentation" => Self::Segmentation,
            "preview" => Self::Preview,
            name if name == "heatmap" || name.starts_with("heatmap_") => Self::Heatmap,
            _ => return None,
        })
    }
}

/// What is sent, and where to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResultSettings {
    /// Which objects.
    pub objects: BTreeSet<ObjectKind>,
    /// To an application entity by C-STORE instead of by STOW-RS to the archive.
    pub store_to: Option<Peer>,
    /// Most bytes of one STOW-RS request that holds several objects.
    pub request_mb: u64,
}

impl Default for ResultSettings {
    fn default() -> Self {
        use ObjectKind::{Heatmap, Preview, Report, Segmentation};
        let objects = [Report, Heatmap, Segmentation, Preview].into();
        Self { objects, store_to: None, request_mb: 64 }
    }
}

/// An application entity.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// `host:port`
    pub address: String,
    /// Its AE title.
    pub ae_title: String,
    /// Ours, as it knows us.
    #[serde(default = "own_title")]
    pub calling_ae_title: String,
}

fn own_title() -> String {
    "ANYMC3D".into()
}

/// Bounds of what is taken from outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub instance_mb: u64,
    pub study_mb: u64,
    pub study_instances: u64,
    /// Studies of one look at the list.
    pub studies: usize,
    /// Studies that are fetched, answered and delivered at the same time.
    pub parallel: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { instance_mb: 2048, study_mb: 8192, study_instances: 20_000, studies: 20_000, parallel: 2 }
    }
}

/// How often, and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Seconds before the first repetition; each later one waits twice as long.
    pub first_seconds: f64,
    /// Most seconds between two.
    pub most_seconds: f64,
    /// Failures of one study after which it has failed for good. An archive that is down is no failure of a study.
    pub attempts: u32,
    /// Hours after which a study has failed for good, whatever the reason.
    pub give_up_hours: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first_seconds: 1.0, most_seconds: 300.0, attempts: 10, give_up_hours: 72 }
    }
}

impl Retry {
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff {
            first: Duration::from_secs_f64(self.first_seconds),
            most: Duration::from_secs_f64(self.most_seconds),
        }
    }
}

/// A C-STORE and C-ECHO SCP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSettings {
    /// As `0.0.0.0:11112`; loopback unless another address is written.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
    /// Ours; a call for another title is refused.
    #[serde(default = "own_title")]
    pub ae_title: String,
    /// AE titles that may call; all others are refused.
    pub callers: Vec<String>,
    /// Associations at the same time; a further one is closed.
    #[serde(default = "eight")]
    pub associations: usize,
    /// A study is complete once nothing has come for so long.
    #[serde(default = "minute")]
    pub quiet_seconds: f64,
    /// Most seconds without a byte.
    #[serde(default = "sixty")]
    pub timeout_seconds: u64,
    /// Most minutes of one association.
    #[serde(default = "sixty")]
    pub association_minutes: u64,
    /// Most bytes that wait on disk until their studies are complete.
    #[serde(default = "waiting")]
    pub waiting_gb: u64,
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 11112))
}

fn eight() -> usize {
    8
}

fn sixty() -> u64 {
    60
}

fn minute() -> f64 {
    60.0
}

fn waiting() -> u64 {
    32
}

impl RulesFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One line that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |e: String| format!("{}: {e}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| named(format!("cannot be read ({e})")))?;
        let rules: Self = toml::from_str(&text).map_err(|e| named(e.to_string().trim_end().to_owned()))?;
        rules.check().map_err(named)?;
        Ok(rules)
    }

    /// Names of all plugins that rules ask for.
    pub fn plugins(&self) -> BTreeSet<&str> {
        self.rules.iter().flat_map(|rule| &rule.plugins).map(String::as_str).collect()
    }

    fn check(&self) -> Result<(), String> {
        if self.rules.is_empty() {
            return Err("has no [[rule]], so nothing would ever be answered".into());
        }
        self.rules.iter().try_for_each(Rule::check)?;
        let mut names = BTreeSet::new();
        if let Some(twice) = self.rules.iter().find(|rule| !names.insert(&rule.name)) {
            return Err(format!("two rules are called \"{}\"; give each a name of its own", twice.name));
        }
        let Retry { first_seconds, most_seconds, attempts, .. } = self.retry;
        if !(first_seconds > 0.0 && most_seconds >= first_seconds && most_seconds < 1e6) || attempts == 0 {
            return Err("[retry] needs 0 < first_seconds <= most_seconds and attempts above 0".into());
        }
        let receiver = self.receiver.as_ref().map_or(0.0, |r| r.quiet_seconds);
        if [self.archive.poll_seconds, self.archive.quiet_seconds, receiver]
            .iter()
            .any(|s| !(0.0..1e6).contains(s))
        {
            return Err("poll_seconds and quiet_seconds need numbers from 0 to a million".into());
        }
        if self.archive.page == 0 || self.limits.parallel == 0 || self.results.objects.is_empty() {
            return Err("page and parallel must be above 0, and objects must name one at least".into());
        }
        let titles = self.receiver.iter().flat_map(|r| r.callers.iter().chain([&r.ae_title]));
        let peer = self.results.store_to.iter().flat_map(|p| [&p.ae_title, &p.calling_ae_title]);
        if let Some(bad) = titles.chain(peer).find(|title| !is_ae_title(title)) {
            return Err(format!("\"{bad}\" is no AE title: 1 to 16 characters of ASCII, no backslash"));
        }
        if self.receiver.as_ref().is_some_and(|r| r.callers.is_empty()) {
            return Err(
                "[receiver] callers is empty, so nobody could send; name the AE titles that may".into()
            );
        }
        Ok(())
    }

    /// The archive's secret; files that rules.toml names lie beside it.
    ///
    /// # Errors
    /// One line.
    pub fn credentials(&self, rules: &Path) -> Result<Credentials, String> {
        self.archive.credentials.open(rules.parent().unwrap_or(Path::new("")))
    }
}

fn is_ae_title(text: &str) -> bool {
    let allowed = |b: u8| (0x20..0x7F).contains(&b) && b != b'\\';
    !text.trim().is_empty() && text.trim() == text && text.len() <= 16 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "[[rule]]\nname = \"ct\"\nplugins = [\"lung_nodule\"]\n";

    fn read(text: &str) -> Result<RulesFile, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.toml");
        std::fs::write(&file, text).unwrap();
        RulesFile::read(&file)
    }

    #[test]
    fn the_shortest_file_is_one_rule() {
        let rules = read(RULE).unwrap();
        assert_eq!(rules.plugins().into_iter().collect::<Vec<_>>(), ["lung_nodule"]);
        assert_eq!(rules.archive.quiet_seconds, 60.0);
        assert_eq!(rules.results.objects.len(), 4);
        assert!(rules.receiver.is_none());
    }

    #[test]
    fn a_file_that_would_do_nothing_or_something_else_is_refused_by_name() {
        for (text, says) in [
            (String::new(), "has no [[rule]]"),
            (RULE.repeat(2), "two rules are called"),
            (format!("{RULE}[archive]\npol_seconds = 3"), "pol_seconds"),
            (format!("{RULE}[receiver]\ncallers = []"), "callers is empty"),
            (format!("{RULE}[receiver]\ncallers = [\"A TITLE THAT IS LONG\"]"), "is no AE title"),
            (format!("{RULE}[archive]\nquiet_seconds = -1"), "quiet_seconds need"),
            (format!("{RULE}[results]\nobjects = []"), "objects must name one"),
            (format!("{RULE}[results]\nobjects = [\"pdf\"]"), "pdf"),
            (format!("{RULE}[retry]\nfirst_seconds = 0"), "[retry]"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(says) && error.contains("rules.toml"), "{error}");
        }
    }

    #[test]
    fn a_kind_is_told_by_the_name_of_its_file() {
        assert_eq!(ObjectKind::of_file("heatmap_t1.dcm"), Some(ObjectKind::Heatmap));
        assert_eq!(ObjectKind::of_file("sr.dcm"), Some(ObjectKind::Report));
        assert_eq!(ObjectKind::of_file("other.dcm"), None);
    }
}
