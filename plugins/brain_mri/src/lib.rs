//! A stroke, a tumour, a cyst or none? One view per sequence, of which any may be missing.

use anymc3d_plugin_api::prelude::*;

struct BrainMri;

impl TaskPlugin for BrainMri {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        // The first half of the blocks stays frozen: its result is shared between tasks and cached in training.
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks / 2).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // No single sequence tells the classes apart: each is asked what it shows where a lesion seems to be.
        PatchPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(BrainMri, manifest = "plugin.toml");
