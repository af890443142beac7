//! Which patches of each slice are computed. The others leave before block 0: they are neither queries nor keys nor values, and
//! their tokens are 0.
//!
//! On the processor's kernels a slice is as long as its kept patches. In candle's operations all slices are as long as the grid,
//! and the scores of dropped keys are -∞, which gives the same numbers.

use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// The patches of each of S slices that are computed, at least one of each slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPatches {
    /// Patches of a slice, h·w.
    patches: usize,
    /// Of each slice, ascending, by number (row · w + column).
    slices: Vec<Vec<u32>>,
}

/// (h, w) in patches, and those that are computed.
pub(crate) type OnGrid<'a> = ((usize, usize), Option<&'a Arc<KeptPatches>>);

impl KeptPatches {
    /// Those in which any pixel of `shown` [S, H, W] is above 0; of a slice without such a pixel, the patch in its centre.
    /// `None` where all patches of all slices are kept.
    ///
    /// H and W are `h · edge` and `w · edge`.
    pub fn showing(shown: &[f32], (h, w): (usize, usize), edge: usize) -> Option<Self> {
        let columns = w * edge;
        let of_slice = |pixels: &[f32]| {
            let mut kept = vec![false; h * w];
            for (y, row) in pixels.chunks_exact(columns).enumerate() {
                for (x, patch) in row.chunks_exact(edge).enumerate() {
                    kept[y / edge * w + x] |= patch.iter().any(|v| *v > 0.0);
                }
            }
            let found: Vec<u32> = (0..).zip(&kept).filter(|(_, kept)| **kept).map(|(i, _)| i).collect();
            if found.is_empty() { vec![(h / 2 * w + w / 2) as u32] } else { found }
        };
        let slices = shown.chunks_exact(h * w * edge * edge).map(of_slice).collect();
        Self::of_lists(h * w, slices)
    }

    /// Of lists that are ascending and below `patches`; `None` where nothing is dropped.
    fn of_lists(patches: usize, slices: Vec<Vec<u32>>) -> Option<Self> {
        let all = slices.iter().all(|s| s.len() == patches);
        (!all).then_some(Self { patches, slices })
    }

    /// From a table [S, h·w] of 0 and 1, as [`Self::table`] makes it. `None` where nothing is dropped.
    ///
    /// # Errors
    /// When it is of another rank, or a slice keeps no patch.
    pub fn of_table(table: &Tensor) -> Result<Option<Self>> {
        let (_, patches) = table.dims2()?;
        let rows = table.to_dtype(DType::U8)?.to_vec2::<u8>()?;
        let of = |row: Vec<u8>| (0..).zip(row).filter(|(_, kept)| *kept > 0).map(|(i, _)| i).collect();
        let slices: Vec<Vec<u32>> = rows.into_iter().map(of).collect();
        if slices.iter().any(Vec::is_empty) {
            candle_core::bail!("a slice without any patch");
        }
        Ok(Self::of_lists(patches, slices))
    }

    /// [S, h·w]: 1 where a patch is kept, else 0.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn table(&self, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut table = vec![0u8; self.slices.len() * self.patches];
        for (row, kept) in table.chunks_exact_mut(self.patches).zip(&self.slices) {
            kept.iter().for_each(|&i| row[i as usize] = 1);
        }
        Tensor::from_vec(table, (self.slices.len(), self.patches), device)?.to_dtype(dtype)
    }

    /// Slices.
    pub fn slices(&self) -> usize {
        self.slices.len()
    }

    /// Patches of a slice, kept or not.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Those of a slice, ascending.
    pub fn of_slice(&self, slice: usize) -> &[u32] {
        &self.slices[slice]
    }

    /// Share of all patches that is kept, 0 to 1.
    pub fn share(&self) -> f64 {
        let kept: usize = self.slices.iter().map(Vec::len).sum();
        kept as f64 / (self.patches * self.slices.len()).max(1) as f64
    }

    /// `n` slices from `from` on, which there must be.
    pub(crate) fn narrow(&self, from: usize, n: usize) -> Self {
        Self { patches: self.patches, slices: self.slices[from..from + n].to_vec() }
    }

    /// 0 for tokens that are there and -∞ for dropped ones, [S, 1, 1, T], to be added to scores. `leading` tokens stand before
    /// the patches.
    pub(crate) fn score_mask(&self, leading: usize, device: &Device) -> Result<Tensor> {
        let token = self.token_table(leading, device)?;
        let (s, t) = token.dims2()?;
        let dropped = Tensor::full(f32::NEG_INFINITY, (s, t), device)?;
        token.to_dtype(DType::U8)?.where_cond(&token.zeros_like()?, &dropped)?.reshape((s, 1, 1, t))
    }

    /// 1 for tokens that are there and 0 for dropped ones, f32 [S, T].
    pub(crate) fn token_table(&self, leading: usize, device: &Device) -> Result<Tensor> {
        let patches = self.table(DType::F32, device)?;
        let ones = Tensor::ones((self.slices.len(), leading), DType::F32, device)?;
        if leading == 0 { Ok(patches) } else { Tensor::cat(&[&ones, &patches], 1) }
    }
}

