//! A bottleneck adapter (Houlsby et al. 2019, arXiv 1902.00751) after the attention of the last blocks: not low-rank
//! terms of a weight, but a small network of its own with a rectifier in the middle.

use anymc3d_plugin_api::prelude::*;

/// How many blocks are adapted, from the last one backwards.
const BLOCKS: usize = 3;
/// Numbers that a token is squeezed into.
const WIDTH: usize = 16;

/// `y + gelu(y D + b) U` at the attention's output of each of the last blocks, `U` zero at the start.
pub struct Bottleneck {
    first_block: usize,
    layers: Vec<Layer>,
}

struct Layer {
    down: Tensor, // [d, w]
    bias: Tensor, // [w]
    up: Tensor,   // [w, d]
}

impl Bottleneck {
    /// Parameters under `adapter.`, so that they learn at the adapter's rate and are counted as its.
    pub fn new(build: &Build) -> Result<Self> {
        let backbone = build.backbone();
        let (d, first_block) = (backbone.embed_dim, backbone.blocks.saturating_sub(BLOCKS));
        let layer = |block: usize| {
            let params = build.params().within(&format!("adapter.block.{block}"));
            Ok(Layer {
                down: params.get("down", &[d, WIDTH], Init::linear(d))?,
                bias: params.get("bias", &[WIDTH], Init::zeros())?,
                up: params.get("up", &[WIDTH, d], Init::zeros())?,
            })
        };
        Ok(Self { first_block, layers: (first_block..backbone.blocks).map(layer).collect::<Result<_>>()? })
    }
}

impl SiteAdapter for Bottleneck {
    fn first_block(&self) -> usize {
        self.first_block
    }

    fn apply(&self, site: Site, _input: &Tensor, output: Tensor) -> Result<Tensor> {
        let Site::AttentionOutput(block) = site else { return Ok(output) };
        let Some(layer) = block.checked_sub(self.first_block).and_then(|i| self.layers.get(i)) else {
            return Ok(output);
        };
        let inner = output.matmul(&layer.down)?.add(&layer.bias)?.gelu()?; // [S, T, w]
        output.add(&inner.matmul(&layer.up)?)
    }
}
