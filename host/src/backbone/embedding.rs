//! From pixels to the tokens of the first block: patch projection, class token, registers and positions.

use super::adapter::{Site, SiteAdapter};
use super::error::BackboneError;
use super::features::{HiddenStates, TokenLayout};
use super::layers::{LayerNorm, Linear, adapted};
use super::position::PositionTable;
use super::weights::Weights;
use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// The embedding that the families share; each family reads it from its own tensors.
#[derive(Clone)]
pub(crate) struct PatchEmbedding {
    /// Over unfolded patches: [d, 3·p·p].
    pub projection: Linear,
    /// p, in pixels.
    pub patch_size: usize,
    /// [1, 1, d]
    pub class_token: Option<Tensor>,
    /// [1, registers, d]
    pub registers: Option<Tensor>,
    /// Absent where positions enter the blocks as rotations.
    pub positions: Option<Arc<PositionTable>>,
    /// Of all tokens before block 0, where the family has one (CLIP).
    pub norm: Option<LayerNorm>,
}

/// Takes a patch convolution `name.weight` [d, channels, p, p] and, where it has one, `name.bias` [d], as a layer over unfolded
/// patches [d, 3·p·p].
///
/// A convolution over one channel reads the mean of the host's three, which on a grey slice are the same number: each of them
/// gets a third of its weight. Where a task gives three different slices as channels, it sees their mean.
pub(crate) fn patch_projection(
    weights: &mut Weights,
    name: &str,
    (d, p): (usize, usize),
    channels: usize,
    bias: bool,
) -> std::result::Result<Linear, BackboneError> {
    let conv = weights.take(&format!("{name}.weight"), &[d, channels, p, p])?;
    let conv = match channels {
        1 => (conv.broadcast_as((d, 3, p, p))? / 3.0)?,
        _ => conv,
    };
    let bias = match bias {
        true => weights.take(&format!("{name}.bias"), &[d])?,
        false => Tensor::zeros(d, DType::F32, &Device::Cpu)?,
    };
    Ok(Linear { weight: conv.reshape((d, 3 * p * p))?, bias })
}

/// What an embedding adds to the projected patches of one grid.
pub(crate) struct Frame {
    /// Class token with its position, then registers, which have none: [1, leading, d].
    pub leading: Option<Tensor>,
    /// [1, h·w, d]
    pub positions: Option<Tensor>,
}

impl PatchEmbedding {
    /// d, the width of a token.
    pub fn width(&self) -> Result<usize> {
        self.projection.weight.dim(0)
    }

    pub fn layout(&self) -> Result<TokenLayout> {
        let registers = self.registers.as_ref().map_or(Ok(0), |r| r.dim(1))?;
        Ok(TokenLayout { class_token: self.class_token.is_some(), registers })
    }

    /// Pixels of an image → (h, w) in patches.
    pub fn grid(&self, (height, width): (usize, usize)) -> (usize, usize) {
        (height / self.patch_size, width / self.patch_size)
    }

    pub fn bytes(&self) -> usize {
        self.projection.bytes()
    }

    /// The same on a device, the projection's weight in another type of number.
    pub fn to_device(&self, device: &Device, dtype: DType) -> Result<Self> {
        let moved = |t: &Option<Tensor>| t.as_ref().map(|t| t.to_device(device)).transpose();
        Ok(Self {
            projection: self.projection.to_device(device, dtype, DType::F32)?,
            patch_size: self.patch_size,
            class_token: moved(&self.class_token)?,
            registers: moved(&self.registers)?,
            positions: self.positions.as_ref().map(|p| Arc::new(p.to_device(device))),
            norm: self.norm.as_ref().map(|n| n.to_device(device)).transpose()?,
        })
    }

