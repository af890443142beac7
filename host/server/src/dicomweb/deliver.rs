//! STOW-RS of a study's results, so that each object is there once and is what was sent.
//!
//! Facts of Orthanc 1.10 with DICOMweb 1.7 stand behind the order of steps: it answers 200 to a second STOW of an instance
//! and drops the new content, and a 400 may have kept a part of the request. So UIDs are fixed before the first request, an
//! object whose fate is not known is asked for before it is sent again, and all are read back at the end.

use std::path::Path;

use super::client::{Archive, Place};
use super::error::{ArchiveError, Result};
use super::ledger::{ObjectState, SentObject, StudyRecord};
use super::outbox::{ReadBack, compare};
use super::stow::{Failure, StoreAnswer};

/// Sends what is not stored yet. `save` writes the record to the ledger.
///
/// # Errors
/// [`ArchiveError`]; the record says how far it came.
pub(crate) fn send_all(
    archive: &Archive,
    study: &str,
    outbox: &Path,
    most_bytes: u64,
    record: &mut StudyRecord,
    save: &mut dyn FnMut(&mut StudyRecord) -> Result<()>,
) -> Result<()> {
    find_begun(archive, study, record)?;
    save(record)?;
    // Groups that fit into one request; a group that is too large for the archive is halved.
    let waiting: Vec<usize> = indices(record, ObjectState::Waiting);
    // After a failure each goes alone: one that the archive cannot take must not keep the others.
    let alone = record.attempts > 0;
    let mut groups = grouped(&waiting, record, outbox, if alone { 0 } else { most_bytes });
    groups.reverse();
    let mut last = None;
    while let Some(group) = groups.pop() {
        for &at in &group {
            record.objects[at].state = ObjectState::Begun;
        }
        save(record)?;
        let files: Vec<_> = group.iter().map(|&at| outbox.join(&record.objects[at].file)).collect();
        match archive.store(study, &files) {
            Ok(answer) => {
                if let Some(e) = enter(&answer, &group, record) {
                    last = Some(e);
                }
            }
            Err(ArchiveError::TooLarge) => {
                for &at in &group {
                    record.objects[at].state = ObjectState::Waiting;
                }
                match group.as_slice() {
                    [one] => refuse(record, *one, "is too large for the archive (413)"),
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        groups.extend([second.to_vec(), first.to_vec()]);
                    }
                }
            }
            Err(ArchiveError::Refused(reason)) => {
                // One of them may be the reason: alone each has its own answer.
                match group.as_slice() {
                    [one] => refuse(record, *one, &format!("was refused: {reason}")),
                    many => {
                        many.iter().for_each(|&at| record.objects[at].state = ObjectState::Waiting);
                        groups.extend(many.iter().rev().map(|&at| vec![at]));
                    }
                }
            }
            Err(e @ ArchiveError::Interrupted(_)) if alone => last = Some(e),
            Err(e) => {
                save(record)?;
                return Err(e);
            }
        }
        save(record)?;
    }
    match last {
        None => Ok(()),
        Some(e) => Err(e),
    }
}

/// Whether the archive has what was sent without an answer that said so. What it lacks waits again.
fn find_begun(archive: &Archive, study: &str, record: &mut StudyRecord) -> Result<()> {
    for object in record.objects.iter_mut().filter(|o| o.state == ObjectState::Begun) {
        let place = Place { study, series: &object.series, instance: Some(&object.sop_instance) };
        object.state = if archive.has(place)? { ObjectState::Stored } else { ObjectState::Waiting };
    }
    Ok(())
}

fn indices(record: &StudyRecord, state: ObjectState) -> Vec<usize> {
    (0..record.objects.len()).filter(|&at| record.objects[at].state == state).collect()
}