/// The rows of one slice that are computed: `leading` of them, then those of the kept patches.
#[derive(Clone, Copy)]
pub(crate) struct KeptRows<'a> {
    pub leading: usize,
    pub patches: &'a [u32],
}

impl KeptRows<'_> {
    pub fn count(&self) -> usize {
        self.leading + self.patches.len()
    }

    /// Where kept row `i` lies among all rows.
    fn place(&self, i: usize) -> usize {
        if i < self.leading { i } else { self.leading + self.patches[i - self.leading] as usize }
    }

    /// Rows of `from` [T, width] → `to` [count, width].
    pub fn gather(&self, width: usize, from: &[f32], to: &mut [f32]) {
        for (i, to) in to.chunks_exact_mut(width).take(self.count()).enumerate() {
            to.copy_from_slice(&from[self.place(i) * width..][..width]);
        }
    }

    /// The kept rows of `x` [T, width] move to its front.
    pub fn compact(&self, width: usize, x: &mut [f32]) {
        // From the first on: a row never moves to the back, so no row is overwritten before it has moved.
        for i in 0..self.count() {
            let from = self.place(i) * width;
            x.copy_within(from..from + width, i * width);
        }
    }

    /// The first `count` rows of `x` [T, width] move to their places; all other rows become 0.
    pub fn spread(&self, width: usize, x: &mut [f32]) {
        // From the last on: a row never moves to the front, so no row is overwritten before it has moved.
        let mut end = x.len();
        for i in (0..self.count()).rev() {
            let to = self.place(i) * width;
            x.copy_within(i * width..(i + 1) * width, to);
            x[to + width..end].fill(0.0);
            end = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_kept_where_any_of_its_pixels_shows_something() {
        // Two slices of 2 x 3 patches of 2 pixels: one pixel in patch 4 of the first, nothing in the second.
        let mut shown = vec![0f32; 2 * 4 * 6];
        shown[2 * 6 + 3] = 0.01;
        let kept = KeptPatches::showing(&shown, (2, 3), 2).unwrap();
        assert_eq!(
            (kept.of_slice(0), kept.of_slice(1)),
            (&[4u32][..], &[4u32][..]),
            "the centre, where none is"
        );
        assert!((kept.share() - 2.0 / 12.0).abs() < 1e-12);
        assert_eq!(KeptPatches::showing(&[1.0; 2 * 4 * 6], (2, 3), 2), None);
        let table = kept.table(DType::U8, &Device::Cpu).unwrap();
        assert_eq!(KeptPatches::of_table(&table).unwrap(), Some(kept));
    }

    #[test]
    fn rows_that_were_gathered_spread_to_where_they_were() {
        let x: Vec<f32> = (0..8 * 3).map(|i| i as f32 + 1.0).collect();
        for patches in [&[0u32, 1, 2, 3, 4, 5, 6][..], &[0, 3, 4], &[6], &[2, 6]] {
            let rows = KeptRows { leading: 1, patches };
            let mut found = vec![9.0; 8 * 3];
            rows.gather(3, &x, &mut found);
            let mut in_place = x.clone();
            rows.compact(3, &mut in_place);
            assert_eq!(in_place[..rows.count() * 3], found[..rows.count() * 3]);
            rows.spread(3, &mut found);
            for (i, row) in found.chunks_exact(3).enumerate() {
                let kept = i == 0 || patches.contains(&(i as u32 - 1));
                let expected = if kept { &x[i * 3..i * 3 + 3] } else { &[0.0; 3][..] };
                assert_eq!(row, expected, "row {i} of {patches:?}");
            }
        }
    }
}
