//! Files that are written whole or not at all, digests as text, and names that a file of tensors has twice.

use std::path::Path;

/// Writes a file so that its place holds the old or the new content, whatever happens in between.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = beside(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(path).map(drop).map_err(|e| e.error)
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
    use super::repeated_tensor;

    fn file(header: &str) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        bytes
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
