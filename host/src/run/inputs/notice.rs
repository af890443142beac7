//! What is told while inputs become cases: what was chosen, and what was left out.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Something that whoever gave an input should know of its cases.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputNotice {
    /// Masks of a folder that lie beside their scans; a mask is no case.
    MasksLeftOut {
        /// The folder.
        folder: PathBuf,
        /// How many.
        masks: usize,
    },
    /// A folder without a scan, where scans may still arrive.
    EmptyFolder {
        /// The folder and what was expected in it, in one line.
        reason: String,
    },
    /// Of a DICOM study, the series that fills a view.
    SeriesChosen {
        /// The case's name.
        case: String,
        /// Plugin.
        plugin: String,
        /// View.
        view: String,
        /// The series, and the rules by which it was chosen.
        why: String,
    },
    /// The series that the caller named breaks a rule of its view.
    RuleBroken {
        /// The case's name.
        case: String,
        /// Plugin.
        plugin: String,
        /// View.
        view: String,
        /// The rule, and what the series has.
        rule: String,
    },
    /// A DICOM study has no series for a plugin, which therefore gives no answer for the case.
    NoSeries {
        /// The case's name.
        case: String,
        /// Plugin.
        plugin: String,
        /// The view that stays empty, and the reason for each series.
        reason: String,
    },
    /// A DICOM study has no series for any plugin.
    StudySkipped {
        /// The study and the reasons, in one line.
        reason: String,
    },
    /// What lies in a folder beside scans, or in a DICOM input beside series, and was not read.
    LeftOut {
        /// The input.
        root: PathBuf,
        /// How many of each kind.
        kinds: BTreeMap<String, usize>,
    },
    /// DICOM files that could not be read.
    Unreadable {
        /// The input.
        root: PathBuf,
        /// How many for each kind of fault.
        kinds: BTreeMap<String, usize>,
    },
}

impl InputNotice {
    /// Whether it is to be known before a result is believed.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::MasksLeftOut { .. }
            | Self::EmptyFolder { .. }
            | Self::SeriesChosen { .. }
            | Self::LeftOut { .. } => false,
            Self::RuleBroken { .. }
            | Self::NoSeries { .. }
            | Self::StudySkipped { .. }
            | Self::Unreadable { .. } => true,
        }
    }
}

/// `3 × Localizer, 1 × zip (no DICOM)`
pub(super) fn counted(kinds: &BTreeMap<String, usize>) -> String {
    kinds.iter().map(|(kind, n)| format!("{n} × {kind}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for InputNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MasksLeftOut { folder, masks } => {
                write!(f, "{}: {masks} masks left out (…_mask)", folder.display())
            }
            Self::EmptyFolder { reason } | Self::StudySkipped { reason } => f.write_str(reason),
            Self::SeriesChosen { case, plugin, view, why } => {
                write!(f, "{case}: {plugin}: view {view}: {why}")
            }
            Self::RuleBroken { case, plugin, view, rule } => {
                write!(f, "{case}: {plugin}: view {view}: the series that was named: {rule}")
            }
            Self::NoSeries { case, plugin, reason } => write!(f, "{case}: skipped by {plugin}: {reason}"),
            Self::LeftOut { root, kinds } => write!(f, "{}: left out: {}", root.display(), counted(kinds)),
            Self::Unreadable { root, kinds } => {
                write!(f, "{}: DICOM files that are refused: {}", root.display(), counted(kinds))
            }
        }
    }
}
