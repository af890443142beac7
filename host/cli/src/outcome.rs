//! How a command ended: its exit code, and which of several reasons decides it.

/// The exit codes as `--help` shows them.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  all done
  1  at least one case failed, or something could not be written; all other cases are done
  2  wrong usage: an option or an input does not fit; nothing was computed
  3  a plugin, weights or a backbone was refused; nothing was computed with it";

/// What the exit code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All done.
    Done,
    /// At least one case failed (the others are done), or something could not be written.
    Failed,
    /// The command was used wrongly.
    Usage,
    /// A library, weights or a backbone was refused; nothing was run with it.
    Refused,
    /// Asked to stop before all was done: the same call does the rest.
    TryAgain,
}

impl Outcome {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            // EX_TEMPFAIL of sysexits.h.
            Self::TryAgain => 75,
        }
    }

    /// The one of two that decides: 2 before 3 before 75 before 1 before 0.
    pub fn or(self, other: Self) -> Self {
        let precedence = |outcome| match outcome {
            Self::Usage => 4,
            Self::Refused => 3,
            Self::TryAgain => 2,
            Self::Failed => 1,
            Self::Done => 0,
        };
        if precedence(other) > precedence(self) { other } else { self }
    }
}

/// Why a command went no further.
#[derive(Debug)]
pub(super) struct CommandError {
    pub outcome: Outcome,
    pub message: String,
}

impl CommandError {
    pub fn usage(message: impl ToString) -> Self {
        Self { outcome: Outcome::Usage, message: message.to_string() }
    }

    pub fn refused(message: impl ToString) -> Self {
        Self { outcome: Outcome::Refused, message: message.to_string() }
    }

    pub fn failed(message: impl ToString) -> Self {
        Self { outcome: Outcome::Failed, message: message.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Done, Failed, Refused, Usage};

    #[test]
    fn wrong_usage_decides_before_a_refusal_before_a_failed_case() {
        assert_eq!(Done.or(Failed).or(Refused).or(Usage).code(), 2);
        assert_eq!(Refused.or(Failed).code(), 3);
        assert_eq!(Failed.or(Refused).code(), 3);
        assert_eq!(Failed.or(Done).code(), 1);
    }
}
