//! The second baseline: the frozen backbone, attention pooling over the slices, and a linear layer.

use anymc3d_plugin_api::prelude::*;

struct AttentionProbe;

impl TaskPlugin for AttentionProbe {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::new(build).boxed()
    }
}

export_plugin!(AttentionProbe, manifest = "plugin.toml");
