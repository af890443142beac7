//! The secret that case ids of DICOM studies are hashed with: whoever lacks it cannot tell whose study an id is.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Its file in an output folder. Who keeps it can find a study's results again; who deletes it can not, nor can others.
pub const SALT_FILE: &str = "id-salt";

/// A new secret.
///
/// # Errors
/// When the system has no random numbers.
pub fn random_salt() -> io::Result<Vec<u8>> {
    use rand::TryRng;
    let mut bytes = [0u8; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(crate::fs::hex(&bytes).into_bytes())
}

/// The secret of a file; line breaks at its end do not count.
///
/// # Errors
/// When it cannot be read, or is shorter than 16 bytes: such a secret is found by trying.
pub fn salt_of_file(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(file)?;
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    match bytes.len() {
        16.. => Ok(bytes),
        n => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("{n} bytes; expected at least 16 random ones"),
        )),
    }
}

/// The secret of an output folder. The first who asks makes it, readable by its owner only; of several processes that
/// ask at once all get the same.
///
/// # Errors
/// When the folder cannot be written to.
pub fn salt_of_folder(folder: &Path) -> io::Result<Vec<u8>> {
    let place = folder.join(SALT_FILE);
    match salt_of_file(&place) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        known => return known,
    }
    let mut new = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
    new.write_all(&random_salt()?)?;
    new.as_file().sync_all()?;
    match new.persist_noclobber(&place) {
        Ok(_) => {}
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e.error),
    }
    salt_of_file(&place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_share_a_folder_share_its_salt() {
        let folder = tempfile::tempdir().unwrap();
        let ask = || salt_of_folder(folder.path()).unwrap();
        let all: Vec<Vec<u8>> = std::thread::scope(|s| {
            let asked: Vec<_> = (0..8).map(|_| s.spawn(ask)).collect();
            asked.into_iter().map(|a| a.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(salt_of_folder(other.path()).unwrap(), all[0]);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_salt_that_could_be_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("salt");
        std::fs::write(&file, "secret\n").unwrap();
        assert!(salt_of_file(&file).unwrap_err().to_string().contains("6 bytes"));
        std::fs::write(&file, "0123456789abcdef\r\n").unwrap();
        assert_eq!(salt_of_file(&file).unwrap(), b"0123456789abcdef");
    }
}
