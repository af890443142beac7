//! Is the liver injured? Contrast CT of the abdomen, one axial view.

use anymc3d_plugin_api::prelude::*;

struct LiverInjury;

impl TaskPlugin for LiverInjury {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        // The first half of the blocks stays frozen: its result is shared between tasks and cached in training.
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks / 2).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // An injury is a patch or two wide: its patches are heard beside the class tokens, masks or no masks.
        PatchPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(LiverInjury, manifest = "plugin.toml");
