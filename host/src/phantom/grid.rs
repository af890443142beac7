//! The voxels a case is painted on, and soft-edged primitives to paint with.
//!
//! Millimetres here are the phantom's coordinates: x to the patient's right, y anterior, z superior, with the
//! midline at x = 0 and the lowest slice at z = 0.

/// A point or vector in mm.
pub(super) type P3 = [f32; 3];

pub(super) fn sub(a: P3, b: P3) -> P3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

/// `a + s b`.
pub(super) fn along(a: P3, b: P3, s: f32) -> P3 {
    [a[0] + b[0] * s, a[1] + b[1] * s, a[2] + b[2] * s]
}

pub(super) fn dot(a: P3, b: P3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(super) fn length(a: P3) -> f32 {
    dot(a, a).sqrt()
}

/// `a` of length 1; the x axis where `a` is zero.
pub(super) fn unit(a: P3) -> P3 {
    let n = length(a);
    if n < 1e-6 { [1.0, 0.0, 0.0] } else { [a[0] / n, a[1] / n, a[2] / n] }
}

/// Signed radial distance in mm to a curve between an ellipse and a squircle of semi-axes `a`.
pub(super) fn oval(x: f32, y: f32, a: [f32; 2], squareness: f32) -> f32 {
    let (u, v) = (x / a[0], y / a[1]);
    let (u2, v2) = (u * u, v * v);
    let f = (1.0 - squareness) * (u2 + v2).sqrt() + squareness * (u2 * u2 + v2 * v2).sqrt().sqrt();
    if f < 0.1 { -a[0].min(a[1]) } else { (x * x + y * y).sqrt() * (1.0 - 1.0 / f) }
}

/// A regular grid: `shape` voxels, centres at `origin + index * spacing`, first axis fastest.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) shape: [usize; 3],
    pub(super) spacing: [f32; 3],
    pub(super) origin: P3,
}

impl Grid {
    pub(super) fn len(&self) -> usize {
        self.shape[0] * self.shape[1] * self.shape[2]
    }

    pub(super) fn at(&self, axis: usize, index: usize) -> f32 {
        self.origin[axis] + index as f32 * self.spacing[axis]
    }

    /// Width of a soft edge: the geometric mean of the spacings.
    pub(super) fn edge(&self) -> f32 {
        libm::cbrtf(self.spacing[0] * self.spacing[1] * self.spacing[2])
    }

    /// The voxel nearest to a point, or none outside the grid.
    pub(super) fn nearest(&self, p: P3) -> Option<usize> {
        let mut index = [0usize; 3];
        for a in 0..3 {
            let i = ((p[a] - self.origin[a]) / self.spacing[a] + 0.5).floor();
            if i < 0.0 || i >= self.shape[a] as f32 {
                return None;
            }
            index[a] = i as usize;
        }
        Some(index[0] + self.shape[0] * (index[1] + self.shape[1] * index[2]))
    }

    pub(super) fn centre_of(&self, index: usize) -> P3 {
        let (x, rest) = (index % self.shape[0], index / self.shape[0]);
        [self.at(0, x), self.at(1, rest % self.shape[1]), self.at(2, rest / self.shape[1])]
    }

    /// Calls `f(voxel, point)` for the voxels in a box of mm.
    pub(super) fn in_box(&self, low: P3, high: P3, mut f: impl FnMut(usize, P3)) {
        let mut from = [0usize; 3];
        let mut to = [0usize; 3];
        for a in 0..3 {
            from[a] = ((low[a] - self.origin[a]) / self.spacing[a]).ceil().max(0.0) as usize;
            let end = ((high[a] - self.origin[a]) / self.spacing[a]).floor() + 1.0;
            to[a] = end.clamp(0.0, self.shape[a] as f32) as usize;
        }
        for k in from[2]..to[2] {
            for j in from[1]..to[1] {
                let row = self.shape[0] * (j + self.shape[1] * k);
                let (y, z) = (self.at(1, j), self.at(2, k));
                for i in from[0]..to[0] {
                    f(row + i, [self.at(0, i), y, z]);
                }
            }
        }
    }

    /// Calls `f(voxel, signed distance, radius there)` for voxels within `margin` mm of a rod.
    pub(super) fn near_rod(&self, rod: Rod, margin: f32, mut f: impl FnMut(usize, f32, f32)) {
        let reach = rod.ra.max(rod.rb) + margin;
        let low: P3 = std::array::from_fn(|i| rod.a[i].min(rod.b[i]) - reach);
        let high: P3 = std::array::from_fn(|i| rod.a[i].max(rod.b[i]) + reach);
        let axis = sub(rod.b, rod.a);
        let scale = 1.0 / dot(axis, axis).max(1e-6);
        self.in_box(low, high, |voxel, p| {
            let v = sub(p, rod.a);
            let s = (dot(v, axis) * scale).clamp(0.0, 1.0);
            let w = along(v, axis, -s);
            let r = rod.ra + (rod.rb - rod.ra) * s;
            let limit = r + margin;
            let d2 = dot(w, w);
            if d2 < limit * limit {
                f(voxel, d2.sqrt() - r, r);
            }
        });
    }

