//! A task of somebody else's: an adapter in code, a gated head, an asymmetric loss.

mod adapter;
mod head;
mod loss;

use anymc3d_plugin_api::prelude::*;

struct ThirdParty;

impl TaskPlugin for ThirdParty {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        Ok(Adapter::Custom(Box::new(adapter::Bottleneck::new(build)?)))
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        head::GatedAttention::new(build).boxed()
    }

    fn loss(&self, _: &Build, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        loss::asymmetric(logits, targets)
    }
}

export_plugin!(ThirdParty, manifest = "plugin.toml");

#[cfg(test)]
mod tests;
