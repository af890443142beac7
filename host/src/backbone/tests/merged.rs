//! Passes that merge tokens.

use super::*;

/// Hidden states whose patches are alike in pairs, before the last block but one.
fn pairs_of(backbone: &Backbone, merge: usize) -> Result<HiddenStates, Box<dyn std::error::Error>> {
    let hidden = backbone.hidden_states(&pixels(3)?, BLOCKS - 2)?;
    let leading = hidden.layout.leading();
    let doubled: Vec<u32> =
        (0..leading as u32 + 15).map(|row| row - row.saturating_sub(leading as u32) % 2).collect();
    let doubled = Tensor::new(doubled, &Device::Cpu)?;
    let tokens = hidden.tokens.index_select(&doubled, 1)?;
    let merging = (merge > 0).then(|| Arc::new(Merging::each(merge)));
    Ok(HiddenStates { tokens, merging, ..hidden })
}

#[test]
fn merging_tokens_that_are_alike_changes_nothing() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        for kernels in engines() {
            let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            if backbone.fused.as_ref().is_some_and(|fused| fused.rotation.is_some()) {
                // Rotated keys differ where tokens do not.
                continue;
            }
            let expected = backbone.forward_from(&pairs_of(&backbone, 0)?, &NoAdapter, true)?;
            let found = backbone.forward_from(&pairs_of(&backbone, 7)?, &NoAdapter, true)?;
            assert!(difference(&found.class_tokens, &expected.class_tokens)? < 1e-4);
            assert!(difference(&found.patch_tokens, &expected.patch_tokens)? < 1e-4);
            let (a, b) = (found.class_attention.ok_or("no map")?, expected.class_attention.ok_or("no map")?);
            assert!(difference(&a, &b)? < 1e-4);
        }
    }
    Ok(())
}

#[test]
fn a_merged_pass_is_the_same_whether_blocks_are_run_at_once_or_one_after_the_other() -> Outcome {
    let kept = kept::kept()?;
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        for kernels in engines() {
            let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            let x = pixels(3)?;
            for kept in [None, Some(&kept)] {
                let slices = Slices { pixels: &x, kept, merge: 2 };
                let at_once = backbone.forward(slices, &NoAdapter, true)?;
                let first = backbone.hidden_states(slices, 1)?;
                let second = backbone.forward_blocks(&first, 2)?;
                let left = |hidden: &HiddenStates| -> Vec<usize> {
                    let merging = hidden.merging.as_ref().expect("merged");
                    merging.done.iter().map(MergedRows::tokens).collect()
                };
                let leading = first.layout.leading();
                let all = kept.map_or([15; 3], |_| [7, 15, 1]);
                // Two at most, and half at most.
                let fewer = |n: [usize; 3]| n.map(|n| n - (n / 2).min(2));
                assert_eq!(left(&first), fewer(all).map(|n| n + leading));
                assert_eq!(left(&second), fewer(fewer(all)).map(|n| n + leading));
                for hidden in [&first, &second] {
                    let later = backbone.forward_from(hidden, &NoAdapter, true)?;
                    let bits = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
                    assert_eq!(bits(&later.class_tokens)?, bits(&at_once.class_tokens)?);
                    assert_eq!(bits(&later.patch_tokens)?, bits(&at_once.patch_tokens)?);
                }
                // The attention of a slice is shared out whole.
                if let (Some(map), true) = (at_once.class_attention, backbone.info().class_token) {
                    let whole = backbone.forward(Slices { merge: 0, ..slices }, &NoAdapter, true)?;
                    let sums = |map: &Tensor| map.sum((1, 2))?.to_vec1::<f32>();
                    let (a, b) = (sums(&map)?, sums(&whole.class_attention.ok_or("no map")?)?);
                    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 0.2 && *a < 1.0), "{a:?} {b:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_cannot_merge_tokens_says_so() -> Outcome {
    let dir = tempfile::tempdir()?;
    write(dir.path(), Tiny::default())?;
    let (x, plain) = (pixels(2)?, Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?);
    let slices = Slices { pixels: &x, kept: None, merge: 2 };
    let fast = Backbone::open_with(dir.path(), Precision::F32, engines()[0])?;
    let trained = lora(&variables(fast.info(), 0, false)?, fast.info())?;
    let refused = [
        plain.forward(slices, &NoAdapter, false).map(drop),
        plain.hidden_states(slices, 1).map(drop),
        fast.forward(slices, &trained, false).map(drop),
        fast.forward_from(&fast.hidden_states(slices, 0)?, &trained, false).map(drop),
    ];
    for outcome in refused {
        let message = outcome.expect_err("it merged tokens").to_string();
        assert!(message.contains("leave `merge` out"), "{message}");
    }
    Ok(())
}
