//! Passes whose last block computes the class token alone.

use super::*;

#[test]
fn class_tokens_alone_are_those_of_a_whole_pass_with_their_attention_and_gradients() -> Outcome {
    let class_alone = Wanted { attention: true, patches: false };
    let kept = kept::kept()?;
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        for kernels in [vec![Kernels::Plain], engines()].concat() {
            let mut backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            let (x, variables) = (pixels(3)?, variables(backbone.info(), 1, false)?);
            let adapter = lora(&variables, backbone.info())?;
            for kept in [None, Some(&kept)] {
                let slices = Slices { pixels: &x, kept, merge: 0 };
                // Frozen, and from the first tracked block on.
                let frozen = [true.into(), class_alone].map(|w| backbone.forward(slices, &NoAdapter, w));
                same_classes(backbone.info(), frozen)?;
                let hidden = backbone.hidden_states(slices, 1)?;
                let mut slopes = Vec::new();
                for keep in [usize::MAX, 0] {
                    backbone.keep_at_most(keep);
                    for wanted in [true.into(), class_alone] {
                        let f = backbone.forward_from(&hidden, &adapter, wanted)?;
                        let weights = normal("of the class tokens", 0.0, 1.0, f.class_tokens.shape())?;
                        slopes.push((&f.class_tokens * weights)?.sum_all()?.backward()?);
                    }
                }
                for (name, variable) in &variables {
                    let of =
                        |g: &candle_core::backprop::GradStore| g.get(variable).cloned().ok_or("no gradient");
                    let expected = of(&slopes[0])?;
                    for found in &slopes[1..] {
                        assert!(difference(&of(found)?, &expected)? < 1e-5, "{kernels:?} {name}");
                    }
                }
            }
        }
    }
    Ok(())
}

/// A whole pass, and one of class tokens alone.
fn same_classes(info: &BackboneInfo, passes: [Result<Features, BackboneError>; 2]) -> Outcome {
    let [whole, alone] = passes;
    let (whole, alone) = (whole?, alone?);
    let bits = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
    assert_eq!(bits(&alone.class_tokens)?, bits(&whole.class_tokens)?);
    let maps = [whole.class_attention, alone.class_attention].map(|a| a.map(|a| bits(&a)).transpose());
    let [a, b] = maps;
    assert_eq!(a?, b?);
    // A family without a class token makes its pooled output of the patches.
    let nothing = bits(&alone.patch_tokens)?.iter().all(|x| *x == 0.0);
    assert_eq!(nothing, info.class_token);
    assert_eq!(alone.patch_tokens.dims(), whole.patch_tokens.dims());
    Ok(())
}
