//! A backbone as the host sees it: opened once, asked for features by every task.
//!
//! The driver knows no family. It cuts slices into chunks that fit a device's memory, shares hidden states of frozen blocks,
//! and picks the processor's kernels where family and adapter allow it.

use super::adapter::{NoAdapter, Site, SiteAdapter};
use super::arch::{self, Architecture};
use super::cpu::block_op::{NormOp, train};
use super::cpu::fused::{Arithmetic, Fused};
use super::cpu::infer::{Place, Source, infer};
use super::cpu::kernels::Kernels;
use super::cpu::packed_lora::PackedLora;
use super::device_memory::{DeviceMemory, full, of_device};
use super::error::BackboneError;
use super::features::{Features, HiddenStates, Slices};
use super::info::BackboneInfo;
use super::kept::KeptPatches;
use super::precision::Precision;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A frozen 2D vision transformer.
pub struct Backbone {
    arch: Box<dyn Architecture>,
    /// `None` computes with candle's operations.
    fused: Option<Arc<Fused>>,
    kept_bytes: usize,
    memory: DeviceMemory,
}

/// The limit of [`Backbone::keep_at_most`] unless it is called; keeping more for one case was never faster.
pub const KEPT_BYTES: usize = 3 << 29;

/// Bytes of f32 weights above which 16-bit files stay 16 bits wide in memory. Below it memory buys speed: widening them anew for
/// every product costs a few hundredths of it.
const NARROW_ABOVE: usize = 512 << 20;

/// Opening, and what an open backbone tells of itself.
impl Backbone {
    /// Opens a Hugging Face folder: `config.json` and safetensors, single or sharded, f16, bf16 or f32.
    ///
    /// # Errors
    /// When a file cannot be read, the family is unknown, or tensors are missing or of another shape.
    pub fn open(dir: &Path, precision: Precision) -> Result<Self, BackboneError> {
        Self::open_with(dir, precision, Kernels::detect()?)
    }

    /// As [`Self::open`], on kernels of choice. [`Kernels::Plain`] computes in f32 whatever the precision.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(dir: &Path, precision: Precision, kernels: Kernels) -> Result<Self, BackboneError> {
        let arch = arch::open(dir)?;
        let fused = match kernels {
            Kernels::Plain => None,
            Kernels::Fast(isa) => {
                arch.fused(Arithmetic { isa, precision, narrow: arch.bytes() > NARROW_ABOVE })?.map(Arc::new)
            }
        };
        Ok(Self { arch, fused, kept_bytes: KEPT_BYTES, memory: DeviceMemory::default() })
    }

    /// As [`Self::open`], on a device: the processor with its kernels, or a GPU with candle's operations.
    ///
    /// # Errors
    /// As [`Self::open`], and when the device's memory is full.
    pub fn open_on(dir: &Path, precision: Precision, device: &Device) -> Result<Self, BackboneError> {
        if device.is_cpu() {
            return Self::open(dir, precision);
        }
        Self::open_on_device(dir, precision, device)
    }

    /// With candle's operations on a device, its products in the numbers of `precision`. Tests call it for the processor, where
    /// it is slow, to run what a GPU runs.
    pub(crate) fn open_on_device(
        dir: &Path,
        precision: Precision,
        device: &Device,
    ) -> Result<Self, BackboneError> {
        let mut backbone = Self::open_with(dir, precision, Kernels::Plain)?;
        let dtype = match precision {
            Precision::Bf16 => DType::BF16,
            Precision::F32 | Precision::Int16 | Precision::Int8 => DType::F32,
        };
        backbone.memory = DeviceMemory { device: device.clone(), most: None };
        let moved = backbone.arch.to_device(device, dtype);
        backbone.arch = moved.map_err(|e| full(e, &format!("{} on the device", backbone.info().name)))?;
        Ok(backbone)
    }

    /// What identifies it, and what a task must know of it.
    pub fn info(&self) -> &BackboneInfo {
        self.arch.info()
    }

    /// Where it computes; tasks on it keep their tensors there.
    pub fn device(&self) -> &Device {
        &self.memory.device
    }

    /// Bytes of the frozen weights as they are computed with: packed for the processor's kernels, else as tensors.
    pub fn bytes(&self) -> usize {
        self.fused.as_ref().map_or_else(|| self.arch.bytes(), |fused| fused.bytes())
    }

    /// Bounds the bytes of a GPU that this process's tensors may take, beside what others leave free of it.
    pub fn device_at_most(&mut self, bytes: usize) {
        self.memory.most = Some(bytes);
    }

    /// Bytes that are left of a GPU; `None` on the processor.
    pub fn device_left(&self) -> Option<usize> {
        self.memory.left()
    }

    /// How many slices of such a grid fit a GPU through `blocks` trained blocks, at least one; `None` on the processor, whose
    /// kernels keep little.
    pub fn trained_slices(&self, grid: (usize, usize), blocks: usize) -> Option<usize> {
        self.memory.trained_slices(self.arch.block_size(), self.info().tokens(grid), blocks)
    }

    /// Bounds the activations that a training pass keeps for its backward pass (1.5 GiB unless told);
    /// beyond it, blocks compute theirs again from their input, for half as much arithmetic more.
    pub fn keep_at_most(&mut self, bytes: usize) {
        self.kept_bytes = bytes;
    }
}

