//! The trait a plugin implements.

use crate::adapter::Adapter;
use crate::build::Build;
use crate::error::Result;
use crate::head::Head;
use crate::loss::{Targets, manifest_loss};
use crate::segmentation::Segmentation;
use crate::tensor::Tensor;

/// A task: adapter, head, and what it needs in training.
///
/// The host builds each part once per loaded task, and may call them from any thread.
pub trait TaskPlugin: Send + Sync + 'static {
    /// What the task changes inside the backbone. Called once per view; with several views each has an adapter
    /// with parameters of its own (an adapter in code must put `build.setting("view")` into their names, or the views
    /// share them).
    ///
    /// # Errors
    /// Whatever goes wrong; the plugin is refused.
    fn adapter(&self, build: &Build) -> Result<Adapter>;

    /// From slice embeddings to logits `[C]`; see [`Head`].
    ///
    /// # Errors
    /// Whatever goes wrong; the plugin is refused.
    fn head(&self, build: &Build) -> Result<Box<dyn Head>>;

    /// Pixel supervision: in training, and where a mask is asked for.
    ///
    /// # Errors
    /// Whatever goes wrong; the plugin is refused.
    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        let _ = build;
        Ok(None)
    }

    /// Classification loss (shape `[]`) of logits `[N, C]`. The manifest's loss unless overridden.
    ///
    /// # Errors
    /// Whatever goes wrong; it ends the training run.
    fn loss(&self, build: &Build, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        manifest_loss(build.loss(), logits, targets)
    }
}
