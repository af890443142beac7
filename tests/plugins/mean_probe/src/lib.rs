//! The weakest baseline: the frozen backbone, the mean of the slices' class tokens, and a linear layer.

use anymc3d_plugin_api::prelude::*;

struct MeanProbe;

impl TaskPlugin for MeanProbe {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::with(build, Pooling::Mean).boxed()
    }
}

export_plugin!(MeanProbe, manifest = "plugin.toml");
