//! `[settings]`: numbers and words that a plugin's own code reads.

use crate::{Manifest, ManifestError, Place};
use serde::{Deserialize, Serialize};

/// One value of `[settings]`; a head reads it as text, its `Display`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for SettingValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

pub(crate) fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match manifest.settings.keys().find(|name| !plain(name)) {
        Some(name) => Err(ManifestError::Value {
            place: Place::default(),
            key: format!("settings.{name}"),
            found: "a name with other signs".to_owned(),
            expected: "letters, digits and _".to_owned(),
        }),
        None => Ok(()),
    }
}
