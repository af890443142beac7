//! The paper's adapter and head, on whatever backbone and labels it is built with.

use anymc3d_plugin_api::prelude::*;

struct Paper;

impl TaskPlugin for Paper {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        Ok(Lora::paper(build.backbone()).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::new(build).boxed()
    }
}

export_plugin!(Paper, manifest = "plugin.toml");
