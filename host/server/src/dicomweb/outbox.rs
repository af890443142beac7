//! Results on their way out: copies with fixed UIDs, on the disk before the first byte is sent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anymc3d_dicom::{Limits, read_instance};

use super::config::ObjectKind;
use super::ledger::{ObjectState, SentObject};

/// Copies the objects of a job's results into a study's outbox. `order`: the number of the order, for names.
///
/// Only what this program wrote for this very study is taken: nothing is ever filed into another patient's study.
///
/// # Errors
/// One line: of the disk, or of an object that is not ours or not this study's.
pub(crate) fn take_results(
    files: &[PathBuf],
    outbox: &Path,
    study_uid: &str,
    wanted: &BTreeSet<ObjectKind>,
    order: usize,
) -> Result<Vec<SentObject>, TakeError> {
    std::fs::create_dir_all(outbox)?;
    let mut objects = Vec::new();
    let mut found: Vec<(&PathBuf, &str)> =
        files.iter().filter_map(|file| Some((file, object_name(file)?))).collect();
    found.sort();
    for (file, name) in found {
        if !ObjectKind::of_file(name).is_some_and(|kind| wanted.contains(&kind)) {
            continue;
        }
        let refused = |why: &str| TakeError::Refused(format!("{name} of the results {why}"));
        let instance = read_instance(file, &Limits::default()).map_err(|_| refused("is no DICOM object"))?;
        if !instance.is_own {
            return Err(refused("was not written by this program"));
        }
        if instance.study_uid != study_uid {
            return Err(refused("belongs to another study"));
        }
        let copy = format!("{order}-{}-{name}", objects.len());
        let to = outbox.join(&copy);
        std::fs::copy(file, &to)?;
        File::open(&to)?.sync_all()?;
        objects.push(SentObject {
            file: copy,
            sop_class: instance.sop_class,
            sop_instance: instance.sop_instance,
            series: instance.series_uid,
            state: ObjectState::Waiting,
        });
    }
    // The names are on the disk as well before the ledger speaks of them.
    File::open(outbox)?.sync_all()?;
    Ok(objects)
}

/// Why results are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error("results cannot be copied ({0})")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
}

/// `NAME.dcm` of a path that ends in `dicom/NAME.dcm`.
fn object_name(file: &Path) -> Option<&str> {
    let name = file.file_name()?.to_str()?;
    (file.parent()?.file_name()? == "dicom" && name.ends_with(".dcm")).then_some(name)
}

/// How what an archive gives back compares with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadBack {
    /// The same data set, byte for byte.
    Same,
    /// The same object, its bytes changed: archives correct attributes of the patient, or encode anew.
    Changed,
    /// Another object.
    Other,
}

/// Compares data sets, without preamble and meta group, which archives write anew.
///
/// # Errors
/// Where a file cannot be read.
pub(crate) fn compare(sent: &Path, back: &Path) -> io::Result<ReadBack> {
    use std::io::{BufReader, Read, Seek, SeekFrom};
    let data_set = |path: &Path| -> io::Result<Option<(File, u64)>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut start = [0; 144];
        if file.read_exact(&mut start).is_err()
            || &start[128..132] != b"DICM"
            || start[132..136] != [2, 0, 0, 0]
        {
            return Ok(None);
        }
        let group = u32::from_le_bytes([start[140], start[141], start[142], start[143]]);
        let at = 144 + u64::from(group);
        file.seek(SeekFrom::Start(at))?;
        Ok(Some((file, length.saturating_sub(at))))
    };
    if let (Some((a, n)), Some((b, m))) = (data_set(sent)?, data_set(back)?)
        && n == m
    {
        let (mut a, mut b) = (BufReader::with_capacity(256 << 10, a), BufReader::with_capacity(256 << 10, b));
        if equal(&mut a, &mut b)? {
            return Ok(ReadBack::Same);
        }
    }
    let limits = Limits::default();
    let (Ok(a), Ok(b)) = (read_instance(sent, &limits), read_instance(back, &limits)) else {
        return Ok(ReadBack::Other);
    };
    // UIDs are of 122 random bits: the same four are the same object.
    let uids =
        |i: &anymc3d_dicom::Instance| [&i.sop_class, &i.sop_instance, &i.series_uid].map(String::clone);
    let same = uids(&a) == uids(&b) && b.is_own && a.series_description == b.series_description;
    Ok(if same && a.study_uid == b.study_uid { ReadBack::Changed } else { ReadBack::Other })
}

fn equal(a: &mut impl io::BufRead, b: &mut impl io::BufRead) -> io::Result<bool> {
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let n = left.len().min(right.len());
        if n == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
        a.consume(n);
        b.consume(n);
    }
}
