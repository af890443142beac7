//! The jobs on the disk: one database file, whose transactions survive the end of the process at any moment.

use super::{Job, JobId};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

/// Jobs by their names, as JSON.
const JOBS: TableDefinition<&str, &[u8]> = TableDefinition::new("jobs");
/// Names of jobs by submitter and idempotency key.
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");
/// What the file is: `schema`.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
/// The schema that this version reads and writes.
const SCHEMA: &str = "anymc3d/jobs/1";

/// Why the database does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or the system.
    #[error("the job database: {0}")]
    Database(#[from] redb::Error),
    /// A record of another version.
    #[error("the job database: record {id} cannot be read ({source}); it was written by another version")]
    Record {
        /// The job.
        id: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Another schema.
    #[error("the job database: found schema {0}, expected anymc3d/jobs/1; it was written by another version")]
    Schema(String),
}

crate::database::from_database!(StoreError);

/// What came of adding a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is new.
    New,
    /// The key has this job already.
    Known(JobId),
}

/// The jobs of a server. Every write is on the disk when the call returns.
pub(super) struct Store {
    database: Database,
}

/// How a key is filed: keys of different submitters never meet.
fn filed(job: &Job) -> Option<String> {
    let key = job.key.as_ref()?;
    Some(format!("{:?}\n{}\n{key}", job.submitter.channel, job.submitter.name))
}

fn parsed(id: &str, json: &[u8]) -> Result<Job, StoreError> {
    serde_json::from_slice(json).map_err(|source| StoreError::Record { id: id.to_owned(), source })
}

fn written(job: &Job) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(job).map_err(|source| StoreError::Record { id: job.id.to_string(), source })
}

impl Store {
    /// Opens the database, or makes it. Of two processes the second is refused.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let database = crate::database::open(file)?;
        let write = database.begin_write()?;
        {
            write.open_table(JOBS)?;
            write.open_table(KEYS)?;
            let mut about = write.open_table(ABOUT)?;
            let found = about.get("schema")?.map(|schema| schema.value().to_owned());
            match found {
                None => drop(about.insert("schema", SCHEMA)?),
                Some(found) if found == SCHEMA => {}
                Some(found) => return Err(StoreError::Schema(found)),
            }
        }
        write.commit()?;
        Ok(Self { database })
    }

    /// Adds a job, unless its key has one already: of two calls at once one adds, and the other is told of it.
    pub fn add(&self, job: &Job) -> Result<Added, StoreError> {
        let write = self.database.begin_write()?;
        {
            let mut keys = write.open_table(KEYS)?;
            if let Some(key) = filed(job) {
                let known = keys.get(key.as_str())?.map(|id| id.value().to_owned());
                if let Some(known) = known.and_then(|id| id.parse().ok()) {
                    return Ok(Added::Known(known));
                }
                keys.insert(key.as_str(), job.id.as_str())?;
            }
            let json = written(job)?;
            write.open_table(JOBS)?.insert(job.id.as_str(), json.as_slice())?;
        }
        write.commit()?;
        Ok(Added::New)
    }

    /// Changes a job in one transaction; the job as it is then, `None` where there is none.
    pub fn change(&self, id: &JobId, change: impl FnOnce(&mut Job)) -> Result<Option<Job>, StoreError> {
        let write = self.database.begin_write()?;
        let changed = {
            let mut jobs = write.open_table(JOBS)?;
            let known = jobs.get(id.as_str())?.map(|json| parsed(id.as_str(), json.value())).transpose()?;
            let Some(mut job) = known else { return Ok(None) };
            change(&mut job);
            jobs.insert(id.as_str(), written(&job)?.as_slice())?;
            job
        };
        write.commit()?;
        Ok(Some(changed))
    }

    /// A job by its name.
    pub fn get(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let jobs = self.database.begin_read()?.open_table(JOBS)?;
        jobs.get(id.as_str())?.map(|json| parsed(id.as_str(), json.value())).transpose()
    }

    /// The name of the job that a submitter's key has.
    pub fn of_key(&self, job: &Job) -> Result<Option<JobId>, StoreError> {
        let Some(key) = filed(job) else { return Ok(None) };
        let keys = self.database.begin_read()?.open_table(KEYS)?;
        Ok(keys.get(key.as_str())?.and_then(|id| id.value().parse().ok()))
    }

    /// All jobs that `keep` keeps, the newest first, `most` at most.
    pub fn list(&self, most: usize, keep: impl Fn(&Job) -> bool) -> Result<Vec<Job>, StoreError> {
        let jobs = self.database.begin_read()?.open_table(JOBS)?;
        let mut found = Vec::new();
        for entry in jobs.iter()?.rev() {
            if found.len() >= most {
                break;
            }
            let (id, json) = entry?;
            let job = parsed(id.value(), json.value())?;
            if keep(&job) {
                found.push(job);
            }
        }
        Ok(found)
    }

    /// Hands over all jobs, the newest first, as long as `take` wants more.
    pub fn newest(&self, mut take: impl FnMut(&Job) -> bool) -> Result<(), StoreError> {
        let jobs = self.database.begin_read()?.open_table(JOBS)?;
        for entry in jobs.iter()?.rev() {
            let (id, json) = entry?;
            if !take(&parsed(id.value(), json.value())?) {
                break;
            }
        }
        Ok(())
    }

    /// Forgets a job and its key; the job as it was.
    pub fn remove(&self, id: &JobId) -> Result<Option<Job>, StoreError> {
        let write = self.database.begin_write()?;
        let removed = {
            let mut jobs = write.open_table(JOBS)?;
            let removed =
                jobs.remove(id.as_str())?.map(|json| parsed(id.as_str(), json.value())).transpose()?;
            if let Some(key) = removed.as_ref().and_then(filed) {
                write.open_table(KEYS)?.remove(key.as_str())?;
            }
            removed
        };
        write.commit()?;
        Ok(removed)
    }
}
