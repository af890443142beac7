//! WADO-RS to disk: the instances of a series, each whole or not at all, so that a fetch that was cut goes on.

use std::io;
use std::path::Path;

use anymc3d_dicom::{Limits as FileLimits, case_id, read_instance};
use tempfile::NamedTempFile;

use super::client::{Archive, Place};
use super::config::Limits;
use super::error::{ArchiveError, Result};

/// Fewer missing instances than this are fetched one by one.
const FEW: usize = 4;

/// What a study may still take.
pub(crate) struct Allowance {
    pub bytes: u64,
    pub instances: u64,
}

impl Allowance {
    pub fn of(limits: &Limits) -> Self {
        Self { bytes: limits.study_mb << 20, instances: limits.study_instances }
    }

    /// Counts a file.
    ///
    /// # Errors
    /// Above the bound.
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        let above = |what: &str| Err(ArchiveError::Refused(format!("the study has more {what}")));
        let (Some(left), Some(fewer)) = (self.bytes.checked_sub(bytes), self.instances.checked_sub(1)) else {
            return match self.instances {
                0 => above("instances than [limits] study_instances"),
                _ => above("bytes than [limits] study_mb"),
            };
        };
        (self.bytes, self.instances) = (left, fewer);
        Ok(())
    }
}

/// Fetches what is missing of a series into `folder`; returns how many instances it has there.
///
/// A file is called by a hash of its SOP Instance UID under `salt`. What is of another study or series, or was written by
/// this program, is not kept.
///
/// # Errors
/// [`ArchiveError`]; what came whole stays and is not fetched again.
pub(crate) fn fetch_series(
    archive: &Archive,
    salt: &[u8],
    (study, series): (&str, &str),
    folder: &Path,
    limits: &Limits,
    allowance: &mut Allowance,
) -> Result<usize> {
    let disk = |e: io::Error| ArchiveError::Disk(format!("the folder of a study cannot be written ({e})"));
    std::fs::create_dir_all(folder).map_err(disk)?;
    remove_parts(folder).map_err(disk)?;
    let listed = archive.instances(study, series)?;
    if listed.is_empty() {
        return Err(ArchiveError::Interrupted("the archive lists a series without instances".into()));
    }
    let file_of = |uid: &str| folder.join(format!("{}.dcm", case_id(salt, uid)));
    let mut missing = Vec::new();
    for uid in &listed {
        match file_of(uid).metadata() {
            Ok(about) => allowance.take(about.len())?,
            Err(_) => missing.push(uid.as_str()),
        }
    }
    let most = limits.instance_mb << 20;
    let mut own = 0;
    let mut keep = |file: NamedTempFile| -> Result<()> {
        let Ok(instance) = read_instance(file.path(), &FileLimits::default()) else {
            return Err(ArchiveError::Interrupted(
                "the archive sent an instance that is no DICOM file".into(),
            ));
        };
        if instance.study_uid != study || instance.series_uid != series {
            return Err(ArchiveError::Interrupted("the archive sent an instance of another series".into()));
        }
        if instance.is_own {
            own += 1;
            return Ok(());
        }
        let to = file_of(&instance.sop_instance);
        let length = file.as_file().metadata().map_err(disk)?.len();
        if !to.exists() {
            allowance.take(length)?;
        }
        file.as_file().sync_data().map_err(disk)?;
        file.persist(to).map(drop).map_err(|e| disk(e.error))
    };
    let open = || tempfile::Builder::new().prefix(".part-").tempfile_in(folder);
    if missing.len() > FEW {
        archive.fetch(Place { study, series, instance: None }, most, open, &mut keep)?;
    } else {
        for uid in &missing {
            archive.fetch(Place { study, series, instance: Some(uid) }, most, open, &mut keep)?;
        }
    }
    if own > 0 {
        return Err(ArchiveError::Refused(
            "a series that was taken for a scan was written by this program".into(),
        ));
    }
    let lost = listed.iter().filter(|uid| !file_of(uid).exists()).count();
    match lost {
        0 => Ok(listed.len()),
        n => Err(ArchiveError::Interrupted(format!(
            "{n} of {} instances of a series did not come",
            listed.len()
        ))),
    }
}

/// What a killed process left in the middle.
fn remove_parts(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".part-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
