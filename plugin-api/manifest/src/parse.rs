//! From TOML text to a checked [`Manifest`]: strict for authors, lenient for hosts.

use crate::Manifest;

/// Why a manifest was refused. One line, naming the key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, a key of the wrong type, or a required key missing.
    #[error("plugin.toml: {0}")]
    Syntax(String),
    /// A key this schema does not have (an error only in the author's build).
    #[error("plugin.toml: unknown key `{0}`; the keys of schema 1 are listed in docs/manifest.md")]
    UnknownKey(String),
    /// A value that makes no sense.
    #[error("plugin.toml: `{key}`: {found}; expected {expected}")]
    Value {
        /// Dotted key.
        key: String,
        /// What stands there.
        found: String,
        /// What could stand there.
        expected: String,
    },
    /// A newer schema than this host reads.
    #[error("plugin.toml: schema {found}, this host reads up to {supported}; upgrade the host")]
    Schema {
        /// In the file.
        found: u32,
        /// Supported.
        supported: u32,
    },
}

/// A manifest as a host reads it, and the keys it did not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The manifest.
    pub manifest: Manifest,
    /// Dotted keys that were ignored.
    pub unknown_keys: Vec<String>,
}

impl Manifest {
    /// Parses and checks as a host does: unknown keys are returned, not refused.
    ///
    /// # Errors
    /// Text that is not TOML, missing keys, wrong types, values out of range, a newer schema.
    pub fn parse(text: &str) -> Result<Parsed, ManifestError> {
        let table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| ManifestError::Syntax(one_line(&e)))?;
        if let Some(found) = table.get("schema").and_then(toml::Value::as_integer)
            && found != i64::from(crate::SCHEMA)
        {
            let found = u32::try_from(found).unwrap_or(0);
            return Err(ManifestError::Schema { found, supported: crate::SCHEMA });
        }
        let manifest: Manifest = toml::from_str(text).map_err(|e| ManifestError::Syntax(one_line(&e)))?;
        crate::check::check(&manifest)?;
        let known = toml::Table::try_from(&manifest).map_err(|e| ManifestError::Syntax(e.to_string()))?;
        let mut unknown_keys = Vec::new();
        unknown(&toml::Value::Table(table), &toml::Value::Table(known), "", &mut unknown_keys);
        Ok(Parsed { manifest, unknown_keys })
    }

    /// Parses and checks as the author's build does: an unknown key is an error.
    ///
    /// # Errors
    /// As [`Manifest::parse`], and for every key the schema does not have.
    pub fn parse_strict(text: &str) -> Result<Manifest, ManifestError> {
        let parsed = Self::parse(text)?;
        match parsed.unknown_keys.first() {
            Some(key) => Err(ManifestError::UnknownKey(key.clone())),
            None => Ok(parsed.manifest),
        }
    }
}

/// What is in `written` and has no counterpart in `known` (the parsed manifest written back) is unknown.
fn unknown(written: &toml::Value, known: &toml::Value, path: &str, out: &mut Vec<String>) {
    match (written, known) {
        (toml::Value::Table(w), toml::Value::Table(k)) => {
            for (key, value) in w {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match k.get(key) {
                    Some(other) => unknown(value, other, &here, out),
                    None => out.push(here),
                }
            }
        }
        (toml::Value::Array(w), toml::Value::Array(k)) => {
            for (i, (a, b)) in w.iter().zip(k).enumerate() {
                unknown(a, b, &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', "; ")
}
