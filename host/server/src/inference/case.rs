//! From the inputs of a request to a case with files: the voxels become the NIfTI file that the reader reads.

use super::request::{InferRequest, shown};
use super::tensor::{DataType, Tensor};
use crate::error::ApiError;
use crate::work::ScanKey;
use anymc3d_host::engine::{Case, write_pixels};
use anymc3d_host::scan::{Affine, write_nifti_f32};
use anymc3d_manifest::{Manifest, Modality};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest axis that a NIfTI header holds.
const LONGEST: usize = i16::MAX as usize;

/// The inputs that a model takes, by name.
pub(super) fn names(manifest: &Manifest) -> Vec<String> {
    let mut names = vec!["voxels".to_owned(), "affine".to_owned()];
    if manifest.views.len() == 1 {
        names.push("pixels".to_owned());
    } else {
        for view in &manifest.views {
            names.extend(["voxels", "affine", "pixels"].map(|input| format!("{input}.{}", view.name)));
        }
    }
    names.extend(["mask".to_owned(), "point_mm".to_owned()]);
    names
}

/// The case of a request, its files in `folder`. It writes files: not for a thread that serves others.
pub(crate) fn case_of(
    request: &InferRequest<'_>,
    manifest: &Manifest,
    folder: &Path,
) -> Result<Case, ApiError> {
    let known = names(manifest);
    if let Some(input) = request.inputs.iter().find(|input| !known.contains(&input.name)) {
        let (found, known) = (shown(&input.name), known.join(", "));
        return Err(ApiError::bad_request(format!("no input is called `{found}`; there is: {known}")));
    }
    check_modality(request, manifest)?;
    let mut case = Case { name: "request".to_owned(), ..Case::default() };
    for input in request.inputs.iter().filter(|input| input.name.starts_with("voxels")) {
        let view = input.name.strip_prefix("voxels.");
        let affine = affine(request, view)?;
        let name = format!("{}.nii", input.name);
        let path = folder.join(&name);
        write(input, &affine, &path)?;
        case.copies.insert(path.clone(), PathBuf::from(name));
        match view {
            Some(view) => drop(case.views.insert(view.to_owned(), path)),
            None => case.image = Some(path),
        }
    }
    for input in request.inputs.iter().filter(|input| input.name.starts_with("pixels")) {
        slices(input, manifest, folder, &mut case)?;
    }
    if case.image.is_none() && case.views.is_empty() {
        return Err(ApiError::bad_request(
            "no voxels; expected input `voxels` [D,H,W] with `affine` [4,4], or `pixels` [S,3,H,W]",
        ));
    }
    if let Some(mask) = request.input("mask") {
        let path = folder.join("mask.nii");
        write(mask, &affine(request, None)?, &path)?;
        case.copies.insert(path.clone(), PathBuf::from("mask.nii"));
        case.region.mask = Some(path);
    }
    if let Some(point) = request.input("point_mm") {
        let numbers: Option<[f64; 3]> = point.f64s()?.try_into().ok();
        let finite = numbers.filter(|all| all.iter().all(|v| v.is_finite()));
        let wrong = || ApiError::bad_request("input `point_mm`: expected three numbers, RAS millimetres");
        case.region.point_mm = Some(finite.ok_or_else(wrong)?);
    }
    Ok(case)
}

/// What decides the slices of a case: its files' bytes, and the point. It reads them: not for a thread that serves others.
pub(crate) fn scan_key(case: &Case) -> std::io::Result<ScanKey> {
    let mut key = Sha256::new();
    let mut add = |name: &str, path: &Path| -> std::io::Result<()> {
        key.update((name.len() as u64).to_le_bytes());
        key.update(name);
        let mut file = std::fs::File::open(path)?;
        key.update(file.metadata()?.len().to_le_bytes());
        let mut part = vec![0; 1 << 16];
        loop {
            match file.read(&mut part)? {
                0 => return Ok(()),
                n => key.update(&part[..n]),
            }
        }
    };
    if let Some(image) = &case.image {
        add("image", image)?;
    }
    for (view, path) in &case.views {
        add(&format!("view {view}"), path)?;
    }
    if let Some(mask) = &case.region.mask {
        add("mask", mask)?;
    }
    key.update(format!("{:?}", case.region.point_mm));
    Ok(key.finalize().into())
}

