//! What radiologists rated of a marked lung nodule: five questions, one adapter. Chest CT and a mask of the nodule, one axial view.
//!
//! The tasks under plugins/ ask the same questions one by one. Here they share what is trained, so that a fold of all five takes the time
//! of one: examples/benchmark/ratings.toml compares methods on it.

use anymc3d_plugin_api::prelude::*;

struct NoduleRatings;

impl TaskPlugin for NoduleRatings {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        let backbone = build.backbone();
        Ok(Lora::paper(backbone).from_block(backbone.blocks * 2 / 3).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        RegionPooling::new(build).boxed()
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        Decoder::Token.build(build)
    }
}

export_plugin!(NoduleRatings, manifest = "plugin.toml");
