//! Goes wrong in the way its first view is named, so that one library serves every test of the boundary.

use anymc3d_plugin_api::prelude::*;

struct Misbehaves;

/// A payload that panics once more when it is thrown away.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("the payload's own drop");
    }
}

struct BadHead {
    way: String,
    whole: AttentionPooling,
    kept: std::sync::Mutex<Vec<Tensor>>,
}

impl Drop for BadHead {
    fn drop(&mut self) {
        assert!(self.way != "panic_in_drop", "cannot let go");
    }
}

impl Head for BadHead {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let output = self.whole.forward(views)?;
        let host = output.logits.host();
        Ok(match self.way.as_str() {
            "panic_in_forward" => panic!("gives up after {} views", views.len()),
            "payload_panics" => std::panic::panic_any(Grenade),
            "caught_and_thrown_again" => {
                let caught = std::panic::catch_unwind(|| panic!("the first words"));
                std::panic::resume_unwind(caught.err().unwrap_or_else(|| Box::new("nothing was caught")))
            }
            "error_in_forward" => return Err(Error::msg("no such protocol")),
            "host_operation_fails" => HeadOutput { logits: output.logits.reshape(&[7, 7])?, ..output },
            "wrong_shape" => HeadOutput::new(host.full(0.0, &[3])?),
            "nan_logits" => HeadOutput::new(output.logits.scale(f64::NAN)?),
            "too_many_weights" => output.slice_weights(host.full(0.5, &[2])?),
            "short_weights" => HeadOutput::new(output.logits).slice_weights(host.full(1.0, &[1])?),
            "keeps_handles" => {
                let copy = output.logits.try_clone()?;
                self.kept.lock().map_err(|_| Error::msg("poisoned"))?.push(copy);
                output
            }
            // Handles that are no longer good among those that are: `forge` gives its own back first.
            "stale_logits" => HeadOutput { logits: forge(&output.logits), ..output },
            "absurd_broadcast" => {
                let row = host.full(1.0, &[1, 1 << 20])?;
                HeadOutput::new(row.broadcast_to(&[1 << 40, 1 << 20])?)
            }
            "absurd_outer" => {
                let column = host.full(1.0, &[1 << 22, 1])?;
                HeadOutput::new(column.add(&column.reshape(&[1, 1 << 22])?)?)
            }
            "absurd_product" => {
                let column = host.full(1.0, &[1 << 22, 1])?;
                HeadOutput::new(column.matmul(&column.reshape(&[1, 1 << 22])?)?)
            }
            _ => output,
        })
    }
}

/// The handle of a tensor that was given back already.
fn forge(tensor: &Tensor) -> Tensor {
    let host = tensor.host();
    match host.full(0.0, &[1]) {
        Ok(short_lived) => host.adopt(short_lived.handle()),
        Err(_) => host.adopt(tensor.handle()),
    }
}

impl TaskPlugin for Misbehaves {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        match build.views()[0].as_str() {
            "panic_in_adapter" => panic!("an adapter of no kind"),
            "absurd_rank" => {
                let mut lora = Lora::paper(build.backbone());
                lora.rank = usize::MAX;
                Ok(lora.into())
            }
            _ => Ok(Adapter::None),
        }
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        let way = build.views()[0].clone();
        match way.as_str() {
            "panic_in_head" => panic!("a head of no shape"),
            "absurd_parameter" => {
                build.params().get("huge", &[1 << 40, 1 << 10], Init::zeros())?;
            }
            "overflowing_parameter" => {
                build.params().get("huge", &[1 << 40, 1 << 40], Init::zeros())?;
            }
            _ => {}
        }
        Ok(Box::new(BadHead { way, whole: AttentionPooling::new(build)?, kept: Default::default() }))
    }

    fn segmentation(&self, _: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        panic!("no pixels")
    }

    fn loss(&self, _: &Build, _: &Tensor, _: &Targets) -> Result<Tensor> {
        panic!("no loss")
    }
}

export_plugin!(Misbehaves, manifest = "plugin.toml");
