//! Where a NIfTI header says its voxels are: sform, qform or neither; units; shear.

use std::path::Path;

use ::nifti::NiftiHeader;

use crate::scan::limits::GeometryLimits;
use crate::scan::{Affine, VolumeError};

/// Shear (degrees) from which a grid is reported as not orthogonal: above f32 noise, and where ITK begins to refuse it.
const SHEAR_DEGREES: f64 = 0.02;
/// Part by which voxel sizes may differ without a word.
const SAME_SIZE: f64 = 0.01;

/// A voxel size (mm) that is reported: scanners make it, but a header in other units is likelier.
const IMPLAUSIBLE_MM: f64 = 50.0;

/// The map voxel index → RAS mm and what is to be told about it.
pub(crate) fn affine_of(
    path: &Path,
    header: &NiftiHeader,
    shape: [usize; 3],
    limits: &GeometryLimits,
    warnings: &mut Vec<String>,
) -> Result<Affine, VolumeError> {
    let sform = (header.sform_code > 0).then(|| sform(header));
    let qform = (header.qform_code > 0).then(|| qform(header, warnings));
    let (name, mut affine) = match (&sform, &qform) {
        (Some(s), _) => ("sform", *s),
        (None, Some(q)) => ("qform", *q),
        (None, None) => {
            warnings.push(
                "neither sform nor qform is set: spacing from pixdim, left/right unknown (first axis taken to run from right to left, as nibabel and FSL do), front/back unknown too (second axis taken to run from back to front; ITK and NiiVue take other directions)".into(),
            );
            ("pixdim", base(header, shape, warnings))
        }
    };
    let scale = match header.xyzt_units & 7 {
        1 => 1000.0,
        3 => 0.001,
        _ => 1.0,
    };
    if scale != 1.0 {
        let unit = if scale > 1.0 { "metre" } else { "micrometre" };
        warnings.push(format!("the header's spatial unit is the {unit}: positions converted to mm"));
        affine = in_mm(affine, scale);
    }
    if !affine.is_invertible() {
        return Err(VolumeError::Content {
            path: path.to_path_buf(),
            found: format!(
                "a singular {name} affine (voxel steps {:?})",
                [0, 1, 2].map(|c| affine.column(c))
            ),
            expected: "three independent voxel axes with finite steps".into(),
            todo: "the header is damaged: export the scan again".into(),
        });
    }
    limits.check(path, &format!("by its {name}"), &affine, shape)?;
    if let (Some(_), Some(q)) = (&sform, &qform) {
        let q = in_mm(*q, scale);
        let apart = affine.corner_distance(&q, shape);
        let smallest = affine.spacing().into_iter().fold(f64::INFINITY, f64::min);
        if !apart.is_finite() || apart > 0.1 * smallest {
            warnings.push(format!(
                "sform and qform disagree by up to {apart:.1} mm: the sform is used ({} against {}); a viewer that follows the qform shows the scan, and what is written for it, that far away",
                affine.orientation(),
                q.orientation()
            ));
        }
    }
    let shear = affine.shear_degrees();
    if shear > SHEAR_DEGREES {
        let digits = if shear < 0.1 { 2 } else { 1 };
        warnings.push(format!("the {name} is sheared: voxel axes are {shear:.digits$} degrees off a right angle; slices follow the stored grid"));
    }
    let spacing = affine.spacing();
    if sform.is_some() {
        warnings.extend(other_size(header, spacing, scale));
    }
    if spacing.iter().any(|s| *s > IMPLAUSIBLE_MM) {
        warnings.push(format!(
            "implausible voxel size {:.4} × {:.4} × {:.4} mm: check the header's units",
            spacing[0], spacing[1], spacing[2]
        ));
    }
    Ok(affine)
}

/// Voxel sizes told two ways: by the steps of the sform, and by pixdim.
fn other_size(header: &NiftiHeader, spacing: [f64; 3], scale: f64) -> Option<String> {
    let told = [1, 2, 3].map(|i| f64::from(header.pixdim[i]).abs() * scale);
    // A size of 0 is left out, not told.
    let differs = |(step, told): (&f64, &f64)| *told > 0.0 && (step - told).abs() > SAME_SIZE * step;
    spacing.iter().zip(&told).any(differs).then(|| {
        let mm = |s: [f64; 3]| format!("{:.4} × {:.4} × {:.4} mm", s[0], s[1], s[2]);
        format!(
            "voxels are {} by the sform and {} by pixdim: distances and volumes follow the sform",
            mm(spacing),
            mm(told)
        )
    })
}

fn in_mm(mut a: Affine, scale: f64) -> Affine {
    a.0[..3].iter_mut().flatten().for_each(|v| *v *= scale);
    a
}

fn sform(h: &NiftiHeader) -> Affine {
    let row = |r: [f32; 4]| r.map(f64::from);
    Affine([row(h.srow_x), row(h.srow_y), row(h.srow_z), [0.0, 0.0, 0.0, 1.0]])
}

/// Voxel sizes from `pixdim`, positive; a zero becomes 1 and is told. What is no number stays none: the grid is refused.
fn pixdim(h: &NiftiHeader, warnings: &mut Vec<String>) -> [f64; 3] {
    [1, 2, 3].map(|i| {
        let size = f64::from(h.pixdim[i]).abs();
        if size != 0.0 {
            size
        } else {
            warnings.push(format!("pixdim[{i}] is {size}: taken as 1"));
            1.0
        }
    })
}

/// NIfTI-1 method 2: quaternion b, c, d, offsets, voxel sizes, and the handedness in `pixdim[0]`.
fn qform(h: &NiftiHeader, warnings: &mut Vec<String>) -> Affine {
    let size = if h.sform_code > 0 { pixdim(h, &mut Vec::new()) } else { pixdim(h, warnings) };
    let (mut b, mut c, mut d) = (f64::from(h.quatern_b), f64::from(h.quatern_c), f64::from(h.quatern_d));
    let squares = b * b + c * c + d * d;
    let a = if 1.0 - squares < 1e-7 {
        // A half turn; what exceeds 1 is rounding (as in nifti1_io).
        let norm = squares.sqrt();
        (b, c, d) = (b / norm, c / norm, d / norm);
        0.0
    } else {
        (1.0 - squares).sqrt()
    };
    let handed = if h.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    let offset = [h.quatern_x, h.quatern_y, h.quatern_z].map(f64::from);
    let mut m = [[0.0, 0.0, 0.0, 1.0]; 4];
    for r in 0..3 {
        m[r] = [
            rotation[r][0] * size[0],
            rotation[r][1] * size[1],
            rotation[r][2] * size[2] * handed,
            offset[r],
        ];
    }
    Affine(m)
}

/// No form at all: centred on the volume, first axis from right to left, as nibabel does.
fn base(h: &NiftiHeader, shape: [usize; 3], warnings: &mut Vec<String>) -> Affine {
    let mut size = pixdim(h, warnings);
    size[0] = -size[0];
    Affine::aligned(size, [0, 1, 2].map(|i| -size[i] * (shape[i] as f64 - 1.0) / 2.0))
}
