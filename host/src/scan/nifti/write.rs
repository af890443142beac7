//! Writing a volume as NIfTI-1, whole or not at all.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;

use crate::scan::forms::Forms;
use crate::scan::nifti::gzip::{GzipWriter, Level};
use crate::scan::{Affine, VolumeError};

/// Bytes that are made and compressed at a time: large enough that starting afresh costs nothing.
const BLOCK: usize = 1 << 20;

thread_local! {
    /// The plane that a thread is making, kept for its next.
    static PLANE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Writes 32-bit floats (first axis fastest, RAS mm affine) to `.nii`, or `.nii.gz` by the name.
///
/// # Errors
/// [`VolumeError::Write`]; the file then is what it was before.
pub fn write_nifti_f32(
    path: &Path,
    voxels: &[f32],
    shape: [usize; 3],
    affine: &Affine,
) -> Result<(), VolumeError> {
    let header = Header::new(shape, Forms::of_affine(affine), 16);
    write(path, voxels, header, |v| v.to_le_bytes())
}

/// Writes 16-bit integers; see [`write_nifti_f32`].
///
/// # Errors
/// As [`write_nifti_f32`].
pub fn write_nifti_i16(
    path: &Path,
    voxels: &[i16],
    shape: [usize; 3],
    affine: &Affine,
) -> Result<(), VolumeError> {
    write(path, voxels, Header::new(shape, Forms::of_affine(affine), 4), |v| v.to_le_bytes())
}

/// Writes 8-bit unsigned integers, as masks are; see [`write_nifti_f32`].
///
/// # Errors
/// As [`write_nifti_f32`].
pub fn write_nifti_u8(
    path: &Path,
    voxels: &[u8],
    shape: [usize; 3],
    affine: &Affine,
) -> Result<(), VolumeError> {
    write(path, voxels, Header::new(shape, Forms::of_affine(affine), 2), |v| v.to_le_bytes())
}

/// Writes a mask (0 and 1) where `forms` say, shown by viewers from 0 to 1.
///
/// # Errors
/// As [`write_nifti_f32`].
pub fn write_mask(path: &Path, voxels: &[u8], shape: [usize; 3], forms: &Forms) -> Result<(), VolumeError> {
    write(path, voxels, Header { shown_to: 1.0, ..Header::new(shape, *forms, 2) }, |v| v.to_le_bytes())
}

/// Writes values from 0 to `most` as 16-bit unsigned integers and a slope, where `forms` say: every value is off by
/// `most / 131070` at most, 0 is 0, and what is not a number is 0.
///
/// `plane(z, values)` adds the values of a plane along the third axis to `values`, which are 0: planes are asked for as
/// they are written, so that the volume never stands in memory.
///
/// # Errors
/// As [`write_nifti_f32`].
pub fn write_planes(
    path: &Path,
    shape: [usize; 3],
    forms: &Forms,
    most: f32,
    plane: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<(), VolumeError> {
    // The slope is f32 in the header; the numbers are made with what a reader will multiply by.
    let slope = if most > 0.0 && most.is_finite() { most / f32::from(u16::MAX) } else { 0.0 };
    // A slope below what f32 says fully would round to few numbers or to none.
    let slope = if slope.is_normal() { slope } else { 1.0 };
    let scale = 1.0 / slope;
    let shown_to = if scale == 1.0 { 0.0 } else { most };
    let header = Header { slope, shown_to, ..Header::new(shape, *forms, 512) };
    let [nx, ny, nz] = shape;
    let at_a_time = (BLOCK / (2 * nx * ny).max(1)).clamp(1, nz.max(1));
    let fill = |block: usize, bytes: &mut Vec<u8>| {
        let first = block * at_a_time;
        let last = (first + at_a_time).min(nz);
        bytes.resize(2 * nx * ny * (last - first), 0);
        // Taken, not borrowed: `plane` may be parallel itself, and this thread may then make another block meanwhile.
        let mut values = PLANE.take();
        for (z, bytes) in (first..last).zip(bytes.chunks_exact_mut((2 * nx * ny).max(1))) {
            values.clear();
            values.resize(nx * ny, 0.0);
            plane(z, &mut values);
            for (bytes, v) in bytes.chunks_exact_mut(2).zip(&values) {
                bytes.copy_from_slice(&nearest_u16(v * scale).to_le_bytes());
            }
        }
        PLANE.set(values);
    };
    write_blocks(path, &header, Level::Fast, nz.div_ceil(at_a_time), fill)
}

/// The nearest of 0 to 65535, of two the even one; 0 for what is not a number.
///
/// From 2²³ on the numbers of `f32` are the integers, so that an addition rounds and the low bits are the integer. Five
/// times as fast as `as u16`, which compilers do not make into vector operations (Rust 1.95, x86-64).
#[allow(clippy::manual_clamp, reason = "clamp would keep what is not a number")]
fn nearest_u16(v: f32) -> u16 {
    const INTEGERS: f32 = 8_388_608.0;
    (v.max(0.0).min(65535.0) + INTEGERS).to_bits() as u16
}

fn write<T: Copy + Sync, const N: usize>(
    path: &Path,
    voxels: &[T],
    header: Header,
    bytes: impl Fn(T) -> [u8; N] + Sync,
) -> Result<(), VolumeError> {
    if voxels.len() != header.shape.iter().product::<usize>() {
        return Err(misfit(path, voxels.len(), header.shape));
    }
    let at_a_time = BLOCK / N;
    let fill = |block: usize, out: &mut Vec<u8>| {
        let to = ((block + 1) * at_a_time).min(voxels.len());
        let voxels = &voxels[block * at_a_time..to];
        out.resize(N * voxels.len(), 0);
        for (out, &v) in out.chunks_exact_mut(N).zip(voxels) {
            out.copy_from_slice(&bytes(v));
        }
    };
    write_blocks(path, &header, Level::Small, voxels.len().div_ceil(at_a_time), fill)
}

fn misfit(path: &Path, voxels: usize, shape: [usize; 3]) -> VolumeError {
    let why = format!("{voxels} voxels do not fill a NIfTI-1 grid of {shape:?}");
    let source = io::Error::new(io::ErrorKind::InvalidInput, why);
    VolumeError::Write { path: path.to_path_buf(), source }
}

/// A header and so many blocks; `fill` makes each of them in an empty buffer.
fn write_blocks(
    path: &Path,
    header: &Header,
    level: Level,
    blocks: usize,
    fill: impl Fn(usize, &mut Vec<u8>) + Sync,
) -> Result<(), VolumeError> {
    let fail = |source: io::Error| VolumeError::Write { path: path.to_path_buf(), source };
    if header.shape.iter().any(|&n| n == 0 || n > 32767) {
        return Err(misfit(path, header.shape.iter().product(), header.shape));
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-").suffix(".nii");
    #[cfg(unix)]
    {
        // What any other program would create (the umask applies), not a private file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // Dropped before it is persisted, a temporary file removes itself.
    let file = builder.tempfile_in(folder).map_err(fail)?;
    let gz = path.file_name().is_some_and(|n| n.to_string_lossy().to_ascii_lowercase().ends_with(".gz"));
    let mut out = file.as_file();
    let head = header.bytes();
    let written = if gz {
        GzipWriter::new(out, level).and_then(|mut gzip| {
            gzip.blocks(1, |_, bytes| bytes.extend_from_slice(&head))?;
            gzip.blocks(blocks, fill)?;
            gzip.finish()
        })
    } else {
        out.write_all(&head).and_then(|()| {
            let mut bytes = Vec::new();
            (0..blocks).try_for_each(|block| {
                bytes.clear();
                fill(block, &mut bytes);
                out.write_all(&bytes)
            })
        })
    };
    written.and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// What a file says of its voxels.
struct Header {
    shape: [usize; 3],
    forms: Forms,
    /// NIfTI-1's code.
    datatype: i16,
    /// A stored number times this is the value; the intercept is 0.
    slope: f32,
    /// Viewers show values from 0 to this; 0 leaves it to them.
    shown_to: f32,
}

impl Header {
    fn new(shape: [usize; 3], forms: Forms, datatype: i16) -> Self {
        Self { shape, forms, datatype, slope: 1.0, shown_to: 0.0 }
    }

    /// 348 bytes of header and 4 that say no extension follows.
    fn bytes(&self) -> [u8; 352] {
        let mut h = [0u8; 352];
        self.forms.put(&mut h);
        let mut put = |at: usize, b: &[u8]| h[at..at + b.len()].copy_from_slice(b);
        put(0, &348i32.to_le_bytes());
        let [nx, ny, nz] = self.shape;
        for (i, n) in [3, nx, ny, nz, 1, 1, 1, 1].into_iter().enumerate() {
            put(40 + 2 * i, &(n as i16).to_le_bytes());
        }
        let bits: i16 = match self.datatype {
            2 => 8,
            16 => 32,
            _ => 16,
        };
        put(70, &self.datatype.to_le_bytes());
        put(72, &bits.to_le_bytes());
        put(108, &352f32.to_le_bytes());
        put(112, &self.slope.to_le_bytes());
        // cal_max; cal_min and scl_inter are 0.
        put(124, &self.shown_to.to_le_bytes());
        put(344, b"n+1\0");
        h
    }
}
