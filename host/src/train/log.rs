//! What a run says of its epochs: `metrics.csv`, and TensorBoard's scalars.

use super::record::EpochRecord;
use crate::fs::write_atomically;
use std::path::Path;

/// What TensorBoard draws of an epoch.
pub(super) fn scalars(e: &EpochRecord) -> Vec<(&'static str, f64)> {
    let mut values = vec![
        ("loss/train", e.loss),
        ("loss/validation", e.val_loss),
        ("gradient/norm", e.gradient_norm),
        ("rate/factor", e.rate),
    ];
    values.extend(e.segmentation_loss.map(|v| ("loss/segmentation", v)));
    values.extend(e.val_auroc.map(|v| ("auroc/validation", v)));
    values
}

/// `metrics.csv`: a line per epoch.
pub(super) fn write_log(path: &Path, epochs: &[EpochRecord]) -> std::io::Result<()> {
    let mut text =
        String::from("epoch,loss,segmentation_loss,val_loss,val_auroc,gradient_norm,rate,seconds\n");
    for e in epochs {
        let optional = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
        text += &format!(
            "{},{},{},{},{},{},{},{:.1}\n",
            e.epoch,
            e.loss,
            optional(e.segmentation_loss),
            e.val_loss,
            optional(e.val_auroc),
            e.gradient_norm,
            e.rate,
            e.seconds
        );
    }
    write_atomically(path, text.as_bytes())
}
