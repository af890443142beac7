//! A backbone as the host sees it: opened once, asked for features by every task.
//!
//! The driver knows no family. It cuts slices into chunks that fit a device's memory, shares hidden states of frozen blocks,
//! and picks the processor's kernels where family and adapter allow it.

use super::adapter::{NoAdapter, Site, SiteAdapter};
use super::arch::{self, Architecture};
use super::cpu::block_op::{NormOp, train};
use super::cpu::fused::{Arithmetic, Fused};
use super::cpu::infer::{Last, Passed, Place, Source, infer};
use super::cpu::kernels::Kernels;
use super::cpu::packed_lora::PackedLora;
use super::device_memory::{DeviceMemory, full};
use super::error::BackboneError;
use super::features::{Features, HiddenStates, Slices, Wanted, unwanted};
use super::info::BackboneInfo;
use super::kept::{KeptPatches, OnGrid};
use super::merged::Merging;
use super::precision::Precision;
use super::quantised::QuantisedWeights;
use candle_core::{DType, Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// A frozen 2D vision transformer.
pub struct Backbone {
    pub(super) arch: Box<dyn Architecture>,
    /// `None` computes with candle's operations.
    pub(super) fused: Option<Arc<Fused>>,
    /// Of the file whose 8-bit layers are computed with.
    pub(super) quantised_sha256: Option<String>,
    kept_bytes: usize,
    pub(super) memory: DeviceMemory,
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
        let quantised = match kernels {
            // Elsewhere it is computed in 16 bits, for which no rounding needs to be chosen.
            Kernels::Fast(isa) if precision == Precision::Int8 && isa.has_vnni() => {
                QuantisedWeights::read(dir, arch.info())?
            }
            _ => None,
        };
        Self::of(arch, precision, kernels, quantised.as_ref())
    }

    /// On kernels, its blocks of the 8-bit layers that are given.
    pub(super) fn of(
        arch: Box<dyn Architecture>,
        precision: Precision,
        kernels: Kernels,
        quantised: Option<&QuantisedWeights>,
    ) -> Result<Self, BackboneError> {
        let fused = match kernels {
            Kernels::Plain => None,
            Kernels::Fast(isa) => {
                let arithmetic = Arithmetic { isa, precision, narrow: arch.bytes() > NARROW_ABOVE };
                arch.fused(arithmetic, quantised)?.map(Arc::new)
            }
        };
        let quantised_sha256 = quantised.and_then(QuantisedWeights::sha256).map(str::to_owned);
        Ok(Self { arch, fused, quantised_sha256, kept_bytes: KEPT_BYTES, memory: DeviceMemory::default() })
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
    /// patches that are not kept are 0, and so are patch tokens that are not wanted.
    ///
    /// # Errors
    /// When the pixels do not divide into patches, the device's memory is full, or the adapter's code fails.
    pub fn forward<'a>(
        &self,
        slices: impl Into<Slices<'a>>,
        adapter: &dyn SiteAdapter,
        wanted: impl Into<Wanted>,
    ) -> Result<Features, BackboneError> {
        let Slices { pixels, kept, merge } = slices.into();
        let (grid, wanted) = (self.grid_of(pixels)?, self.given(wanted.into()));
        let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) else {
            none_merged(merge)?;
            let begin = |pixels: &Tensor| self.arch.embed(pixels, adapter);
            return self.in_chunks(pixels, (grid, kept), adapter, wanted, begin);
        };
        // A trained patch embedding is one small layer: candle's autograd sees it as it is.
        let patch_tracked = adapter.low_rank(Site::PatchEmbed).is_some_and(|term| term.tracked());
        let embedded = if patch_tracked { Some(self.arch.embed(pixels, adapter)?) } else { None };
        let source = match &embedded {
            Some(hidden) => Source::Tokens(&hidden.tokens),
            None => Source::Pixels(pixels),
        };
        let merging = merging_of(merge);
        self.on_kernels(fused, source, 0, (grid, kept, merging.as_ref()), adapter, wanted)
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
        let Slices { pixels, kept, merge } = slices.into();
        let grid = self.grid_of(pixels)?;
        if block > self.info().blocks {
            let (name, blocks) = (&self.info().name, self.info().blocks);
            let message =
                format!("hidden states after {block} blocks were asked of {name}, which has {blocks}");
            return Err(BackboneError::Input(message));
        }
        let mut merging = merging_of(merge);
        let tokens = match &self.fused {
            Some(fused) => {
                let lora = PackedLora::new(fused, &NoAdapter)?;
                let place = Place { grid, kept: kept.map(|kept| &**kept), merging: merging.as_ref() };
                let passed = infer(fused, &lora, &Source::Pixels(pixels), place, 0..block, Last::TOKENS)?;
                merging = merging.map(|merging| Merging { done: passed.merged, ..merging });
                passed.tokens
            }
            None => {
                none_merged(merge)?;
                let begin = |pixels: &Tensor| self.arch.embed(pixels, &NoAdapter);
                self.frozen_blocks(&pixels.detach(), (grid, kept), begin, 0..block)?
            }
        };
        let merging = merging.map(Arc::new);
        Ok(HiddenStates { merging, ..self.hidden(tokens, block, grid, kept.cloned()) })
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
        let mut merging = hidden.merging.clone();
        let tokens = match &self.fused {
            Some(fused) => {
                let (source, lora) = (Source::Tokens(&hidden.tokens), PackedLora::new(fused, &NoAdapter)?);
                let (kept, of_hidden) = (hidden.kept.as_deref(), hidden.merging.as_deref());
                let place = Place { grid: hidden.grid, kept, merging: of_hidden };
                let passed = infer(fused, &lora, &source, place, hidden.block..block, Last::TOKENS)?;
                merging = of_hidden.map(|m| Arc::new(Merging { each: m.each, done: passed.merged }));
                passed.tokens
            }
            None => {
                let begin = |x: &Tensor| Ok(self.hidden(x.clone(), hidden.block, hidden.grid, None));
                let at = (hidden.grid, hidden.kept.as_ref());
                self.frozen_blocks(&hidden.tokens.detach(), at, begin, hidden.block..block)?
            }
        };
        Ok(HiddenStates { merging, ..self.hidden(tokens, block, hidden.grid, hidden.kept.clone()) })
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
        wanted: impl Into<Wanted>,
    ) -> Result<Features, BackboneError> {
        self.check(hidden, adapter)?;
        let (at, wanted) = ((hidden.grid, hidden.kept.as_ref()), self.given(wanted.into()));
        if let Some(fused) = self.fused.as_ref().filter(|_| adapter.only_low_rank()) {
            let source = Source::Tokens(&hidden.tokens);
            let at = (at.0, at.1, hidden.merging.as_deref());
            return self.on_kernels(fused, source, hidden.block, at, adapter, wanted);
        }
        none_merged(hidden.merging.as_ref().map_or(0, |merging| merging.each))?;
        let begin = |x: &Tensor| Ok(self.hidden(x.clone(), hidden.block, hidden.grid, None));
        self.in_chunks(&hidden.tokens, at, adapter, wanted, begin)
    }

    /// What a pass computes of what is wanted: a family without a class token makes what stands for it of its patches.
    fn given(&self, wanted: Wanted) -> Wanted {
        Wanted { patches: wanted.patches || !self.info().class_token, ..wanted }
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
        HiddenStates { tokens, block, grid, layout: self.info().layout(), kept, merging: None }
    }

    pub(super) fn grid_of(&self, pixels: &Tensor) -> Result<(usize, usize), BackboneError> {
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

/// On the processor's kernels.
impl Backbone {
    /// Without gradients up to the first block whose terms are trained, one candle operation per block from there on.
    fn on_kernels(
        &self,
        fused: &Arc<Fused>,
        source: Source<'_>,
        start: usize,
        (grid, kept, merging): ((usize, usize), Option<&Arc<KeptPatches>>, Option<&Merging>),
        adapter: &dyn SiteAdapter,
        wanted: Wanted,
    ) -> Result<Features, BackboneError> {
        let place = Place { grid, kept: kept.map(|kept| &**kept), merging };
        let lora = PackedLora::new(fused, adapter)?;
        // A family without a class token finds its attention where it finishes.
        let (blocks, class) =
            (adapter.depth(self.info().blocks), wanted.attention && self.info().class_token);
        let last = Last { class, wanted: (!wanted.patches).then_some(1) };
        let (tokens, split) = match source {
            Source::Tokens(x) if x.track_op() => (x.clone(), start),
            source => {
                let split = lora.first_tracked.min(blocks).max(start);
                let whole = split == blocks;
                let of_frozen = if whole { last } else { Last::TOKENS };
                let Passed { tokens, class, .. } =
                    infer(fused, &lora, &source, place, start..split, of_frozen)?;
                if whole {
                    return self.finish_on_kernels(fused, &tokens, class, (grid, kept), wanted);
                }
                (tokens, split)
            }
        };
        none_merged(merging.map_or(0, |merging| merging.each))?;
        let Passed { tokens, class, .. } =
            train(fused, &lora, (&tokens, grid, kept), split..blocks, last, self.kept_bytes)?;
        self.finish_on_kernels(fused, &tokens, class, (grid, kept), wanted)
    }

    /// Tokens [S, T, d] of the last block and the class token's attention [S, T] → features.
    fn finish_on_kernels(
        &self,
        fused: &Arc<Fused>,
        tokens: &Tensor,
        class: Option<Tensor>,
        (grid, kept): OnGrid<'_>,
        wanted: Wanted,
    ) -> Result<Features, BackboneError> {
        let normed = |first, n| match fused.patches_normed || first == 0 {
            _ if first > 0 && !wanted.patches => unwanted(tokens, n),
            true => tokens.apply_op1(NormOp { fused: fused.clone(), first, n, patches: kept.cloned() }),
            false => tokens.narrow(1, first, n),
        };
        Ok(self.arch.finish((grid, kept.map(|kept| &**kept)), &normed, class, wanted.attention)?)
    }
}

/// How tokens are merged from the first block on; `None`: they are not.
fn merging_of(each: usize) -> Option<Merging> {
    (each > 0).then(|| Merging::each(each))
}

/// Refuses to merge tokens where only all of them can be computed.
fn none_merged(each: usize) -> Result<(), BackboneError> {
    match each {
        0 => Ok(()),
        _ => Err(BackboneError::Input(
            "tokens are merged by the processor's kernels, without gradients and without code of a plugin in the blocks; \
             leave `merge` out"
                .to_owned(),
        )),
    }
}
