//! How much of a case may be in memory at once in training.

use crate::backbone::KEPT_BYTES;
pub use crate::engine::{machine_memory, resident};

/// How a training step shares out the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// For activations that the blocks keep for their backward pass; beyond it they form theirs again.
    pub kept_bytes: usize,
    /// For the tokens between the blocks; beyond it slices go through in groups.
    pub token_bytes: usize,
}

/// Below this a step of the smallest backbone does not fit.
const LEAST: usize = 192 << 20;

impl MemoryPlan {
    /// Shares out what a process of at most `cap` bytes has beside what it has taken already; without a cap it may
    /// have 80 % of the machine's memory.
    ///
    /// # Errors
    /// One line with the numbers when the cap leaves too little beside what is in use already.
    pub fn new(cap: Option<usize>) -> Result<Self, String> {
        let mib = |bytes: usize| bytes >> 20;
        let whole = cap.unwrap_or_else(|| machine_memory().map_or(usize::MAX, |total| total / 10 * 8));
        let used = resident().unwrap_or(0);
        let left = whole.saturating_sub(used);
        if left < LEAST {
            return Err(format!(
                "--max-memory {} MiB: {} MiB are in use before the first step, and a step takes {} MiB or more; give at least {} MiB",
                mib(whole),
                mib(used),
                mib(LEAST),
                mib(used + LEAST) + 1
            ));
        }
        // The groups decide the order of sums, so they hang on the cap alone and not on what happens to be in use. The
        // rest is for the case's pixels, the head's and the decoder's activations, and gradients.
        Ok(Self { kept_bytes: (left / 5 * 2).min(KEPT_BYTES), token_bytes: whole / 5 })
    }
}

/// Slices whose tokens fit into `bytes` through `blocks` adapted blocks: each block's input stays for its backward
/// pass, and about eight more of the size are alive around it. At least one.
pub fn slices_at_once(bytes: usize, floats_per_slice: usize, blocks: usize) -> usize {
    let per_slice = floats_per_slice.saturating_mul(4).saturating_mul(blocks + 8).max(1);
    (bytes / per_slice).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_slices_fit_where_more_blocks_keep_their_input() {
        let (few, many) = (slices_at_once(1 << 30, 145 * 384, 2), slices_at_once(1 << 30, 145 * 384, 24));
        assert!(few > 2 * many && many > 1, "{few} {many}");
        assert_eq!(slices_at_once(1, 1 << 20, 12), 1);
    }

    #[test]
    fn a_cap_below_what_is_in_use_is_refused_with_the_numbers() {
        let e = MemoryPlan::new(Some(1 << 20)).unwrap_err();
        assert!(e.contains("--max-memory 1 MiB") && e.contains("give at least"), "{e}");
        let plan = MemoryPlan::new(Some(resident().unwrap_or(0) + (1 << 30))).unwrap();
        assert!(plan.kept_bytes + plan.token_bytes < 1 << 30);
    }
}
