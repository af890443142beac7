//! From a painted body to what a scanner stores: kernel, noise, whole HU, and an orientation.

use super::draw::Draw;
use super::grid::{Canvas, Grid};

/// How the picture is taken.
pub(super) struct Protocol {
    /// Neighbour weight of the in-plane kernel (negative sharpens), and of the one between slices.
    plane: f32,
    slice: f32,
    /// Noise in soft tissue, HU.
    noise: f32,
    /// Calibration error, HU.
    offset: f32,
}

impl Protocol {
    pub(super) fn draw(d: &mut Draw) -> Self {
        Self {
            plane: d.range(-0.06, 0.2),
            slice: d.range(0.0, 0.16),
            noise: d.range(6.0, 32.0),
            offset: d.range(-8.0, 8.0),
        }
    }

    /// A contrast study of the abdomen: reconstructed smoothly, for its lesions differ by few HU.
    pub(super) fn abdominal(d: &mut Draw) -> Self {
        Self {
            plane: d.range(0.06, 0.2),
            slice: d.range(0.04, 0.16),
            noise: d.range(6.0, 15.0),
            offset: d.range(-6.0, 6.0),
        }
    }
}

/// Adds noise, blurs both by the kernel, and rounds to HU in [-1024, 3071].
pub(super) fn acquire(protocol: &Protocol, noise: &mut Draw, canvas: &mut Canvas) -> Vec<i16> {
    let k = protocol.plane;
    // The kernel changes the noise's power; what is asked for is what comes out of it.
    let power = (1.0 - 2.0 * k) * (1.0 - 2.0 * k) + 2.0 * k * k;
    let s = protocol.slice;
    let through = ((1.0 - 2.0 * s) * (1.0 - 2.0 * s) + 2.0 * s * s).sqrt();
    let sigma = protocol.noise / (power * through);
    for value in &mut canvas.hu {
        let amount = if *value < -990.0 {
            0.35
        } else if *value < -600.0 {
            0.75
        } else {
            1.0
        };
        *value += sigma * amount * noise.bell();
    }
    blur(&mut canvas.hu, canvas.grid.shape, k, s);
    canvas.hu.iter().map(|v| (v + protocol.offset + 0.5).floor().clamp(-1024.0, 3071.0) as i16).collect()
}

/// `[k, 1 - 2k, k]` along rows and columns with `plane`, between slices with `slice`; the outermost voxels stay.
pub(super) fn blur(voxels: &mut [f32], shape: [usize; 3], plane: f32, slice: f32) {
    let ([nx, ny, nz], k) = (shape, plane);
    let mut line = vec![0.0f32; nx];
    for row in voxels.chunks_exact_mut(nx) {
        line.copy_from_slice(row);
        for i in 1..nx - 1 {
            row[i] = (1.0 - 2.0 * k) * line[i] + k * (line[i - 1] + line[i + 1]);
        }
    }
    for picture in voxels.chunks_exact_mut(nx * ny) {
        blur_rows(picture, nx, ny, k);
    }
    blur_rows(voxels, nx * ny, nz, slice);
}

/// `[k, 1 - 2k, k]` across `count` rows of `width`; the first and the last stay.
fn blur_rows(data: &mut [f32], width: usize, count: usize, k: f32) {
    let mut above = data[..width].to_vec();
    for r in 1..count - 1 {
        let (head, tail) = data.split_at_mut((r + 1) * width);
        let row = &mut head[r * width..];
        for i in 0..width {
            let old = row[i];
            row[i] = (1.0 - 2.0 * k) * old + k * (above[i] + tail[i]);
            above[i] = old;
        }
    }
}

/// How a scan is laid down: `axes[a]` is the patient axis (0 right, 1 anterior, 2 superior) that stored
/// axis `a` runs along, `flip[a]` whether it runs the other way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Orientation {
    axes: [usize; 3],
    flip: [bool; 3],
    /// Where the phantom's origin lies in scanner coordinates, mm RAS.
    shift: [f64; 3],
}

impl Orientation {
    /// Most scans are stacks of axial slices in one of eight flips; some are stored along other axes.
    pub(super) fn draw(d: &mut Draw) -> Self {
        let turned = [[1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2], [2, 1, 0]];
        let axes = if d.chance(0.2) { turned[d.below(5)] } else { [0, 1, 2] };
        let flip = [d.chance(0.5), d.chance(0.5), d.chance(0.25)];
        let shift = [d.range(-40.0, 40.0), d.range(-160.0, 60.0), d.range(-900.0, 100.0)];
        Self { axes, flip, shift: shift.map(f64::from) }
    }

    pub(super) fn shape(&self, grid: &Grid) -> [usize; 3] {
        self.axes.map(|a| grid.shape[a])
    }

    /// Stored voxel to RAS mm.
    pub(super) fn affine(&self, grid: &Grid) -> [[f64; 4]; 4] {
        let mut m = [[0.0; 4]; 4];
        m[3][3] = 1.0;
        for (stored, &a) in self.axes.iter().enumerate() {
            let step = f64::from(grid.spacing[a]);
            let first = f64::from(grid.origin[a]) + self.shift[a];
            let (sign, start) = if self.flip[stored] {
                (-1.0, first + step * (grid.shape[a] - 1) as f64)
            } else {
                (1.0, first)
            };
            m[a][stored] = sign * step;
            m[a][3] = start;
        }
        m
    }

    pub(super) fn to_ras(self, p: [f32; 3]) -> [f64; 3] {
        std::array::from_fn(|a| f64::from(p[a]) + self.shift[a])
    }

    /// Rearranges voxels from the phantom's order to the stored one.
    pub(super) fn store<T: Copy>(&self, grid: &Grid, voxels: &[T]) -> Vec<T> {
        let strides = [1, grid.shape[0], grid.shape[0] * grid.shape[1]];
        let shape = self.shape(grid);
        let mut start = 0isize;
        let mut step = [0isize; 3];
        for a in 0..3 {
            let stride = strides[self.axes[a]] as isize;
            step[a] = if self.flip[a] { -stride } else { stride };
            if self.flip[a] {
                start += stride * (shape[a] as isize - 1);
            }
        }
        let mut out = Vec::with_capacity(voxels.len());
        for k in 0..shape[2] as isize {
            for j in 0..shape[1] as isize {
                let row = start + k * step[2] + j * step[1];
                out.extend((0..shape[0] as isize).map(|i| voxels[(row + i * step[0]) as usize]));
            }
        }
        out
    }
}
