//! Gated attention pooling of slices (Ilse et al. 2018, arXiv 1802.04712) and a linear layer.

use anymc3d_plugin_api::prelude::*;

/// Width of the attention network.
const HIDDEN: usize = 32;

/// `a = softmax((tanh(H V) ⊙ σ(H U)) w)`, `z = aᵀ H`, logits `W z / √d + b`.
pub struct GatedAttention {
    tanh: Tensor,   // V [d, l]
    gate: Tensor,   // U [d, l]
    score: Tensor,  // w [l]
    weight: Tensor, // W [C, d]
    bias: Tensor,   // b [C]
}

impl GatedAttention {
    pub fn new(build: &Build) -> Result<Self> {
        let (d, params) = (build.backbone().embed_dim, build.params().within("head"));
        Ok(Self {
            tanh: params.get("tanh", &[d, HIDDEN], Init::linear(d))?,
            gate: params.get("gate", &[d, HIDDEN], Init::linear(d))?,
            score: params.get("score", &[HIDDEN], Init::linear(HIDDEN))?,
            weight: params.get("weight", &[build.outputs(), d], Init::linear(d))?,
            bias: params.get("bias", &[build.outputs()], Init::zeros())?,
        })
    }
}

impl Head for GatedAttention {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let [view] = views else {
            return Err(Error::msg(format!("this head is for one view, {} came", views.len())));
        };
        let h = &view.class_tokens; // [S, d]
        let gated = h.matmul(&self.tanh)?.tanh()?.mul(&h.matmul(&self.gate)?.sigmoid()?)?; // [S, l]
        let a = gated.matmul(&self.score)?.softmax(0)?; // [S]
        let z = a.matmul(h)?; // [d]
        let scale = 1.0 / (z.dims()?[0] as f64).sqrt();
        let logits = self.weight.matmul(&z.scale(scale)?)?.add(&self.bias)?; // [C]
        Ok(HeadOutput::new(logits).slice_weights(a))
    }
}
