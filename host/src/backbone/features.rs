//! What goes through the blocks and what comes out: hidden states, features, and how tokens are laid out.

use super::kept::KeptPatches;
use super::merged::Merging;
use candle_core::{DType, Result, Tensor};
use std::sync::Arc;

/// Which tokens stand before the patches of a slice: the class token where there is one, then the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLayout {
    /// Whether token 0 is a class token.
    pub class_token: bool,
    /// Register tokens, which no task sees.
    pub registers: usize,
}

impl TokenLayout {
    /// Tokens before the first patch.
    pub fn leading(self) -> usize {
        usize::from(self.class_token) + self.registers
    }

    /// T: all tokens of a slice of (h, w) patches.
    pub fn tokens(self, (h, w): (usize, usize)) -> usize {
        self.leading() + h * w
    }

    /// Attention to all tokens [S, T] → to the patches alone, [S, h, w].
    pub(crate) fn over_patches(self, attention: &Tensor, (h, w): (usize, usize)) -> Result<Tensor> {
        attention.narrow(1, self.leading(), h * w)?.reshape((attention.dim(0)?, h, w))
    }
}

/// Tokens between two blocks of the backbone. They say themselves where they stand and how they are laid out.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    /// [S, T, d], the input of block `block`: class token, registers, then patches row by row.
    pub tokens: Tensor,
    /// The next block. The number of blocks where all have run; the final norm has not run yet.
    pub block: usize,
    /// (h, w) in patches.
    pub grid: (usize, usize),
    /// What stands before the patches.
    pub layout: TokenLayout,
    /// The patches that are computed; the tokens of the others are 0. `None`: all are.
    pub kept: Option<Arc<KeptPatches>>,
    /// How tokens are merged, and what was. `None`: they are not.
    pub merging: Option<Arc<Merging>>,
}

/// Normalised slices as the backbone takes them.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    /// [S, 3, H, W]
    pub pixels: &'a Tensor,
    /// The patches that are computed; `None`: all.
    pub kept: Option<&'a Arc<KeptPatches>>,
    /// Tokens that each block but the last merges away, of each slice, in passes without gradients; 0: none.
    pub merge: usize,
}

impl<'a> From<&'a Tensor> for Slices<'a> {
    fn from(pixels: &'a Tensor) -> Self {
        Self { pixels, kept: None, merge: 0 }
    }
}

impl HiddenStates {
    /// `[d]`: mean over the slices of the class token, of families without one of the patch tokens that are computed.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pooled(&self) -> Result<Vec<f32>> {
        let tokens = self.tokens.detach().to_dtype(DType::F32)?;
        let mean = match self.layout.class_token {
            true => tokens.narrow(1, 0, 1)?.mean((0, 1))?,
            false => {
                let (slices, patches) = (tokens.dim(0)?, self.grid.0 * self.grid.1);
                let computed =
                    self.kept.as_ref().map_or(1.0, |kept| kept.share()) * (slices * patches) as f64;
                // The tokens of the others are 0.
                (tokens.narrow(1, self.layout.leading(), patches)?.sum((0, 1))? / computed.max(1.0))?
            }
        };
        mean.to_vec1()
    }

    /// `n` slices from `from` on.
    ///
    /// # Errors
    /// When there are fewer slices.
    pub fn narrow(&self, from: usize, n: usize) -> Result<Self> {
        let kept = self.kept.as_ref().map(|kept| Arc::new(kept.narrow(from, n)));
        let merging = self.merging.as_ref().map(|merging| Arc::new(merging.narrow(from, n)));
        Ok(Self { tokens: self.tokens.narrow(0, from, n)?, kept, merging, ..*self })
    }

    /// The output of block `self.block`, which is the input of the next.
    pub(crate) fn next(&self, tokens: Tensor) -> Self {
        let (kept, merging) = (self.kept.clone(), self.merging.clone());
        Self { tokens, block: self.block + 1, kept, merging, ..*self }
    }
}

/// What a forward pass is asked for besides class tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How much the class token attends to each patch in the last block.
    pub attention: bool,
    /// Patch tokens. Without them, of a family with a class token, the last block computes what the class token needs: keys and
    /// values of all tokens, and one row of everything else.
    pub patches: bool,
}

/// All tokens, with the attention or without.
impl From<bool> for Wanted {
    fn from(attention: bool) -> Self {
        Self { attention, patches: true }
    }
}

/// What a forward pass yields for S slices.
#[derive(Clone, Debug)]
pub struct Features {
    /// [S, d] after the final norm. A family without a class token puts its pooled output here.
    pub class_tokens: Tensor,
    /// [S, h·w, d] after the final norm, registers dropped; 0 where they were not wanted.
    pub patch_tokens: Tensor,
    /// [S, h, w]: how much the class token attends to each patch in the last block, mean over heads, without
    /// gradient. `None` where it was not asked for.
    pub class_attention: Option<Tensor>,
    /// (h, w) in patches.
    pub grid: (usize, usize),
}

impl Features {
    /// `[d]`: mean of the slices' class tokens.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pooled(&self) -> Result<Vec<f32>> {
        self.class_tokens.detach().to_dtype(DType::F32)?.mean(0)?.to_vec1()
    }
}

/// `n` tokens of each slice of `like` that nobody wants: 0.
pub(super) fn unwanted(like: &Tensor, n: usize) -> Result<Tensor> {
    let (slices, _, width) = like.dims3()?;
    Tensor::zeros((slices, n, width), like.dtype(), like.device())
}
