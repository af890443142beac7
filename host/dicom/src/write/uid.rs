//! New UIDs.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::error::{DicomError, ErrorKind, Result};

/// Makes UIDs that nobody made before: 2.25 and a UUID as a decimal number (PS3.5 B.2), or below a root of yours.
#[derive(Debug, Clone)]
pub struct Uids {
    root: Option<String>,
    seed: [u8; 32],
    made: u64,
}

impl Uids {
    /// Seeded by the operating system's randomness, the time and the process.
    ///
    /// # Errors
    /// [`ErrorKind::BadAttribute`] where the root is no UID, or longer than 40 characters: the rest must be long
    /// enough to be unique.
    pub fn new(root: Option<&str>) -> Result<Self> {
        let mut hash = Sha256::new();
        // Each state has keys of its own, from the operating system.
        for i in 0..4_u64 {
            hash.update(RandomState::new().hash_one(i).to_le_bytes());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        hash.update(now.as_nanos().to_le_bytes());
        hash.update(std::process::id().to_le_bytes());
        Self::seeded(root, hash.finalize().into())
    }

    /// The same seed gives the same UIDs: for tests, or with a seed of the caller's own randomness.
    ///
    /// # Errors
    /// As [`Uids::new`].
    pub fn seeded(root: Option<&str>, seed: [u8; 32]) -> Result<Self> {
        if let Some(root) = root.filter(|r| !is_uid(r) || r.len() > 40) {
            let message = format!(
                "the UID root '{root}' is no UID of at most 40 characters, such as 1.2.826.0.1.3680043"
            );
            return Err(DicomError::new(ErrorKind::BadAttribute, message));
        }
        Ok(Self { root: root.map(str::to_owned), seed, made: 0 })
    }

    /// The next one.
    pub fn make(&mut self) -> String {
        self.made += 1;
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.made.to_le_bytes()).finalize();
        match &self.root {
            None => format!("2.25.{}", uuid(&digest)),
            Some(root) => {
                let digits = 63 - root.len() as u32;
                let number = uuid(&digest) % 10_u128.checked_pow(digits).unwrap_or(u128::MAX);
                format!("{root}.{number}")
            }
        }
    }
}

/// A UID below 2.25 that is the same for the same text.
pub(crate) fn uid_of(text: &str) -> String {
    format!("2.25.{}", uuid(&Sha256::digest(text.as_bytes())))
}

/// The first 16 bytes as a UUID of version 8 (RFC 9562: any content).
fn uuid(digest: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    u128::from_be_bytes(bytes)
}

/// Numbers without leading zeros, joined by dots, at most 64 characters.
pub(crate) fn is_uid(text: &str) -> bool {
    let number =
        |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) && (p == "0" || !p.starts_with('0'));
    text.len() <= 64 && text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_valid_and_differ() {
        let longest = format!("1.2.{}", "9".repeat(36));
        for root in [None, Some("1.2.826.0.1.3680043.10.999"), Some(longest.as_str())] {
            let (mut a, mut b) = (Uids::new(root).unwrap(), Uids::new(root).unwrap());
            let made: Vec<String> = (0..100).flat_map(|_| [a.make(), b.make()]).collect();
            assert!(made.iter().all(|u| is_uid(u) && u.starts_with(root.unwrap_or("2.25."))));
            assert_eq!(made.iter().collect::<std::collections::HashSet<_>>().len(), 200);
        }
        assert_eq!(Uids::seeded(None, [1; 32]).unwrap().make(), Uids::seeded(None, [1; 32]).unwrap().make());
    }

    #[test]
    fn a_root_that_is_no_uid_is_refused() {
        for root in ["", "12", "1..2", "1.02", "1.a", "1.2.", &"1.2".repeat(20)] {
            assert_eq!(Uids::new(Some(root)).unwrap_err().kind, ErrorKind::BadAttribute, "{root}");
        }
    }
}
