//! Which studies of the archive's list are new and complete: a study is looked at once its number of instances has not
//! changed for a while, and again only when that number changes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::client::ListedStudy;
use super::ledger::StudyKey;

/// A study that the ledger does not have.
struct Candidate {
    uid: String,
    instances: Option<u64>,
    since: Instant,
    /// How often a look at it failed, and when the next one is due.
    failures: u32,
    not_before: Instant,
    /// No rule fits it as it is.
    settled: bool,
    /// It was in the last list, or was named.
    listed: bool,
}

/// The candidates, in memory: after a restart each is looked at anew.
pub(crate) struct Candidates {
    quiet: Duration,
    most: usize,
    known: HashMap<StudyKey, Candidate>,
}

impl Candidates {
    pub fn new(quiet: Duration, most: usize) -> Self {
        Self { quiet, most, known: HashMap::new() }
    }

    /// Begins to take over a list; [`Self::end_list`] forgets what was not in it.
    pub fn begin_list(&mut self) {
        self.known.values_mut().for_each(|c| c.listed = false);
    }

    pub fn end_list(&mut self) {
        // Those that were named and not listed stay until they were looked at.
        self.known.retain(|_, c| c.listed || !c.settled);
    }

    /// A study is there, with so many instances.
    pub fn see(&mut self, key: StudyKey, study: &ListedStudy, now: Instant) {
        if let Some(known) = self.known.get_mut(&key) {
            known.listed = true;
            if known.instances != study.instances {
                (known.instances, known.since, known.settled) = (study.instances, now, false);
            }
            return;
        }
        if self.known.len() < self.most {
            let new = Candidate {
                uid: study.uid.clone(),
                instances: study.instances,
                since: now,
                failures: 0,
                not_before: now,
                settled: false,
                listed: true,
            };
            self.known.insert(key, new);
        }
    }

    /// Those that are complete and were not looked at.
    pub fn due(&self, now: Instant) -> Vec<(StudyKey, ListedStudy)> {
        let is_due =
            |c: &Candidate| !c.settled && now >= c.not_before && now.duration_since(c.since) >= self.quiet;
        let due = self.known.iter().filter(|(_, c)| is_due(c));
        due.map(|(key, c)| (key.clone(), ListedStudy { uid: c.uid.clone(), instances: c.instances }))
            .collect()
    }

    /// A look at it failed; how often in all.
    pub fn fail(&mut self, key: &StudyKey) -> u32 {
        self.known.get_mut(key).map_or(0, |known| {
            known.failures += 1;
            known.failures
        })
    }

    /// It is due again then.
    pub fn look_after(&mut self, key: &StudyKey, at: Instant) {
        if let Some(known) = self.known.get_mut(key) {
            known.not_before = at;
        }
    }

    /// No rule fits.
    pub fn settle(&mut self, key: &StudyKey) {
        if let Some(known) = self.known.get_mut(key) {
            known.settled = true;
        }
    }

    /// It is in the ledger now, or gone from the archive.
    pub fn forget(&mut self, key: &StudyKey) {
        self.known.remove(key);
    }

    pub fn len(&self) -> usize {
        self.known.values().filter(|c| !c.settled).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_is_due_once_it_is_quiet_and_again_when_it_grows() {
        let quiet = Duration::from_secs(60);
        let (mut all, start) = (Candidates::new(quiet, 2), Instant::now());
        let key = StudyKey::of(b"x", "1.2");
        let study = |n| ListedStudy { uid: "1.2".into(), instances: n };
        let after = |s| start + Duration::from_secs(s);
        all.see(key.clone(), &study(Some(10)), after(0));
        all.see(key.clone(), &study(Some(20)), after(50));
        assert!(all.due(after(70)).is_empty(), "it grew at 50");
        all.see(key.clone(), &study(Some(20)), after(80));
        assert_eq!(all.due(after(110)).len(), 1);
        all.settle(&key);
        all.see(key.clone(), &study(Some(20)), after(200));
        assert!(all.due(after(300)).is_empty(), "no rule fits it as it is");
        all.see(key.clone(), &study(Some(21)), after(300));
        assert_eq!(all.due(after(360)).len(), 1);
        all.forget(&key);
        assert_eq!(all.len(), 0);
    }

    #[test]
    fn what_leaves_the_list_is_forgotten_and_the_memory_has_a_bound() {
        let (mut all, now) = (Candidates::new(Duration::ZERO, 2), Instant::now());
        for uid in ["1.1", "1.2", "1.3"] {
            all.see(StudyKey::of(b"x", uid), &ListedStudy { uid: uid.into(), instances: None }, now);
        }
        assert_eq!(all.len(), 2);
        all.due(now).iter().for_each(|(key, _)| all.settle(key));
        all.begin_list();
        all.end_list();
        assert!(all.known.is_empty());
    }
}
