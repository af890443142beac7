//! What the report's viewer shows: scan, heat and mask on one canonical grid, as few bytes as a browser takes easily.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::output::Heatmap;
use crate::scan::{Affine, Volume};

/// Most voxels of a grid: 16 MB of numbers, half of it when packed.
const MOST_VOXELS: usize = 8 << 20;
/// Steps between black and white where the scan's units are fine or coarse.
const STEPS: f32 = 4095.0;

/// A canonical grid (right, anterior, superior) that joins blocks of the scan's voxels.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReportGrid {
    /// Cells along right, anterior, superior.
    pub shape: [usize; 3],
    /// Voxels that a cell joins along each axis.
    pub factors: [usize; 3],
    /// Cell index → RAS mm.
    pub affine: Affine,
}

impl ReportGrid {
    /// The finest axis is joined first, until there are few enough cells. Voxels at the end that fill no cell are left out.
    pub fn of(volume: &Volume) -> Self {
        Self::with_at_most(volume, MOST_VOXELS)
    }

    fn with_at_most(volume: &Volume, most: usize) -> Self {
        let mut factors = [1; 3];
        let shape = |factors: [usize; 3]| [0, 1, 2].map(|a| (volume.shape[a] / factors[a]).max(1));
        while shape(factors).iter().product::<usize>() > most {
            let size = |a: &usize| volume.spacing_mm[*a] * factors[*a] as f64;
            let joinable = (0..3).filter(|a| volume.shape[*a] > factors[*a]);
            let Some(finest) = joinable.min_by(|a, b| size(a).total_cmp(&size(b))) else { break };
            factors[finest] += 1;
        }
        let mut m = volume.affine.0;
        let first = volume.affine.apply(factors.map(|f| (f as f64 - 1.0) / 2.0));
        for r in 0..3 {
            for a in 0..3 {
                m[r][a] *= factors[a] as f64;
            }
            m[r][3] = first[r];
        }
        Self { shape: shape(factors), factors, affine: Affine(m) }
    }

    /// The cell of a canonical voxel; `None` for those that fill none.
    fn cell(&self, voxel: [usize; 3]) -> Option<usize> {
        let [x, y, z] = [0, 1, 2].map(|a| voxel[a] / self.factors[a]);
        let [nx, ny, nz] = self.shape;
        (x < nx && y < ny && z < nz).then_some((z * ny + y) * nx + x)
    }

    fn cells(&self) -> usize {
        self.shape.iter().product()
    }

    fn voxels_of_a_cell(&self) -> f32 {
        self.factors.iter().product::<usize>() as f32
    }

    /// Means of the scan's voxels, first axis fastest.
    pub fn scan(&self, volume: &Volume) -> Vec<f32> {
        if self.factors == [1; 3] {
            return volume.voxels.clone();
        }
        let mut sums = vec![0f32; self.cells()];
        let [nx, ny, _] = volume.shape;
        for (row, values) in volume.voxels.chunks_exact(nx).enumerate() {
            for (x, value) in values.iter().enumerate() {
                if let Some(cell) = self.cell([x, row % ny, row / ny]) {
                    sums[cell] += value;
                }
            }
        }
        let n = self.voxels_of_a_cell();
        sums.iter_mut().for_each(|v| *v /= n);
        sums
    }

    /// Means of values on the scan's stored grid, plane by plane: `plane` adds its values to zeros.
    fn of_stored(&self, volume: &Volume, mut plane: impl FnMut(usize, &mut [f32])) -> Vec<f32> {
        let stored = volume.stored_shape();
        let mut sums = vec![0f32; self.cells()];
        let mut values = vec![0f32; stored[0] * stored[1]];
        for z in 0..stored[2] {
            values.fill(0.0);
            plane(z, &mut values);
            for (at, value) in values.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                let index = [at % stored[0], at / stored[0], z];
                let canonical = volume
                    .stored
                    .map(|s| if s.flipped { stored[s.axis] - 1 - index[s.axis] } else { index[s.axis] });
                if let Some(cell) = self.cell(canonical) {
                    sums[cell] += value;
                }
            }
        }
        let n = self.voxels_of_a_cell();
        sums.iter_mut().for_each(|v| *v /= n);
        sums
    }

    /// The heatmap.
    pub fn heat(&self, volume: &Volume, heatmap: &Heatmap) -> Vec<f32> {
        self.of_stored(volume, |z, plane| heatmap.add(z, plane))
    }

    /// How much of each cell a mask covers; the mask as stored, first axis fastest.
    pub fn mask(&self, volume: &Volume, mask: &[u8]) -> Vec<f32> {
        let size = volume.stored_shape()[0] * volume.stored_shape()[1];
        self.of_stored(volume, |z, plane| {
            plane.iter_mut().zip(&mask[z * size..]).for_each(|(v, m)| *v = f32::from(*m));
        })
    }
}

