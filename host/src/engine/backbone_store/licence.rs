//! Licences travel with backbones: what a folder says of its own.

use crate::fs::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::Path;

/// A backbone's licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// As the source names it, for example `apache-2.0`; `unnamed` where there is only a text.
    pub name: String,
    /// The file of the folder that holds its text, where there is one.
    pub file: Option<String>,
    /// Of the text, else of the name.
    pub sha256: String,
    /// Whether it must be accepted before the backbone computes.
    pub must_accept: bool,
}

/// Licences that ask nothing of whoever runs the model.
const PERMISSIVE: [&str; 8] =
    ["apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "unlicense", "isc"];

/// Names of files that hold a licence's text, without their ending.
const TEXTS: [&str; 4] = ["licence", "license", "copying", "notice"];

impl Licence {
    /// What the files of a folder say: the text of a licence file, and the name that `README.md` gives in its header.
    /// `None` where they say nothing.
    pub(super) fn detect(folder: &Path) -> Option<Self> {
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.path().is_file())
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|name| TEXTS.contains(&stem(name).as_str()))
            .collect();
        files.sort_by_key(|name| TEXTS.iter().position(|t| *t == stem(name)));
        let file = files.into_iter().next();
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        let named = header_value(&readme, "license_name").or_else(|| header_value(&readme, "license"));
        Self::of(folder, file, named)
    }

    /// Of a text in a file of the folder, or of a name alone.
    pub(super) fn of(folder: &Path, file: Option<String>, name: Option<String>) -> Option<Self> {
        if file.is_none() && name.is_none() {
            return None;
        }
        let text = file.as_ref().and_then(|f| std::fs::read(folder.join(f)).ok());
        let name =
            name.unwrap_or_else(|| text.as_deref().and_then(named_by_text).unwrap_or("unnamed").to_owned());
        let sha256 = hex(&Sha256::digest(text.as_deref().unwrap_or(name.as_bytes())));
        let must_accept = !PERMISSIVE.contains(&name.to_ascii_lowercase().as_str());
        Some(Self { name, file, sha256, must_accept })
    }
}

fn stem(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_ascii_lowercase()
}

/// Texts that say themselves which licence they are.
fn named_by_text(text: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(&text[..text.len().min(400)]).into_owned();
    match () {
        () if text.contains("Apache License") && text.contains("2.0") => Some("apache-2.0"),
        () if text.contains("MIT License") => Some("mit"),
        () => None,
    }
}

/// A key of the YAML header of a model card.
fn header_value(readme: &str, key: &str) -> Option<String> {
    let header = readme.strip_prefix("---")?.split("\n---").next()?;
    let value = header.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_found_by_text_or_by_the_model_cards_header() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(Licence::detect(dir.path()), None);
        std::fs::write(
            dir.path().join("README.md"),
            "---\nlicense: apache-2.0\ntags: [x]\n---\nlicense: mit\n",
        )?;
        let found = Licence::detect(dir.path()).map(|l| (l.name, l.file, l.must_accept));
        assert_eq!(found, Some(("apache-2.0".into(), None, false)));
        let header = "---\nlicense: other\nlicense_name: dinov3-license\n---\n";
        std::fs::write(dir.path().join("README.md"), header)?;
        std::fs::write(dir.path().join("LICENSE.md"), "terms")?;
        let found = Licence::detect(dir.path()).map(|l| (l.name, l.file, l.must_accept));
        assert_eq!(found, Some(("dinov3-license".into(), Some("LICENSE.md".into()), true)));
        std::fs::remove_file(dir.path().join("README.md"))?;
        let found = Licence::detect(dir.path()).map(|l| (l.name, l.must_accept));
        assert_eq!(found, Some(("unnamed".into(), true)), "a text that nobody knows must be read");
        std::fs::write(dir.path().join("LICENSE.md"), "Apache License\nVersion 2.0")?;
        assert_eq!(Licence::detect(dir.path()).map(|l| l.must_accept), Some(false));
        Ok(())
    }
}
