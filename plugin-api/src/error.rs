//! The one error type an author meets.

use crate::abi::types::{AbiError, ErrorCode};
use std::fmt;

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure with a kind and one sentence for the person who reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    code: ErrorCode,
    message: String,
}

impl Error {
    /// An error of a given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An error of the plugin.
    ///
    /// ```
    /// # use anymc3d_plugin_api::Error;
    /// let error = Error::msg("expected three views");
    /// assert_eq!(error.to_string(), "expected three views");
    /// ```
    pub fn msg(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::PLUGIN, message)
    }

    /// Kind.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<AbiError> for Error {
    fn from(e: AbiError) -> Self {
        Self { code: e.code, message: e.message.into_string() }
    }
}

impl From<Error> for AbiError {
    fn from(e: Error) -> Self {
        Self { code: e.code, message: e.message.into() }
    }
}