fn grouped(waiting: &[usize], record: &StudyRecord, outbox: &Path, most_bytes: u64) -> Vec<Vec<usize>> {
    let (mut groups, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
    for &at in waiting {
        let size = outbox.join(&record.objects[at].file).metadata().map_or(0, |about| about.len());
        match groups.last_mut() {
            Some(group) if bytes + size <= most_bytes => {
                group.push(at);
                bytes += size;
            }
            _ => {
                groups.push(vec![at]);
                bytes = size;
            }
        }
    }
    groups
}

fn refuse(record: &mut StudyRecord, at: usize, why: &str) {
    let object = &mut record.objects[at];
    object.state = ObjectState::Refused;
    let name = shown(object);
    record.note(format!("{name} {why}"));
}

/// Our own name of an object: `heatmap.dcm`.
fn shown(object: &SentObject) -> String {
    object.file.splitn(3, '-').last().unwrap_or("an object").to_owned()
}

/// Enters what the archive said of each object; returns why some must be sent again.
fn enter(answer: &StoreAnswer, group: &[usize], record: &mut StudyRecord) -> Option<ArchiveError> {
    let mut again = None;
    for &at in group {
        let object = &mut record.objects[at];
        let failure = answer.failed.iter().find(|(uid, _)| *uid == object.sop_instance).map(|(_, why)| *why);
        let stored = answer.is_silent() || answer.stored.contains(&object.sop_instance);
        match failure {
            // Ours are random UIDs: what is there is ours. Reading back makes sure.
            Some(Failure::Duplicate) => object.state = ObjectState::Stored,
            Some(Failure::Refused(code)) => {
                refuse(record, at, &format!("was refused by the archive (failure reason {code:04X})"));
            }
            Some(Failure::Later(code)) => {
                object.state = ObjectState::Begun;
                let message = format!("the archive did not store an object (failure reason {code:04X})");
                again = Some(ArchiveError::Interrupted(message));
            }
            None if stored => object.state = ObjectState::Stored,
            None => {
                let message = "the archive did not say what became of an object".to_owned();
                again = Some(ArchiveError::Interrupted(message));
            }
        }
    }
    again
}

/// Reads back what the archive says it stored. What it lacks waits again; what is another object is refused.
///
/// # Errors
/// [`ArchiveError`]; [`ArchiveError::Interrupted`] where objects are missing.
pub(crate) fn verify_all(
    archive: &Archive,
    study: &str,
    outbox: &Path,
    record: &mut StudyRecord,
    save: &mut dyn FnMut(&mut StudyRecord) -> Result<()>,
) -> Result<()> {
    let mut lost = 0;
    for at in indices(record, ObjectState::Stored) {
        let object = &record.objects[at];
        match read_back(archive, study, outbox, object)? {
            Some(ReadBack::Same) => record.objects[at].state = ObjectState::Verified,
            Some(ReadBack::Changed) => {
                let note = format!("{}: the archive keeps it with other bytes than were sent", shown(object));
                record.note(note);
                record.objects[at].state = ObjectState::Verified;
            }
            Some(ReadBack::Other) => {
                refuse(record, at, "is another object in the archive, under the same UID")
            }
            None => {
                record.objects[at].state = ObjectState::Waiting;
                lost += 1;
            }
        }
        save(record)?;
    }
    match lost {
        0 => Ok(()),
        n => Err(ArchiveError::Interrupted(format!(
            "{n} objects that the archive had confirmed are not there"
        ))),
    }
}

fn read_back(archive: &Archive, study: &str, outbox: &Path, object: &SentObject) -> Result<Option<ReadBack>> {
    let disk = |e: std::io::Error| ArchiveError::Disk(format!("results cannot be compared ({e})"));
    let sent = outbox.join(&object.file);
    // The archive's meta group is as long as it likes.
    let most = sent.metadata().map_err(disk)?.len().saturating_mul(2) + (1 << 20);
    let place = Place { study, series: &object.series, instance: Some(&object.sop_instance) };
    let mut found = None;
    let open = || tempfile::Builder::new().prefix(".part-").tempfile_in(outbox);
    let fetched = archive.fetch(place, most, open, |file| {
        found = Some(compare(&sent, file.path()).map_err(disk)?);
        Ok(())
    });
    match fetched {
        Ok(()) => Ok(found),
        Err(ArchiveError::Refused(reason)) if reason.ends_with(" 404") || reason.ends_with(" 410") => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}
