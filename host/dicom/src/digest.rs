//! A digest of what a volume is made from.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error::{DicomError, ErrorKind, Result};
use crate::limits::Limits;
use crate::scan::Scan;
use crate::series::Series;

/// SHA-256, in lower-case hexadecimal, over the bytes of the instances of a stack.
///
/// One instance has its own file's digest. Of several it is the digest of their digests (binary), in the order of the
/// slices: names and order of the files, and whether they lie in a folder or a zip, make no difference.
///
/// # Errors
/// Where a file cannot be read any more.
pub fn digest(scan: &Scan, series: &Series, stack: usize, limits: &Limits) -> Result<String> {
    let instances = instances_of(series, stack)?;
    let digests = instances
        .par_iter()
        .map(|i| Ok(of_file(&scan.sources[series.instances[*i].file].read_whole(limits.file_bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(of_files(&digests))
}

/// SHA-256 of a file.
pub(crate) type FileDigest = [u8; 32];

pub(crate) fn of_file(bytes: &[u8]) -> FileDigest {
    Sha256::digest(bytes).into()
}

/// The digest of a stack, of its files' in the order of [`instances_of`].
pub(crate) fn of_files(digests: &[FileDigest]) -> String {
    let whole = match digests {
        [one] => *one,
        several => several.iter().fold(Sha256::new(), |hash, one| hash.chain_update(one)).finalize().into(),
    };
    whole.iter().map(|b| format!("{b:02x}")).collect()
}

/// The files of a stack, each once, in the order of the slices. A member of a zip is `archive!member`.
///
/// # Errors
/// [`ErrorKind::NothingFits`] where the series has no such stack.
pub fn files(scan: &Scan, series: &Series, stack: usize) -> Result<Vec<std::path::PathBuf>> {
    let name = |i: &usize| scan.sources[series.instances[*i].file].name().to_path_buf();
    Ok(instances_of(series, stack)?.iter().map(name).collect())
}

/// Indices into the series' instances, each once.
pub(crate) fn instances_of(series: &Series, stack: usize) -> Result<Vec<usize>> {
    let Some(stack) = series.stacks.get(stack) else {
        return Err(DicomError::new(ErrorKind::NothingFits, format!("no stack {stack} in the series")));
    };
    let mut seen = vec![false; series.instances.len()];
    Ok(stack.frames.iter().map(|f| f.instance).filter(|i| !std::mem::replace(&mut seen[*i], true)).collect())
}
