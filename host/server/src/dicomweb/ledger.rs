//! The ledger: what became of each study, so that each is answered once, whatever happens to the process.
//!
//! One redb file. `studies` has a record per study under its [`StudyKey`]; `sent` has the UIDs of every object and series
//! that this server made, so that none of them is ever taken for a scan. A change is on the disk when its call returns.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use anymc3d_dicom::case_id;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

const STUDIES: TableDefinition<&str, &[u8]> = TableDefinition::new("studies");
const SENT: TableDefinition<&str, &str> = TableDefinition::new("sent");
/// What a webhook named and nobody has looked at yet: UIDs, with [`AGAIN`] before those to be taken up again.
const NAMED: TableDefinition<&str, &str> = TableDefinition::new("named");
const AGAIN: char = '+';
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
const SCHEMA: &str = "anymc3d/ledger/1";

/// What a study is called in ledger, folders, logs and job keys: HMAC-SHA-256 of its UID under the server's secret,
/// 16 hexadecimal digits. Who lacks the secret cannot tell whose study it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StudyKey(String);

impl StudyKey {
    pub fn of(salt: &[u8], study_uid: &str) -> Self {
        Self(case_id(salt, study_uid))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StudyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a study is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyState {
    /// A rule fits; nothing was fetched completely.
    Seen,
    /// Its series are on the disk.
    Fetched,
    /// The results are on the disk, with the UIDs under which they will be sent.
    Answered,
    /// The archive says that it has all of them.
    Stored,
    /// They were read back and are what was sent.
    Verified,
    /// Sent to an application entity, which cannot be asked what it kept.
    Sent,
    /// Other results of the same plugins lay in the archive already.
    Skipped,
    /// For good; the record has the reason.
    Failed,
}

impl StudyState {
    /// Nothing more is done.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Verified | Self::Sent | Self::Skipped | Self::Failed)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Fetched => "fetched",
            Self::Answered => "answered",
            Self::Stored => "stored",
            Self::Verified => "verified",
            Self::Sent => "sent",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// By which way a study came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyOrigin {
    /// Seen in the archive.
    Archive,
    /// Received by C-STORE.
    Dimse,
}

/// Series of a study, and the plugins that are asked about them: one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Names of the rules.
    pub rules: Vec<String>,
    pub plugins: Vec<String>,
    /// UIDs; removed at the end.
    pub series: Vec<String>,
    /// The job, once it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Its results were taken over.
    #[serde(default)]
    pub taken: bool,
}

/// How far an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// Never sent.
    Waiting,
    /// It may have arrived: a request with it was begun.
    Begun,
    /// The archive says that it has it.
    Stored,
    /// Read back.
    Verified,
    /// The archive does not take it.
    Refused,
}

/// An object that is sent. Its UIDs are made by this program and tell nothing of the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentObject {
    /// In the study's folder `outbox/`.
    pub file: String,
    pub sop_class: String,
    pub sop_instance: String,
    pub series: String,
    pub state: ObjectState,
}

/// A study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRecord {
    pub state: StudyState,
    pub origin: StudyOrigin,
    /// Kept as long as the archive must be asked for it, and of a study that failed, for who looks into it; else removed
    /// at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study_uid: Option<String>,
    pub orders: Vec<Order>,
    #[serde(default)]
    pub objects: Vec<SentObject>,
    /// Failures that counted.
    #[serde(default)]
    pub attempts: u32,
    /// How often in a row the archive lacked objects that it had confirmed, while none more was verified.
    #[serde(default)]
    pub lost: u32,
    /// How often it was taken up again.
    #[serde(default)]
    pub round: u32,
    /// Why it failed, was skipped, or is repeated: one line without identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a reader should know: plugins without an answer, objects that the archive changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Seconds since 1970.
    pub seen: u64,
    /// Seconds since 1970.
    pub changed: u64,
}

impl StudyRecord {
    pub fn new(study_uid: &str, origin: StudyOrigin, orders: Vec<Order>) -> Self {
        let now = unix_seconds();
        Self {
            state: StudyState::Seen,
            origin,
            study_uid: Some(study_uid.to_owned()),
            orders,
            objects: Vec::new(),
            attempts: 0,
            lost: 0,
            round: 0,
            reason: None,
            notes: Vec::new(),
            seen: now,
            changed: now,
        }
    }

    /// A state after which nothing is done.
    pub fn end(&mut self, state: StudyState, reason: Option<String>) {
        self.state = state;
        self.reason = reason;
        if state != StudyState::Failed {
            self.study_uid = None;
        }
        for order in &mut self.orders {
            order.series.clear();
        }
    }

