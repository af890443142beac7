//! Looks at studies that are new: in the archive's list, by the webhook, or received; those that a rule fits go into the
//! ledger.

use std::io;
use std::time::{Duration, Instant};

use super::client::{Archive, ListedStudy, Place};
use super::error::ArchiveError;
use super::json::is_uid;
use super::ledger::{LedgerError, NamedStudy, Order, StudyKey, StudyOrigin, StudyRecord, StudyState};
use super::orders::{leave_out_answered, orders_of};
use super::series::SeriesFacts;
use super::study_log;
use super::watch::Candidates;
use super::workers::{Shared, locked};
use crate::dimse::Incoming;

/// Why a look at a study did not end.
pub(crate) enum LookError {
    Archive(ArchiveError),
    Ledger(LedgerError),
}

impl From<ArchiveError> for LookError {
    fn from(e: ArchiveError) -> Self {
        Self::Archive(e)
    }
}

impl From<LedgerError> for LookError {
    fn from(e: LedgerError) -> Self {
        Self::Ledger(e)
    }
}

impl std::fmt::Display for LookError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Archive(e) => e.fmt(f),
            Self::Ledger(e) => e.fmt(f),
        }
    }
}

/// What a look at a study came to.
enum Look {
    Entered,
    NoRule,
    Gone,
    Growing(ListedStudy),
}

impl Shared {
    /// What the webhook named.
    pub fn take_named(&self, candidates: &mut Candidates) -> Result<(), LookError> {
        loop {
            let Some(named) = locked(&self.named).front().cloned() else { return Ok(()) };
            let key = self.steps.key(&named.uid);
            match self.take_one(&key, &named, candidates) {
                Ok(()) => {}
                // It is asked again: nothing that was named is lost while the archive is away.
                Err(e @ (LookError::Archive(ArchiveError::Unavailable { .. }) | LookError::Ledger(_))) => {
                    return Err(e);
                }
                Err(e) => {
                    study_log::of_study(study_log::WARNING, &key, format!("named by the webhook: {e}"));
                    self.steps.ledger.unname(&key)?;
                }
            }
            locked(&self.named).pop_front();
        }
    }

    fn take_one(
        &self,
        key: &StudyKey,
        named: &NamedStudy,
        candidates: &mut Candidates,
    ) -> Result<(), LookError> {
        match self.steps.ledger.get(key)? {
            Some(record) if named.again && record.state == StudyState::Failed => self.take_up(key, record)?,
            Some(_) => {}
            None => {
                let Some(archive) = &self.steps.archive else { return Ok(self.steps.ledger.unname(key)?) };
                let unseen = || Some(ListedStudy { uid: named.uid.clone(), instances: None });
                // What cannot be said now is asked when it is looked at, and counted there.
                let found = match archive.study(&named.uid) {
                    Err(ArchiveError::Interrupted(_)) => unseen(),
                    other => other?,
                };
                if let Some(study) = found {
                    candidates.see(key.clone(), &study, Instant::now());
                    return Ok(());
                }
                study_log::of_study(study_log::INFO, key, "named by the webhook, and not in the archive");
            }
        }
        Ok(self.steps.ledger.unname(key)?)
    }

    /// A failed study begins anew. Results that were made keep their UIDs.
    fn take_up(&self, key: &StudyKey, mut record: StudyRecord) -> Result<(), LookError> {
        let Some(uid) = record.study_uid.clone() else { return Ok(()) };
        let mut orders = Vec::new();
        if record.objects.is_empty() {
            if let Some(archive) = &self.steps.archive {
                orders = self.orders(archive, &uid, &archive.series(&uid)?)?;
            }
            if orders.is_empty() {
                study_log::of_study(
                    study_log::WARNING,
                    key,
                    "not taken up again: its scan is not there, or no rule fits it",
                );
                return Ok(());
            }
        }
        study_log::of_study(study_log::INFO, key, "taken up again");
        record.take_up(orders);
        self.steps.ledger.put(key, &mut record)?;
        self.begin(key.clone());
        Ok(())
    }

