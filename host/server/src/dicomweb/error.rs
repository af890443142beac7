//! Why an archive did not do what was asked, sorted by what helps. No text holds a UID or a URL: both lead to a patient.

use std::time::Duration;

/// What an archive's refusal means for the study at hand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Nobody answers, or the archive says that it cannot now: no fault of the study, so no attempt of it is counted.
    #[error("the archive is not available: {reason}")]
    Unavailable {
        reason: String,
        /// What the archive asks for in Retry-After.
        wait: Option<Duration>,
    },
    /// Ended in the middle, took too long, or failed in a way that may go away: repeated, and counted.
    #[error("{0}")]
    Interrupted(String),
    /// 413: less at once may go.
    #[error("the archive says that the request is too large (413)")]
    TooLarge,
    /// Repeating would give the same.
    #[error("{0}")]
    Refused(String),
    /// Our own disk.
    #[error("{0}")]
    Disk(String),
}

pub(crate) type Result<T> = std::result::Result<T, ArchiveError>;

impl ArchiveError {
    /// Of an answer's status. `asked`: what was asked for, as `the list of series`.
    pub(crate) fn of_status(status: u16, asked: &str, wait: Option<Duration>) -> Self {
        let named = |reason: &str| Self::Unavailable { reason: format!("{asked}: {status} {reason}"), wait };
        match status {
            401 => named("(credentials are missing or wrong)"),
            403 | 407 => named("(not allowed)"),
            408 | 425 | 429 => named("(asks to wait)"),
            502..=504 => named("(down or busy)"),
            413 => Self::TooLarge,
            409 | 500 | 501 | 505..=599 => {
                Self::Interrupted(format!("{asked}: the archive answered {status}"))
            }
            _ => Self::Refused(format!("{asked}: the archive answered {status}")),
        }
    }

    /// Of a connection that could not be made or did not last.
    pub(crate) fn of_transport(error: &ureq::Error, asked: &str) -> Self {
        use ureq::{Error, Timeout};
        let away = |reason: &str| Self::Unavailable { reason: format!("{asked}: {reason}"), wait: None };
        let cut = |reason: &str| Self::Interrupted(format!("{asked}: {reason}"));
        match error {
            Error::HostNotFound => away("its name is not known"),
            Error::ConnectionFailed => away("no connection"),
            Error::Timeout(Timeout::Resolve | Timeout::Connect) => away("no connection in time"),
            Error::Timeout(_) => cut("took too long"),
            Error::Tls(reason) => away(reason),
            Error::Rustls(e) => away(&format!("TLS: {e}")),
            Error::Io(e) => Self::of_io(e, asked),
            Error::Protocol(_) => cut("ended in the middle, or is no HTTP"),
            Error::TooManyRedirects | Error::RedirectFailed => {
                Self::Refused(format!("{asked}: the archive redirects, which is not followed"))
            }
            _ => cut("the connection failed"),
        }
    }

    pub(crate) fn of_io(error: &std::io::Error, asked: &str) -> Self {
        use std::io::ErrorKind;
        if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Self::Unavailable { reason: format!("{asked}: TLS: {tls}"), wait: None };
        }
        match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable => {
                Self::Unavailable { reason: format!("{asked}: {}", error.kind()), wait: None }
            }
            kind => Self::Interrupted(format!("{asked}: {kind}")),
        }
    }
}