    /// What is added to the patches of a grid.
    pub fn frame(&self, grid: (usize, usize)) -> Result<Frame> {
        let of_class = self.positions.as_ref().is_some_and(|p| p.of_class());
        let table = self.positions.as_ref().map(|p| p.at(grid)).transpose()?; // [1, (1 +) h·w, d]
        let class = match (&self.class_token, &table) {
            (Some(class), Some(table)) if of_class => Some((class + table.narrow(1, 0, 1)?)?),
            (class, _) => class.clone(),
        };
        let leading = match (class, &self.registers) {
            (Some(class), Some(registers)) => Some(Tensor::cat(&[&class, registers], 1)?),
            (class, registers) => class.or_else(|| registers.clone()),
        };
        let positions = table.map(|t| t.narrow(1, usize::from(of_class), grid.0 * grid.1)).transpose()?;
        Ok(Frame { leading, positions })
    }

    /// Pixels [S, 3, H, W] → patches [S, h·w, 3·p·p], each laid out channel, row, column as the weights are.
    pub fn unfold(&self, pixels: &Tensor) -> Result<Tensor> {
        let (s, c, height, width) = pixels.dims4()?;
        let (p, (h, w)) = (self.patch_size, self.grid((height, width)));
        pixels.reshape((s, c, h, p, w, p))?.permute((0, 2, 4, 1, 3, 5))?.reshape((s, h * w, c * p * p))
    }

    /// Pixels [S, 3, H, W] → the input of block 0, [S, T, d]. The adapter acts at the patch projection.
    pub fn forward(&self, pixels: &Tensor, adapter: &dyn SiteAdapter) -> Result<HiddenStates> {
        let (s, _, height, width) = pixels.dims4()?;
        let (grid, d) = (self.grid((height, width)), self.width()?);
        let frame = self.frame(grid)?;
        let mut tokens = adapted(&self.projection, &self.unfold(pixels)?, Site::PatchEmbed, adapter)?; // [S, h·w, d]
        if let Some(positions) = &frame.positions {
            tokens = tokens.broadcast_add(positions)?;
        }
        if let Some(leading) = &frame.leading {
            let leading = leading.broadcast_as((s, leading.dim(1)?, d))?;
            tokens = Tensor::cat(&[&leading, &tokens], 1)?; // [S, T, d]
        }
        if let Some(norm) = &self.norm {
            tokens = norm.forward(&tokens)?;
        }
        Ok(HiddenStates { tokens, block: 0, grid, layout: self.layout()?, kept: None, merging: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::adapter::NoAdapter;

    #[test]
    fn leading_tokens_and_positions_are_there_only_where_the_family_has_them() -> Result<()> {
        let (d, p) = (4, 2);
        let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu);
        let bare = PatchEmbedding {
            projection: Linear { weight: ones(&[d, 3 * p * p])?, bias: ones(&[d])? },
            patch_size: p,
            class_token: None,
            registers: None,
            positions: None,
            norm: None,
        };
        let pixels = ones(&[2, 3, 3 * p, 5 * p])?;
        let x = bare.forward(&pixels, &NoAdapter)?;
        assert_eq!((x.grid, x.layout.leading(), x.tokens.dims()), ((3, 5), 0, &[2, 15, d][..]));
        // Twelve ones of a patch, and the bias.
        assert_eq!(x.tokens.flatten_all()?.to_vec1::<f32>()?, vec![13.0; 2 * 15 * d]);

        let class_token = Some((ones(&[1, 1, d])? * 7.0)?);
        let full = PatchEmbedding { class_token, registers: Some((ones(&[1, 2, d])? * 9.0)?), ..bare };
        let x = full.forward(&pixels, &NoAdapter)?;
        assert_eq!((x.layout.class_token, x.layout.registers, x.tokens.dim(1)?), (true, 2, 18));
        let column: Vec<f32> = x.tokens.get(1)?.narrow(1, 0, 1)?.flatten_all()?.to_vec1()?;
        assert_eq!(column[..4], [7.0, 9.0, 9.0, 13.0]);
        Ok(())
    }
}
