//! A stand-in for the backbone, so that an adapter has sites to act at: attention blocks with random frozen weights.

use super::task::Task;
use crate::adapter::Site;
use crate::build::BackboneInfo;
use crate::error::{Error, Result};
use crate::head::ViewFeatures;
use crate::tensor::Tensor;

/// Frozen weights, the same in every block: what counts is the way of the gradient, not what the blocks know.
struct Weights {
    patch: Tensor,  // [3·p·p, d]
    class: Tensor,  // [1, 1, d]
    qkv: Tensor,    // [d, 3 d]
    output: Tensor, // [d, d]
    ones: Tensor,   // [d]
    zeros: Tensor,  // [d]
}

impl Weights {
    fn new(task: &Task) -> Result<Self> {
        let (context, info) = (task.context(), task.backbone());
        let (d, pixels) = (info.embed_dim, 3 * info.patch_size.pow(2));
        let frozen = |name: &str, inputs: usize, outputs: usize| {
            let drawn = context.random(&format!("backbone/{name}"), &[inputs, outputs])?;
            drawn.scale(1.0 / (inputs as f64).sqrt())
        };
        Ok(Self {
            patch: frozen("patch", pixels, d)?,
            class: context.random("backbone/class", &[1, 1, d])?,
            qkv: frozen("qkv", d, 3 * d)?,
            output: frozen("output", d, d)?,
            ones: context.host().full(1.0, &[d])?,
            zeros: context.host().full(0.0, &[d])?,
        })
    }
}

/// The stand-in's sites with the width of each layer's input and output, in the order of computation: those that ABI 1.0
/// promises, as the host has them.
pub(crate) fn sites(backbone: &BackboneInfo) -> Vec<(Site, usize, usize)> {
    let d = backbone.embed_dim;
    let of_block = |i| [(Site::Qkv(i), d, 3 * d), (Site::AttentionOutput(i), d, d)];
    let patch = (Site::PatchEmbed, 3 * backbone.patch_size.pow(2), d);
    std::iter::once(patch).chain((0..backbone.blocks).flat_map(of_block)).collect()
}

/// The name that a site's parameters carry.
pub(crate) fn site_name(site: Site) -> String {
    match site {
        Site::PatchEmbed => "patch_embed".to_owned(),
        Site::Qkv(block) => format!("block.{block}.attention.qkv"),
        Site::AttentionOutput(block) => format!("block.{block}.attention.o_proj"),
    }
}

/// Random pixels of a view through the blocks, with the task's adapter at their sites.
pub(crate) fn features(
    task: &Task,
    view: usize,
    slices: usize,
    grid: [usize; 2],
    name: &str,
) -> Result<ViewFeatures> {
    let info = task.backbone();
    let Some(of) = task.manifest().views.get(view) else {
        return Err(Error::msg(format!("the task has no view {view}")));
    };
    let (d, n, w) = (info.embed_dim, grid[0] * grid[1], Weights::new(task)?);
    let norm = |x: &Tensor| x.layer_norm(&w.ones, &w.zeros, 1e-6);
    let pixels =
        task.context().random(&format!("{name}/{}", of.name), &[slices, n, 3 * info.patch_size.pow(2)])?;
    let patches = pixels.matmul(&w.patch)?;
    let patches = task.apply(view, Site::PatchEmbed, &pixels, patches)?; // [S, h·w, d]
    let mut x = Tensor::concat(&[&w.class.broadcast_to(&[slices, 1, d])?, &patches], 1)?; // [S, T, d]
    // Blocks before the first adapted one add nothing that a test could see; the last one is always there, so that class
    // tokens differ from slice to slice.
    let last = info.blocks.saturating_sub(1);
    for block in task.first_block(view).unwrap_or(last).min(last)..info.blocks {
        let input = norm(&x)?;
        let qkv = task.apply(view, Site::Qkv(block), &input, input.matmul(&w.qkv)?)?; // [S, T, 3 d]
        let mixed = attention(&qkv, info.heads)?;
        let output = task.apply(view, Site::AttentionOutput(block), &mixed, mixed.matmul(&w.output)?)?;
        x = x.add(&output)?;
    }
    let x = norm(&x)?;
    let class_tokens = x.narrow(1, 0, 1)?.reshape(&[slices, d])?;
    let features = ViewFeatures::new(of.name.as_str(), class_tokens, x.narrow(1, 1, n)?, grid);
    let mask = task.mask_features(of, slices, grid, name)?;
    Ok(features.with_geometry(task.geometry(slices)).with_mask(mask))
}

/// `[S, T, 3 d]` to `[S, T, d]`.
fn attention(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let dims = qkv.dims()?;
    let (s, t, d) = (dims[0], dims[1], dims[2] / 3);
    let wide = d / heads.max(1);
    let part = |i: usize| qkv.narrow(2, i * d, d)?.reshape(&[s, t, heads, wide])?.permute(&[0, 2, 1, 3]);
    let a = part(0)?.matmul(&part(1)?.t()?)?.scale(1.0 / (wide as f64).sqrt())?.softmax(3)?;
    a.matmul(&part(2)?)?.permute(&[0, 2, 1, 3])?.reshape(&[s, t, d])
}
