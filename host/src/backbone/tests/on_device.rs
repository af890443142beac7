//! What a GPU runs: on a GPU where there is one, and with the same operations on the processor.

use super::*;

/// The processor, and a GPU where this machine and this build have one.
fn devices() -> Vec<Device> {
    let gpu = DeviceChoice::Auto.open(None).ok().filter(|device| !device.is_cpu());
    if gpu.is_none() {
        println!("skipped on a GPU: {}", gpus().err().unwrap_or_default());
    }
    std::iter::once(Device::Cpu).chain(gpu).collect()
}

#[test]
fn the_operations_of_a_gpu_agree_with_the_plain_path_in_values_and_gradients() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let (x, variables) = (pixels(5)?, variables(plain.info(), 1, false)?);
        let adapter = lora(&variables, plain.info())?;
        let expected = plain.forward(&x, &adapter, true)?;
        let seed = weights_of(&expected)?;
        let by = loss(&expected, &seed)?.backward()?;
        for device in devices() {
            for (precision, near, of_gradients) in
                [(Precision::F32, 2e-4, 5e-4), (Precision::Bf16, 6e-2, 0.15)]
            {
                let opened = Backbone::open_on_device(dir.path(), precision, &device)?;
                let found = opened.forward_from(&opened.hidden_states(&x, 1)?, &adapter, true)?;
                assert_eq!(found.class_tokens.dtype(), DType::F32);
                let home = |t: &Tensor| t.to_device(&Device::Cpu);
                let pairs = [
                    (&found.class_tokens, &expected.class_tokens),
                    (&found.patch_tokens, &expected.patch_tokens),
                    (
                        found.class_attention.as_ref().ok_or("no map")?,
                        expected.class_attention.as_ref().ok_or("no map")?,
                    ),
                ];
                for (a, b) in pairs {
                    let apart = difference(&home(a)?, b)?;
                    assert!(apart < near, "{device:?} {precision:?}: {apart}");
                }
                // Without gradients candle's fused operations serve: the same again.
                let constant = variables.iter().map(|(n, v)| (n.clone(), v.as_tensor().detach())).collect();
                let constant = LoraWeights::from_tensors(&constant, 1.5, plain.info())?;
                let fused = opened.forward(&x, &constant, false)?;
                assert!(difference(&home(&fused.patch_tokens)?, &expected.patch_tokens)? < near);
                let seed = [seed[0].to_device(&device)?, seed[1].to_device(&device)?];
                let grads = loss(&found, &seed)?.backward()?;
                for (name, variable) in &variables {
                    let (Some(a), Some(b)) = (grads.get(variable), by.get(variable)) else {
                        return Err(format!("no gradient reached {name}").into());
                    };
                    let apart = difference(&home(a)?, b)?;
                    assert!(apart < of_gradients, "{device:?} {precision:?} {name}: {apart}");
                }
            }
        }
    }
    Ok(())
}

/// Code at every site, which changes what it is given.
struct Code;

impl SiteAdapter for Code {
    fn first_block(&self) -> usize {
        0
    }
    fn patch_embed(&self) -> bool {
        true
    }
    fn apply(&self, _site: Site, input: &Tensor, output: Tensor) -> candle_core::Result<Tensor> {
        assert_eq!((input.dtype(), output.dtype()), (DType::F32, DType::F32));
        output.affine(1.1, 0.0)?.broadcast_add(&input.mean_keepdim(candle_core::D::Minus1)?)
    }
}

#[test]
fn code_of_a_task_sees_full_floats_whatever_the_blocks_compute_in() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny::default())?;
    let x = pixels(4)?;
    let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?.forward(&x, &Code, false)?;
    for device in devices() {
        for (precision, near) in [(Precision::F32, 2e-4), (Precision::Bf16, 6e-2)] {
            let found =
                Backbone::open_on_device(dir.path(), precision, &device)?.forward(&x, &Code, false)?;
            let apart = difference(&found.patch_tokens.to_device(&Device::Cpu)?, &plain.patch_tokens)?;
            assert!(apart < near, "{device:?} {precision:?}: {apart}");
        }
    }
    Ok(())
}
