//! Passes of which some patches are left out.

use super::*;

/// Of three slices of 3 x 5 patches: a block of them, all, and one.
pub(super) fn kept() -> candle_core::Result<Arc<KeptPatches>> {
    let mut table = [[0u8; 15]; 3];
    [1, 2, 3, 6, 7, 8, 13].iter().for_each(|&i| table[0][i] = 1);
    table[1] = [1; 15];
    table[2][14] = 1;
    Ok(Arc::new(KeptPatches::of_table(&Tensor::new(&table, &Device::Cpu)?)?.expect("some are dropped")))
}

/// 1 where a patch is kept, [S, n, 1].
fn table(kept: &KeptPatches) -> candle_core::Result<Tensor> {
    kept.table(DType::F32, &Device::Cpu)?.unsqueeze(2)
}

#[test]
fn dropped_patches_are_0_and_the_kernels_agree_with_the_masked_reference_for_every_family() -> Outcome {
    let kept = kept()?;
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let (x, adapter) = (pixels(3)?, lora(&variables(plain.info(), 0, true)?, plain.info())?);
        let slices = Slices { pixels: &x, kept: Some(&kept), merge: 0 };
        let expected = plain.forward(slices, &adapter, true)?;
        let map = expected.class_attention.clone().ok_or("no map")?.flatten_from(1)?.unsqueeze(2)?;
        for of_patches in [&expected.patch_tokens, &map] {
            let outside = of_patches.broadcast_mul(&(1.0 - table(&kept)?)?)?;
            assert_eq!(outside.abs()?.sum_all()?.to_scalar::<f32>()?, 0.0);
        }
        // A slice that keeps all is what it is without dropping.
        let whole = plain.forward(&x, &adapter, true)?;
        assert!(difference(&expected.class_tokens.get(1)?, &whole.class_tokens.get(1)?)? < 1e-5);
        assert!(difference(&expected.class_tokens.get(0)?, &whole.class_tokens.get(0)?)? > 1e-3);
        for kernels in engines() {
            let fast = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            let hidden = fast.hidden_states(slices, 0)?;
            let frozen = plain.forward(slices, &NoAdapter, true)?;
            let on = [
                (fast.forward(slices, &adapter, true)?, &expected),
                (fast.forward_from(&fast.forward_blocks(&hidden, 2)?, &NoAdapter, true)?, &frozen),
            ];
            for (found, expected) in on {
                assert!(difference(&found.class_tokens, &expected.class_tokens)? < 2e-4, "{tiny:?}");
                assert!(difference(&found.patch_tokens, &expected.patch_tokens)? < 2e-4, "{tiny:?}");
                let (a, b) = (found.class_attention, expected.class_attention.clone());
                assert!(difference(&a.ok_or("no map")?, &b.ok_or("no map")?)? < 2e-4, "{tiny:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_dropped_patches_show_changes_nothing() -> Outcome {
    let (kept, dir) = (kept()?, tempfile::tempdir()?);
    write(dir.path(), Tiny { registers: 2, ..Tiny::default() })?;
    let x = pixels(3)?;
    // [S, 1, H, W]: 1 on the pixels of dropped patches.
    let of_pixels = (1.0 - table(&kept)?)?.reshape((3, 1, 3, 1, 5, 1))?;
    let of_pixels =
        of_pixels.broadcast_as((3, 1, 3, PATCH, 5, PATCH))?.reshape((3, 1, 3 * PATCH, 5 * PATCH))?;
    let changed = x.broadcast_add(&(of_pixels * 7.0)?)?;
    for kernels in engines() {
        let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
        let [a, b] = [&x, &changed].map(|pixels| {
            backbone.forward(Slices { pixels, kept: Some(&kept), merge: 0 }, &NoAdapter, false)
        });
        assert_eq!(difference(&a?.class_tokens, &b?.class_tokens)?, 0.0, "{kernels:?}");
    }
    Ok(())
}

#[test]
fn gradients_through_kept_patches_are_the_masked_references() -> Outcome {
    let kept = kept()?;
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let (x, variables) = (pixels(3)?, variables(plain.info(), 1, false)?);
        let (slices, adapter) =
            (Slices { pixels: &x, kept: Some(&kept), merge: 0 }, lora(&variables, plain.info())?);
        let features = plain.forward(slices, &adapter, false)?;
        let seed = weights_of(&features)?;
        let expected = loss(&features, &seed)?.backward()?;
        for kernels in engines() {
            for kept_bytes in [usize::MAX, 0] {
                let mut fast = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
                fast.keep_at_most(kept_bytes);
                let hidden = fast.hidden_states(slices, 1)?;
                let grads = loss(&fast.forward_from(&hidden, &adapter, false)?, &seed)?.backward()?;
                for (name, variable) in &variables {
                    let (Some(a), Some(b)) = (grads.get(variable), expected.get(variable)) else {
                        return Err(format!("no gradient reached {name}").into());
                    };
                    let error = difference(a, b)?;
                    assert!(error < 5e-4, "{tiny:?} {kernels:?} {name}: {error}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn kept_patches_of_other_slices_are_refused() -> Outcome {
    let (kept, dir) = (kept()?, tempfile::tempdir()?);
    write(dir.path(), Tiny::default())?;
    for kernels in [vec![Kernels::Plain], engines()].concat() {
        let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
        let pixels = pixels(2)?;
        let error =
            backbone.forward(Slices { pixels: &pixels, kept: Some(&kept), merge: 0 }, &NoAdapter, false);
        assert!(error.err().ok_or("was accepted")?.to_string().contains("3 slices of 15"), "{kernels:?}");
    }
    Ok(())
}
