//! A backbone's card: source, licence, digests, and the class token of a golden image.

use super::licence::Licence;
use crate::backbone::{Backbone, BackboneError, BackboneInfo, NoAdapter, Precision};
use crate::fs::hex;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// Its name in the backbone's folder.
pub const CARD_FILE: &str = "card.json";

/// What is known of a backbone that was brought here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneCard {
    /// `anymc3d/backbone/1`.
    pub schema: String,
    /// What the host calls it.
    pub name: String,
    /// For example `siglip`.
    pub family: String,
    /// Where it came from: a folder, or a repository and its revision.
    pub source: String,
    /// Absent where its files name none.
    pub licence: Option<Licence>,
    /// Of the weights.
    pub sha256: String,
    /// What tasks' weights are bound to.
    pub fingerprint: String,
    /// Every file but this one.
    pub files: Vec<FileDigest>,
    /// Class token of the golden image, f32.
    pub golden: Vec<f32>,
    /// When it was brought here, UTC.
    pub imported: String,
}

/// A file as it was imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// In the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
}

impl FileDigest {
    /// Reads the file once.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let (mut file, mut hash) = (std::fs::File::open(path)?, Sha256::new());
        let (mut buffer, mut bytes) = (vec![0u8; 1 << 20], 0);
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, bytes, sha256: hex(&hash.finalize()) })
    }
}

pub(super) const SCHEMA: &str = "anymc3d/backbone/1";

impl BackboneCard {
    /// The card of a folder; `None` where it has none.
    ///
    /// # Errors
    /// When the file is no card.
    pub fn read(folder: &Path) -> Result<Option<Self>, BackboneError> {
        let path = folder.join(CARD_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BackboneError::Io { path, source }),
        };
        let card: Self = serde_json::from_str(&text).map_err(|e| BackboneError::Config {
            path: path.clone(),
            message: format!("is no backbone's card: {e}"),
        })?;
        match card.schema == SCHEMA {
            true => Ok(Some(card)),
            false => {
                let message = format!("is of schema {}, expected {SCHEMA}", card.schema);
                Err(BackboneError::Config { path, message })
            }
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// Pixels [1, 3, 4·p, 5·p] of waves whose length differs by channel: every patch is another one.
fn golden_image(info: &BackboneInfo) -> candle_core::Result<Tensor> {
    let (h, w) = (4 * info.patch_size, 5 * info.patch_size);
    let at = |i: usize| {
        let (c, y, x) = (i / (h * w), i / w % h, i % w);
        let wave = 1.0 + c as f32;
        ((y as f32 * 0.11 * wave).sin() + (x as f32 * 0.07 * wave).cos()) * 0.9
    };
    Tensor::from_vec((0..3 * h * w).map(at).collect::<Vec<_>>(), (1, 3, h, w), &Device::Cpu)
}

/// The class token of the golden image, [d], in f32 on the processor.
pub(super) fn golden_of(backbone: &Backbone) -> Result<Vec<f32>, BackboneError> {
    let class = backbone.forward(&golden_image(backbone.info())?, &NoAdapter, false)?.class_tokens;
    Ok(class.flatten_all()?.to_vec1()?)
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The card that was checked against.
    pub card: BackboneCard,
    /// Largest difference to the golden class token, relative to its largest number.
    pub golden_difference: f32,
    /// One line each; none where all is as it was imported.
    pub problems: Vec<String>,
}

/// Rounding of another processor's kernels.
const GOLDEN_TOLERANCE: f32 = 1e-3;

/// Checks a folder against its card: every file's digest, the fingerprint, and the golden image's class token.
///
/// # Errors
/// When it has no card, or the backbone does not open.
pub fn verify(folder: &Path) -> Result<Verified, BackboneError> {
    let Some(card) = BackboneCard::read(folder)? else {
        let (path, message) =
            (folder.join(CARD_FILE), "is not there; a backbone has a card once it was imported".to_owned());
        return Err(BackboneError::Config { path, message });
    };
    let mut problems = Vec::new();
    for file in &card.files {
        let path = folder.join(&file.name);
        match FileDigest::of(&path) {
            Ok(found) if found == *file => {}
            Ok(found) => problems.push(format!(
                "{}: sha256 {} of {} bytes, expected {} of {} bytes",
                path.display(),
                found.sha256,
                found.bytes,
                file.sha256,
                file.bytes
            )),
            Err(e) => problems.push(format!("{}: {e}", path.display())),
        }
    }
    let golden_difference = match Backbone::open(folder, Precision::F32) {
        Ok(backbone) => {
            let (found, expected) = (&backbone.info().fingerprint, &card.fingerprint);
            if found != expected {
                problems.push(format!("fingerprint {found}, expected {expected}"));
            }
            apart(&golden_of(&backbone)?, &card.golden)
        }
        Err(e) if problems.is_empty() => return Err(e),
        Err(e) => {
            problems.push(e.to_string());
            f32::INFINITY
        }
    };
    // Infinite where it did not open, which is told already.
    let differs = golden_difference > GOLDEN_TOLERANCE && golden_difference.is_finite();
    if golden_difference.is_nan() || differs {
        problems.push(format!(
            "the golden image's class token differs by {golden_difference:.1e}, expected at most {GOLDEN_TOLERANCE:.0e}"
        ));
    }
    Ok(Verified { card, golden_difference, problems })
}

fn apart(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let largest = expected.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    let pairs = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest);
    pairs.fold(0.0, |m, x| if x > m || x.is_nan() { x } else { m })
}