/// Forward passes.
impl Backbone {
    /// Normalised pixels [S, 3, H, W] → features, with the adapter inside.
    ///
    /// Gradients reach the adapter's tensors where they are variables; the frozen weights have none. Tokens and attention of
    /// patches that are not kept are 0.
    ///
    /// # Errors
    /// When the pixels do not divide into patches, the device's memory is full, or the adapter's code fails.
    pub fn forward<'a>(
        &self,
        slices: impl Into<Slices<'a>>,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        let Slices { pixels, kept } = slices.into();
        let grid = self.grid_of(pixels)?;
        let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) else {
            let begin = |pixels: &Tensor| self.arch.embed(pixels, adapter);
            return self.in_chunks(pixels, (grid, kept), adapter, want_attention, begin);
        };
        // A trained patch embedding is one small layer: candle's autograd sees it as it is.
        let patch_tracked = adapter.low_rank(Site::PatchEmbed).is_some_and(|term| term.tracked());
        let embedded = if patch_tracked { Some(self.arch.embed(pixels, adapter)?) } else { None };
        let source = match &embedded {
            Some(hidden) => Source::Tokens(&hidden.tokens),
            None => Source::Pixels(pixels),
        };
        self.on_kernels(fused, source, 0, (grid, kept), adapter, want_attention)
    }

    /// Normalised pixels [S, 3, H, W] → the input of block `block`, through the frozen patch embedding and the blocks before
    /// it, without adapter and without gradient. Tasks that adapt later blocks only share it.
    ///
    /// # Errors
    /// As [`Self::forward`], and when the backbone has fewer blocks.
    pub fn hidden_states<'a>(
        &self,
        slices: impl Into<Slices<'a>>,
        block: usize,
    ) -> Result<HiddenStates, BackboneError> {
        let Slices { pixels, kept } = slices.into();
        let grid = self.grid_of(pixels)?;
        if block > self.info().blocks {
            let (name, blocks) = (&self.info().name, self.info().blocks);
            let message =
                format!("hidden states after {block} blocks were asked of {name}, which has {blocks}");
            return Err(BackboneError::Input(message));
        }
        let tokens = match &self.fused {
            Some(fused) => {
                let lora = PackedLora::new(fused, &NoAdapter)?;
                let place = Place { grid, kept: kept.map(|kept| &**kept) };
                infer(fused, &lora, &Source::Pixels(pixels), place, 0..block, false)?.0
            }
            None => {
                let begin = |pixels: &Tensor| self.arch.embed(pixels, &NoAdapter);
                self.frozen_blocks(&pixels.detach(), (grid, kept), begin, 0..block)?
            }
        };
        Ok(self.hidden(tokens, block, grid, kept.cloned()))
    }

    /// The frozen blocks from `hidden.block` up to, not including, `block`.
    ///
    /// # Errors
    /// When `hidden` is past `block`, or does not come from this backbone.
    pub fn forward_blocks(&self, hidden: &HiddenStates, block: usize) -> Result<HiddenStates, BackboneError> {
        if block < hidden.block || block > self.info().blocks {
            let (info, from) = (self.info(), hidden.block);
            let message =
                format!("blocks {from} to {block} were asked of {}, which has {}", info.name, info.blocks);
            return Err(BackboneError::Input(message));
        }
        let tokens = match &self.fused {
            Some(fused) => {
                let (source, lora) = (Source::Tokens(&hidden.tokens), PackedLora::new(fused, &NoAdapter)?);
                let place = Place { grid: hidden.grid, kept: hidden.kept.as_deref() };
                infer(fused, &lora, &source, place, hidden.block..block, false)?.0
            }
            None => {
                let begin = |x: &Tensor| Ok(self.hidden(x.clone(), hidden.block, hidden.grid, None));
                let at = (hidden.grid, hidden.kept.as_ref());
                self.frozen_blocks(&hidden.tokens.detach(), at, begin, hidden.block..block)?
            }
        };
        Ok(self.hidden(tokens, block, hidden.grid, hidden.kept.clone()))
    }

    /// The blocks from `hidden.block` on, as many as the adapter's depth, and the final norm, with the adapter inside.
    ///
    /// # Errors
    /// As [`Self::forward`], when the adapter changes a block before `hidden.block`, or when `hidden` does not come from this
    /// backbone.
    pub fn forward_from(
        &self,
        hidden: &HiddenStates,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        self.check(hidden, adapter)?;
        let at = (hidden.grid, hidden.kept.as_ref());
        if let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) {
            let source = Source::Tokens(&hidden.tokens);
            return self.on_kernels(fused, source, hidden.block, at, adapter, want_attention);
        }
        let begin = |x: &Tensor| Ok(self.hidden(x.clone(), hidden.block, hidden.grid, None));
        self.in_chunks(&hidden.tokens, at, adapter, want_attention, begin)
    }

    /// Refuses an adapter that starts before `hidden`, and hidden states of another backbone.
    fn check(&self, hidden: &HiddenStates, adapter: &dyn SiteAdapter) -> Result<(), BackboneError> {
        let info = self.info();
        let first = if adapter.patch_embed() { 0 } else { adapter.first_block() };
        if adapter.patch_embed() && hidden.block > 0 || adapter.first_block() < hidden.block {
            let covered = hidden.block;
            return Err(BackboneError::Input(format!(
                "the adapter starts at block {first}, but the cached features cover the first {covered}; cache fewer blocks"
            )));
        }
        let expected = info.tokens(hidden.grid);
        if hidden.block > adapter.depth(info.blocks)
            || hidden.tokens.rank() != 3
            || hidden.tokens.dims()[1..] != [expected, info.embed_dim]
        {
            return Err(BackboneError::Input(format!(
                "hidden tokens {:?} of block {} are not of {}: expected [S, {expected}, {}]",
                hidden.tokens.dims(),
                hidden.block,
                info.name,
                info.embed_dim
            )));
        }
        Ok(())
    }

    fn hidden(
        &self,
        tokens: Tensor,
        block: usize,
        grid: (usize, usize),
        kept: Option<Arc<KeptPatches>>,
    ) -> HiddenStates {
        HiddenStates { tokens, block, grid, layout: self.info().layout(), kept }
    }

    fn grid_of(&self, pixels: &Tensor) -> Result<(usize, usize), BackboneError> {
        let p = self.info().patch_size;
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

/// (h, w) in patches, and those that are computed.
type OnGrid<'a> = ((usize, usize), Option<&'a Arc<KeptPatches>>);

