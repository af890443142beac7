//! How long to wait before asking again: twice as long each time, and never all at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits between a first and a longest one.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    /// Before the repetition number `failures` (1: after the first failure): between half and all of
    /// first × 2^(failures − 1), at most [`Self::most`].
    pub fn wait(&self, failures: u32) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let most = doubled.min(self.most);
        // Of the system's randomness: several servers that lost one archive must not come back together.
        let share = RandomState::new().hash_one(failures) as u32;
        most / 2 + (most / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(300) };
        for failures in 1..40 {
            let full = Duration::from_secs(1 << (failures - 1).min(9)).min(backoff.most);
            let wait = backoff.wait(failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
        let many: std::collections::HashSet<Duration> = (0..50).map(|_| backoff.wait(5)).collect();
        assert!(many.len() > 25);
    }
}
