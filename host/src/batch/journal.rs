//! What each case took: a file of lines for each process, which only grows.
//!
//! The records of what is done are the results themselves. The journal saves a later call from reading every scan to
//! compare digests, and tells when, where and in what time a case was done. Of a process that is killed while it writes
//! a line, the line does not count.

use super::shard::Shard;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How a case ended for a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is a result.
    Done,
    /// There is a reason why there is none.
    Failed,
}

/// Whose fault a failed case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The scan cannot be used.
    Scan,
    /// The plugin or its process.
    Plugin,
    /// What was named for the case when the work was listed.
    Input,
    /// Its files could not be written.
    Writing,
}

impl FailureKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Plugin => "plugin",
            Self::Input => "input",
            Self::Writing => "writing",
        }
    }
}

/// A case through a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The case's name.
    pub case: String,
    /// The plugin's name.
    pub plugin: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Of a failure, whose fault it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<FailureKind>,
    /// Sizes and times of the scan's files before they were read, as a hash; none where they could not be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// What computed it and by which options, as a hash.
    pub made_by: String,
    /// Which part of the work the process did.
    pub shard: String,
    /// The machine.
    pub host: String,
    /// The process's number.
    pub process: u32,
    /// UTC.
    pub ended: String,
    /// Wall time of the case; only in the entry of its first plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Processor time of the process meanwhile, in which it may also have read the next case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Most memory of the process meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// A process's journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a journal in a folder.
    ///
    /// # Errors
    /// One line that names the file.
    pub(super) fn begin(folder: &Path, shard: Shard) -> Result<Self, String> {
        let unwritable = |e: io::Error| format!("{}: cannot be written ({e})", folder.display());
        for attempt in 0u32.. {
            let now = jiff::Timestamp::now().as_millisecond();
            let name = format!("{}.{now}-{}-{attempt}.jsonl", shard.file_stem(), std::process::id());
            let path = folder.join(name);
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { path, file }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {}
                Err(e) => return Err(unwritable(e)),
            }
        }
        unreachable!("a name is found or an error returned")
    }

    /// Appends entries, each a line.
    ///
    /// # Errors
    /// One line that names the file.
    pub(super) fn append(&mut self, entries: &[JournalEntry]) -> Result<(), String> {
        let mut lines = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut lines, entry).map_err(|e| format!("{}: {e}", self.path.display()))?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(|e| format!("{}: cannot be written ({e})", self.path.display()))
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads all journals of a folder, entry by entry in the order in which they were begun. What is no entry is passed over.
///
/// # Errors
/// One line that names what cannot be read.
pub(super) fn read_all(folder: &Path, mut each: impl FnMut(JournalEntry)) -> Result<(), String> {
    let unreadable = |path: &Path, e: io::Error| format!("{}: cannot be read ({e})", path.display());
    let mut files: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(unreadable(folder, e)),
    };
    let begun = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let time = name.split_once('.').and_then(|(_, rest)| rest.split('-').next()?.parse::<u64>().ok());
        (time.unwrap_or(0), name)
    };
    files.sort_by_cached_key(begun);
    for path in files {
        let text = fs::read(&path).map_err(|e| unreadable(&path, e))?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(|line| serde_json::from_slice(line).ok()).for_each(&mut each);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn entry(case: &str, plugin: &str, outcome: Outcome) -> JournalEntry {
        JournalEntry {
            case: case.into(),
            plugin: plugin.into(),
            outcome,
            kind: (outcome == Outcome::Failed).then_some(FailureKind::Scan),
            files: None,
            made_by: "m".into(),
            shard: "0/1".into(),
            host: "h".into(),
            process: 1,
            ended: "2026-01-01T00:00:00Z".into(),
            seconds: Some(1.0),
            cpu_seconds: None,
            peak_bytes: None,
        }
    }

    #[test]
    fn what_was_appended_is_read_and_half_a_line_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Journal::begin(folder.path(), Shard::WHOLE).unwrap();
        first.append(&[entry("a", "p", Outcome::Done), entry("a", "q", Outcome::Failed)]).unwrap();
        let mut second = Journal::begin(folder.path(), Shard::new(1, 2).unwrap()).unwrap();
        second.append(&[entry("b", "p", Outcome::Done)]).unwrap();
        let mut text = fs::read(second.path()).unwrap();
        text.extend(br#"{"case":"c","plugin":"p","outco"#);
        fs::write(second.path(), text).unwrap();
        let mut found = Vec::new();
        read_all(folder.path(), |e| found.push(format!("{}/{}", e.case, e.plugin))).unwrap();
        assert_eq!(found, ["a/p", "a/q", "b/p"]);
        read_all(&folder.path().join("none"), |_| panic!("nothing there")).unwrap();
    }
}
