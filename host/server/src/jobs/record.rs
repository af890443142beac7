//! What is known of a job, as it stands in the database and as clients are told.

use super::{JobId, Submission};
use crate::work::ScanKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It waits. After a restart a job that was running waits again.
    Queued,
    /// The engine is at it.
    Running,
    /// Every plugin that the scan has something for has answered.
    Done,
    /// Some plugins have answered, others failed.
    PartlyFailed,
    /// No plugin has answered.
    Failed,
}

impl JobState {
    /// Whether nothing more comes.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// As it stands in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::PartlyFailed => "partly_failed",
            Self::Failed => "failed",
        }
    }
}

/// By which door a job came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// `POST /scans`.
    Http,
    /// A study of a DICOMweb archive.
    Dicomweb,
    /// C-STORE.
    Dimse,
}

/// Who submitted a job. Never a patient's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    /// The door.
    pub channel: Channel,
    /// Name of a token, of a rule, or of a calling AE title.
    pub name: String,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// How far it is.
    pub state: JobState,
    /// Who submitted it.
    pub submitter: Submitter,
    /// What makes a second submission the same one; of each submitter its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The plugins that are asked, by name.
    pub plugins: Vec<String>,
    /// Name of the file or folder that holds the scan, in the job's own folder.
    pub scan: String,
    /// What else is known of the case.
    #[serde(default)]
    pub region: JobRegion,
    /// Digest of the bytes as they were uploaded: of several files that of their digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_sha256: Option<String>,
    /// Bytes of the scan as it arrived.
    pub upload_bytes: u64,
    /// When it was submitted.
    pub created: Timestamp,
    /// When the engine last began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How often the engine began with it.
    pub attempts: u32,
    /// One for each case and plugin.
    #[serde(default)]
    pub answers: Vec<Answer>,
    /// Why plugins have no answer, or the scan is no case.
    #[serde(default)]
    pub failures: Vec<JobFailure>,
    /// What was told of the scan: which series was chosen, and why.
    #[serde(default)]
    pub notices: Vec<String>,
    /// Bytes of its folder, known at its end.
    #[serde(default)]
    pub bytes: u64,
    /// Whether the audit log has its end.
    #[serde(default)]
    pub audited: bool,
}

impl Job {
    /// A job that waits, of what was submitted.
    pub fn queued(id: JobId, submission: Submission, upload_bytes: u64) -> Self {
        let Submission { scan, region, plugins, submitter, key, upload_sha256 } = submission;
        Self {
            id,
            state: JobState::Queued,
            submitter,
            key,
            plugins,
            scan,
            region,
            upload_sha256,
            upload_bytes,
            created: Timestamp::now(),
            started: None,
            ended: None,
            attempts: 0,
            answers: Vec::new(),
            failures: Vec::new(),
            notices: Vec::new(),
            bytes: 0,
            audited: false,
        }
    }

    /// What decides the slices of its scan, where a second job with the same may share its passes: none where
    /// the scan came with a mask or has no digest. Which series of DICOM is answered, and what is told of it,
    /// hangs on all plugins that are asked: they belong to the key there, in a zip and as files. NIfTI leaves
    /// nothing to choose.
    pub fn scan_key(&self) -> Option<ScanKey> {
        if self.region.mask.is_some() {
            return None;
        }
        let is_dicom = !self.scan.ends_with(".nii") && !self.scan.ends_with(".nii.gz");
        let plugins = if is_dicom { &self.plugins[..] } else { &[] };
        let text = format!(
            "job\n{}\n{}\n{:?}\n{plugins:?}",
            self.scan,
            self.upload_sha256.as_ref()?,
            self.region.point_mm
        );
        Some(Sha256::digest(text.as_bytes()).into())
    }
}

/// Where plugins that look at a finding are to look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobRegion {
    /// Name of the mask's file in the job's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// RAS mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub point_mm: Option<[f64; 3]>,
}

/// A plugin's answer to a case of a job; its files lie in the job's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The case; of a DICOM study a hash that tells nobody whose it is.
    pub case: String,
    /// The plugin.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Folder of its files below the job's results: `CASE/PLUGIN`.
    pub folder: String,
    /// The files in it, `result.json` first; those of DICOM as `dicom/NAME.dcm`.
    pub files: Vec<String>,
    /// What it says.
    pub predictions: Vec<LabelAnswer>,
    /// How far the case is from the training cases, where the weights tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub novelty: Option<NoveltyAnswer>,
    /// What a reader should know before believing it.
    pub warnings: Vec<String>,
    /// Digest of the scan.
    pub scan_sha256: String,
    /// Digest of the plugin's library.
    pub library_sha256: String,
    /// Digest of its weights.
    pub weights_sha256: String,
    /// The backbone.
    pub backbone: String,
    /// Digest of its weights.
    pub backbone_sha256: String,
    /// Milliseconds from the scan to the answer.
    pub milliseconds: f64,
}

/// What a plugin says of a label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelAnswer {
    /// Label or class.
    pub label: String,
    /// 0 to 1.
    pub probability: f64,
    /// The decision.
    pub positive: bool,
}

/// How far a case is from the training cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NoveltyAnswer {
    /// Mahalanobis distance.
    pub distance: f64,
    /// Share of the training cases that are nearer, 0 to 100.
    pub percentile: f64,
    /// Whether it is farther than 99.5 % of them.
    pub outside: bool,
    /// The distance within which 99.5 % of them are.
    pub limit: f64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFailure {
    /// The case, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The plugin, where it is one plugin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// `scan`, `plugin`, `writing` or `server`.
    pub blame: String,
    /// One line.
    pub message: String,
}

/// What is told while a job runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// How far the job is.
    pub state: JobState,
    /// The case that is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The plugin whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What is done for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

impl Progress {
    /// Of a job that is no further than its state says.
    pub fn of(state: JobState) -> Self {
        Self { state, case: None, plugin: None, stage: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of a job of one upload.
    fn key(scan: &str, plugins: &[&str]) -> Option<ScanKey> {
        let submission = Submission {
            scan: scan.to_owned(),
            region: JobRegion::default(),
            plugins: plugins.iter().map(|name| (*name).to_owned()).collect(),
            submitter: Submitter { channel: Channel::Http, name: "pacs".into() },
            key: None,
            upload_sha256: Some("ab".repeat(32)),
        };
        Job::queued(JobId::new().unwrap(), submission, 1).scan_key()
    }

    #[test]
    fn jobs_of_dicom_share_only_where_they_ask_the_same_plugins() {
        for scan in ["dicom", "exam.zip"] {
            assert!(key(scan, &["a"]).is_some());
            assert_eq!(key(scan, &["a"]), key(scan, &["a"]), "{scan}");
            assert_ne!(key(scan, &["a"]), key(scan, &["b"]), "{scan}: another series may be chosen");
        }
        for scan in ["scan.nii", "scan.nii.gz"] {
            assert_eq!(key(scan, &["a"]), key(scan, &["b"]), "{scan} is the same slices for everybody");
        }
    }
}
