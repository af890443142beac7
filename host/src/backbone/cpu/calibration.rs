//! The frozen layers as 8-bit integers, rounded for what goes into them when the model looks at given slices.

use super::fused::{Change, Fused, FusedBlock, Layer};
use super::infer::{Last, Place, Source, infer, with_scratch};
use super::kernels::Isa;
use super::kernels::gemm::{Packed, Store, gemm_transposed};
use super::packed::numbers;
use super::packed_lora::PackedLora;
use super::rounding::{rounded, rounded_divided};
use crate::backbone::adapter::NoAdapter;
use crate::backbone::error::BackboneError;
use crate::backbone::precision::Precision;
use crate::backbone::quantised::{DIVIDED, LAYERS, QuantisedLayer};
use candle_core::Tensor;
use rayon::prelude::*;

/// Slices are summed in so many groups, whatever the threads: the sums, and so the steps, are the same on every machine of a kind.
const GROUPS: usize = 4;

/// Of the inputs X of each layer of a block XᵀX, and of those of [`DIVIDED`] how large each was at most.
struct Inputs {
    grams: [Vec<f32>; LAYERS.len()],
    most: Vec<f32>,
}

impl Inputs {
    fn new(widths: [usize; LAYERS.len()]) -> Self {
        Self { grams: widths.map(|k| vec![0f32; k * k]), most: vec![0f32; widths[DIVIDED]] }
    }

    /// Adds inputs x [t, k] of layer `layer`.
    fn add(&mut self, isa: Isa, layer: usize, x: &[f32], k: usize, packed: &mut Packed) {
        let t = x.len() / k;
        packed.repack(isa, Precision::F32, x, t, k, (k, 1));
        gemm_transposed(isa, x, k, k, packed, &mut self.grams[layer], k, Store::Add(None));
        if layer == DIVIDED {
            for row in x.chunks_exact(k) {
                self.most.iter_mut().zip(row).for_each(|(most, x)| *most = most.max(x.abs()));
            }
        }
    }

    fn plus(mut self, other: Self) -> Self {
        for (sums, more) in self.grams.iter_mut().zip(other.grams) {
            sums.iter_mut().zip(more).for_each(|(a, b)| *a += b);
        }
        self.most.iter_mut().zip(other.most).for_each(|(a, b)| *a = a.max(b));
        self
    }
}

/// The layers of each block, of a model in f32 that looks at `pixels` [S, 3, H, W]. `done` is told after each block how many are.
///
/// # Errors
/// When the pixels do not divide into patches, or their embedding fails.
pub(crate) fn quantised_blocks(
    fused: &Fused,
    pixels: &Tensor,
    grid: (usize, usize),
    done: &mut dyn FnMut(usize),
) -> Result<Vec<[QuantisedLayer; LAYERS.len()]>, BackboneError> {
    let place = Place { grid, kept: None, merging: None };
    let lora = PackedLora::new(fused, &NoAdapter)?;
    let embedded = infer(fused, &lora, &Source::Pixels(pixels), place, 0..0, Last::TOKENS)?.tokens;
    let turns = fused.turns(grid)?;
    let each = embedded.elem_count() / embedded.dim(0)?;
    let mut slices: Vec<Vec<f32>> = numbers(&embedded)?.chunks_exact(each).map(<[f32]>::to_vec).collect();
    let mut blocks = Vec::with_capacity(fused.blocks.len());
    for (i, block) in fused.blocks.iter().enumerate() {
        let change = Change { terms: &lora.blocks[i].0, turns: turns.as_ref(), wanted: None, sizes: None };
        let Inputs { grams, most } = through(block, change, &mut slices);
        let layers = [&block.qkv, &block.output, &block.up, &block.down];
        let work: Vec<_> = layers.into_iter().zip(grams).enumerate().collect();
        let of_layer = |(at, (layer, gram)): (usize, (&Layer, Vec<f32>))| match at {
            DIVIDED => rounded_divided(layer.weights(), gram, &most),
            _ => rounded(&layer.weights(), &gram, layer.d_in()),
        };
        let rounded: Vec<QuantisedLayer> = work.into_par_iter().map(of_layer).collect();
        blocks.push(rounded.try_into().unwrap_or_else(|_| unreachable!("as many as there were")));
        done(i + 1);
    }
    Ok(blocks)
}

/// Slices [T, d] become the block's output; what its layers read.
fn through(block: &FusedBlock, change: Change<'_>, slices: &mut [Vec<f32>]) -> Inputs {
    let widths = [&block.qkv, &block.output, &block.up, &block.down].map(|layer| layer.d_in());
    let group = slices.len().div_ceil(GROUPS).max(1);
    let of_group = |slices: &mut [Vec<f32>]| {
        let (mut inputs, mut packed) = (Inputs::new(widths), Packed::default());
        with_scratch(|s| {
            let mut keep = std::mem::take(&mut s.activations);
            for x in slices {
                let isa = block.arithmetic.isa;
                block.attend(change, x, None, &mut keep, s);
                inputs.add(isa, 0, s.normed(), widths[0], &mut packed);
                inputs.add(isa, 1, keep.mixed(), widths[1], &mut packed);
                block.mlp(x, &mut keep, false, s);
                inputs.add(isa, 2, s.normed(), widths[2], &mut packed);
                inputs.add(isa, 3, s.hidden(), widths[3], &mut packed);
            }
            s.activations = keep;
        });
        inputs
    };
    let parts: Vec<Inputs> = slices.par_chunks_mut(group).map(of_group).collect();
    parts.into_iter().reduce(Inputs::plus).unwrap_or_else(|| Inputs::new(widths))
}
