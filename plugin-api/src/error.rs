//! The one error type an author meets.

use crate::abi::types::{AbiError, ErrorCode};
use std::fmt;
use std::panic::Location;

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure with a kind and one sentence for the person who reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    code: ErrorCode,
    message: String,
    place: Option<&'static Location<'static>>,
}

impl Error {
    /// An error of a given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), place: None }
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

    /// The same, of an operation that this place in the plugin's source asked for.
    pub(crate) fn at(self, place: &'static Location<'static>) -> Self {
        Self { place: self.place.or(Some(place)), ..self }
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
        Self::new(e.code, e.message.into_string())
    }
}

impl From<Error> for AbiError {
    fn from(e: Error) -> Self {
        // The host's message alone names the operation; the author looks for the line that asked for it.
        let message = match e.place {
            Some(place) => format!("{} (at {}:{})", e.message, place.file(), place.line()),
            None => e.message,
        };
        Self { code: e.code, message: message.into() }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use crate::abi::types::AbiError;
    use crate::testkit::Context;

    #[test]
    fn a_failed_operation_names_the_line_that_asked_for_it() {
        let context = Context::new(0);
        let a = context.tensor(&[0.0; 6], &[2, 3]).unwrap();
        let b = context.tensor(&[0.0; 20], &[4, 5]).unwrap();
        let line = line!() + 1;
        let error = a.matmul(&b).err().unwrap();
        let told = AbiError::from(error.clone()).message.into_string();
        assert!(told.starts_with(error.message()), "{told}");
        assert!(told.ends_with(&format!("src/error.rs:{line})")), "{told}");
    }
}
