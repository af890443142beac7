//! A backbone as the host sees it: opened once, asked for features by every task.

use super::adapter::{NoAdapter, Site, SiteAdapter};
use super::arch::dinov2::Vit;
use super::config::Config;
use super::cpu::block_op::{Adapted, NormOp, Source, infer, train};
use super::cpu::fused::{Arithmetic, Fused};
use super::cpu::kernels::Kernels;
use super::device_memory::{Room, full, of_device};
use super::error::BackboneError;
use super::info::BackboneInfo;
use super::weights::Weights;
use candle_core::{DType, Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// How the large products are computed. The tokens between the blocks and what tasks see are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// bf16 inputs of the products, f32 accumulation.
    Bf16,
}

/// What a forward pass yields for S slices.
#[derive(Clone, Debug)]
pub struct Features {
    /// [S, d] after the final norm.
    pub class_tokens: Tensor,
    /// [S, h·w, d] after the final norm, registers dropped.
    pub patch_tokens: Tensor,
    /// [S, h, w]: the last block's class-to-patch attention, mean over heads, without gradient.
    pub class_attention: Option<Tensor>,
    /// (h, w) in patches.
    pub grid: (usize, usize),
}

/// Tokens on their way through the frozen blocks.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// [S, T, d], the input of block `block`.
    pub tokens: Tensor,
    pub block: usize,
    pub grid: (usize, usize),
}

impl Hidden {
    /// `n` slices from `from` on.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn narrow(&self, from: usize, n: usize) -> candle_core::Result<Self> {
        Ok(Self { tokens: self.tokens.narrow(0, from, n)?, block: self.block, grid: self.grid })
    }
}

/// A frozen 2D vision transformer.
pub struct Backbone {
    info: BackboneInfo,
    vit: Vit,
    /// `None` computes with candle's own operations.
    fused: Option<Arc<Fused>>,
    kept_bytes: usize,
    room: Room,
}

/// What [`Backbone::keep_at_most`] is unless told; keeping more for one case was never faster.
pub const KEPT_BYTES: usize = 3 << 29;

impl Backbone {
    /// Opens a Hugging Face folder: `config.json` and safetensors, single or sharded, f16, bf16 or f32.
    pub fn open(dir: &Path, precision: Precision) -> Result<Self, BackboneError> {
        Self::open_with(dir, precision, Kernels::detect()?)
    }

    /// As [`Self::open`], on kernels of choice. [`Kernels::Plain`] computes in f32 whatever the precision.
    pub fn open_with(dir: &Path, precision: Precision, kernels: Kernels) -> Result<Self, BackboneError> {
        let config = Config::read(dir)?;
        let weights = Weights::open(dir)?;
        let info = BackboneInfo::of(dir, &config, weights.sha256()?);
        let vit = Vit::load(config, weights)?;
        let fused = match kernels {
            Kernels::Plain => None,
            Kernels::Fast(isa) => Some(Arc::new(Fused::new(&vit, Arithmetic { isa, precision })?)),
        };
        Ok(Self { info, vit, fused, kept_bytes: KEPT_BYTES, room: Room::default() })
    }

    /// As [`Self::open`], on a device: the processor with its kernels, or a GPU with candle's operations.
    pub fn open_on(dir: &Path, precision: Precision, device: &Device) -> Result<Self, BackboneError> {
        if device.is_cpu() {
            return Self::open(dir, precision);
        }
        Self::open_seated(dir, precision, device)
    }

