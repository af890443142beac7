//! A task's segmentation branch in inference: logits of one view, checked.

use crate::engine::case::CaseError;
use crate::scan::SliceGrid;
use crate::task::{Task, ViewTokens};
use candle_core::{DType, Tensor};

/// What the branch said of a view.
pub struct ViewLogits {
    /// The view's name in the manifest.
    pub view: String,
    /// Where its slices lie.
    pub grid: SliceGrid,
    /// `[S, a, b]`, spanning the images edge to edge.
    pub logits: Vec<f32>,
    /// a, b: whole fractions of the image's rows and columns.
    pub size: [usize; 2],
}

/// Runs the branch on a view.
pub(super) fn logits(task: &Task, view: &ViewTokens<'_>, grid: &SliceGrid) -> Result<ViewLogits, CaseError> {
    let found = task.segmentation_logits(view)?;
    let (slices, [rows, columns]) = (grid.slices(), grid.image_size());
    let size = match *found.dims() {
        [s, a, b] if s == slices && divides(a, rows) && divides(b, columns) => [a, b],
        ref other => {
            let reason = format!(
                "logits of shape {other:?}, expected [{slices}, a, b] where a divides {rows} and b {columns}"
            );
            return Err(task.error("segmentation logits", reason).into());
        }
    };
    let logits = numbers(&found)?;
    if let Some(bad) = logits.iter().find(|v| v.is_nan()) {
        return Err(task.error("segmentation logits", format!("logits with {bad}")).into());
    }
    Ok(ViewLogits { view: view.name.to_owned(), grid: grid.clone(), logits, size })
}

fn divides(part: usize, whole: usize) -> bool {
    part > 0 && whole.is_multiple_of(part)
}

fn numbers(t: &Tensor) -> candle_core::Result<Vec<f32>> {
    t.flatten_all()?.detach().to_dtype(DType::F32)?.to_vec1()
}