    pub fn list(&self, archive: &Archive, candidates: &mut Candidates) -> Result<(), LookError> {
        let days = self.steps.rules.archive.window_days;
        let since = (days > 0).then(|| date_before(days));
        let studies = archive.studies(since.as_deref())?;
        let known = self.steps.ledger.keys()?;
        candidates.begin_list();
        let now = Instant::now();
        for study in &studies {
            let key = self.steps.key(&study.uid);
            if !known.contains(&key) {
                candidates.see(key, study, now);
            }
        }
        candidates.end_list();
        Ok(())
    }

    pub fn look_at_due(&self, archive: &Archive, candidates: &mut Candidates) -> Result<(), LookError> {
        for (key, study) in candidates.due(Instant::now()) {
            if self.stopped() {
                return Ok(());
            }
            match self.look(archive, &key, &study) {
                Ok(Look::Growing(now)) => candidates.see(key, &now, Instant::now()),
                Ok(Look::NoRule) => {
                    candidates.settle(&key);
                    self.steps.ledger.unname(&key)?;
                }
                Ok(Look::Entered | Look::Gone) => {
                    candidates.forget(&key);
                    self.steps.ledger.unname(&key)?;
                }
                // One study that cannot be listed must not keep the others.
                Err(LookError::Archive(e @ (ArchiveError::Refused(_) | ArchiveError::Interrupted(_)))) => {
                    let failures = candidates.fail(&key);
                    let for_good =
                        matches!(e, ArchiveError::Refused(_)) || failures >= self.steps.rules.retry.attempts;
                    if for_good {
                        let mut record = StudyRecord::new(&study.uid, StudyOrigin::Archive, Vec::new());
                        record.attempts = failures;
                        record.end(StudyState::Failed, Some(e.to_string()));
                        study_log::of_study(study_log::ERROR, &key, format!("failed for good: {e}"));
                        self.steps.ledger.enter(&key, &record)?;
                        self.steps.ledger.unname(&key)?;
                        candidates.forget(&key);
                    } else {
                        let wait = self.steps.backoff().wait(failures);
                        study_log::of_study(
                            study_log::WARNING,
                            &key,
                            format!("{e}; again in {:.1} s", wait.as_secs_f64()),
                        );
                        candidates.look_after(&key, Instant::now() + wait);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn look(&self, archive: &Archive, key: &StudyKey, study: &ListedStudy) -> Result<Look, LookError> {
        if self.steps.ledger.get(key)?.is_some() {
            return Ok(Look::Entered);
        }
        match archive.study(&study.uid)? {
            None => return Ok(Look::Gone),
            Some(now) if now.instances != study.instances => return Ok(Look::Growing(now)),
            Some(_) => {}
        }
        let series = archive.series(&study.uid)?;
        let mut orders = self.orders(archive, &study.uid, &series)?;
        if orders.is_empty() {
            return Ok(Look::NoRule);
        }
        let mut record = StudyRecord::new(&study.uid, StudyOrigin::Archive, Vec::new());
        if self.steps.rules.archive.skip_answered {
            let before = orders.clone();
            let answered = leave_out_answered(&mut orders, &series);
            if !answered.is_empty() {
                record.note(format!("results of {} lay in the archive already", answered.join(", ")));
            }
            record.orders = if orders.is_empty() { before } else { orders };
            if !answered.is_empty()
                && record.orders.iter().all(|o| o.plugins.iter().all(|p| answered.contains(p)))
            {
                record.end(StudyState::Skipped, Some("its results lay in the archive already".into()));
            }
        } else {
            record.orders = orders;
        }
        let state = record.state;
        if self.steps.ledger.enter(key, &record)? {
            study_log::of_study(
                study_log::INFO,
                key,
                format!("entered as {}, {} orders", state.name(), record.orders.len()),
            );
            if !state.is_final() {
                self.begin(key.clone());
            }
        }
        Ok(Look::Entered)
    }

    fn orders(
        &self,
        archive: &Archive,
        study: &str,
        series: &[SeriesFacts],
    ) -> Result<Vec<Order>, LookError> {
        let own = |uid: &str| self.steps.ledger.is_own(uid).map_err(LookError::from);
        let usable: Vec<SeriesFacts> = series.iter().filter(|s| is_uid(&s.uid)).cloned().collect();
        orders_of(&self.steps.rules.rules, &usable, own, |series| {
            let instances = archive.instances(study, &series.uid)?;
            let Some(first) = instances.first().filter(|uid| is_uid(uid)) else {
                return Ok(SeriesFacts::default());
            };
            Ok(archive.facts(Place { study, series: &series.uid, instance: Some(first) })?)
        })
    }

    /// Studies that C-STORE brought and that are complete. One that cannot be taken does not keep the
    /// others: it is tried again after a while.
    pub fn take_received(&self, incoming: &Incoming) {
        let quiet = self.steps.rules.receiver.as_ref().map_or(60.0, |r| r.quiet_seconds);
        for (study, at) in incoming.quiet(Duration::from_secs_f64(quiet)) {
            let Err(e) = self.take_study(incoming, &study, at) else { continue };
            if incoming.forget_missing(&study) {
                study_log::of_all(
                    study_log::WARNING,
                    format!(
                        "what was received of study {study} is forgotten: its folder below incoming/ is \
                         missing ({e}); put it back and restart the server, or send the study again"
                    ),
                );
                continue;
            }
            let wait = self.steps.backoff().wait(incoming.fail(&study));
            study_log::of_all(
                study_log::ERROR,
                format!(
                    "what was received of study {study} cannot be taken ({e}); again in {:.1} s",
                    wait.as_secs_f64()
                ),
            );
            incoming.look_after(&study, Instant::now() + wait);
        }
    }

    fn take_study(&self, incoming: &Incoming, name: &str, at: Instant) -> Result<(), String> {
        let text = |e: io::Error| e.to_string();
        let Some(study) = incoming.read(name).map_err(text)? else {
            let what = format!("no file of what was received of study {name} is an image; they are removed");
            study_log::of_all(study_log::WARNING, what);
            return incoming.done(name, at).map_err(text);
        };
        let key = study.key.clone();
        let known = self.steps.ledger.get(&key).map_err(|e| e.to_string())?;
        if known.is_some() {
            study_log::of_study(
                study_log::INFO,
                &key,
                "instances came after the study was taken; they are not answered",
            );
            return incoming.done(name, at).map_err(text);
        }
        let own = |uid: &str| self.steps.ledger.is_own(uid);
        let rules = &self.steps.rules.rules;
        let orders = orders_of(rules, &study.series, own, |s| Ok(s.clone()))
            .map_err(|e: LedgerError| e.to_string())?;
        if orders.is_empty() {
            study_log::of_study(study_log::INFO, &key, "no rule fits what was received");
            return incoming.done(name, at).map_err(text);
        }
        for series in orders.iter().flat_map(|order| &order.series) {
            study.hand_over(series, &self.steps.series_folder(&key, series)).map_err(text)?;
        }
        // From here on the ledger has it; what is still in `incoming` after a kill is known by then, and goes.
        if self.steps.received(&study.uid, orders).map_err(|e| e.to_string())? {
            study_log::of_study(study_log::INFO, &key, "received");
            self.begin(key);
        }
        incoming.done(name, at).map_err(text)
    }
}

/// So many days before today in UTC and one more, since hospitals are in other time zones: `20261122`.
fn date_before(days: u32) -> String {
    let now = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let then = now.saturating_sub(jiff::Span::new().days(i64::from(days) + 1));
    then.strftime("%Y%m%d").to_string()
}
