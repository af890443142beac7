//! How round does a marked lung nodule look to a radiologist? Chest CT and a mask of the nodule, one axial view around it.

use anymc3d_plugin_api::prelude::*;

struct NoduleSphericity;

impl TaskPlugin for NoduleSphericity {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        // Tasks of one nodule share the pixels and the first two thirds of the blocks.
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks * 2 / 3).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // One output per step of the scale: is it rounder than 1, than 2, than 3, than 4?
        RegionPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(NoduleSphericity, manifest = "plugin.toml");
