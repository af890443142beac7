//! Writing a volume as NIfTI-1, whole or not at all.

use std::io::{self, Write};
use std::path::Path;

use rayon::prelude::*;

use super::deflate::gzip;
use super::{Affine, VolumeError};

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
    write(path, voxels, shape, affine, 16, |v| v.to_le_bytes())
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
    write(path, voxels, shape, affine, 4, |v| v.to_le_bytes())
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
    write(path, voxels, shape, affine, 2, |v| v.to_le_bytes())
}

fn write<T: Copy + Sync, const N: usize>(
    path: &Path,
    voxels: &[T],
    shape: [usize; 3],
    affine: &Affine,
    datatype: i16,
    bytes: impl Fn(T) -> [u8; N] + Sync,
) -> Result<(), VolumeError> {
    let fail = |source: io::Error| VolumeError::Write { path: path.to_path_buf(), source };
    if voxels.len() != shape.iter().product::<usize>() || shape.iter().any(|&n| n == 0 || n > 32767) {
        let why = format!("{} voxels do not fill a NIfTI-1 grid of {shape:?}", voxels.len());
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, why)));
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
    let head = header(shape, affine, datatype, N);
    let mut body = vec![0u8; voxels.len() * N];
    body.par_chunks_mut(N << 14).zip(voxels.par_chunks(1 << 14)).for_each(|(body, voxels)| {
        for (b, &v) in body.chunks_exact_mut(N).zip(voxels) {
            b.copy_from_slice(&bytes(v));
        }
    });
    let gz = path.file_name().is_some_and(|n| n.to_string_lossy().to_ascii_lowercase().ends_with(".gz"));
    let mut out = file.as_file();
    let written = if gz {
        gzip(&[&head, &body]).and_then(|file| out.write_all(&file))
    } else {
        out.write_all(&head).and_then(|()| out.write_all(&body))
    };
    written.and_then(|()| file.as_file().sync_all()).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// 348 bytes of header and 4 that say no extension follows.
fn header(shape: [usize; 3], affine: &Affine, datatype: i16, bytes: usize) -> [u8; 352] {
    let mut h = [0u8; 352];
    let mut put = |at: usize, b: &[u8]| h[at..at + b.len()].copy_from_slice(b);
    put(0, &348i32.to_le_bytes());
    for (i, n) in [3, shape[0], shape[1], shape[2], 1, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * i, &(n as i16).to_le_bytes());
    }
    put(70, &datatype.to_le_bytes());
    put(72, &(8 * bytes as i16).to_le_bytes());
    let spacing = affine.spacing();
    let handed = if affine.determinant() < 0.0 { -1.0 } else { 1.0 };
    for (i, v) in [handed, spacing[0], spacing[1], spacing[2], 1.0, 1.0, 1.0, 1.0].into_iter().enumerate() {
        put(76 + 4 * i, &(v as f32).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(112, &1f32.to_le_bytes());
    put(123, &[2]); // millimetres
    // A quaternion cannot say shear: the qform is left unset where the sform has any.
    let orthonormal = affine.shear_degrees() < 0.01;
    put(252, &i16::from(orthonormal).to_le_bytes());
    put(254, &1i16.to_le_bytes());
    let quaternion = if orthonormal { quaternion(affine.closest_rotation(), handed) } else { [0.0; 3] };
    for (i, v) in quaternion.into_iter().enumerate() {
        put(256 + 4 * i, &(v as f32).to_le_bytes());
    }
    for r in 0..3 {
        if orthonormal {
            put(268 + 4 * r, &(affine.0[r][3] as f32).to_le_bytes());
        }
        for c in 0..4 {
            put(280 + 16 * r + 4 * c, &(affine.0[r][c] as f32).to_le_bytes());
        }
    }
    put(344, b"n+1\0");
    h
}

/// b, c, d of the unit quaternion (a ≥ 0) of a rotation whose third column is first made right-handed.
fn quaternion(mut m: [[f64; 3]; 3], handed: f64) -> [f64; 3] {
    m.iter_mut().for_each(|row| row[2] *= handed);
    let trace = m[0][0] + m[1][1] + m[2][2];
    // The largest of the four is computed by a root, the others by division through it.
    let squares = [
        1.0 + trace,
        1.0 + m[0][0] - m[1][1] - m[2][2],
        1.0 - m[0][0] + m[1][1] - m[2][2],
        1.0 - m[0][0] - m[1][1] + m[2][2],
    ];
    let largest = (0..4).fold(0, |best, i| if squares[i] > squares[best] { i } else { best });
    let s = 2.0 * squares[largest].max(0.0).sqrt();
    let (xy, xz, yz) = (m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]);
    let (wx, wy, wz) = (m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]);
    let [a, b, c, d] = match largest {
        0 => [s / 4.0, wx / s, wy / s, wz / s],
        1 => [wx / s, s / 4.0, xy / s, xz / s],
        2 => [wy / s, xy / s, s / 4.0, yz / s],
        _ => [wz / s, xz / s, yz / s, s / 4.0],
    };
    if a < 0.0 { [-b, -c, -d] } else { [b, c, d] }
}
