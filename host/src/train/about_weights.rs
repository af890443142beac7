//! What a run's weights say of themselves beside their numbers.

use super::fingerprint::RunFingerprint;
use crate::data::table::{Split, Table};
use crate::scan::ContentDigest;
use crate::task::TrainingCases;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Salted digests of the scans that train and of those that validate.
pub(super) fn training_cases(
    contents: &BTreeMap<PathBuf, ContentDigest>,
    table: &Table,
    split: &Split,
    origin: &RunFingerprint,
) -> TrainingCases {
    let of = |rows: &[usize]| -> Vec<&ContentDigest> {
        rows.iter().flat_map(|&row| table.rows[row].images.values()).filter_map(|p| contents.get(p)).collect()
    };
    let run = format!("{}\n{}\n{}", origin.data_sha256, origin.split_sha256, origin.options.seed);
    TrainingCases::new(&run, of(&split.train), of(&split.val))
}

/// What the weights may be used for: as was said, else that nobody said it. The plugin's words are about its author's weights.
pub(super) fn intended_use(said: Option<&str>, cases: usize) -> String {
    said.map_or_else(
        || {
            format!(
                "Research only. Not for diagnosis. Weights trained on {cases} cases; whoever trained them did not say what they may be \
                 used for."
            )
        },
        str::to_owned,
    )
}