/// Slices that the client has cut, as the file of their view.
fn slices(input: &Tensor<'_>, manifest: &Manifest, folder: &Path, case: &mut Case) -> Result<(), ApiError> {
    let only = manifest.views.first().map(|view| view.name.as_str());
    let view = input.name.strip_prefix("pixels.").or(only).unwrap_or_default();
    if case.views.contains_key(view) || (manifest.views.len() == 1 && case.image.is_some()) {
        let message = format!("view `{view}` has voxels and pixels; expected one of them");
        return Err(ApiError::bad_request(message));
    }
    let shape: Option<[usize; 4]> = input.shape.as_slice().try_into().ok();
    let shape = shape.filter(|shape| shape[1] == 3 && input.datatype == DataType::Fp32);
    let shape = shape.ok_or_else(|| {
        let (name, found) = (&input.name, (input.datatype, &input.shape));
        ApiError::bad_request(format!("input `{name}`: found {found:?}, expected FP32 [S,3,H,W], normalised"))
    })?;
    let name = format!("{}.safetensors", input.name);
    let path = folder.join(&name);
    write_pixels(&path, input.f32s()?, shape).map_err(ApiError::internal)?;
    case.copies.insert(path.clone(), PathBuf::from(name));
    case.views.insert(view.to_owned(), path);
    Ok(())
}

/// Refuses a scan that its sender calls another modality than the model's.
fn check_modality(request: &InferRequest<'_>, manifest: &Manifest) -> Result<(), ApiError> {
    let Some(said) = &request.modality else { return Ok(()) };
    let fits =
        |modality: Modality| modality == Modality::Any || format!("{modality:?}").eq_ignore_ascii_case(said);
    if manifest.views.iter().any(|view| fits(view.modality)) {
        return Ok(());
    }
    let expected: Vec<String> = manifest.views.iter().map(|view| format!("{:?}", view.modality)).collect();
    let (said, expected) = (shown(said), expected.join(" or "));
    Err(ApiError::bad_request(format!("parameter `modality`: found {said}, expected {expected}")))
}

/// The affine of a view, else the one of all.
fn affine(request: &InferRequest<'_>, view: Option<&str>) -> Result<Affine, ApiError> {
    let own = view.and_then(|view| request.input(&format!("affine.{view}")));
    let wrong = || {
        ApiError::bad_request(
            "input `affine`: expected FP64 or FP32 [4,4], voxel index (x, y, z) to RAS millimetres",
        )
    };
    let input = own.or_else(|| request.input("affine")).ok_or_else(wrong)?;
    let numbers = input.f64s()?;
    if input.shape != [4, 4] || numbers.len() != 16 || !numbers.iter().all(|v| v.is_finite()) {
        return Err(wrong());
    }
    let mut rows = [[0.0; 4]; 4];
    for (i, v) in numbers.into_iter().enumerate() {
        rows[i / 4][i % 4] = v;
    }
    let affine = Affine(rows);
    if rows[3] != [0.0, 0.0, 0.0, 1.0] || !affine.is_invertible() {
        return Err(ApiError::bad_request(
            "input `affine`: expected three independent axes and 0, 0, 0, 1 as the last row",
        ));
    }
    Ok(affine)
}

/// Writes `[D, H, W]` in C order, which is a file's own order: x fastest.
fn write(input: &Tensor<'_>, affine: &Affine, path: &Path) -> Result<(), ApiError> {
    let name = &input.name;
    let &[d, h, w] = input.shape.as_slice() else {
        let message = format!("input `{name}`: found shape {:?}, expected [D,H,W]", input.shape);
        return Err(ApiError::bad_request(message));
    };
    if ![d, h, w].iter().all(|n| (1..=LONGEST).contains(n)) || input.datatype == DataType::Bytes {
        let message = format!(
            "input `{name}`: found {:?} {:?}, expected numbers, 1 to {LONGEST} along each axis",
            input.datatype, input.shape
        );
        return Err(ApiError::bad_request(message));
    }
    let voxels = input.f32s()?;
    write_nifti_f32(path, &voxels, [w, h, d], affine).map_err(ApiError::internal)
}