/// On the processor's kernels.
impl Backbone {
    /// Without gradients up to the first block whose terms are trained, one candle operation per block from there on.
    fn on_kernels(
        &self,
        fused: &Arc<Fused>,
        source: Source<'_>,
        start: usize,
        (grid, kept): OnGrid<'_>,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        let place = Place { grid, kept: kept.map(|kept| &**kept) };
        let lora = PackedLora::new(fused, adapter)?;
        // A family without a class token finds its attention where it finishes.
        let (blocks, want_class) =
            (adapter.depth(self.info().blocks), want_attention && self.info().class_token);
        let (tokens, split) = match source {
            Source::Tokens(x) if x.track_op() => (x.clone(), start),
            source => {
                let split = lora.first_tracked.min(blocks).max(start);
                let whole = split == blocks;
                let (tokens, class) = infer(fused, &lora, &source, place, start..split, want_class && whole)?;
                if whole {
                    return self.finish_on_kernels(fused, &tokens, class, (grid, kept), want_attention);
                }
                (tokens, split)
            }
        };
        let (tokens, class) =
            train(fused, &lora, (&tokens, grid, kept), split..blocks, want_class, self.kept_bytes)?;
        self.finish_on_kernels(fused, &tokens, class, (grid, kept), want_attention)
    }

    /// Tokens [S, T, d] of the last block and the class token's attention [S, T] → features.
    fn finish_on_kernels(
        &self,
        fused: &Arc<Fused>,
        tokens: &Tensor,
        class: Option<Tensor>,
        (grid, kept): OnGrid<'_>,
        want_attention: bool,
    ) -> Result<Features, BackboneError> {
        let normed = |first, n| match fused.patches_normed || first == 0 {
            true => tokens.apply_op1(NormOp { fused: fused.clone(), first, n, patches: kept.cloned() }),
            false => tokens.narrow(1, first, n),
        };
        Ok(self.arch.finish((grid, kept.map(|kept| &**kept)), &normed, class, want_attention)?)
    }
}

