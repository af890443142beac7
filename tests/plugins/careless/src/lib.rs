//! A good plugin with one planted mistake, the one that its view is named after; `axial` has none.

use anymc3d_plugin_api::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

struct Careless;

struct CarelessHead {
    mistake: String,
    pooling: AttentionPooling,
    /// A gate on the logits `[C]`.
    gate: Tensor,
    params: Params,
    calls: AtomicU32,
    kept: Mutex<Vec<Tensor>>,
    scratch: Mutex<Vec<f32>>,
}

impl Drop for CarelessHead {
    fn drop(&mut self) {
        assert!(self.mistake != "panics_in_drop", "a file that is no longer there");
    }
}

impl CarelessHead {
    /// What the mistake makes of a good answer.
    fn spoilt(&self, view: &ViewFeatures, output: HeadOutput) -> Result<HeadOutput> {
        let host = output.logits.host();
        let dims = view.class_tokens.dims()?;
        let plus = |output: HeadOutput, more: Tensor| -> Result<HeadOutput> {
            let logits = output.logits.add(&more.reshape(&[1])?)?;
            Ok(output.with_logits(logits))
        };
        match self.mistake.as_str() {
            "fixed_width" => {
                let row = host.full(0.01, &[48])?;
                plus(output, view.class_tokens.mean(0)?.matmul(&row)?)
            }
            "keeps_state" => {
                let before = self.calls.fetch_add(1, Ordering::Relaxed);
                plus(output, host.full(f64::from(before) * 1e-3, &[1])?)
            }
            "sees_order" => plus(output, view.class_tokens.narrow(0, 0, 1)?.mean_all()?),
            "divides_by_spread" => {
                let centred = view.class_tokens.sub(&view.class_tokens.mean(0)?)?;
                let spread = centred.square()?.mean(0)?.sqrt()?;
                plus(output, centred.div(&spread)?.square()?.mean_all()?)
            }
            "keeps_handles" => {
                let copy = output.logits.try_clone()?;
                self.kept.lock().map_err(|_| Error::msg("poisoned"))?.push(copy);
                Ok(output)
            }
            "leaks_memory" => {
                Box::leak(vec![1u8; 512 << 10].into_boxed_slice());
                Ok(output)
            }
            "squeezes" if dims[0] == 1 => {
                let weights =
                    output.slice_weights.into_iter().map(|w| w.reshape(&[])).collect::<Result<_>>()?;
                let mut squeezed = HeadOutput::new(output.logits);
                squeezed.slice_weights = weights;
                Ok(squeezed)
            }
            "fixed_grid" => {
                let map = view.patch_tokens.reshape(&[dims[0], 5, 4, dims[1]])?;
                plus(output, map.mean_all()?)
            }
            "crashes_on_two_slices" if dims[0] == 2 => std::process::abort(),
            "never_returns" if dims[0] == 31 => loop {
                std::hint::spin_loop();
            },
            "two_outputs" => {
                let both = Tensor::concat(&[&output.logits, &output.logits], 0)?;
                Ok(output.with_logits(both))
            }
            "late_parameter" => {
                let late = self.params.get("late", &[1], Init::ones())?;
                plus(output, late)
            }
            "shares_scratch" => {
                *self.scratch.lock().map_err(|_| Error::msg("poisoned"))? = output.logits.to_vec()?;
                std::thread::sleep(std::time::Duration::from_millis(2));
                let back = self.scratch.lock().map_err(|_| Error::msg("poisoned"))?.clone();
                plus(output, host.tensor(&back, &[1])?)
            }
            _ => Ok(output),
        }
    }
}

impl Head for CarelessHead {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let [view] = views else { return Err(Error::msg(format!("{} views, expected one", views.len()))) };
        let output = self.pooling.forward(views)?;
        let gate = if self.mistake == "no_gradient" { self.gate.detach()? } else { self.gate.try_clone()? };
        let logits = output.logits.mul(&gate)?;
        let output = output.with_logits(logits);
        self.spoilt(view, output)
    }
}

impl TaskPlugin for Careless {
    fn adapter(&self, build: &Build) -> Result<Adapter> {
        let last = build.backbone().blocks - 1;
        Ok(Lora::paper(build.backbone()).from_block(last).into())
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        Ok(Box::new(CarelessHead {
            mistake: build.views()[0].clone(),
            pooling: AttentionPooling::new(build)?,
            gate: build.params().get("gate", &[build.outputs()], Init::ones())?,
            params: build.params(),
            calls: AtomicU32::new(0),
            kept: Mutex::default(),
            scratch: Mutex::default(),
        }))
    }

    fn segmentation(&self, build: &Build) -> Result<Option<Box<dyn Segmentation>>> {
        TokenDecoder::new(build).some()
    }
}

export_plugin!(Careless, manifest = "plugin.toml");