    /// With candle's operations on a device, its products in the numbers of `precision`. On the processor, where it is slow, it
    /// is how a GPU's way is tested without one.
    pub(crate) fn open_seated(
        dir: &Path,
        precision: Precision,
        device: &Device,
    ) -> Result<Self, BackboneError> {
        let mut backbone = Self::open_with(dir, precision, Kernels::Plain)?;
        let dtype = match precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::BF16,
        };
        backbone.room = Room { device: device.clone(), most: None };
        let seated = backbone.vit.seat(device, dtype);
        backbone.vit = seated.map_err(|e| full(e, &format!("{} on the device", backbone.info.name)))?;
        Ok(backbone)
    }

    /// Where it computes; tasks on it keep their tensors there.
    pub fn device(&self) -> &Device {
        &self.room.device
    }

    /// Bounds what a device of its own may hold of this process's tensors, beside what others leave free of it.
    pub fn device_at_most(&mut self, bytes: usize) {
        self.room.most = Some(bytes);
    }

    /// Bytes that are left of a device of its own; `None` on the processor.
    pub fn device_left(&self) -> Option<usize> {
        self.room.left()
    }

    /// Bytes of the frozen weights; the processor's kernels hold them once more, packed.
    pub fn bytes(&self) -> usize {
        self.vit.bytes()
    }

    /// How many slices of such a grid a device of its own has room for through `blocks` trained blocks, at least one; `None` on
    /// the processor, whose kernels keep little.
    pub fn trained_slices(&self, grid: (usize, usize), blocks: usize) -> Option<usize> {
        self.room.trained_slices(&self.vit, self.tokens(grid), blocks)
    }

    /// Bounds the activations that a training pass keeps for its backward pass (1.5 GiB unless told);
    /// beyond it, blocks form theirs again from their input, for half as much arithmetic more.
    pub fn keep_at_most(&mut self, bytes: usize) {
        self.kept_bytes = bytes;
    }

    pub fn info(&self) -> &BackboneInfo {
        &self.info
    }

    /// Normalised pixels [S, 3, H, W] → features, with the adapter inside.
    ///
    /// Gradients reach the adapter's tensors where they are variables; the frozen weights have none.
    pub fn forward(
        &self,
        pixels: &Tensor,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        let grid = self.grid_of(pixels)?;
        let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) else {
            let begin = |pixels: &Tensor| self.vit.embed(pixels, adapter);
            return self.in_chunks(pixels, grid, adapter, want_attention, begin, 0);
        };
        // A trained patch embedding is one small layer: candle's autograd sees it as it is.
        let patch_tracked = adapter.low_rank(Site::PatchEmbed).is_some_and(|term| term.tracked());
        let embedded = if patch_tracked { Some(self.vit.embed(pixels, adapter)?) } else { None };
        let source = match &embedded {
            Some(tokens) => Source::Tokens(tokens),
            None => Source::Pixels(&self.vit, pixels),
        };
        self.on_kernels(fused, source, 0, grid, adapter, want_attention)
    }

    /// The frozen patch embedding and blocks 0..`block`, without adapter and without gradient.
    pub fn prefix(&self, pixels: &Tensor, block: usize) -> Result<Hidden, BackboneError> {
        let grid = self.grid_of(pixels)?;
        if block > self.info.blocks {
            let (name, blocks) = (&self.info.name, self.info.blocks);
            let message = format!("a prefix of {block} blocks was asked of {name}, which has {blocks}");
            return Err(BackboneError::Input(message));
        }
        if let Some(fused) = &self.fused {
            let (source, adapted) = (Source::Pixels(&self.vit, pixels), Adapted::new(fused, &NoAdapter)?);
            let (tokens, _) = infer(fused, &adapted, &source, 0..block, false)?;
            return Ok(Hidden { tokens, block, grid });
        }
        let begin = |pixels: &Tensor| self.vit.embed(pixels, &NoAdapter);
        let tokens = self.frozen(&pixels.detach(), grid, begin, 0..block)?;
        Ok(Hidden { tokens, block, grid })
    }

    /// Runs `begin` and frozen blocks on a few slices at a time, with candle's operations.
    fn frozen(
        &self,
        input: &Tensor,
        grid: (usize, usize),
        begin: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
        blocks: std::ops::Range<usize>,
    ) -> Result<Tensor, BackboneError> {
        let compute = || {
            let mut tokens = Vec::new();
            for part in chunks_of(input, self.room.slices(&self.vit, input.dim(0)?, self.tokens(grid))?)? {
                let mut x = begin(&self.uploaded(&part)?)?;
                for i in blocks.clone() {
                    x = self.vit.block(i, &x, &NoAdapter, false)?.0;
                }
                tokens.push(x);
            }
            Ok(Tensor::cat(&tokens, 0)?)
        };
        compute().map_err(of_device)
    }

    fn tokens(&self, (h, w): (usize, usize)) -> usize {
        1 + self.info.registers + h * w
    }

    /// Pixels or tokens on the device, as they are.
    fn uploaded(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.to_device(&self.room.device)
    }

    /// The frozen blocks from where `hidden` stands on to `block`.
    ///
    /// # Errors
    /// When `hidden` stands behind `block`, or is not this backbone's.
    pub fn further(&self, hidden: &Hidden, block: usize) -> Result<Hidden, BackboneError> {
        if block < hidden.block || block > self.info.blocks {
            let (name, from) = (&self.info.name, hidden.block);
            let message =
                format!("blocks {from} to {block} were asked of {name}, which has {}", self.info.blocks);
            return Err(BackboneError::Input(message));
        }
        let tokens = match &self.fused {
            Some(fused) => {
                let (source, adapted) = (Source::Tokens(&hidden.tokens), Adapted::new(fused, &NoAdapter)?);
                infer(fused, &adapted, &source, hidden.block..block, false)?.0
            }
            None => {
                let (tokens, blocks) = (hidden.tokens.detach(), hidden.block..block);
                self.frozen(&tokens, hidden.grid, |x| Ok(x.clone()), blocks)?
            }
        };
        Ok(Hidden { tokens, block, grid: hidden.grid })
    }

    /// The rest of the way from [`Self::prefix`]. The adapter must leave the blocks before it alone.
    pub fn forward_from(
        &self,
        hidden: &Hidden,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        if adapter.patch_embed() && hidden.block > 0 || adapter.first_block() < hidden.block {
            let message = format!(
                "the adapter starts at block {}, but the frozen prefix covers the first {}; use a shorter prefix",
                if adapter.patch_embed() { 0 } else { adapter.first_block() },
                hidden.block
            );
            return Err(BackboneError::Input(message));
        }
        let expected = self.tokens(hidden.grid);
        if hidden.block > self.info.blocks
            || hidden.tokens.rank() != 3
            || hidden.tokens.dims()[1..] != [expected, self.info.embed_dim]
        {
            let message = format!(
                "hidden tokens {:?} of block {} are not of {}: expected [S, {expected}, {}]",
                hidden.tokens.dims(),
                hidden.block,
                self.info.name,
                self.info.embed_dim
            );
            return Err(BackboneError::Input(message));
        }
        let start = hidden.block;
        if let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) {
            let source = Source::Tokens(&hidden.tokens);
            return self.on_kernels(fused, source, start, hidden.grid, adapter, want_attention);
        }
        self.in_chunks(&hidden.tokens, hidden.grid, adapter, want_attention, |x| Ok(x.clone()), start)
    }

    /// The fused way: without gradients as far as nothing is trained, block by block from there on.
    fn on_kernels(
        &self,
        fused: &Arc<Fused>,
        source: Source<'_>,
        start: usize,
        grid: (usize, usize),
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        let adapted = Adapted::new(fused, adapter)?;
        let blocks = self.info.blocks;
        let (tokens, split) = match source {
            Source::Tokens(x) if x.track_op() => (x.clone(), start),
            source => {
                let split = adapted.first_tracked.max(start);
                let whole = split == blocks;
                let (tokens, class) = infer(fused, &adapted, &source, start..split, want_attention && whole)?;
                if whole {
                    return self.normed(fused, &tokens, class, grid);
                }
                (tokens, split)
            }
        };
        let (tokens, class) =
            train(fused, &adapted, &tokens, split..blocks, want_attention, self.kept_bytes)?;
        self.normed(fused, &tokens, class, grid)
    }

    /// Tokens [S, T, d] and the class token's attention [S, T] → features, on the kernels.
    fn normed(
        &self,
        fused: &Arc<Fused>,
        tokens: &Tensor,
        class: Option<Tensor>,
        grid: (usize, usize),
    ) -> Result<Features, BackboneError> {
        let part = |first, n| tokens.apply_op1(NormOp { fused: fused.clone(), first, n });
        let first = 1 + self.info.registers;
        Ok(Features {
            class_tokens: part(0, 1)?.squeeze(1)?,
            patch_tokens: part(first, grid.0 * grid.1)?,
            class_attention: self.map(class, grid)?,
            grid,
        })
    }

    /// The class token's attention [S, T] → [S, h, w].
    fn map(&self, class: Option<Tensor>, (h, w): (usize, usize)) -> candle_core::Result<Option<Tensor>> {
        let first = 1 + self.info.registers;
        class.map(|c| c.narrow(1, first, h * w)?.reshape((c.dim(0)?, h, w))).transpose()
    }

    /// Runs `begin` and the blocks from `start` on a few slices at a time.
    fn in_chunks(
        &self,
        input: &Tensor,
        grid: (usize, usize),
        adapter: &dyn SiteAdapter,
        want_attention: bool,
        begin: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
        start: usize,
    ) -> Result<Features, BackboneError> {
        let compute = || {
            // Custom code may look across slices, so it is given all of them.
            let chunk = match adapter.only_low_rank() {
                true => self.room.slices(&self.vit, input.dim(0)?, self.tokens(grid))?,
                false => usize::MAX,
            };
            let (mut tokens, mut maps) = (Vec::new(), Vec::new());
            for part in chunks_of(input, chunk)? {
                let mut x = begin(&self.uploaded(&part)?)?;
                for i in start..self.info.blocks {
                    let want = want_attention && i + 1 == self.info.blocks;
                    let (y, class) = self.vit.block(i, &x, adapter, want)?;
                    x = y;
                    maps.extend(class);
                }
                tokens.push(self.vit.norm.forward(&x)?);
            }
            let tokens = Tensor::cat(&tokens, 0)?;
            let maps = if maps.is_empty() { None } else { Some(Tensor::cat(&maps, 0)?) };
            self.features(&tokens, maps, grid)
        };
        compute().map_err(of_device)
    }

    /// Normed tokens [S, T, d] and the class token's attention [S, T] → features.
    fn features(
        &self,
        tokens: &Tensor,
        class: Option<Tensor>,
        grid: (usize, usize),
    ) -> Result<Features, BackboneError> {
        let (s, _, d) = tokens.dims3()?;
        let (h, w) = grid;
        let first = 1 + self.info.registers;
        Ok(Features {
            class_tokens: tokens.narrow(1, 0, 1)?.reshape((s, d))?,
            patch_tokens: tokens.narrow(1, first, h * w)?,
            class_attention: self.map(class, grid)?,
            grid,
        })
    }

    fn grid_of(&self, pixels: &Tensor) -> Result<(usize, usize), BackboneError> {
        let p = self.info.patch_size;
        match *pixels.dims() {
            [s, 3, h, w]
                if s > 0 && h > 0 && w > 0 && h % p == 0 && w % p == 0 && pixels.dtype() == DType::F32 =>
            {
                Ok((h / p, w / p))
            }
            _ => Err(BackboneError::Input(format!(
                "pixels are {:?} {:?}, expected f32 [S, 3, H, W] with H and W multiples of {p}",
                pixels.dtype(),
                pixels.dims()
            ))),
        }
    }
}

fn chunks_of(x: &Tensor, size: usize) -> candle_core::Result<Vec<Tensor>> {
    let n = x.dim(0)?;
    if n <= size {
        return Ok(vec![x.clone()]);
    }
    (0..n).step_by(size).map(|from| x.narrow(0, from, size.min(n - from))).collect()
}
