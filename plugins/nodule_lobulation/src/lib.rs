//! Is a marked lung nodule lobulated? Chest CT and a mask of the nodule, one axial view around it.

use anymc3d_plugin_api::prelude::*;

struct NoduleLobulation;

impl TaskPlugin for NoduleLobulation {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        // Tasks of one nodule share the pixels and the first two thirds of the blocks.
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks * 2 / 3).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // Size and density decide most of it: the head is told both, and learns from the pixels what they leave open.
        RegionPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(NoduleLobulation, manifest = "plugin.toml");
