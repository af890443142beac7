//! How long ended jobs are kept: by age, and by what all of them take on the disk.

use super::{Jobs, StoreError};
use jiff::Timestamp;
use std::time::Duration;

/// What is kept of jobs that have ended. Jobs that wait or run are never removed.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long after its end; none for ever.
    pub age: Option<Duration>,
    /// Most bytes of all jobs' folders; the oldest go first. None for any.
    pub bytes: Option<u64>,
}

impl Jobs {
    /// Removes what is kept no longer; how many jobs that were.
    ///
    /// # Errors
    /// When the database cannot be read or written to.
    pub fn tidy(&self, retention: &Retention, now: Timestamp) -> Result<usize, StoreError> {
        let mut taken = 0u64;
        let mut removed = 0;
        let mut gone = Vec::new();
        // The newest first: what goes beyond the size is the oldest.
        self.newest(|job| {
            if !job.state.is_final() || !job.audited {
                return true;
            }
            let old = retention.age.zip(job.ended).is_some_and(|(age, ended)| {
                now.duration_since(ended)
                    > jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX)
            });
            let beyond = retention.bytes.is_some_and(|most| taken.saturating_add(job.bytes) > most);
            if old || beyond {
                gone.push(job.id.clone());
            } else {
                taken = taken.saturating_add(job.bytes);
            }
            true
        })?;
        for id in gone {
            removed += usize::from(self.delete(&id)?);
        }
        Ok(removed)
    }
}
