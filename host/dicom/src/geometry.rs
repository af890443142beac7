//! Where slices lie: from their positions alone, never from their order, number or thickness.
//!
//! All vectors are LPS mm (to the patient's left, posterior, superior), as DICOM stores them; only [`Affine`] is RAS.

use crate::error::{DicomError, ErrorKind, Result};
use crate::frames::Plane;
use crate::limits::Limits;

type Vector = [f64; 3];

pub(crate) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn add(a: Vector, b: Vector, times: f64) -> Vector {
    std::array::from_fn(|i| a[i] + b[i] * times)
}

/// Voxel (column i, row j, slice k) → RAS mm (right, anterior, superior); the last row is 0 0 0 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [[f64; 4]; 4]);

impl Affine {
    fn from_lps(columns: [Vector; 3], origin: Vector) -> Self {
        let mut m = [[0.0; 4]; 4];
        for (r, sign) in [-1.0, -1.0, 1.0].into_iter().enumerate() {
            for c in 0..3 {
                m[r][c] = sign * columns[c][r];
            }
            m[r][3] = sign * origin[r];
        }
        m[3][3] = 1.0;
        Self(m)
    }

    /// RAS mm of a voxel index; fractions and indices outside the grid are fine.
    pub fn apply(&self, index: [f64; 3]) -> [f64; 3] {
        let m = &self.0;
        [0, 1, 2].map(|r| m[r][0] * index[0] + m[r][1] * index[1] + m[r][2] * index[2] + m[r][3])
    }

    /// Length of a step along each voxel axis, mm.
    pub fn spacing(&self) -> [f64; 3] {
        [0, 1, 2].map(|c| (0..3).map(|r| self.0[r][c].powi(2)).sum::<f64>().sqrt())
    }
}

/// The plane that slices are nearest to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Orientation {
    Axial,
    Coronal,
    Sagittal,
    /// More than 37 degrees from each of the three.
    Oblique,
}

impl Orientation {
    /// `axial`, `coronal`, `sagittal`, `oblique`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
            Self::Oblique => "oblique",
        }
    }

    pub(crate) fn of_normal(normal: Vector) -> Self {
        let named = [Self::Sagittal, Self::Coronal, Self::Axial];
        (0..3).find(|i| normal[*i].abs() > 0.8).map_or(Self::Oblique, |i| named[i])
    }
}

/// The measured geometry of a stack of parallel slices.
#[derive(Debug, Clone, PartialEq)]
pub struct StackGeometry {
    pub columns: usize,
    pub rows: usize,
    /// Number of slices.
    pub slices: usize,
    /// Between the centres of columns, of rows, of slices (median gap along the normal), mm.
    pub spacing_mm: [f64; 3],
    /// Smallest and largest gap along the normal, mm; equal to the median for one slice.
    pub gaps_mm: [f64; 2],
    /// Angle between the normal and the line through the slices' first pixels; the sign says to which side.
    pub tilt_degrees: f64,
    pub orientation: Orientation,
    /// The slices lie on a straight, even grid; else they are resampled onto one.
    pub straight: bool,
    /// Row direction, column direction, normal: unit, LPS.
    pub(crate) axes: [Vector; 3],
    /// Coordinates of each slice's first pixel along the axes, mm, by slice.
    pub(crate) places: Vec<Vector>,
}

/// Distance in mm below which two slices are at the same position.
pub(crate) const SAME_POSITION_MM: f64 = 0.01;
/// Below this tilt the volume's affine carries the shear and nothing is resampled.
const NEGLIGIBLE_TILT_DEGREES: f64 = 0.5;

