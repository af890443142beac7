//! What a job is called: letters of a path that nobody chose.

use anymc3d_host::fs::hex;
use anymc3d_host::output::random_salt;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Digits of a name: 12 of the time, 20 of chance.
const DIGITS: usize = 32;

/// A job's name: 32 hexadecimal digits. The first 12 are the millisecond in which it was made, so that names sort by time;
/// the others are random, so that nobody guesses one. Nothing else is a name, so that none leads out of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// A name that no other job has.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new() -> std::io::Result<Self> {
        /// Two names of one millisecond would sort by chance.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let clock = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
        let next = |last: u64| clock.max(last + 1);
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let now = next(last.unwrap_or_else(|last| last));
        let random = random_salt()?;
        let chance = String::from_utf8(random).unwrap_or_else(|e| hex(e.as_bytes()));
        Ok(Self(format!("{:012x}{}", now & 0xffff_ffff_ffff, &chance[..DIGITS - 12])))
    }

    /// As it stands in a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits in lower case")]
pub struct NoJobId;

impl FromStr for JobId {
    type Err = NoJobId;

    fn from_str(text: &str) -> Result<Self, NoJobId> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (text.len() == DIGITS && text.bytes().all(digit)).then(|| Self(text.to_owned())).ok_or(NoJobId)
    }
}

impl TryFrom<String> for JobId {
    type Error = NoJobId;

    fn try_from(text: String) -> Result<Self, NoJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::JobId;

    #[test]
    fn names_sort_by_time_and_read_back_and_nothing_else_is_a_name() {
        let first = JobId::new().unwrap();
        let second = JobId::new().unwrap();
        assert!(first < second);
        assert_eq!(first.as_str().parse::<JobId>().as_ref(), Ok(&first));
        for wrong in ["", "..", "../../etc/passwd", &first.as_str().to_uppercase(), &first.as_str()[1..]] {
            let digits_alone = first.as_str().bytes().all(|b| b.is_ascii_digit());
            assert!(wrong.parse::<JobId>().is_err() || digits_alone, "{wrong}");
        }
        assert!(format!("{}/", &first.as_str()[1..]).parse::<JobId>().is_err());
    }
}
