//! Where a voxel is: the map from voxel index to RAS millimetres.

/// Voxel index (i, j, k) → RAS mm (right, anterior, superior); the last row is 0 0 0 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [[f64; 4]; 4]);

impl Affine {
    /// An axis-aligned RAS grid with this spacing (mm) whose first voxel lies at `origin` (RAS mm).
    pub fn aligned(spacing_mm: [f64; 3], origin: [f64; 3]) -> Self {
        let mut m = [[0.0; 4]; 4];
        for r in 0..3 {
            m[r][r] = spacing_mm[r];
            m[r][3] = origin[r];
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
        [0, 1, 2].map(|c| self.column(c).iter().map(|v| v * v).sum::<f64>().sqrt())
    }

    /// RAS mm step along voxel axis `c`.
    pub(crate) fn column(&self, c: usize) -> [f64; 3] {
        [0, 1, 2].map(|r| self.0[r][c])
    }

    /// Determinant of the 3×3 part, mm³; its sign is the handedness.
    pub fn determinant(&self) -> f64 {
        determinant(&self.linear())
    }

    /// The 3×3 part.
    fn linear(&self) -> [[f64; 3]; 3] {
        [0, 1, 2].map(|r| [self.0[r][0], self.0[r][1], self.0[r][2]])
    }

    /// `true` where every number is finite and no voxel axis is a combination of the others.
    pub fn is_invertible(&self) -> bool {
        let spacing = self.spacing();
        let volume: f64 = spacing.iter().product();
        self.0.iter().flatten().all(|v| v.is_finite())
            && spacing.iter().all(|s| *s > 0.0)
            && (self.determinant() / volume).abs() > 1e-4
    }

    /// RAS mm → voxel index; `None` where [`Self::is_invertible`] is false.
    pub fn inverse(&self) -> Option<Self> {
        if !self.is_invertible() {
            return None;
        }
        let inv = inverse(&self.linear())?;
        let t = [self.0[0][3], self.0[1][3], self.0[2][3]];
        let mut m = [[0.0; 4]; 4];
        for r in 0..3 {
            m[r][..3].copy_from_slice(&inv[r]);
            m[r][3] = -(0..3).map(|c| inv[r][c] * t[c]).sum::<f64>();
        }
        m[3][3] = 1.0;
        Some(Self(m))
    }

    /// The grid whose index axis `a` is this grid's axis `axes[a].0` of `shape`, walked backwards where `axes[a].1`.
    pub(crate) fn reindexed(&self, shape: [usize; 3], axes: [(usize, bool); 3]) -> Self {
        let mut m = self.0;
        for (row, old) in m.iter_mut().zip(&self.0).take(3) {
            for (a, &(stored, flipped)) in axes.iter().enumerate() {
                let step = old[stored];
                row[a] = if flipped { -step } else { step };
                if flipped {
                    row[3] += step * (shape[stored] as f64 - 1.0);
                }
            }
        }
        Self(m)
    }

    /// For each voxel axis the RAS axis (0 R, 1 A, 2 S) it runs along most, and whether it runs backwards.
    ///
    /// As nibabel's `io_orientation`: the rotation closest to the axes (polar decomposition), then
    /// the strongest axis chooses first.
    pub fn closest_axes(&self) -> [(usize, bool); 3] {
        let rotation = self.closest_rotation();
        let (mut free_row, mut free_column) = ([true; 3], [true; 3]);
        let mut axes = [(0, false); 3];
        for _ in 0..3 {
            let mut best = (0, 0, -1.0);
            for c in (0..3).filter(|&c| free_column[c]) {
                for r in (0..3).filter(|&r| free_row[r]) {
                    // The margin keeps ties (45°) from hanging on the last bit.
                    if rotation[r][c].abs() > best.2 + 1e-9 {
                        best = (r, c, rotation[r][c].abs());
                    }
                }
            }
            let (r, c, _) = best;
            free_row[r] = false;
            free_column[c] = false;
            axes[c] = (r, rotation[r][c] < 0.0);
        }
        axes
    }

    /// Three letters: where each voxel axis runs to, for example `LPS`.
    pub fn orientation(&self) -> String {
        let letters = [['R', 'L'], ['A', 'P'], ['S', 'I']];
        self.closest_axes().iter().map(|&(axis, backwards)| letters[axis][usize::from(backwards)]).collect()
    }

    /// Orthogonal matrix closest to the direction cosines (its determinant may be -1).
    ///
    /// Newton's iteration of the polar decomposition, `X ← (X + X⁻ᵀ) / 2` (Higham 1986).
    pub(crate) fn closest_rotation(&self) -> [[f64; 3]; 3] {
        let spacing = self.spacing();
        let mut x = self.linear();
        for row in &mut x {
            for c in 0..3 {
                row[c] /= if spacing[c] > 0.0 { spacing[c] } else { 1.0 };
            }
        }
        for _ in 0..60 {
            let Some(inv) = inverse(&x) else { break };
            let mut moved: f64 = 0.0;
            for r in 0..3 {
                for c in 0..3 {
                    let next = 0.5 * (x[r][c] + inv[c][r]);
                    moved = moved.max((next - x[r][c]).abs());
                    x[r][c] = next;
                }
            }
            if moved < 1e-14 {
                break;
            }
        }
        x
    }

    /// Largest deviation from a right angle between two voxel axes, degrees; 0 for every scanner grid without tilt.
    pub fn shear_degrees(&self) -> f64 {
        let s = self.spacing();
        [(0, 1), (0, 2), (1, 2)]
            .iter()
            .map(|&(a, b)| {
                let (u, v) = (self.column(a), self.column(b));
                let cosine = (0..3).map(|r| u[r] * v[r]).sum::<f64>() / (s[a] * s[b]);
                cosine.clamp(-1.0, 1.0).asin().abs().to_degrees()
            })
            .fold(0.0, f64::max)
    }

    /// Largest distance (mm) that a corner of `shape` moves between this grid and another.
    pub fn corner_distance(&self, other: &Self, shape: [usize; 3]) -> f64 {
        (0..8)
            .map(|corner: usize| {
                let index = [0, 1, 2].map(|a| if corner >> a & 1 == 1 { shape[a] as f64 - 1.0 } else { 0.0 });
                let (p, q) = (self.apply(index), other.apply(index));
                (0..3).map(|r| (p[r] - q[r]).powi(2)).sum::<f64>().sqrt()
            })
            .fold(0.0, f64::max)
    }
}

fn determinant(m: &[[f64; 3]; 3]) -> f64 {
    m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
}

fn inverse(m: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 3]> {
    let det = determinant(m);
    if det == 0.0 || !det.is_finite() {
        return None;
    }
    let mut inv = [[0.0; 3]; 3];
    for (r, row) in inv.iter_mut().enumerate() {
        for (c, v) in row.iter_mut().enumerate() {
            // Cofactor of the transposed place; cyclic indices carry the sign.
            let (a, b, d, e) = ((c + 1) % 3, (c + 2) % 3, (r + 1) % 3, (r + 2) % 3);
            *v = (m[a][d] * m[b][e] - m[a][e] * m[b][d]) / det;
        }
    }
    Some(inv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_brings_a_point_back_to_its_index() {
        let a = Affine([
            [0.9, 0.1, -0.2, 10.0],
            [-0.1, 2.0, 0.3, -5.0],
            [0.2, -0.3, 3.0, 7.0],
            [0.0, 0.0, 0.0, 1.0],
        ]);
        let back = a.inverse().unwrap().apply(a.apply([3.0, -2.5, 11.0]));
        for (found, expected) in back.iter().zip([3.0, -2.5, 11.0]) {
            assert!((found - expected).abs() < 1e-12, "{back:?}");
        }
    }

    #[test]
    fn a_flattened_grid_has_no_inverse() {
        let a =
            Affine([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
        assert!(!a.is_invertible() && a.inverse().is_none());
    }

    #[test]
    fn orientation_names_where_each_axis_runs_to() {
        let a = Affine([
            [0.0, -1.0, 0.1, 0.0],
            [0.1, 0.0, -2.0, 0.0],
            [3.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]);
        assert_eq!(a.orientation(), "SLP");
        assert_eq!(Affine::aligned([1.0; 3], [0.0; 3]).orientation(), "RAS");
    }

    #[test]
    fn two_axes_that_lean_the_same_way_still_get_different_names() {
        // Both of the first axes run mostly to the right.
        let a =
            Affine([[1.0, 0.8, 0.0, 0.0], [0.1, 0.6, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]);
        assert_eq!(a.orientation(), "RAS");
        assert!(a.shear_degrees() > 30.0);
    }
}
