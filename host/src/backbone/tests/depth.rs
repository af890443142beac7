//! A frozen backbone of which fewer blocks are computed.

use super::*;

struct UpTo(usize);

impl SiteAdapter for UpTo {
    fn first_block(&self) -> usize {
        usize::MAX
    }
    fn patch_embed(&self) -> bool {
        false
    }
    fn depth(&self, blocks: usize) -> usize {
        self.0.min(blocks)
    }
    fn only_low_rank(&self) -> bool {
        true
    }
}

#[test]
fn a_backbone_that_stops_early_gives_its_last_blocks_tokens_and_attention() -> Outcome {
    for tiny in ALL {
        let dir = tempfile::tempdir()?;
        write(dir.path(), tiny)?;
        let plain = Backbone::open_with(dir.path(), Precision::F32, Kernels::Plain)?;
        let x = pixels(3)?;
        let expected = plain.forward(&x, &UpTo(2), true)?;
        for kernels in engines().into_iter().chain([Kernels::Plain]) {
            let backbone = Backbone::open_with(dir.path(), Precision::F32, kernels)?;
            let found = backbone.forward(&x, &UpTo(2), true)?;
            assert!(difference(&found.class_tokens, &expected.class_tokens)? < 2e-4, "{kernels:?}");
            assert!(difference(&found.patch_tokens, &expected.patch_tokens)? < 2e-4, "{kernels:?}");
            let maps = (found.class_attention, expected.class_attention.clone());
            assert!(difference(&maps.0.ok_or("no map")?, &maps.1.ok_or("no map")?)? < 2e-4);
            // From the last block's tokens on, no block is left.
            let hidden = backbone.hidden_states(&x, 2)?;
            let from = backbone.forward_from(&hidden, &UpTo(2), false)?;
            assert!(difference(&from.patch_tokens, &expected.patch_tokens)? < 2e-4, "{kernels:?}");
            assert!(backbone.forward_from(&hidden, &UpTo(1), false).is_err());
            // All blocks are the whole backbone, and two of three are not.
            let whole = backbone.forward(&x, &NoAdapter, false)?;
            let all = backbone.forward(&x, &UpTo(BLOCKS), false)?;
            assert_eq!(difference(&all.patch_tokens, &whole.patch_tokens)?, 0.0, "{kernels:?}");
            assert!(difference(&expected.patch_tokens, &whole.patch_tokens)? > 1e-2, "{kernels:?}");
        }
    }
    Ok(())
}
