//! A synthetic case that a build is tried on before it takes an earlier one's place.

use crate::engine::Case;
use crate::scan::{Affine, RegionOfInterest, write_nifti_i16, write_nifti_u8};
use anymc3d_manifest::{Manifest, Modality};
use std::io;
use std::path::Path;

/// Voxels along each axis, and their size in mm: about a trunk.
const SIDE: usize = 48;
const SPACING_MM: f64 = 6.0;

/// A ball of tissue with two darker balls in it, a file for each view, a mask and a point in its middle; in `folder`.
///
/// # Errors
/// When the folder cannot be written to.
pub(super) fn trial_case(manifest: &Manifest, folder: &Path) -> io::Result<Case> {
    let corner = -SPACING_MM * SIDE as f64 / 2.0;
    let mut rows = [[0.0; 4]; 4];
    (0..3).for_each(|i| (rows[i][i], rows[i][3]) = (SPACING_MM, corner));
    rows[3][3] = 1.0;
    let (affine, shape) = (Affine(rows), [SIDE; 3]);
    let mut case = Case { name: "trial".to_owned(), ..Case::default() };
    for view in &manifest.views {
        let [air, lung, tissue] = match view.modality {
            Modality::CT => [-1000, -800, 40],
            Modality::MR | Modality::PT | Modality::Any => [0, 200, 800],
        };
        let voxel = |x: f64, y: f64, z: f64| {
            let texture = (7.0 * x + 5.0 * y + 3.0 * z) as i16 % 13;
            match x * x + y * y + z * z {
                far if far > 0.8 => air,
                _ if (x.abs() - 0.4).powi(2) + y * y + z * z < 0.08 => lung + texture,
                _ => tissue + texture,
            }
        };
        let path = folder.join(format!("{}.nii", view.name));
        write_nifti_i16(&path, &voxels(voxel), shape, &affine).map_err(io::Error::other)?;
        case.views.insert(view.name.clone(), path);
    }
    let path = folder.join("mask.nii");
    let finding = |x: f64, y: f64, z: f64| u8::from(x * x + y * y + z * z < 0.02);
    write_nifti_u8(&path, &voxels(finding), shape, &affine).map_err(io::Error::other)?;
    case.region = RegionOfInterest { mask: Some(path), point_mm: Some([0.0; 3]) };
    Ok(case)
}

/// Of places from -1 to 1 along each axis, the first axis fastest.
fn voxels<T>(at: impl Fn(f64, f64, f64) -> T) -> Vec<T> {
    let place = |i: usize| 2.0 * (i as f64 + 0.5) / SIDE as f64 - 1.0;
    let all = (0..SIDE).flat_map(|z| (0..SIDE).flat_map(move |y| (0..SIDE).map(move |x| (x, y, z))));
    all.map(|(x, y, z)| at(place(x), place(y), place(z))).collect()
}
