//! Panics in `forward`, with a head that is otherwise whole.

use anymc3d_plugin_api::prelude::*;

struct Panics;

struct PanickingHead(AttentionPooling);

impl Head for PanickingHead {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let output = self.0.forward(views)?;
        panic!("{} views, and this plugin gives up", output.slice_weights.len());
    }
}

impl TaskPlugin for Panics {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        Ok(Box::new(PanickingHead(AttentionPooling::new(build)?)))
    }
}

export_plugin!(Panics, manifest = "plugin.toml");
