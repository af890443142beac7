//! Is there a lung nodule at the point, and which voxels are it? Chest CT and a point, one axial view around it.

use anymc3d_plugin_api::prelude::*;

struct NodulePrompt;

impl TaskPlugin for NodulePrompt {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        // Frozen: head and decoder learn from features that are computed once per point.
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        PromptPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        PromptDecoder::new(build).some()
    }
}

export_plugin!(NodulePrompt, manifest = "plugin.toml");
