//! How much of a case may be in memory at once in training.

use crate::backbone::KEPT_BYTES;
use crate::memory::{Limit, Source};

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
    /// Shares out what the limit leaves a process that holds `used` bytes already.
    ///
    /// # Errors
    /// One line with the numbers when that is too little.
    pub fn new(limit: Limit, used: usize) -> Result<Self, String> {
        let mib = |bytes: usize| bytes >> 20;
        let whole = limit.bytes;
        let left = whole.saturating_sub(used);
        if left < LEAST {
            let said = match limit.source {
                Source::Given => format!("--max-memory {} MiB", mib(whole)),
                source => format!("{} MiB of memory ({source})", mib(whole)),
            };
            return Err(format!(
                "{said}: {} MiB are in use before the first step, and a step takes {} MiB or more; give at least {} MiB",
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
        let given = |bytes| Limit { bytes, source: Source::Given };
        let e = MemoryPlan::new(given(1 << 20), 0).unwrap_err();
        assert!(e.contains("--max-memory 1 MiB") && e.contains("give at least"), "{e}");
        let e = MemoryPlan::new(Limit { bytes: 1 << 20, source: Source::Cgroup }, 0).unwrap_err();
        assert!(e.contains("1 MiB of memory (the limit of its control group)"), "{e}");
        let plan = MemoryPlan::new(given((1 << 30) + 50), 50).unwrap();
        assert!(plan.kept_bytes + plan.token_bytes < 1 << 30);
    }
}
