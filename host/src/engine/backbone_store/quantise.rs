//! Chooses the 8-bit integers of a backbone's layers, on slices that the host makes itself, and measures them on others.

use super::import::StoreError;
use crate::backbone::{Backbone, BackboneError, NoAdapter, Precision, QuantisedRecord, cosine};
use crate::fs::hex;
use crate::phantom;
use crate::scan::{Affine, Scan, slices};
use anymc3d_manifest::{Axis, Intensity, View};
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Edge of a slice in pixels, rounded up to whole patches.
const EDGE: usize = 224;
/// Slices of each phantom.
const SLICES: usize = 8;
/// Seed of the phantoms that the rounding is chosen for.
const CHOSEN_ON: u64 = 1;
/// Seed of those that it is measured on.
const MEASURED_ON: u64 = 2;

/// Chooses the rounding, measures it, and writes both into the backbone's folder. `done` is told how many of how many blocks are rounded.
///
/// # Errors
/// When the backbone does not open, this processor multiplies no 8-bit integers, or the file cannot be written.
pub fn quantise(folder: &Path, done: &mut dyn FnMut(usize, usize)) -> Result<QuantisedRecord, StoreError> {
    let exact = Backbone::open(folder, Precision::F32)?;
    let Some(kernels) = exact.int8_kernels() else {
        let message = "this processor has no instructions for products of 8-bit integers (VNNI): `--precision int8` computes as int16 \
                       here, for which no rounding needs to be chosen";
        return Err(StoreError::Place(message.to_owned()));
    };
    let chosen_on = pixels(&exact, CHOSEN_ON, true)?;
    let blocks = exact.info().blocks;
    let quantised = exact.quantised(&chosen_on, &mut |n| done(n, blocks))?;
    let digest = |pixels: &Tensor| -> Result<String, BackboneError> {
        let mut hash = Sha256::new();
        pixels.flatten_all()?.to_vec1::<f32>()?.iter().for_each(|v| hash.update(v.to_le_bytes()));
        Ok(hex(&hash.finalize()))
    };
    let measured_on = pixels(&exact, MEASURED_ON, false)?;
    let rounded = Backbone::open_quantised(folder, &quantised)?;
    let cosines = cosines(&exact, &rounded, &measured_on)?;
    let record = QuantisedRecord {
        fingerprint: exact.info().fingerprint.clone(),
        slices: chosen_on.dim(0).map_err(BackboneError::from)?,
        pixels: digest(&chosen_on)?,
        measured: cosines.len(),
        lowest_cosine: cosines.iter().copied().fold(1.0, f64::min),
        mean_cosine: cosines.iter().sum::<f64>() / cosines.len() as f64,
        kernels: kernels.to_owned(),
    };
    quantised.write(folder, &record)?;
    Ok(record)
}

/// Slices of a chest, an abdomen and a head, and of noise, normalised for the backbone: [S, 3, H, W].
fn pixels(backbone: &Backbone, seed: u64, with_noise: bool) -> Result<Tensor, BackboneError> {
    let info = backbone.info();
    let edge = EDGE.next_multiple_of(info.patch_size);
    let mut all = Vec::new();
    for (name, intensity) in [
        ("lung_nodule", Intensity::Window { windows: vec![[-1000.0, 400.0]] }),
        ("liver_injury", Intensity::Window { windows: vec![[-160.0, 240.0]] }),
        ("brain_mri", Intensity::Percentile { low: 0.5, high: 99.5, nonzero: true }),
    ] {
        let view = View { intensity, ..View::new("axial", Axis::Axial, SLICES, [edge, edge]) };
        let refused = |e: String| BackboneError::Input(format!("the phantom {name}: {e}"));
        let case = phantom::generate(name, seed, 0).map_err(|e| refused(e.to_string()))?;
        let voxels = case.images[0].voxels.iter().map(|v| f32::from(*v)).collect();
        let scan = Scan::from_voxels(name, voxels, case.shape, Affine(case.affine))
            .map_err(|e| refused(e.to_string()))?;
        let (_, volume) = scan.into_canonical();
        let stack = slices(&volume, &view, info.patch_size).map_err(|e| refused(e.to_string()))?;
        all.extend(stack.normalised(info.mean, info.std).map_err(|e| refused(e.to_string()))?);
    }
    if with_noise {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        all.extend((0..SLICES * 3 * edge * edge).map(|_| rng.random_range(-2.0f32..2.0)));
    }
    let count = all.len() / (3 * edge * edge);
    Ok(Tensor::from_vec(all, (count, 3, edge, edge), &Device::Cpu)?)
}

/// Of the class tokens of each slice.
fn cosines(exact: &Backbone, rounded: &Backbone, pixels: &Tensor) -> Result<Vec<f64>, BackboneError> {
    let tokens = |backbone: &Backbone| -> Result<Vec<Vec<f32>>, BackboneError> {
        Ok(backbone.forward(pixels, &NoAdapter, false)?.class_tokens.to_vec2()?)
    };
    let (exact, rounded) = (tokens(exact)?, tokens(rounded)?);
    Ok(exact.iter().zip(&rounded).map(|(a, b)| cosine(a, b)).collect())
}