/// Numbers of 16 bits: value = low + scale × number.
pub(super) struct Packed {
    pub low: f32,
    pub scale: f32,
    /// gzip of the numbers' differences along the first axis, all low bytes before all high bytes.
    pub bytes: Vec<u8>,
}

/// Packs the scan. Units of a CT stay whole; other ranges have 4096 steps.
///
/// # Errors
/// When the compressor fails.
pub(super) fn pack_scan(values: &[f32], row: usize) -> io::Result<Packed> {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = (high - low).max(f32::MIN_POSITIVE);
    let scale = match range {
        r if r < 256.0 => r / STEPS,
        r if r <= 65535.0 => 1.0,
        r => r / 65535.0,
    };
    let number = |v: f32| ((v - low) / scale).round().clamp(0.0, 65535.0) as u16;
    let mut differences = Vec::with_capacity(values.len());
    for values in values.chunks(row.max(1)) {
        let mut before = 0u16;
        for value in values {
            let number = number(*value);
            differences.push(number.wrapping_sub(before));
            before = number;
        }
    }
    let bytes: Vec<u8> = differences
        .iter()
        .map(|d| d.to_le_bytes()[0])
        .chain(differences.iter().map(|d| d.to_le_bytes()[1]))
        .collect();
    Ok(Packed { low, scale, bytes: gzip(&bytes)? })
}

/// Packs shares of the largest value as bytes.
///
/// # Errors
/// When the compressor fails.
pub(super) fn pack_shares(values: &[f32], most: f32) -> io::Result<Vec<u8>> {
    let share = |v: &f32| if most > 0.0 { (v / most * 255.0).round().clamp(0.0, 255.0) as u8 } else { 0 };
    gzip(&values.iter().map(share).collect::<Vec<u8>>())
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::scan::Scan;

    fn volume(shape: [usize; 3], spacing: [f64; 3]) -> Volume {
        let voxels = (0..shape.iter().product::<usize>()).map(|i| (i % 13) as f32).collect();
        let affine = Affine::aligned(spacing, [-20.0, 5.0, 100.0]);
        Scan::from_voxels("x", voxels, shape, affine).unwrap().canonical()
    }

    #[test]
    fn a_small_scan_is_shown_as_it_is_and_a_large_one_joins_its_finest_axis_first() {
        let small = volume([6, 5, 4], [1.0, 1.0, 3.0]);
        let grid = ReportGrid::of(&small);
        assert_eq!((grid.factors, grid.affine), ([1; 3], small.affine));
        assert_eq!(grid.scan(&small), small.voxels);
        let grid = ReportGrid::with_at_most(&small, 30);
        assert_eq!((grid.factors, grid.shape), ([2, 2, 1], [3, 2, 4]));
        // The middle of the first cell lies between its voxels.
        assert_eq!(grid.affine.apply([0.0; 3]), small.affine.apply([0.5, 0.5, 0.0]));
        assert_eq!(grid.affine.apply([1.0, 1.0, 1.0]), small.affine.apply([2.5, 2.5, 1.0]));
        let first = [0, 1, 6, 7].iter().map(|i| small.voxels[*i]).sum::<f32>() / 4.0;
        assert_eq!(grid.scan(&small)[0], first);
    }

    #[test]
    fn packed_numbers_are_those_of_the_scan_to_a_step() {
        let values = [-1024.0f32, 3071.0, 0.0, 17.0, 17.0, -1000.0];
        let packed = pack_scan(&values, 3).unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut bytes).unwrap();
        let (low, high) = bytes.split_at(values.len());
        let mut back = Vec::new();
        for (i, (l, h)) in low.iter().zip(high).enumerate() {
            let difference = u16::from_le_bytes([*l, *h]);
            let before = if i % 3 == 0 { 0 } else { back[i - 1] };
            back.push(difference.wrapping_add(before));
        }
        let back: Vec<f32> = back.iter().map(|n| packed.low + packed.scale * f32::from(*n)).collect();
        assert_eq!(back, values);
        let fine = pack_scan(&[0.0, 0.5, 1.0], 3).unwrap();
        assert!((fine.scale - 1.0 / 4095.0).abs() < 1e-9);
    }
}
