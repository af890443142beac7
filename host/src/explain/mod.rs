//! Where the model looked: heatmaps on the scan's own grid, and pictures of them; charts of how well it answers.

mod canvas;
pub mod chart;
mod colour;
mod heatmap;
mod preview;

pub use heatmap::{Peak, ViewHeat, on_scan, peak, slice_heat, upsample};
pub use preview::{Finding, Preview, PreviewError, montage};
