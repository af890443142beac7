//! What ABI 1.1 brought: a head that reads where its slices lie, on any backbone.

use anymc3d_plugin_api::prelude::*;

struct PositionProbe;

/// The standard head, plus a thousandth of the position (mm) that its attention is at.
struct Placed(AttentionPooling);

impl Head for Placed {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let output = self.0.forward(views)?;
        let positions = views[0].slice_positions_mm()?;
        let (centres, spacing) = (views[0].slice_centres_mm()?, views[0].token_spacing_mm()?);
        if centres.len() != positions.len() || spacing.iter().any(|mm| *mm <= 0.0) {
            return Err(Error::msg(format!("{positions:?} of {centres:?}, {spacing:?}")));
        }
        let host = output.logits.host();
        let positions = host.tensor(&positions, &[positions.len()])?; // [S]
        let at = output.slice_weights[0].matmul(&positions)?.reshape(&[1])?;
        let logits = output.logits.add(&at.scale(1e-3)?)?;
        Ok(output.with_logits(logits))
    }
}

impl TaskPlugin for PositionProbe {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        build.needs_slice_positions()?;
        AttentionPooling::new(build).map(Placed).boxed()
    }
}

export_plugin!(PositionProbe, manifest = "plugin.toml");
