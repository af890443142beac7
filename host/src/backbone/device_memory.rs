//! The room on a device: how many slices go through the blocks together where candle computes, whatever the volume.

use super::arch::dinov2::Vit;
use super::config::Config;
use super::error::BackboneError;
use super::layers::ROWS;
use crate::device::{WHERE_FULL, free_memory, is_out_of_memory, used_memory};
use candle_core::Device;

/// On the processor, whose caches more slices would leave.
const ON_PROCESSOR: usize = 8;
/// On a device that has room: more does not fill it better.
const MOST: usize = 64;

/// What stays free of a device for what is not foreseen: fragments, the libraries' own.
const RESERVE: usize = 256 << 20;

/// Where a backbone computes, and how much of it.
pub(crate) struct Room {
    pub device: Device,
    /// Most bytes that a device of its own may hold of this process's tensors.
    pub most: Option<usize>,
}

impl Default for Room {
    /// On the processor.
    fn default() -> Self {
        Self { device: Device::Cpu, most: None }
    }
}

impl Room {
    /// Bytes that are left of a device of its own; `None` on the processor.
    pub fn left(&self) -> Option<usize> {
        let spared = free_memory(&self.device)?.saturating_sub(RESERVE);
        let held = used_memory(&self.device).unwrap_or(0);
        Some(self.most.map_or(spared, |most| most.saturating_sub(held).min(spared)))
    }

    /// How many of `slices` go through the blocks together, beside their tokens and what tasks see of them.
    pub fn slices(&self, vit: &Vit, slices: usize, tokens: usize) -> Result<usize, BackboneError> {
        let Some(left) = self.left() else { return Ok(ON_PROCESSOR) };
        let (hidden, width) = vit.widths();
        let kept = slices * tokens * vit.config.embed_dim * 4 * 4;
        slices_within(left, kept, bytes_of_a_slice(&vit.config, hidden, tokens, width))
    }

    /// How many slices there is room for through `blocks` trained blocks, at least one; `None` on the processor.
    pub fn trained_slices(&self, vit: &Vit, tokens: usize, blocks: usize) -> Option<usize> {
        let left = self.left()?;
        let (hidden, width) = vit.widths();
        let per_block = trained_bytes_of_a_slice(&vit.config, hidden, tokens, width);
        // A third for what comes before the blocks, the head's and the branch's activations.
        Some((left / 3 * 2 / (per_block * blocks.max(1)).max(1)).max(1))
    }
}

/// A full device in words of its own.
pub(crate) fn of_device(error: BackboneError) -> BackboneError {
    match error {
        BackboneError::Compute(e) => full(e, "this case's slices"),
        other => other,
    }
}

/// The same, of `what` did not fit.
pub(crate) fn full(error: candle_core::Error, what: &str) -> BackboneError {
    if is_out_of_memory(&error) {
        return BackboneError::Input(format!(
            "the device's memory is full, {what} did not fit: {WHERE_FULL}"
        ));
    }
    BackboneError::Compute(error)
}

/// Bytes that one slice of `tokens` takes on its way through a block without gradients: its tokens and what is added to them in
/// f32, and in numbers of `width` bytes what a block forms of them (norm, projections, their three parts, the mix, the MLP
/// before and after its activation), and scores and probabilities.
fn bytes_of_a_slice(config: &Config, hidden: usize, tokens: usize, width: usize) -> usize {
    let d = config.embed_dim;
    let in_full = tokens * 4 * 3 * d;
    let of_tokens = tokens * (3 * d + 3 * d + 2 * d + 2 * hidden);
    let of_attention = config.heads * ROWS.min(tokens) * tokens;
    in_full + width * of_tokens + (4 + 4 + width) * of_attention
}

/// Bytes that one slice takes in a block whose backward pass is to come, where candle keeps every operation's activation: norms
/// and softmax in f32, what is linear in numbers of `width` bytes; and three quarters as much again for gradients on their way.
/// Counted with the stand-in of cuda/: steps of ViT-S take 0.98 of it in bf16, and 0.83 in f32, for each further block.
fn trained_bytes_of_a_slice(config: &Config, hidden: usize, tokens: usize, width: usize) -> usize {
    let of_tokens = tokens * config.embed_dim * (2 * 5 * 4 + 19 * width) + tokens * hidden * 3 * width;
    let of_attention = config.heads * tokens * tokens * (3 * width + 4 * 4);
    (of_tokens + of_attention) / 4 * 7
}

/// Slices at a time within `left` bytes, of which `kept` stay for the case: its tokens, and what tasks see of them.
///
/// # Errors
/// With the numbers when not even one fits.
fn slices_within(left: usize, kept: usize, per_slice: usize) -> Result<usize, BackboneError> {
    match left.saturating_sub(kept) / per_slice.max(1) {
        0 => {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            let (needed, free) = (mib(kept.saturating_add(per_slice)), left >> 20);
            Err(BackboneError::Input(format!(
                "this case takes {needed} MiB of the device's memory, and {free} MiB are left for it; give more with --max-memory, fewer or smaller slices, or --device cpu"
            )))
        }
        n => Ok(n.min(MOST)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_takes_more_where_its_backward_pass_is_to_come() {
        let config = Config {
            embed_dim: 384,
            blocks: 12,
            heads: 6,
            patch_size: 14,
            registers: 0,
            norm_eps: 1e-6,
            qkv_bias: true,
            swiglu: false,
            antialias: false,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        let once = bytes_of_a_slice(&config, 1536, 257, 2);
        assert!(trained_bytes_of_a_slice(&config, 1536, 257, 2) > once);
        assert!(bytes_of_a_slice(&config, 1536, 257, 4) > once);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let error = slices_within(10 << 20, 2 << 20, 9 << 20).unwrap_err().to_string();
        assert!(error.contains("11 MiB") && error.contains("10 MiB are left"), "{error}");
        assert_eq!(slices_within(11 << 20, 1 << 20, 3 << 20).unwrap(), 3);
        assert_eq!(slices_within(usize::MAX, 0, 1).unwrap(), MOST);
    }
}
