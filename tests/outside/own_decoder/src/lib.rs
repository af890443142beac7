//! A task whose decoder and losses are its own: two 3D convolutions, a Dice loss with squares, and a hinge on the label.

use anymc3d_plugin_api::patch_mean;
use anymc3d_plugin_api::prelude::*;

struct OwnDecoder;

impl TaskPlugin for OwnDecoder {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks - 1).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::new(build).some()
    }

    /// Squared hinge: `max(0, 1 - z (2y - 1))²` over the known labels.
    fn loss(&self, _: &Build, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let signed = logits.mul(&targets.values.affine(2.0, -1.0)?)?;
        let hinge = signed.affine(-1.0, 1.0)?.relu()?.square()?;
        hinge.mul(&targets.known)?.sum_all()?.div(&targets.known.sum_all()?.clamp(1.0, f64::MAX)?)
    }
}

const CHANNELS: usize = 12;

/// Tokens → 12 channels → 3×3×3 over every other row and column, upsampled → 1×3×3 → a logit per half patch.
struct Decoder {
    project: Tensor,
    wide: Tensor,
    wide_bias: Tensor,
    narrow: Tensor,
    narrow_bias: Tensor,
}

impl Decoder {
    fn new(build: &Build) -> Result<Self> {
        let (params, d) = (build.params().within("segmentation"), build.backbone().embed_dim);
        Ok(Self {
            project: params.get("project", &[d, CHANNELS], Init::linear(d))?,
            wide: params.get("wide.weight", &[CHANNELS, CHANNELS, 3, 3, 3], Init::he(27 * CHANNELS))?,
            wide_bias: params.get("wide.bias", &[CHANNELS, 1, 1, 1], Init::zeros())?,
            narrow: params.get("narrow.weight", &[1, CHANNELS, 1, 3, 3], Init::he(9 * CHANNELS))?,
            narrow_bias: params.get("narrow.bias", &[1, 1, 1, 1], Init::constant(-2.0))?,
        })
    }
}

impl Segmentation for Decoder {
    fn logits(&self, view: &ViewFeatures) -> Result<Tensor> {
        let (slices, [h, w]) = (view.patch_tokens.dims()?[0], view.grid);
        let x = view.patch_tokens.matmul(&self.project)?; // [S, h·w, c]
        let x = x.reshape(&[slices, h, w, CHANNELS])?.permute(&[3, 0, 1, 2])?; // [c, S, h, w]
        let x = x.conv3d(&self.wide, [1, 2, 2], [1, 1, 1])?.add(&self.wide_bias)?.gelu()?;
        let x = x.resize_linear([slices, 2 * h, 2 * w])?;
        let z = x.conv3d(&self.narrow, [1, 1, 1], [0, 1, 1])?.add(&self.narrow_bias)?; // [1, S, 2h, 2w]
        z.squeeze(0)
    }

    fn loss(&self, view: &ViewFeatures, mask: &Tensor) -> Result<Tensor> {
        let z = self.logits(view)?;
        let [h, w] = view.grid;
        let y = patch_mean(mask, [2 * h, 2 * w])?;
        let p = z.sigmoid()?;
        let both = p.mul(&y)?.sum_all()?.affine(2.0, 1.0)?;
        let either = p.square()?.sum_all()?.add(&y.square()?.sum_all()?)?.affine(1.0, 1.0)?;
        both.div(&either)?.affine(-1.0, 1.0)
    }
}

export_plugin!(OwnDecoder, manifest = "plugin.toml");
