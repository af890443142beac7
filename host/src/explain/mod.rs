//! Where the model looked and what it outlined: heatmaps and masks on the scan's own grid, and pictures of them; charts
//! of how well it answers.

mod canvas;
pub mod chart;
mod colour;
mod heatmap;
mod mask;
mod preview;

pub use heatmap::{Heatmap, Peak, ViewHeat, on_scan, peak, slice_heat, upsample};
pub use mask::{mask_on_scan, volume_ml};
pub use preview::{Finding, Preview, PreviewError, montage};
