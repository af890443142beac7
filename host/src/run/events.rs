//! What a session tells while it works: a command line prints it, a server logs it, a test counts it.

use super::inputs::notice::InputNotice;
use crate::engine::{Passes, Stage};
use std::fmt;

/// How much a [`Notice`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// To be known before a result is believed.
    Warning,
}

/// Something that happened beside the results.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// What became of an input before any case is run.
    Input(InputNotice),
    /// A plugin's process ended while the plugin was running. The session asks the plugin again, alone in a process.
    Separated {
        /// Plugin.
        plugin: String,
        /// What it was doing.
        stage: Stage,
        /// How the process ended.
        reason: String,
    },
    /// A plugin ended its process, or took longer than it may, at a case, which has no answer of it. It is asked again at the
    /// next case.
    Fault {
        /// Plugin.
        plugin: String,
        /// What it was doing, and how the process ended, in one line that names the plugin.
        reason: String,
        /// How many cases in a row that are by now.
        faults: u32,
        /// At how many it is left out.
        most: u32,
    },
    /// A plugin is left out for the rest of the session.
    Quarantined {
        /// Plugin.
        plugin: String,
        /// Why, in one line that names the plugin and the case.
        reason: String,
    },
    /// A plugin that could be opened before is refused now.
    Refused {
        /// Plugin.
        plugin: String,
        /// Why, in one line that names the plugin.
        reason: String,
    },
    /// All answers are there, and the plugins' process then ended badly.
    ProcessEnded {
        /// How.
        reason: String,
    },
    /// A result went to another folder than its case's name says: another scan's result lies there.
    PlacedElsewhere {
        /// Both folders and both digests, in one line.
        reason: String,
    },
    /// A plugin's code failed while the session let go of it.
    CloseFailed {
        /// What it said.
        reason: String,
    },
}

impl Notice {
    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            // What a fault leads to is told by the case's failure, and by the quarantine.
            Self::Separated { .. } | Self::Fault { .. } => Severity::Note,
            Self::Input(notice) if !notice.is_warning() => Severity::Note,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(notice) => notice.fmt(f),
            Self::Separated { plugin, stage, reason } => {
                write!(f, "plugin {plugin}: {stage}: {reason}; it is asked again, alone in a process")
            }
            Self::Fault { reason, faults, most, .. } => {
                write!(f, "{reason}; {faults} in a row, at {most} it is left out")
            }
            Self::PlacedElsewhere { reason }
            | Self::Quarantined { reason, .. }
            | Self::Refused { reason, .. }
            | Self::CloseFailed { reason } => f.write_str(reason),
            Self::ProcessEnded { reason } => {
                write!(
                    f,
                    "the engine's process ended with its plugins let go of: {reason}; all answers stand"
                )
            }
        }
    }
}

/// Hears what a session tells. Every method has a default that does nothing.
pub trait Events {
    /// Something happened beside the results.
    fn notice(&self, notice: &Notice) {
        let _ = notice;
    }

    /// A plugin reaches a stage of a case; told before the stage begins.
    fn stage(&self, plugin: &str, stage: Stage) {
        let _ = (plugin, stage);
    }

    /// A case was computed in so many passes through the backbones.
    fn passes(&self, passes: Passes) {
        let _ = passes;
    }
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Events for Silent {}
