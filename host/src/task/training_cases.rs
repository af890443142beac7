//! Which scans weights were trained on, without telling whose they are: so that nobody measures a model by what it has
//! learned.

use crate::fs::hex;
use crate::scan::ContentDigest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes that are kept of a digest: a million scans meet one by chance once in ten million tries.
const KEPT: usize = 8;

/// What a scan was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsedFor {
    /// The weights learned it.
    Training,
    /// It chose the epoch, and temperature and threshold were fitted on it.
    Validation,
}

/// Salted digests of what scans show (`Volume::content_digest`): a copy that is stored otherwise is known again, and without
/// the scan nobody learns anything from them. Another run has another salt: two files of weights do not tell that they share
/// a scan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainingCases {
    /// Hexadecimal.
    pub salt: String,
    /// Of the training scans, sorted, each once.
    pub training: Vec<String>,
    /// Of the validation scans, sorted, each once.
    pub validation: Vec<String>,
}

impl TrainingCases {
    /// `run` is what tells a run from others; the salt is made of it, so that a run that is repeated gives the same file.
    pub fn new<'a>(
        run: &str,
        training: impl IntoIterator<Item = &'a ContentDigest>,
        validation: impl IntoIterator<Item = &'a ContentDigest>,
    ) -> Self {
        let salt = hex(&Sha256::digest(format!("anymc3d/salt/1\n{run}"))[..16]);
        let of = |digest: &ContentDigest| salted(&salt, digest);
        let sorted = |mut all: Vec<String>| {
            all.sort_unstable();
            all.dedup();
            all
        };
        let training = sorted(training.into_iter().map(of).collect());
        let validation = sorted(validation.into_iter().map(of).collect());
        Self { salt, training, validation }
    }

    /// What a scan was used for, if it was.
    pub fn used_for(&self, content: &ContentDigest) -> Option<UsedFor> {
        let digest = salted(&self.salt, content);
        let among = |all: &[String]| all.binary_search(&digest).is_ok();
        match (among(&self.training), among(&self.validation)) {
            (true, _) => Some(UsedFor::Training),
            (_, true) => Some(UsedFor::Validation),
            _ => None,
        }
    }

    /// What to tell of a scan that the weights know.
    pub fn warning(&self, content: &ContentDigest) -> Option<&'static str> {
        self.used_for(content).map(|used| match used {
            UsedFor::Training => {
                "the scan is one of those that the weights were trained on: the prediction says nothing about scans that they \
                 have not seen"
            }
            UsedFor::Validation => {
                "the scan is one of the validation cases that chose the weights' epoch, temperature and threshold: the \
                 prediction is a little too good"
            }
        })
    }
}

fn salted(salt: &str, content: &ContentDigest) -> String {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update(content);
    hex(&hash.finalize()[..KEPT])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_known_again_by_what_it_was_used_for_and_two_runs_share_no_digest() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let first = TrainingCases::new("run 1", [&a, &a], [&b]);
        assert_eq!(first.training.len(), 1);
        assert_eq!(
            [a, b, c].map(|d| first.used_for(&d)),
            [Some(UsedFor::Training), Some(UsedFor::Validation), None]
        );
        assert_eq!(first, TrainingCases::new("run 1", [&a], [&b]));
        let second = TrainingCases::new("run 2", [&a], [&b]);
        assert!(second.training != first.training && second.used_for(&a) == Some(UsedFor::Training));
    }
}
