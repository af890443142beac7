//! Files that are written whole or not at all, digests as text, and names that a file of tensors has twice.

use std::path::{Path, PathBuf};

/// Writes a file so that the path always holds either the complete old or the complete new content.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = beside(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Writes a file where there is none, whole or not at all; `false` where there is one, which stays.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_once(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = beside(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e.error),
    }
}

/// A temporary file with the permissions that any other program would give (the umask applies): weights are to be read
/// by others.
fn beside(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// A folder that was made, with those above it; what is still empty when it is dropped goes again.
#[derive(Debug)]
pub struct MadeFolder(Vec<PathBuf>);

impl MadeFolder {
    /// Makes a folder where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> std::io::Result<Self> {
        let missing = folder.ancestors().filter(|f| !f.as_os_str().is_empty()).take_while(|f| !f.exists());
        let missing = missing.map(Path::to_owned).collect();
        std::fs::create_dir_all(folder)?;
        Ok(Self(missing))
    }
}

impl Drop for MadeFolder {
    fn drop(&mut self) {
        // Only an empty folder can be removed this way; the innermost stands first.
        let _ = self.0.iter().try_for_each(std::fs::remove_dir);
    }
}

/// The first tensor name that a safetensors file has twice. Readers keep the last one silently, so that two programs may
/// see other weights in the same file.
///
/// Files whose header is damaged have none: their reader says so.
pub fn repeated_tensor(safetensors: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a safetensors header")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut repeated) = (std::collections::HashSet::new(), None);
            while let Some((name, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                if seen.contains(&name) {
                    repeated.get_or_insert(name);
                } else {
                    seen.insert(name);
                }
            }
            Ok(repeated)
        }
    }
    let length = u64::from_le_bytes(safetensors.get(..8)?.try_into().ok()?);
    let header = safetensors.get(8..8usize.checked_add(usize::try_from(length).ok()?)?)?;
    let mut json = serde_json::Deserializer::from_slice(header);
    serde::Deserializer::deserialize_map(&mut json, Names).ok().flatten()
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{MadeFolder, repeated_tensor};

    fn file(header: &str) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn a_folder_that_stayed_empty_goes_with_those_that_were_made_for_it() {
        let root = tempfile::tempdir().unwrap();
        let (there, inner) = (root.path().join("there"), root.path().join("there/a/b"));
        std::fs::create_dir(&there).unwrap();
        drop(MadeFolder::new(&inner).unwrap());
        assert!(there.exists() && !there.join("a").exists());
        drop(MadeFolder::new(&there).unwrap());
        assert!(there.exists(), "it was there before");
        let made = MadeFolder::new(&inner).unwrap();
        std::fs::write(there.join("a/file"), "").unwrap();
        drop(made);
        assert!(there.join("a/file").exists() && !inner.exists());
    }

    #[test]
    fn a_tensor_name_that_stands_twice_is_found() {
        let tensor = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let twice = file(&format!(r#"{{"__metadata__":{{}},"a":{tensor},"b":{tensor},"\u0061":{tensor}}}"#));
        assert_eq!(repeated_tensor(&twice).as_deref(), Some("a"));
        assert_eq!(repeated_tensor(&file(&format!(r#"{{"a":{tensor},"b":{tensor}}}"#))), None);
        assert_eq!(repeated_tensor(b"short"), None);
        assert_eq!(repeated_tensor(&u64::MAX.to_le_bytes()), None);
    }
}
