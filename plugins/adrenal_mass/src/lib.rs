//! Is an adrenal gland enlarged, or does it hold a mass? The segmented gland (AdrenalMNIST3D) from three sides.

use anymc3d_plugin_api::prelude::*;
use anymc3d_plugin_api::{Pooling, pool};

struct AdrenalMass;

impl TaskPlugin for AdrenalMass {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks * 2 / 3).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // Who compares poolings asks for one by name.
        match build.pooling()? {
            Some(_) => AttentionPooling::new(build).boxed(),
            None => ViewMeans::new(build).boxed(),
        }
    }
}

/// `logits = W m + b`, `m` the mean class token of each view's slices, one view after the other: `V · d` numbers. Each side keeps
/// weights of its own, because a gland does not look alike from all of them. `host train --logistic` fits W and b at once.
///
/// Every slice, and every view, has the same weight.
struct ViewMeans {
    views: Vec<String>,
    weight: Tensor, // [C, V * d]
    bias: Tensor,   // [C]
}

impl ViewMeans {
    fn new(build: &Build) -> Result<Self> {
        let inputs = build.views().len() * build.backbone().embed_dim;
        let head = build.params().within("head");
        let weight = head.get("weight", &[build.outputs(), inputs], Init::zeros())?;
        let bias = head.get("bias", &[build.outputs()], Init::zeros())?;
        Ok(Self { views: build.views().to_vec(), weight, bias })
    }
}

impl Head for ViewMeans {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let (mut means, mut slice_weights) = (Vec::new(), Vec::new());
        for name in &self.views {
            let view = views.iter().find(|view| view.name == *name);
            let view = view.ok_or_else(|| Error::msg(format!("the view {name} is missing")))?;
            let (mean, weights) = pool(Pooling::Mean, &view.class_tokens, None)?;
            means.push(mean);
            slice_weights.push(weights);
        }
        let all = Tensor::concat(&means.iter().collect::<Vec<_>>(), 0)?;
        let mut output = HeadOutput::new(self.weight.matmul(&all)?.add(&self.bias)?);
        output.slice_weights = slice_weights;
        let alike = self.weight.host().full(1.0 / self.views.len() as f64, &[self.views.len()])?;
        Ok(output.view_weights(alike).embedding(all))
    }
}

export_plugin!(AdrenalMass, manifest = "plugin.toml");
