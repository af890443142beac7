//! Tests of the whole room: headers built by hand, and scans turned every way.

mod bounds;
mod formats;
mod headers;
mod reading;
mod regions;
mod slicing;
mod way_back;
mod writing;

use std::path::PathBuf;

use anymc3d_manifest::{Axis, Fit, Intensity, Modality, Region, View};

use super::{Affine, Scan, VolumeError};

/// A NIfTI-1 file by hand: fields are set by their offset in the standard's header.
#[derive(Clone)]
struct File {
    header: Vec<u8>,
    voxels: Vec<u8>,
    big: bool,
}

macro_rules! setters {
    ($($name:ident: $t:ty),*) => {$(
        fn $name(mut self, at: usize, v: $t) -> Self {
            let bytes = if self.big { v.to_be_bytes() } else { v.to_le_bytes() };
            self.header[at..at + bytes.len()].copy_from_slice(&bytes);
            self
        }
    )*};
}

impl File {
    setters!(i16_at: i16, i32_at: i32, f32_at: f32);

    /// i16, shape 2×3×4, values 0..24, identity sform.
    fn new() -> Self {
        Self::of(false, 4, 16, (0i16..24).flat_map(i16::to_le_bytes).collect())
    }

    fn of(big: bool, datatype: i16, bits: i16, voxels: Vec<u8>) -> Self {
        let mut f = Self { header: vec![0; 352], voxels, big }.i32_at(0, 348);
        for (i, n) in [3i16, 2, 3, 4, 1, 1, 1, 1].into_iter().enumerate() {
            f = f.i16_at(40 + 2 * i, n);
        }
        for i in 0..8 {
            f = f.f32_at(76 + 4 * i, 1.0);
        }
        f = f.i16_at(70, datatype).i16_at(72, bits).f32_at(108, 352.0).i16_at(254, 1);
        f = f.f32_at(280, 1.0).f32_at(300, 1.0).f32_at(320, 1.0);
        f.header[344..348].copy_from_slice(b"n+1\0");
        f.header[123] = 2;
        f
    }

    fn bytes(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.voxels].concat()
    }

    fn open(&self) -> Result<Scan, VolumeError> {
        open("scan.nii", &self.bytes())
    }
}

/// Writes `bytes` under `name` in a folder of their own and opens them.
fn open(name: &str, bytes: &[u8]) -> Result<Scan, VolumeError> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    Scan::open(&path)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

/// The message of a refusal, checked to be one line that names the file.
fn refusal(result: Result<Scan, VolumeError>) -> String {
    let message = result.map(|s| s.shape).expect_err("must be refused").to_string();
    assert!(!message.contains('\n') && message.contains("found"), "{message}");
    message
}

pub(crate) fn view(axis: Axis, slices: usize, size: [usize; 2], fit: Fit) -> View {
    View {
        name: "v".into(),
        modality: Modality::Any,
        axis,
        slices: Some(slices),
        slice_spacing_mm: None,
        size,
        fit,
        spacing_mm: None,
        region: Region::Full,
        intensity: Intensity::Window { windows: vec![[0.0, 1000.0]] },
        ..View::new("v", Axis::Axial, 1, [1, 1])
    }
}

/// Values without any symmetry, in 0..1000.
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) % 1000) as f32).collect()
}

/// The same scan stored with axis `a` being RAS axis `order[a]`, backwards where `flip[a]`.
pub(crate) fn stored_as(ras: &Scan, order: [usize; 3], flip: [bool; 3]) -> Scan {
    let shape = order.map(|r| ras.shape[r]);
    let mut voxels = Vec::with_capacity(ras.voxels.len());
    for k in 0..shape[2] {
        for j in 0..shape[1] {
            for i in 0..shape[0] {
                let mut at = [0; 3];
                for (a, n) in [i, j, k].into_iter().enumerate() {
                    at[order[a]] = if flip[a] { shape[a] - 1 - n } else { n };
                }
                voxels.push(ras.voxels[(at[2] * ras.shape[1] + at[1]) * ras.shape[0] + at[0]]);
            }
        }
    }
    let mut m = [[0.0, 0.0, 0.0, 1.0]; 4];
    for (row, old) in m.iter_mut().zip(&ras.affine.0).take(3) {
        row[3] = old[3];
        for a in 0..3 {
            let step = old[order[a]];
            row[a] = if flip[a] { -step } else { step };
            row[3] += if flip[a] { step * (shape[a] as f64 - 1.0) } else { 0.0 };
        }
    }
    Scan::from_voxels("turned", voxels, shape, Affine(m)).unwrap()
}

/// All 48 orders and directions of three axes.
pub(crate) fn orientations() -> Vec<([usize; 3], [bool; 3])> {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let flips = (0..8).map(|f: usize| [f & 1 == 1, f & 2 == 2, f & 4 == 4]);
    flips.flat_map(|flip| orders.map(|order| (order, flip))).collect()
}
