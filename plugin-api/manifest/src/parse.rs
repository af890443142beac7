//! From TOML text to a checked [`Manifest`]: strict for authors, lenient for hosts.

use crate::keys::nearest_to;
use crate::place::{Place, key_at};
use crate::{Manifest, SCHEMA};

/// Why a manifest was refused. One line, naming line, column and key.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, a key of the wrong type, or a required key missing.
    #[error("plugin.toml: {place}{}{reason}", named(key))]
    Syntax {
        /// Where.
        place: Place,
        /// Dotted key whose value it is, if it is one's.
        key: Option<String>,
        /// What is wrong there.
        reason: String,
    },
    /// A key this schema does not have (an error only in the author's build).
    #[error("plugin.toml: {place}unknown key `{key}`; {}", meant(*nearest))]
    UnknownKey {
        /// Where.
        place: Place,
        /// Dotted key.
        key: String,
        /// The known key that it may have been meant to be.
        nearest: Option<&'static str>,
    },
    /// A value that makes no sense.
    #[error("plugin.toml: {place}`{key}`: {found}; expected {expected}")]
    Value {
        /// Where.
        place: Place,
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

fn named(key: &Option<String>) -> String {
    key.as_ref().map_or_else(String::new, |key| format!("`{key}`: "))
}

fn meant(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("the keys of schema {SCHEMA} are listed in docs/manifest.md"),
    }
}

impl ManifestError {
    /// As the parser of TOML tells it.
    fn syntax(text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map(|span| span.start);
        let place = offset.map_or_else(Place::default, |offset| Place::of(text, offset));
        let key = offset.and_then(|offset| key_at(text, offset));
        Self::Syntax { place, key, reason: error.message().replace('\n', "; ") }
    }

    /// The same with the place of its key in the text.
    fn placed(mut self, text: &str) -> Self {
        if let Self::Value { place, key, .. } = &mut self
            && !place.is_known()
        {
            *place = Place::of_key(text, key);
        }
        self
    }
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
            text.parse().map_err(|e: toml::de::Error| ManifestError::syntax(text, &e))?;
        if let Some(found) = table.get("schema").and_then(toml::Value::as_integer)
            && found != i64::from(SCHEMA)
        {
            let found = u32::try_from(found).unwrap_or(0);
            return Err(ManifestError::Schema { found, supported: SCHEMA });
        }
        let manifest: Manifest = toml::from_str(text).map_err(|e| ManifestError::syntax(text, &e))?;
        crate::check::check(&manifest).map_err(|e| e.placed(text))?;
        let known = toml::Table::try_from(&manifest).map_err(|e| ManifestError::Syntax {
            place: Place::default(),
            key: None,
            reason: e.to_string(),
        })?;
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
            Some(key) => Err(ManifestError::UnknownKey {
                place: Place::of_key(text, key),
                key: key.clone(),
                nearest: nearest_to(key),
            }),
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
