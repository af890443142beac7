//! Raptor (arXiv 2507.08254) as a task: a volume's tokens through a fixed random projection, and a linear head on them.
//!
//! Nothing of the backbone is trained, and nothing before the head: `host train` fits the logistic layer alone.

use anymc3d_plugin_api::prelude::*;

struct Raptor;

impl TaskPlugin for Raptor {
    fn adapter(&self, _: &Build) -> Result<Adapter> {
        Ok(Adapter::None)
    }

    fn head(&self, build: &Build) -> Result<Box<dyn Head>> {
        RandomProjection::new(build).boxed()
    }
}

/// All tokens of the last layer, the class token included, averaged over the slices of each view (`[T, d]`), times a fixed
/// random matrix (`[d, K]`, the same for all views), flattened and joined: `V · T · K` numbers, and a linear layer.
///
/// Settings in plugin.toml: `projections` is K, `seed` gives the matrix. A view that is missing counts as zeros.
struct RandomProjection {
    views: Vec<String>,
    projection: Tensor, // [d, K]
    weight: Tensor,     // [C, V * T * K]
    bias: Tensor,       // [C]
    /// Patches of an image of the manifest's size.
    grid: [usize; 2],
}

fn number(build: &Build, name: &str) -> Result<u64> {
    let text =
        build.setting(name).ok_or_else(|| Error::msg(format!("the host sent no `{name}`; it needs 1.1")))?;
    text.parse()
        .map_err(|_| Error::msg(format!("`{name}` is `{text}`; expected a whole number of 0 or more")))
}

impl RandomProjection {
    fn new(build: &Build) -> Result<Self> {
        let (d, patch) = (build.backbone().embed_dim, build.backbone().patch_size);
        let k =
            usize::try_from(number(build, "settings.projections")?).map_err(|e| Error::msg(e.to_string()))?;
        if !(1..=1000).contains(&k) {
            return Err(Error::msg(format!("`projections` is {k}; expected 1 to 1000")));
        }
        let grid = grid(build, patch)?;
        let tokens = 1 + grid[0] * grid[1];
        let values = standard_normal(number(build, "settings.seed")?, d * k);
        // Tokens are of about 1 in each of d numbers: their projections are then, too.
        let projection = build.host().tensor(&values, &[d, k])?.scale(1.0 / (d as f64).sqrt())?;
        let (c, inputs) = (build.outputs(), build.views().len() * tokens * k);
        let head = build.params().within("head");
        let weight = head.get("weight", &[c, inputs], Init::zeros())?;
        let bias = head.get("bias", &[c], Init::zeros())?;
        Ok(Self { views: build.views().to_vec(), projection, weight, bias, grid })
    }

    /// `[T · K]` of a view. Of an image of another size the patches nearest to those of the manifest's size count.
    fn embedding(&self, view: &ViewFeatures) -> Result<Tensor> {
        let class = view.class_tokens.mean_keep(0)?; // [1, d]
        let ([rows, columns], [h, w]) = (self.grid, view.grid);
        let place = |i: usize| i / columns * h / rows * w + i % columns * w / columns;
        let nearest: Vec<usize> = (0..rows * columns).map(place).collect();
        let patches = view.patch_tokens.mean(0)?.index_select(0, &nearest)?;
        let tokens = Tensor::concat(&[&class, &patches], 0)?; // [T, d]
        tokens.matmul(&self.projection)?.flatten()
    }
}

impl Head for RandomProjection {
    fn forward(&self, views: &[ViewFeatures]) -> Result<HeadOutput> {
        let length = self.weight.dims()?[1] / self.views.len().max(1);
        let host = self.weight.host();
        let mut parts = Vec::new();
        for name in &self.views {
            parts.push(match views.iter().find(|v| v.name == *name) {
                Some(view) => self.embedding(view)?,
                None => host.full(0.0, &[length])?,
            });
        }
        let all = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)?;
        let scale = 1.0 / (all.dims()?[0] as f64).sqrt();
        Ok(HeadOutput::new(self.weight.matmul(&all)?.scale(scale)?.add(&self.bias)?).embedding(all))
    }
}

/// Rows and columns of patches of an image. All views have the same size.
fn grid(build: &Build, patch: usize) -> Result<[usize; 2]> {
    let mut found = None;
    for view in build.views() {
        let name = format!("size.{view}");
        let text = build
            .setting(&name)
            .ok_or_else(|| Error::msg(format!("the host sent no `{name}`; it needs 1.1")))?;
        let sides: Option<Vec<usize>> = text.split(',').map(|n| n.parse().ok()).collect();
        let sides = sides.and_then(|sides| <[usize; 2]>::try_from(sides).ok());
        let sides =
            sides.ok_or_else(|| Error::msg(format!("`{name}` is `{text}`; expected rows,columns")))?;
        let grid = sides.map(|n| n.div_ceil(patch).max(1));
        if *found.get_or_insert(grid) != grid {
            return Err(Error::msg("all views of a random projection need the same size"));
        }
    }
    found.ok_or_else(|| Error::msg("a task without views"))
}

/// `n` standard normal numbers of a seed: SplitMix64 (Steele, Lea, Flood 2014) and Box-Muller, in a fixed order.
fn standard_normal(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut pairs = (0..n.div_ceil(2)).flat_map(|_| {
        let (u, v) = (1.0 - uniform(), uniform());
        let radius = (-2.0 * u.ln()).sqrt();
        let angle = std::f64::consts::TAU * v;
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    });
    (0..n).map_while(|_| pairs.next()).collect()
}

export_plugin!(Raptor, manifest = "plugin.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projection_is_standard_normal_and_the_seeds_alone() {
        let values = standard_normal(7, 40_001);
        assert_eq!(values.len(), 40_001);
        assert_eq!(values, standard_normal(7, 40_001));
        assert_ne!(values[..8], standard_normal(8, 8)[..]);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
