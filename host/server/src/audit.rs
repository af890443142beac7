//! The audit log: who asked what of which scan, by which code and weights, and what came of it. One line of JSON each, only
//! ever appended, without a patient's identity.
//!
//! A job's end is written once, whenever the process is killed: the record in the database says whether it was, and where it
//! does not, the log is searched before it is written.

use crate::jobs::{Job, JobId, Jobs, StoreError};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The log's file, opened for each entry: whoever rotates it only renames it.
pub struct Audit {
    file: PathBuf,
    writing: Mutex<()>,
}

/// What the log says of an event, beside its time and name.
pub(crate) type Facts = Value;

impl Audit {
    /// A log in a file that is made for the first entry, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn open(file: &Path) -> io::Result<Self> {
        let audit = Self { file: file.to_owned(), writing: Mutex::new(()) };
        audit.appending()?;
        Ok(audit)
    }

    fn appending(&self) -> io::Result<std::fs::File> {
        let mut options = std::fs::File::options();
        options.append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options.open(&self.file)
    }

    /// Appends entries, all or none, and waits until they are on the disk. One that cannot be written is an error of the log.
    pub(crate) fn write(&self, event: &str, entries: &[Facts]) -> bool {
        let time = Timestamp::now();
        let mut lines = String::new();
        for facts in entries {
            let mut line =
                Map::from_iter([("time".to_owned(), json!(time)), ("event".to_owned(), json!(event))]);
            if let Value::Object(facts) = facts {
                line.extend(facts.clone().into_iter().filter(|(_, value)| !value.is_null()));
            }
            lines += &Value::Object(line).to_string();
            lines.push('\n');
        }
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.appending().and_then(|mut file| {
            file.write_all(lines.as_bytes())?;
            file.sync_data()
        });
        if let Err(e) = &written {
            tracing::error!("{}: the audit log cannot be written to ({e})", self.file.display());
        }
        written.is_ok()
    }

    /// A job's end: a line for each answer and each failure.
    pub(crate) fn job(&self, job: &Job) -> bool {
        self.write("job", &entries(job))
    }

    /// Whether the log has a job's end.
    fn has(&self, id: &JobId) -> io::Result<bool> {
        let start = format!("\"job\":\"{id}\"");
        for line in io::BufReader::new(std::fs::File::open(&self.file)?).lines() {
            let line = line?;
            if line.contains(&start) && line.contains("\"event\":\"job\"") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the ends that a killed process had no time for.
    ///
    /// # Errors
    /// When the database cannot be read or written to.
    pub(crate) fn recover(&self, jobs: &Jobs) -> Result<(), StoreError> {
        for job in jobs.list(usize::MAX, |job| job.state.is_final() && !job.audited)? {
            if self.has(&job.id).unwrap_or(false) || self.job(&job) {
                jobs.audited(&job.id)?;
            }
        }
        Ok(())
    }
}

fn entries(job: &Job) -> Vec<Facts> {
    let common = |rest: Value| {
        let mut entry = json!({
            "job": job.id, "who": job.submitter.name, "channel": job.submitter.channel,
            "upload_sha256": job.upload_sha256, "state": job.state,
        });
        if let (Value::Object(entry), Value::Object(rest)) = (&mut entry, rest) {
            entry.extend(rest);
        }
        entry
    };
    let answers = job.answers.iter().map(|a| {
        common(json!({
            "case": a.case, "scan_sha256": a.scan_sha256, "plugin": a.plugin, "version": a.version,
            "library_sha256": a.library_sha256, "weights_sha256": a.weights_sha256, "backbone": a.backbone,
            "backbone_sha256": a.backbone_sha256, "outcome": "answered",
        }))
    });
    let failures = job.failures.iter().map(|f| {
        common(json!({ "case": f.case, "plugin": f.plugin, "outcome": "failed", "blame": f.blame }))
    });
    let mut all: Vec<Facts> = answers.chain(failures).collect();
    if all.is_empty() {
        all.push(common(json!({ "outcome": "nothing to answer" })));
    }
    all
}
