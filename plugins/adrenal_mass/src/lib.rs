//! Is an adrenal gland enlarged, or does it hold a mass? The segmented gland (AdrenalMNIST3D) from three sides.

use anymc3d_plugin_api::prelude::*;

struct AdrenalMass;

impl TaskPlugin for AdrenalMass {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks * 2 / 3).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::new(build).boxed()
    }
}

export_plugin!(AdrenalMass, manifest = "plugin.toml");
