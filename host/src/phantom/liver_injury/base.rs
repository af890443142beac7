//! Injuries in the organ of a real scan: the same scan many times, with and without.

use super::super::draw::{Draw, Stream, case_key};
use super::super::grid::Grid;
use super::super::noise::Lattice;
use super::super::scanner::blur;
use super::super::{Finding, Image, PhantomCase, class_of};
use super::injury::{self, Organ};
use super::masked;
use crate::scan::{Affine, Scan};
use anymc3d_manifest::Modality;

/// A CT and an organ in it.
pub struct Base {
    grid: Grid,
    affine: Affine,
    hu: Vec<f32>,
    organ: Vec<f32>,
}

/// Why a scan and a mask cannot serve.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BaseError {
    /// Another number of voxels, or voxels elsewhere.
    #[error(
        "{organ} is not on the grid of {base}: {found}; expected {expected}. Resample the mask to the scan's grid"
    )]
    Grid {
        /// The mask's file.
        organ: String,
        /// The scan's file.
        base: String,
        /// What the mask's grid is.
        found: String,
        /// What the scan's grid is.
        expected: String,
    },
    /// Nothing in the mask.
    #[error("{organ}: no voxel is above 0.5; expected 1 in the organ that is to be hurt, 0 elsewhere")]
    Empty {
        /// The mask's file.
        organ: String,
    },
    /// Not a CT.
    #[error(
        "{base}: does not look like a CT in Hounsfield units (values from {low} to {high}); expected air near -1000"
    )]
    NotCt {
        /// The scan's file.
        base: String,
        /// Smallest value.
        low: f32,
        /// Largest value.
        high: f32,
    },
}

impl Base {
    /// A scan (HU) and the mask of an organ on the same grid.
    ///
    /// # Errors
    /// [`BaseError`]: the grids differ by more than a tenth of a voxel anywhere, the mask is empty, or the scan
    /// is no CT.
    pub fn new(scan: &Scan, organ: &Scan) -> Result<Self, BaseError> {
        let name = |s: &Scan| s.path.display().to_string();
        let finest = scan.spacing_mm.iter().copied().fold(f64::INFINITY, f64::min);
        let apart = scan.affine.corner_distance(&organ.affine, scan.shape);
        if scan.shape != organ.shape || apart > 0.1 * finest {
            let grid = |s: &Scan| {
                let mm = s.spacing_mm.map(|v| format!("{v:.2}")).join(" x ");
                format!("{:?} voxels of {mm} mm, {}", s.shape, s.orientation)
            };
            let shift = if scan.shape == organ.shape {
                format!(", corners {apart:.2} mm apart")
            } else {
                String::new()
            };
            let found = grid(organ) + &shift;
            return Err(BaseError::Grid {
                organ: name(organ),
                base: name(scan),
                found,
                expected: grid(scan),
            });
        }
        if organ.voxels.iter().all(|&v| v <= 0.5) {
            return Err(BaseError::Empty { organ: name(organ) });
        }
        if scan.modality.or(scan.modality_guess) != Some(Modality::CT) {
            let [low, high] = scan.range();
            return Err(BaseError::NotCt { base: name(scan), low, high });
        }
        Ok(Self {
            grid: Grid { shape: scan.shape, spacing: scan.spacing_mm.map(|mm| mm as f32), origin: [0.0; 3] },
            affine: scan.affine,
            hu: scan.voxels.clone(),
            organ: organ.voxels.iter().map(|&v| f32::from(u8::from(v > 0.5))).collect(),
        })
    }

    /// Makes case `index` of `seed`: the scan with noise and a slow drift of its own and, in half of the cases,
    /// one or two injuries. Same grid as the scan.
    pub fn generate(&self, seed: u64, index: u64) -> PhantomCase {
        let key = case_key("liver_injury on a scan", seed, index);
        self.case(format!("liver_injury_base_{seed}_{index}"), key, class_of(key, 2) == 1)
    }

    fn case(&self, name: String, key: [u8; 32], label: bool) -> PhantomCase {
        let grid = &self.grid;
        let mut hu = self.hu.clone();
        let mut mask = vec![0u8; hu.len()];
        let placed = if label {
            let organ = Organ::new(grid, &self.organ, &self.organ);
            injury::paint(&mut Draw::new(key, Stream::Lesions), &organ, &mut hu, &mut mask)
        } else {
            Vec::new()
        };
        self.vary(&mut Draw::new(key, Stream::Noise), &mut hu);
        let to_ras = |p: [f32; 3]| {
            self.affine.apply(std::array::from_fn(|a| f64::from(p[a]) / f64::from(grid.spacing[a])))
        };
        let finding = |p: &injury::Placed| Finding {
            kind: Some(p.kind.name()),
            centre_mm: to_ras(p.centre),
            diameter_mm: f64::from(p.size),
        };
        let voxels = hu.iter().map(|v| (v + 0.5).floor().clamp(-1024.0, 3071.0) as i16).collect();
        PhantomCase {
            name,
            images: vec![Image { sequence: None, voxels }],
            mask: masked(key).then_some(mask),
            shape: grid.shape,
            affine: self.affine.0,
            class: usize::from(label),
            findings: placed.iter().map(finding).collect(),
        }
    }

    /// Noise, an offset and a drift of a few HU in tissue; no label knows of them.
    fn vary(&self, draw: &mut Draw, hu: &mut [f32]) {
        let grid = &self.grid;
        let (offset, drift) = (draw.range(-6.0, 6.0), draw.range(1.0, 5.0));
        let (sigma, plane) = (draw.range(3.0, 9.0), draw.range(0.0, 0.2));
        let waves = Lattice::new(draw, grid, 70.0);
        let mut noise: Vec<f32> = hu.iter().map(|_| sigma * draw.bell()).collect();
        blur(&mut noise, grid.shape, plane, 0.05);
        let n = grid.shape[0];
        let (mut line, mut row) = (Vec::new(), vec![0.0f32; n]);
        for (at, values) in hu.chunks_exact_mut(n).enumerate() {
            let (y, z) = (grid.at(1, at % grid.shape[1]), grid.at(2, at / grid.shape[1]));
            waves.row(grid, y, z, &mut line, &mut row);
            for (i, value) in values.iter_mut().enumerate() {
                let tissue = if *value > -300.0 { 1.0 } else { 0.35 };
                *value += tissue * (offset + drift * row[i] + noise[at * n + i]);
            }
        }
    }
}