    /// A study that failed begins anew: with the results that were not delivered, or without any from the start, by these
    /// orders.
    pub fn take_up(&mut self, orders: Vec<Order>) {
        self.round += 1;
        (self.attempts, self.lost) = (0, 0);
        self.seen = unix_seconds();
        (self.reason, self.notes) = (None, Vec::new());
        if self.objects.is_empty() {
            (self.state, self.orders) = (StudyState::Seen, orders);
            return;
        }
        self.state = StudyState::Answered;
        for object in &mut self.objects {
            if object.state == ObjectState::Refused {
                object.state = ObjectState::Begun;
            }
        }
    }

    pub fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// A webhook's word.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedStudy {
    pub uid: String,
    /// Whether it is to be taken up again where it failed.
    pub again: bool,
}

pub(crate) fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}

/// Why the ledger does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger: {0}")]
    Database(#[from] redb::Error),
    #[error(
        "the ledger: the record of study {key} cannot be read ({source}); it was written by another version"
    )]
    Record { key: String, source: serde_json::Error },
    #[error("the ledger: found schema {0}, expected {SCHEMA}; it was written by another version")]
    Schema(String),
}

crate::database::from_database!(LedgerError);

type Result<T> = std::result::Result<T, LedgerError>;

/// The file.
pub struct Ledger {
    database: Database,
}

impl Ledger {
    /// Opens or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When another process has it open, or it is none.
    pub fn open(file: &Path) -> Result<Self> {
        let database = crate::database::open(file)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
                .map_err(|e| LedgerError::Database(redb::Error::Io(e)))?;
        }
        let write = database.begin_write()?;
        {
            write.open_table(STUDIES)?;
            write.open_table(SENT)?;
            write.open_table(NAMED)?;
            let mut about = write.open_table(ABOUT)?;
            let found = about.get("schema")?.map(|v| v.value().to_owned());
            match found {
                None => drop(about.insert("schema", SCHEMA)?),
                Some(found) if found == SCHEMA => {}
                Some(found) => return Err(LedgerError::Schema(found)),
            }
        }
        write.commit()?;
        Ok(Self { database })
    }

    /// What is known of a study.
    ///
    /// # Errors
    /// Of the database.
    pub fn get(&self, key: &StudyKey) -> Result<Option<StudyRecord>> {
        let read = self.database.begin_read()?;
        let table = read.open_table(STUDIES)?;
        table.get(key.as_str())?.map(|json| parsed(key.as_str(), json.value())).transpose()
    }

    /// Enters a study that is not there yet; `false` where it is: what it says stays.
    ///
    /// # Errors
    /// Of the database.
    pub fn enter(&self, key: &StudyKey, record: &StudyRecord) -> Result<bool> {
        let write = self.database.begin_write()?;
        let new = {
            let mut table = write.open_table(STUDIES)?;
            let there = table.get(key.as_str())?.is_some();
            if !there {
                table.insert(key.as_str(), written(key, record)?.as_slice())?;
            }
            !there
        };
        write.commit()?;
        Ok(new)
    }

    /// Writes a record, and the UIDs of its objects, in one transaction.
    ///
    /// # Errors
    /// Of the database.
    pub fn put(&self, key: &StudyKey, record: &mut StudyRecord) -> Result<()> {
        record.changed = unix_seconds();
        let write = self.database.begin_write()?;
        {
            write.open_table(STUDIES)?.insert(key.as_str(), written(key, record)?.as_slice())?;
            let mut sent = write.open_table(SENT)?;
            for object in &record.objects {
                sent.insert(object.sop_instance.as_str(), key.as_str())?;
                sent.insert(object.series.as_str(), key.as_str())?;
            }
        }
        write.commit()?;
        Ok(())
    }

    /// Enters what a webhook named.
    ///
    /// # Errors
    /// Of the database.
    pub fn name(&self, key: &StudyKey, named: &NamedStudy) -> Result<()> {
        let value = if named.again { format!("{AGAIN}{}", named.uid) } else { named.uid.clone() };
        let write = self.database.begin_write()?;
        write.open_table(NAMED)?.insert(key.as_str(), value.as_str())?;
        write.commit()?;
        Ok(())
    }

    /// It was looked at.
    ///
    /// # Errors
    /// Of the database.
    pub fn unname(&self, key: &StudyKey) -> Result<()> {
        // Most studies were named by nobody.
        if self.database.begin_read()?.open_table(NAMED)?.get(key.as_str())?.is_none() {
            return Ok(());
        }
        let write = self.database.begin_write()?;
        write.open_table(NAMED)?.remove(key.as_str())?;
        write.commit()?;
        Ok(())
    }

    /// What was named and not looked at.
    ///
    /// # Errors
    /// Of the database.
    pub fn named(&self) -> Result<Vec<NamedStudy>> {
        let read = self.database.begin_read()?;
        let mut found = Vec::new();
        for row in read.open_table(NAMED)?.iter()? {
            let value = row?.1;
            let (again, uid) = match value.value().strip_prefix(AGAIN) {
                Some(uid) => (true, uid.to_owned()),
                None => (false, value.value().to_owned()),
            };
            found.push(NamedStudy { uid, again });
        }
        Ok(found)
    }

    /// Whether a UID is one of an object or series that this server made.
    ///
    /// # Errors
    /// Of the database.
    pub fn is_own(&self, uid: &str) -> Result<bool> {
        let read = self.database.begin_read()?;
        Ok(read.open_table(SENT)?.get(uid)?.is_some())
    }

    /// The records that `wanted` picks.
    ///
    /// # Errors
    /// Of the database.
    pub fn list(&self, wanted: impl Fn(&StudyRecord) -> bool) -> Result<Vec<(StudyKey, StudyRecord)>> {
        let read = self.database.begin_read()?;
        let mut found = Vec::new();
        for row in read.open_table(STUDIES)?.iter()? {
            let (key, json) = row?;
            let record = parsed(key.value(), json.value())?;
            if wanted(&record) {
                found.push((StudyKey(key.value().to_owned()), record));
            }
        }
        Ok(found)
    }

    /// The keys of all studies.
    ///
    /// # Errors
    /// Of the database.
    pub fn keys(&self) -> Result<HashSet<StudyKey>> {
        let read = self.database.begin_read()?;
        let mut keys = HashSet::new();
        for row in read.open_table(STUDIES)?.iter()? {
            keys.insert(StudyKey(row?.0.value().to_owned()));
        }
        Ok(keys)
    }
}

