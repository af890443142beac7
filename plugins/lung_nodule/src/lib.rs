//! Is there a lung nodule of 8 mm or more? Chest CT, one axial view.

use anymc3d_plugin_api::prelude::*;

struct LungNodule;

impl TaskPlugin for LungNodule {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        // The first half of the blocks stays frozen: its result is shared between tasks and cached in training.
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks / 2).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        // A nodule of 8 mm is a third of a patch in one slice of forty: class tokens alone learn it slowly.
        PatchEvidence::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(LungNodule, manifest = "plugin.toml");
