//! What the engine gives for a case and a task.

use super::case_data::ReadScan;
use super::decoder::ViewLogits;
use super::result::CaseResult;
use crate::scan::SliceStack;
use anymc3d_manifest::View;
use std::sync::Arc;

/// What a view of a prediction was made from: for heatmaps and pictures.
pub struct ViewEvidence {
    /// The view as the manifest describes it.
    pub view: View,
    /// The scan.
    pub read: Arc<ReadScan>,
    /// Pixels and the way back.
    pub stack: SliceStack,
    /// `[S, h, w]`: the patch weights within each slice where the head tells them, else the class attention of the last
    /// block, mean over heads.
    pub attention: Vec<f32>,
    /// h, w
    pub grid: (usize, usize),
    /// Slice weights `[S]`; even when the head tells none.
    pub slice_weights: Vec<f32>,
    /// Weight of this view among the views; 1 with one view.
    pub view_weight: f32,
}

/// An answer and what it was made from.
pub struct Prediction {
    /// The record.
    pub result: CaseResult,
    /// One per view that was there.
    pub evidence: Vec<ViewEvidence>,
    /// What the segmentation branch said of the first view that was there, and the scan of that view; where the task
    /// was opened with its branch.
    pub segmentation: Option<(Arc<ReadScan>, ViewLogits)>,
}
