//! Where a file says its voxels are, number for number, so that what is written beside a scan says the same.
//!
//! Readers differ in which of the two forms they follow and in what they refuse (ITK: a sform with shear, unless the
//! qform is sound). A file that carries the scan's own forms lies on the scan in each of them.

use ::nifti::NiftiHeader;

use crate::scan::Affine;

/// Shear (degrees) from which a grid cannot be said by a quaternion.
const SHEAR_DEGREES: f64 = 0.01;
/// `xyzt_units`: millimetres.
const MILLIMETRES: u8 = 2;

/// The fields of a NIfTI-1 header that place its voxels, as they are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forms {
    /// Handedness of the qform, voxel sizes, and what the file says of further axes.
    pixdim: [f32; 8],
    units: u8,
    qform_code: i16,
    sform_code: i16,
    /// b, c, d.
    quaternion: [f32; 3],
    /// `qoffset_x`, `_y`, `_z`.
    offset: [f32; 3],
    sform: [[f32; 4]; 3],
}

impl Forms {
    pub(crate) fn of_header(h: &NiftiHeader) -> Self {
        Self {
            pixdim: h.pixdim,
            units: h.xyzt_units,
            qform_code: h.qform_code,
            sform_code: h.sform_code,
            quaternion: [h.quatern_b, h.quatern_c, h.quatern_d],
            offset: [h.quatern_x, h.quatern_y, h.quatern_z],
            sform: [h.srow_x, h.srow_y, h.srow_z],
        }
    }

    /// Of a grid that comes from no file: a sform in mm, and the same as a qform where a quaternion can say it.
    pub fn of_affine(affine: &Affine) -> Self {
        let spacing = affine.spacing().map(|s| s as f32);
        let handed = if affine.determinant() < 0.0 { -1.0 } else { 1.0 };
        let orthonormal = affine.shear_degrees() < SHEAR_DEGREES;
        let rows: [[f64; 4]; 3] = std::array::from_fn(|r| affine.0[r]);
        let (quaternion, offset) = match orthonormal {
            true => (quaternion(affine.closest_rotation(), handed), rows.map(|row| row[3] as f32)),
            false => ([0.0; 3], [0.0; 3]),
        };
        Self {
            pixdim: [handed as f32, spacing[0], spacing[1], spacing[2], 1.0, 1.0, 1.0, 1.0],
            units: MILLIMETRES,
            qform_code: i16::from(orthonormal),
            sform_code: 1,
            quaternion: quaternion.map(|v| v as f32),
            offset,
            sform: rows.map(|row| row.map(|v| v as f32)),
        }
    }

    /// Puts the fields where a header has them.
    pub(crate) fn put(&self, header: &mut [u8; 352]) {
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        let mut floats = |at: usize, values: &[f32]| {
            for (i, v) in values.iter().enumerate() {
                put(at + 4 * i, &v.to_le_bytes());
            }
        };
        floats(76, &self.pixdim);
        floats(256, &self.quaternion);
        floats(268, &self.offset);
        floats(280, self.sform.as_flattened());
        put(123, &[self.units]);
        put(252, &self.qform_code.to_le_bytes());
        put(254, &self.sform_code.to_le_bytes());
    }
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
