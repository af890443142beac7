//! The head: called with what the backbone saw, its answer checked.

use super::error::TaskError;
use super::task::{Task, ViewTokens};
use anymc3d_plugin_api::abi::types::NamedHandle;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// What a head answered, checked.
pub struct HeadAnswer {
    /// `[C]`
    pub logits: Tensor,
    /// Per view that was given: `[S]`, if the head tells them.
    pub slice_weights: Vec<Tensor>,
    /// `[V]`, if the head fuses views.
    pub view_weights: Option<Tensor>,
    /// Per view that was given: `[S, h, w]`, if the head weighs patches.
    pub patch_weights: Vec<Tensor>,
    /// `[E]`, if the head tells what its last layer reads.
    pub embedding: Option<Tensor>,
}

impl Task {
    /// Runs the head on the views of a case and checks its output.
    ///
    /// # Errors
    /// The plugin's error or panic; logits or weights of a wrong shape; NaN or infinity.
    pub fn head(&self, views: &[ViewTokens<'_>]) -> Result<HeadAnswer, TaskError> {
        let method = "forward";
        let before = self.context.live_handles();
        let (settings, tensors, _lent) = self.send(views);
        let answer = self.head.forward(self.context.id(), &settings, tensors);
        let mut logits = None;
        let mut weights: BTreeMap<usize, Tensor> = BTreeMap::new();
        let mut patches: BTreeMap<usize, Tensor> = BTreeMap::new();
        let (mut view_weights, mut embedding) = (None, None);
        // Everything that came back is taken before anything is refused: no handle stays behind.
        let mut stale = None;
        for NamedHandle { name, handle } in answer.map_err(|e| self.error(method, e))? {
            let tensor = match self.context.take(handle) {
                Ok(tensor) => tensor,
                Err(e) => {
                    stale.get_or_insert_with(|| self.error(method, format!("`{name}`: {e}")));
                    continue;
                }
            };
            match name.as_str() {
                "logits" => logits = Some(tensor),
                "view_weights" => view_weights = Some(tensor),
                "embedding" => embedding = Some(tensor),
                other => {
                    if let Some(i) = other.strip_prefix("slice_weights/").and_then(|i| i.parse().ok()) {
                        weights.insert(i, tensor);
                    } else if let Some(i) = other.strip_prefix("patch_weights/").and_then(|i| i.parse().ok())
                    {
                        patches.insert(i, tensor);
                    }
                }
            }
        }
        if let Some(error) = stale {
            return Err(error);
        }
        let kept = self.context.live_handles().saturating_sub(before);
        if kept > 0 {
            tracing::debug!(task = self.context.task(), kept, "the head kept handles beyond its call");
        }
        let outputs = self.manifest.task.outputs();
        let logits = logits.ok_or_else(|| self.error(method, "answered without logits"))?;
        self.check_shape(method, "logits", &logits, &[outputs])?;
        let slice_weights: Vec<Tensor> = weights.into_values().collect();
        if !slice_weights.is_empty() && slice_weights.len() != views.len() {
            let (found, expected) = (slice_weights.len(), views.len());
            return Err(
                self.error(method, format!("slice weights for {found} views, expected {expected} or none"))
            );
        }
        for (weights, view) in slice_weights.iter().zip(views) {
            let slices = view.class_tokens.dims()[0];
            self.check_shape(method, "slice weights", weights, &[slices])?;
        }
        if let Some(weights) = &view_weights {
            self.check_shape(method, "view weights", weights, &[views.len()])?;
        }
        let patch_weights: Vec<Tensor> = patches.into_values().collect();
        if !patch_weights.is_empty() && patch_weights.len() != views.len() {
            let (found, expected) = (patch_weights.len(), views.len());
            return Err(
                self.error(method, format!("patch weights for {found} views, expected {expected} or none"))
            );
        }
        for (weights, view) in patch_weights.iter().zip(views) {
            let dims = [view.class_tokens.dims()[0], view.grid.0, view.grid.1];
            self.check_shape(method, "patch weights", weights, &dims)?;
        }
        Ok(HeadAnswer { logits, slice_weights, view_weights, patch_weights, embedding })
    }

    fn check_shape(
        &self,
        method: &'static str,
        what: &str,
        t: &Tensor,
        dims: &[usize],
    ) -> Result<(), TaskError> {
        if t.dims() != dims {
            return Err(self.error(method, format!("{what} of shape {:?}, expected {dims:?}", t.dims())));
        }
        let values =
            crate::plugin::ops::read(t).map_err(|e| self.error(method, crate::device::one_line(&e)))?;
        match values.iter().find(|v| !v.is_finite()) {
            Some(bad) => Err(self.error(method, format!("{what} with {bad}"))),
            None => Ok(()),
        }
    }
}
