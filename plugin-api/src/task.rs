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
    /// Builds the adapter inside the backbone. The host calls this once per view. With several views each view has
    /// separate parameters; an adapter in code must put `build.setting("view")` into their names, or the views share
    /// them.
    ///
    /// # Errors
    /// Any error; the host then refuses the plugin.
    fn adapter(&self, build: &Build) -> Result<Adapter>;

    /// From slice embeddings to logits `[C]`; see [`Head`].
    ///
    /// # Errors
    /// Any error; the host then refuses the plugin.
    fn head(&self, build: &Build) -> Result<Box<dyn Head>>;

    /// Builds the segmentation decoder, for training and for `host run --segmentation`.
    ///
    /// # Errors
    /// Any error; the host then refuses the plugin.
    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        let _ = build;
        Ok(None)
    }

    /// Classification loss (shape `[]`) of logits `[N, C]`. The manifest's loss unless overridden.
    ///
    /// # Errors
    /// Any error; it ends the training run.
    fn loss(&self, build: &Build, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        manifest_loss(build.loss(), logits, targets)
    }
}
