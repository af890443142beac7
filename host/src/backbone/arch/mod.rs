//! The families of vision transformers. Each one is a file: configuration, names, weights.
//!
//! A family reads its files into a [`transformer::Transformer`], whose blocks and forward pass the families share, and adds a
//! line to [`FAMILIES`]. The driver brings the rest: slices a few at a time, hidden states that tasks share, devices and
//! their memory.

mod block;
mod clip;
mod dinov2;
mod dinov3;
mod plain_config;
mod pooling;
mod siglip;
mod timm;
mod transformer;
mod vit;

use super::adapter::SiteAdapter;
use super::config::ConfigFile;
use super::cpu::fused::{Arithmetic, Fused};
use super::device_memory::BlockSize;
use super::error::BackboneError;
use super::features::{Features, HiddenStates};
use super::info::{BackboneInfo, config_fingerprint};
use super::kept::KeptPatches;
use super::quantised::QuantisedWeights;
use candle_core::{DType, Device, Result, Tensor};
use serde::Serialize;
use std::path::Path;

/// The final norm of tokens `first..first + n` of every slice, [S, n, d], by whoever computes it: candle or the kernels.
pub(crate) type NormedTokens<'a> = dyn Fn(usize, usize) -> Result<Tensor> + 'a;

/// One family of vision transformers with its frozen weights.
///
/// The methods that compute do it with candle's operations, which is the reference, and what runs on a GPU. [`Self::fused`]
/// gives the same model to the processor's kernels. The layers that an adapter may touch are
/// [`super::adapter::SiteSpec::of_vit`]'s for every family, because ABI 1.0 promises them to plugins.
pub(crate) trait Architecture: Send + Sync {
    /// Dimensions, preprocessing and fingerprint.
    fn info(&self) -> &BackboneInfo;

    /// Bytes of the frozen weights.
    fn bytes(&self) -> usize;

    /// What decides how much memory a block takes.
    fn block_size(&self) -> BlockSize;

    /// The same model on a device, its products in another type of number. Tokens between the blocks, norms and scales
    /// stay f32: what a block adds to a token is small beside it, and bf16 would round it away.
    fn to_device(&self, device: &Device, dtype: DType) -> Result<Box<dyn Architecture>>;

    /// Pixels [S, 3, H, W] → the input of block 0.
    fn embed(&self, pixels: &Tensor, adapter: &dyn SiteAdapter) -> Result<HiddenStates>;

    /// Block `x.block` on its input. Where asked for, also the class token's attention [S, T], mean over heads; a family
    /// without a class token gives `None`, and finds its attention in [`Self::finish`].
    fn block(
        &self,
        x: &HiddenStates,
        adapter: &dyn SiteAdapter,
        want_attention: bool,
    ) -> Result<(HiddenStates, Option<Tensor>)>;

    /// The final norm of every token that has one, [S, T, d].
    fn final_norm(&self, tokens: &Tensor) -> Result<Tensor>;

    /// The tokens of the last block, normed → features, on a grid of (h, w) patches of which some may be dropped. `attention`
    /// is what the last block gave, [S, T].
    ///
    /// A family with a pooling head puts the pooled output and the head's attention in the class token's place. Patches that
    /// are not kept are 0 in `normed`, and nobody attends to them.
    ///
    /// # Errors
    /// When the tokens are not of this model.
    fn finish(
        &self,
        on: ((usize, usize), Option<&KeptPatches>),
        normed: &NormedTokens<'_>,
        attention: Option<Tensor>,
        want_attention: bool,
    ) -> Result<Features>;

    /// The model on the processor's kernels, its blocks of the 8-bit layers that are given; `None` where the kernels lack an operation
    /// of the family.
    fn fused(&self, arithmetic: Arithmetic, quantised: Option<&QuantisedWeights>) -> Result<Option<Fused>>;
}

type Loaded<T> = std::result::Result<T, BackboneError>;
type Open = fn(&Path, ConfigFile) -> Loaded<Box<dyn Architecture>>;

/// Every `model_type` that is read, and the family that reads it.
const FAMILIES: [(&str, Open); 11] = [
    ("dinov2", dinov2::open),
    ("dinov2_with_registers", dinov2::open),
    ("dinov3_vit", dinov3::open),
    ("siglip", siglip::open),
    ("siglip_vision_model", siglip::open),
    ("siglip2", siglip::open),
    ("siglip2_vision_model", siglip::open),
    ("clip", clip::open),
    ("clip_vision_model", clip::open),
    ("vit", vit::open),
    ("vit_mae", vit::open),
];

/// Opens a folder by the `model_type` of its `config.json`, or as timm's by its `architecture`, on the processor.
pub(crate) fn open(dir: &Path) -> Loaded<Box<dyn Architecture>> {
    let config = ConfigFile::read(dir)?;
    match FAMILIES.iter().find(|(name, _)| *name == config.model_type()) {
        Some((_, open)) => open(dir, config),
        None if config.text("architecture").is_some() => timm::open(dir, config),
        None => Err(BackboneError::UnknownFamily {
            path: config.path().to_owned(),
            found: config.model_type().to_owned(),
            known: FAMILIES.map(|(name, _)| name).to_vec(),
        }),
    }
}

/// `info` with the fingerprint of its family's whole configuration.
fn identified(dir: &Path, info: BackboneInfo, config: &impl Serialize) -> Loaded<BackboneInfo> {
    let fingerprint = config_fingerprint(&info.sha256, &info.family, config)
        .map_err(|e| BackboneError::config(&dir.join("config.json"), e.to_string()))?;
    Ok(BackboneInfo { fingerprint, ..info })
}
