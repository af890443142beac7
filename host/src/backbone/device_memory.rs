//! Memory of a device: how many slices go through the blocks together where candle computes, whatever the volume.

use super::error::BackboneError;
use super::layers::ROWS;
use crate::device::{WHERE_FULL, free_memory, is_out_of_memory, used_memory};
use candle_core::Device;

/// On the processor, whose caches more slices would leave.
const ON_PROCESSOR: usize = 8;
/// On a device with memory to spare: more slices do not make it busier.
const MOST: usize = 64;

/// What stays free of a device for what is not counted here: fragments, and what the libraries take.
const RESERVE: usize = 256 << 20;

/// Where a backbone computes, and how much of that device's memory it may take.
pub(crate) struct DeviceMemory {
    pub device: Device,
    /// Most bytes of a GPU that this process's tensors may take.
    pub most: Option<usize>,
}

impl Default for DeviceMemory {
    /// On the processor.
    fn default() -> Self {
        Self { device: Device::Cpu, most: None }
    }
}

impl DeviceMemory {
    /// Bytes that are left of a GPU; `None` on the processor.
    pub fn left(&self) -> Option<usize> {
        let spared = free_memory(&self.device)?.saturating_sub(RESERVE);
        let held = used_memory(&self.device).unwrap_or(0);
        Some(self.most.map_or(spared, |most| most.saturating_sub(held).min(spared)))
    }

    /// How many of `slices` go through the blocks together, beside their tokens and what tasks see of them.
    pub fn slices(&self, block: BlockSize, slices: usize, tokens: usize) -> Result<usize, BackboneError> {
        let Some(left) = self.left() else { return Ok(ON_PROCESSOR) };
        let kept = slices * tokens * block.embed_dim * 4 * 4;
        slices_within(left, kept, block.bytes_of_a_slice(tokens))
    }

    /// How many slices fit through `blocks` trained blocks, at least one; `None` on the processor.
    pub fn trained_slices(&self, block: BlockSize, tokens: usize, blocks: usize) -> Option<usize> {
        let left = self.left()?;
        let per_block = block.trained_bytes_of_a_slice(tokens);
        // A third stays for what comes before the blocks, and for the activations of head and decoder.
        Some((left / 3 * 2 / (per_block * blocks.max(1)).max(1)).max(1))
    }
}

/// Says of a full device that it is full, and that this case did not fit.
pub(crate) fn of_device(error: BackboneError) -> BackboneError {
    match error {
        BackboneError::Compute(e) => full(e, "this case's slices"),
        other => other,
    }
}

/// The same, where `what` did not fit.
pub(crate) fn full(error: candle_core::Error, what: &str) -> BackboneError {
    if is_out_of_memory(&error) {
        return BackboneError::Input(format!(
            "the device's memory is full, {what} did not fit: {WHERE_FULL}"
        ));
    }
    BackboneError::Compute(error)
}

/// What decides how much memory a block takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockSize {
    /// d, the width of a token.
    pub embed_dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Rows of the MLP's first layer: twice its hidden width where gated.
    pub hidden: usize,
    /// Bytes of a number in the products.
    pub number: usize,
}

impl BlockSize {
    /// Bytes that one slice of `tokens` takes in a block without gradients: in f32 its tokens and what is added to them; in
    /// numbers of the products what a block forms of them (norm, projections, their three parts, the mix, the MLP before
    /// and after its activation), and scores and probabilities.
    fn bytes_of_a_slice(self, tokens: usize) -> usize {
        let Self { embed_dim: d, heads, hidden, number } = self;
        let in_full = tokens * 4 * 3 * d;
        let of_tokens = tokens * (3 * d + 3 * d + 2 * d + 2 * hidden);
        let of_attention = heads * ROWS.min(tokens) * tokens;
        in_full + number * of_tokens + (4 + 4 + number) * of_attention
    }

    /// Bytes that one slice takes in a block whose backward pass is to come, where candle keeps every operation's
    /// activation: norms and softmax in f32, what is linear in numbers of the products; and three quarters as much again for
    /// gradients. Measured with the stand-in of cuda/: steps of ViT-S take 0.98 of it in bf16 and 0.83 in f32 for each
    /// further block.
    fn trained_bytes_of_a_slice(self, tokens: usize) -> usize {
        let Self { embed_dim: d, heads, hidden, number } = self;
        let of_tokens = tokens * d * (2 * 5 * 4 + 19 * number) + tokens * hidden * 3 * number;
        let of_attention = heads * tokens * tokens * (3 * number + 4 * 4);
        (of_tokens + of_attention) / 4 * 7
    }
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
        let bf16 = BlockSize { embed_dim: 384, heads: 6, hidden: 1536, number: 2 };
        let once = bf16.bytes_of_a_slice(257);
        assert!(bf16.trained_bytes_of_a_slice(257) > once);
        assert!(BlockSize { number: 4, ..bf16 }.bytes_of_a_slice(257) > once);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let error = slices_within(10 << 20, 2 << 20, 9 << 20).unwrap_err().to_string();
        assert!(error.contains("11 MiB") && error.contains("10 MiB are left"), "{error}");
        assert_eq!(slices_within(11 << 20, 1 << 20, 3 << 20).unwrap(), 3);
        assert_eq!(slices_within(usize::MAX, 0, 1).unwrap(), MOST);
    }
}
