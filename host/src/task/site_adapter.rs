//! A task's adapter as the backbone asks for it.

use crate::backbone::{LowRank, Site, SiteAdapter};
use crate::task::TaskAdapter;
use candle_core::{Error, Result, Tensor};

/// Borrowed from a task, for a forward pass.
pub struct TaskSiteAdapter<'a> {
    adapter: &'a TaskAdapter,
    detached: bool,
}

impl<'a> TaskSiteAdapter<'a> {
    /// With whatever gradient the task's parameters have.
    pub fn new(adapter: &'a TaskAdapter) -> Self {
        Self { adapter, detached: false }
    }

    /// Without gradient, also where the parameters are variables: validation needs no graph.
    pub fn detached(adapter: &'a TaskAdapter) -> Self {
        Self { adapter, detached: true }
    }
}

impl SiteAdapter for TaskSiteAdapter<'_> {
    fn first_block(&self) -> usize {
        match self.adapter {
            TaskAdapter::None | TaskAdapter::Cut(_) => usize::MAX,
            TaskAdapter::Lora { lora, .. } => lora.first_block,
            TaskAdapter::Custom(code) => code.first_block,
        }
    }

    fn patch_embed(&self) -> bool {
        match self.adapter {
            TaskAdapter::None | TaskAdapter::Cut(_) => false,
            TaskAdapter::Lora { lora, .. } => lora.patch_embed,
            // Code may act anywhere from its first block on, and the patch embedding comes before block 0.
            TaskAdapter::Custom(code) => code.first_block == 0,
        }
    }

    fn depth(&self, blocks: usize) -> usize {
        match self.adapter {
            TaskAdapter::Cut(depth) => (*depth).min(blocks),
            _ => blocks,
        }
    }

    fn low_rank(&self, site: Site) -> Option<LowRank> {
        let TaskAdapter::Lora { lora, pairs } = self.adapter else { return None };
        let pair = pairs.get(&site.name())?;
        let seen = |t: &Tensor| if self.detached { t.detach() } else { t.clone() };
        Some(LowRank { a: seen(&pair.a), b: seen(&pair.b), scale: lora.alpha / lora.rank as f64 })
    }

    fn apply(&self, site: Site, input: &Tensor, output: Tensor) -> Result<Tensor> {
        let TaskAdapter::Custom(code) = self.adapter else { return Ok(output) };
        let (kind, block) = match site {
            Site::PatchEmbed => (0, 0),
            Site::Qkv(block) => (1, block),
            Site::AttentionOutput(block) => (2, block),
        };
        // The patch embedding comes before block 0: code that begins later never sees it, whether the blocks before are
        // computed here or came from a prefix.
        if block < code.first_block {
            return Ok(output);
        }
        let changed = code.apply(kind, block, input, &output).map_err(|e| Error::Msg(e.to_string()))?;
        Ok(if self.detached { changed.detach() } else { changed })
    }

    fn only_low_rank(&self) -> bool {
        !matches!(self.adapter, TaskAdapter::Custom(_))
    }
}