/// With candle's operations: the reference on the processor, and what runs on a GPU.
impl Backbone {
    /// Runs `begin` and frozen blocks on a few slices at a time.
    fn frozen_blocks(
        &self,
        input: &Tensor,
        at: OnGrid<'_>,
        begin: impl Fn(&Tensor) -> candle_core::Result<HiddenStates>,
        blocks: Range<usize>,
    ) -> Result<Tensor, BackboneError> {
        let compute = || {
            let mut tokens = Vec::new();
            for (chunk, kept) in chunks_of(input, at, self.chunk(input, at.0)?)? {
                let mut x = dropped(begin(&self.uploaded(&chunk)?)?, kept)?;
                for _ in blocks.clone() {
                    x = self.arch.block(&x, &NoAdapter, false)?.0;
                }
                tokens.push(x.tokens);
            }
            Ok(Tensor::cat(&tokens, 0)?)
        };
        compute().map_err(of_device)
    }

    /// Runs `begin` and the blocks that remain on a few slices at a time.
    fn in_chunks(
        &self,
        input: &Tensor,
        at: OnGrid<'_>,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
        begin: impl Fn(&Tensor) -> candle_core::Result<HiddenStates>,
    ) -> Result<Features, BackboneError> {
        let compute = || {
            let blocks = adapter.depth(self.info().blocks);
            // A task's code may look across slices: it is given all of them.
            let size = if adapter.only_low_rank() { self.chunk(input, at.0)? } else { usize::MAX };
            let (mut tokens, mut maps) = (Vec::new(), Vec::new());
            for (chunk, kept) in chunks_of(input, at, size)? {
                let mut x = dropped(begin(&self.uploaded(&chunk)?)?, kept)?;
                while x.block < blocks {
                    let want = want_attention && x.block + 1 == blocks;
                    let (y, class) = self.arch.block(&x, adapter, want)?;
                    x = y;
                    maps.extend(class);
                }
                let normed = self.arch.final_norm(&x.tokens)?;
                tokens.push(dropped(HiddenStates { tokens: normed, ..x }, None)?.tokens);
            }
            let tokens = Tensor::cat(&tokens, 0)?;
            let maps = if maps.is_empty() { None } else { Some(Tensor::cat(&maps, 0)?) };
            let normed = |first, n| tokens.narrow(1, first, n);
            Ok(self.arch.finish((at.0, at.1.map(|kept| &**kept)), &normed, maps, want_attention)?)
        };
        compute().map_err(of_device)
    }

    /// How many slices go through the blocks together.
    fn chunk(&self, input: &Tensor, grid: (usize, usize)) -> Result<usize, BackboneError> {
        self.memory.slices(self.arch.block_size(), input.dim(0)?, self.info().tokens(grid))
    }

    /// Pixels or tokens on the device, unchanged.
    fn uploaded(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.to_device(&self.memory.device)
    }
}

/// Slices of `x` a few at a time, with those of their patches that are kept.
fn chunks_of(
    x: &Tensor,
    (grid, kept): OnGrid<'_>,
    size: usize,
) -> candle_core::Result<Vec<(Tensor, Option<Arc<KeptPatches>>)>> {
    let n = x.dim(0)?;
    Place { grid, kept: kept.map(|kept| &**kept) }.check(n)?;
    if n <= size {
        return Ok(vec![(x.clone(), kept.cloned())]);
    }
    let chunk = |from: usize| {
        let count = size.min(n - from);
        Ok((x.narrow(0, from, count)?, kept.map(|kept| Arc::new(kept.narrow(from, count)))))
    };
    (0..n).step_by(size).map(chunk).collect()
}

/// `x` with 0 in the place of dropped tokens: those that `x` drops already, and those that `kept` leaves out.
fn dropped(x: HiddenStates, kept: Option<Arc<KeptPatches>>) -> candle_core::Result<HiddenStates> {
    let Some(kept) = kept.or_else(|| x.kept.clone()) else { return Ok(x) };
    let table = kept.token_table(x.layout.leading(), x.tokens.device())?.unsqueeze(2)?; // [S, T, 1]
    Ok(HiddenStates { tokens: x.tokens.broadcast_mul(&table)?, kept: Some(kept), ..x })
}