/// Measures slices that are parallel, of one size, and sorted along the normal.
///
/// # Errors
/// [`ErrorKind::RepeatedPositions`], [`ErrorKind::HoleInSeries`], [`ErrorKind::TiltAboveLimit`].
pub(crate) fn measure(
    planes: &[Plane],
    [columns, rows]: [usize; 2],
    thickness_mm: Option<f64>,
    limits: &Limits,
) -> Result<StackGeometry> {
    let Some(first) = planes.first() else {
        return Err(DicomError::new(ErrorKind::NoPosition, "a stack without slices"));
    };
    let [row, column] = first.orientation;
    let axes = [row, column, cross(row, column)];
    let places: Vec<Vector> = planes.iter().map(|p| axes.map(|axis| dot(p.position, axis))).collect();
    let mut gaps: Vec<f64> = places.windows(2).map(|w| w[1][2] - w[0][2]).collect();
    if let Some(at) = gaps.iter().position(|g| *g < SAME_POSITION_MM) {
        let message = format!(
            "two slices lie at the same position ({:.2} mm along the normal) and no attribute tells them apart; name \
             the series or sort the files",
            places[at][2]
        );
        return Err(DicomError::new(ErrorKind::RepeatedPositions, message));
    }
    let even = straight_line(&places);
    gaps.sort_by(f64::total_cmp);
    // One slice has no gap. Its thickness says how much of the body it shows, which is all there is.
    let (median, range) = match gaps.as_slice() {
        [] => {
            let t = thickness_mm.filter(|t| *t > 0.0).unwrap_or(1.0);
            (t, [t, t])
        }
        gaps => (gaps[gaps.len() / 2], [gaps[0], gaps[gaps.len() - 1]]),
    };
    let geometry = StackGeometry {
        columns,
        rows,
        slices: planes.len(),
        spacing_mm: [first.spacing[1], first.spacing[0], median],
        gaps_mm: range,
        tilt_degrees: even.tilt_degrees,
        orientation: Orientation::of_normal(axes[2]),
        straight: even.straight && even.tilt_degrees.abs() <= NEGLIGIBLE_TILT_DEGREES,
        axes,
        places,
    };
    geometry.check(limits)?;
    Ok(geometry)
}

struct Line {
    straight: bool,
    tilt_degrees: f64,
}

/// How well the slices lie on the even, straight line from the first to the last one.
fn straight_line(places: &[Vector]) -> Line {
    let n = places.len();
    if n < 2 {
        return Line { straight: true, tilt_degrees: 0.0 };
    }
    let (first, last) = (places[0], places[n - 1]);
    let step = std::array::from_fn::<f64, 3, _>(|i| (last[i] - first[i]) / (n - 1) as f64);
    // Scanners round positions to tenths of a millimetre at worst; 2 % of a gap is below what is seen.
    let tolerance = (0.02 * step[2]).max(0.06);
    let off =
        |k: usize| (0..3).map(|i| (places[k][i] - first[i] - step[i] * k as f64).abs()).fold(0.0, f64::max);
    let straight = (0..n).all(|k| off(k) <= tolerance);
    let sideways = step[0].hypot(step[1]);
    let main = if step[1].abs() >= step[0].abs() { step[1] } else { step[0] };
    Line { straight, tilt_degrees: sideways.atan2(step[2]).to_degrees().copysign(main) }
}

impl StackGeometry {
    fn check(&self, limits: &Limits) -> Result<()> {
        let [_, largest] = self.gaps_mm;
        let median = self.spacing_mm[2];
        if largest > limits.gap_ratio * median {
            let message = format!(
                "there is a hole of {largest:.2} mm between slices {median:.2} mm apart (more than {} times); export \
                 the series again, slices are missing",
                limits.gap_ratio
            );
            return Err(DicomError::new(ErrorKind::HoleInSeries, message));
        }
        if self.tilt_degrees.abs() > limits.tilt_degrees {
            let message = format!(
                "the slices are tilted by {:.1} degrees, the limit is {:.1}",
                self.tilt_degrees, limits.tilt_degrees
            );
            return Err(DicomError::new(ErrorKind::TiltAboveLimit, message));
        }
        Ok(())
    }

    /// Columns, rows and slices of the volume; more than stored where slices are shifted against each other.
    pub fn volume_dims(&self) -> [usize; 3] {
        if self.straight {
            return [self.columns, self.rows, self.slices];
        }
        let extra = [0, 1].map(|i| {
            let [low, high] = self.extent(i);
            ((high - low) / self.spacing_mm[i] - 1e-3).ceil().max(0.0) as usize
        });
        [self.columns + extra[0], self.rows + extra[1], self.straight_slices()]
    }

    /// Distance between the slices of the volume, mm: close to the median gap, first and last slice stay in place.
    pub fn volume_gap_mm(&self) -> f64 {
        let span = self.places[self.slices - 1][2] - self.places[0][2];
        match self.straight_slices() {
            1 => self.spacing_mm[2],
            n => span / (n - 1) as f64,
        }
    }

    fn straight_slices(&self) -> usize {
        if self.straight || self.slices == 1 {
            return self.slices;
        }
        let span = self.places[self.slices - 1][2] - self.places[0][2];
        (span / self.spacing_mm[2]).round().max(1.0) as usize + 1
    }