    /// Calls `f(voxel, signed distance, point)` for voxels within `margin` mm of an ellipsoid's box.
    pub(super) fn near(&self, shape: &Ellipsoid, margin: f32, mut f: impl FnMut(usize, f32, P3)) {
        let reach = shape.reach() + margin;
        self.in_box(shape.centre.map(|c| c - reach), shape.centre.map(|c| c + reach), |voxel, p| {
            f(voxel, shape.distance(p), p);
        });
    }
}

/// A tapering round rod from `a` to `b`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rod {
    pub(super) a: P3,
    pub(super) b: P3,
    pub(super) ra: f32,
    pub(super) rb: f32,
}

/// An ellipsoid with semi-axes `radii` along the orthonormal `axes`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ellipsoid {
    pub(super) centre: P3,
    pub(super) radii: P3,
    pub(super) axes: [P3; 3],
}

impl Ellipsoid {
    pub(super) fn upright(centre: P3, radii: P3) -> Self {
        Self { centre, radii, axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] }
    }

    /// Turned by `yaw` about z, then tipped by `pitch` about its own first axis (radians).
    pub(super) fn turned(centre: P3, radii: P3, yaw: f32, pitch: f32) -> Self {
        let (sy, cy) = (libm::sinf(yaw), libm::cosf(yaw));
        let (sp, cp) = (libm::sinf(pitch), libm::cosf(pitch));
        Self { centre, radii, axes: [[cy, sy, 0.0], [-sy * cp, cy * cp, sp], [sy * sp, -cy * sp, cp]] }
    }

    /// Distance to the surface along the ray from the centre, negative inside.
    pub(super) fn distance(&self, p: P3) -> f32 {
        let v = sub(p, self.centre);
        let q: P3 = std::array::from_fn(|i| dot(v, self.axes[i]) / self.radii[i]);
        let f = length(q);
        if f < 0.05 {
            -self.radii[0].min(self.radii[1]).min(self.radii[2])
        } else {
            length(v) * (1.0 - 1.0 / f)
        }
    }

    pub(super) fn reach(&self) -> f32 {
        self.radii[0].max(self.radii[1]).max(self.radii[2])
    }
}

/// The picture in work: HU and how much of each voxel is lung (0..1).
pub(super) struct Canvas {
    pub(super) grid: Grid,
    pub(super) edge: f32,
    pub(super) hu: Vec<f32>,
    pub(super) lung: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(grid: Grid) -> Self {
        let (edge, n) = (grid.edge(), grid.len());
        Self { grid, edge, hu: vec![-1000.0; n], lung: vec![0.0; n] }
    }

    /// How much of a voxel lies inside a surface at signed distance `d` mm.
    pub(super) fn cover(&self, d: f32) -> f32 {
        cover(d, self.edge)
    }

    /// Calls `f(canvas, voxel, signed distance, radius there)` for voxels within `margin` mm of a rod.
    pub(super) fn near_rod(&mut self, rod: Rod, margin: f32, mut f: impl FnMut(&mut Self, usize, f32, f32)) {
        let grid = self.grid.clone();
        grid.near_rod(rod, margin, |voxel, d, r| f(self, voxel, d, r));
    }

    /// Replaces what is there, lung too.
    pub(super) fn rod(&mut self, rod: Rod, hu: f32) {
        let edge = self.edge;
        self.near_rod(rod, edge, |c, v, d, _| c.blend(v, cover(d, edge), hu));
    }

    /// A chain of rods.
    pub(super) fn tube(&mut self, points: &[(P3, f32)], hu: f32) {
        for pair in points.windows(2) {
            self.rod(Rod { a: pair[0].0, b: pair[1].0, ra: pair[0].1, rb: pair[1].1 }, hu);
        }
    }

    /// Replaces what is there where `keep(point)`, except lung.
    pub(super) fn organ(&mut self, shape: &Ellipsoid, hu: f32, keep: impl Fn(P3) -> bool) {
        let reach = shape.reach() + self.edge;
        let low: P3 = std::array::from_fn(|i| shape.centre[i] - reach);
        let high: P3 = std::array::from_fn(|i| shape.centre[i] + reach);
        let grid = self.grid.clone();
        grid.in_box(low, high, |voxel, p| {
            let c = self.cover(shape.distance(p)) * (1.0 - self.lung[voxel]);
            if c > 0.0 && keep(p) {
                self.hu[voxel] += (hu - self.hu[voxel]) * c;
            }
        });
    }

    fn blend(&mut self, voxel: usize, c: f32, hu: f32) {
        if c > 0.0 {
            self.hu[voxel] += (hu - self.hu[voxel]) * c;
            self.lung[voxel] *= 1.0 - c;
        }
    }
}

/// How much of a voxel of size `edge` lies inside a surface at signed distance `d`.
pub(super) fn cover(d: f32, edge: f32) -> f32 {
    (0.5 - d / edge).clamp(0.0, 1.0)
}
