//! Panics before there is a task at all.

use anymc3d_plugin_api::prelude::*;

struct Stillborn;

impl Stillborn {
    fn new() -> Self {
        panic!("no table of labels")
    }
}

impl TaskPlugin for Stillborn {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        AttentionPooling::new(build).boxed()
    }
}

export_plugin!(Stillborn::new(), manifest = "plugin.toml");