    /// Lowest and highest coordinate of the slices' first pixels along axis 0 (rows) or 1 (columns), mm.
    pub(crate) fn extent(&self, axis: usize) -> [f64; 2] {
        let along = || self.places.iter().map(|p| p[axis]);
        [along().fold(f64::INFINITY, f64::min), along().fold(f64::NEG_INFINITY, f64::max)]
    }

    /// Voxel of the volume → RAS mm.
    pub fn affine(&self) -> Affine {
        let [row, column, normal] = self.axes;
        let (first, last) = (self.places[0], self.places[self.slices - 1]);
        let point = |p: Vector| add(add(add([0.0; 3], row, p[0]), column, p[1]), normal, p[2]);
        let in_plane = [row.map(|v| v * self.spacing_mm[0]), column.map(|v| v * self.spacing_mm[1])];
        if !self.straight {
            let step = normal.map(|v| v * self.volume_gap_mm());
            let origin = point([self.extent(0)[0], self.extent(1)[0], first[2]]);
            return Affine::from_lps([in_plane[0], in_plane[1], step], origin);
        }
        let step = match self.slices {
            1 => normal.map(|v| v * self.spacing_mm[2]),
            n => {
                let (a, z) = (point(first), point(last));
                std::array::from_fn(|i| (z[i] - a[i]) / (n - 1) as f64)
            }
        };
        Affine::from_lps([in_plane[0], in_plane[1], step], point(first))
    }

    /// What will be done to make the grid straight, with the numbers; `None` where nothing is.
    pub fn straightening(&self) -> Option<String> {
        if self.straight {
            return None;
        }
        let [low, high] = self.gaps_mm;
        let dims = self.volume_dims();
        Some(format!(
            "{} slices with gaps of {low:.2} to {high:.2} mm (median {:.2}) and a tilt of {:.1} degrees are resampled \
             onto {} × {} × {} voxels with {:.3} mm between slices",
            self.slices,
            self.spacing_mm[2],
            self.tilt_degrees,
            dims[0],
            dims[1],
            dims[2],
            self.volume_gap_mm()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axial(positions: &[Vector]) -> Vec<Plane> {
        let orientation = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]];
        positions.iter().map(|p| Plane { position: *p, orientation, spacing: [0.5, 0.7] }).collect()
    }

    fn measured(positions: &[Vector]) -> Result<StackGeometry> {
        measure(&axial(positions), [4, 3], Some(9.0), &Limits::default())
    }

    #[test]
    fn the_first_pixel_spacing_is_between_rows() {
        let g = measured(&[[0.0; 3], [0.0, 0.0, 2.0]]).unwrap();
        assert_eq!(g.spacing_mm, [0.7, 0.5, 2.0]);
        assert_eq!(g.affine().apply([1.0, 1.0, 1.0]), [-0.7, -0.5, 2.0]);
    }

    #[test]
    fn a_missing_slice_is_resampled_and_a_hole_is_refused() {
        let slices = |z: &[f64]| z.iter().map(|z| [0.0, 0.0, *z]).collect::<Vec<_>>();
        let g = measured(&slices(&[0.0, 2.0, 6.0, 8.0, 10.0])).unwrap();
        assert!(!g.straight);
        assert_eq!(g.volume_dims(), [4, 3, 6]);
        assert!(g.straightening().unwrap().contains("2.00 to 4.00 mm"));
        let error = measured(&slices(&[0.0, 2.0, 4.0, 14.0])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::HoleInSeries);
    }

    #[test]
    fn a_tilt_has_a_sign_and_a_limit() {
        let tilted = |shift: f64| [[0.0; 3], [0.0, shift, 1.0], [0.0, 2.0 * shift, 2.0]];
        assert!((measured(&tilted(0.3)).unwrap().tilt_degrees - 16.699).abs() < 1e-3);
        assert!(measured(&tilted(-0.3)).unwrap().tilt_degrees < -16.0);
        assert_eq!(measured(&tilted(3.0)).unwrap_err().kind, ErrorKind::TiltAboveLimit);
    }

    #[test]
    fn two_slices_at_one_position_are_refused() {
        let error = measured(&[[0.0; 3], [0.0, 0.0, 1.0], [0.0, 0.0, 1.001]]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::RepeatedPositions);
    }
}