fn parsed(key: &str, json: &[u8]) -> Result<StudyRecord> {
    serde_json::from_slice(json).map_err(|source| LedgerError::Record { key: key.to_owned(), source })
}

fn written(key: &StudyKey, record: &StudyRecord) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|source| LedgerError::Record { key: key.to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> StudyRecord {
        let order = Order {
            rules: vec!["ct".into()],
            plugins: vec!["lung_nodule".into()],
            series: vec!["1.2.3.4".into()],
            job: None,
            taken: false,
        };
        StudyRecord::new("1.2.3", StudyOrigin::Archive, vec![order])
    }

    #[test]
    fn a_study_is_entered_once_and_what_was_written_survives() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let key = StudyKey::of(b"secret", "1.2.3");
        {
            let ledger = Ledger::open(&file).unwrap();
            assert!(ledger.enter(&key, &record()).unwrap());
            let mut answered = record();
            answered.state = StudyState::Answered;
            answered.objects = vec![SentObject {
                file: "1.dcm".into(),
                sop_class: "1.2.840".into(),
                sop_instance: "2.25.1".into(),
                series: "2.25.2".into(),
                state: ObjectState::Waiting,
            }];
            ledger.put(&key, &mut answered).unwrap();
            assert!(!ledger.enter(&key, &record()).unwrap(), "the first entry stays");
        }
        let ledger = Ledger::open(&file).unwrap();
        assert_eq!(ledger.get(&key).unwrap().unwrap().state, StudyState::Answered);
        assert!(ledger.is_own("2.25.1").unwrap() && ledger.is_own("2.25.2").unwrap());
        assert!(!ledger.is_own("1.2.3.4").unwrap());
        assert_eq!(ledger.keys().unwrap().len(), 1);
        assert_eq!(ledger.list(|r| r.state.is_final()).unwrap(), []);
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read_and_has_lost_nothing() {
        let mut json = serde_json::to_value(record()).unwrap();
        assert!(json.as_object_mut().unwrap().remove("lost").is_some());
        let read: StudyRecord = serde_json::from_value(json).unwrap();
        assert_eq!(read.lost, 0);
    }

    #[test]
    fn no_uid_of_the_patient_stays_once_a_study_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.redb")).unwrap();
        let key = StudyKey::of(b"secret", "1.2.3");
        assert!(!key.as_str().contains("1.2.3"));
        let mut done = record();
        done.end(StudyState::Verified, None);
        ledger.put(&key, &mut done).unwrap();
        let json = serde_json::to_string(&ledger.get(&key).unwrap().unwrap()).unwrap();
        assert!(!json.contains("1.2.3"), "{json}");
        let mut failed = record();
        failed.end(StudyState::Failed, Some("why".into()));
        assert_eq!(failed.study_uid.as_deref(), Some("1.2.3"), "somebody must be able to look into it");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.redb");
        let _ledger = Ledger::open(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
