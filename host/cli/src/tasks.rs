//! The plugins of a command: refusals are printed before any scan is read.

use super::console::Console;
use super::options::refused;
use super::outcome::{CommandError, Outcome};
use anymc3d_host::run::inputs::InputNotice;
use anymc3d_host::run::{Events, Notice, RefusedPlugin, SessionError, Severity};

impl From<SessionError> for CommandError {
    fn from(e: SessionError) -> Self {
        match e {
            SessionError::GivenTwice { .. } => Self::usage(format!("--{e}")),
            SessionError::Backbone(e) => refused(&e),
            other => Self::refused(other),
        }
    }
}

/// A session's notices as lines on stderr.
impl Events for Console {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::PlacedElsewhere { reason } => {
                return self.warning(format!("{reason}; --overwrite replaces it"));
            }
            Notice::Input(InputNotice::RuleBroken { case, plugin, view, rule }) => {
                let named = "the series named by --series";
                return self.warning(format!("{case}: {plugin}: view {view}: {named}: {rule}"));
            }
            _ => {}
        }
        match notice.severity() {
            Severity::Note => self.note(notice),
            Severity::Warning => self.warning(notice),
        }
    }
}

/// Prints each refusal as one line.
pub(super) fn tell_refused<'a>(
    refused: impl IntoIterator<Item = &'a RefusedPlugin>,
    console: &Console,
) -> Outcome {
    let mut outcome = Outcome::Done;
    for plugin in refused {
        console.error(&plugin.reason);
        outcome = Outcome::Refused;
    }
    outcome
}
