//! What the frozen blocks give for a case, kept on disk as f16 with a cap on its size.
//!
//! The key is a digest of everything that decides the content: the scan's and the mask's bytes, the view's
//! preprocessing, the augmentation, the backbone's fingerprint and precision, and the number of blocks. A file that is
//! damaged or was cut short is computed anew.

use super::augment::Augmentation;
use super::sample::{SampleError, ViewSample, prepare};
use crate::backbone::{Backbone, HiddenStates, KeptPatches, Precision, TokenLayout};
use crate::data::table::Row;
use crate::engine::CaseData;
use crate::fs::hex;
use crate::scan::source::digest_of;
use crate::scan::{DecodedScans, VolumeError};
use anymc3d_manifest::View;
use anymc3d_plugin_api::SliceGeometry;
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Frozen prefixes on disk.
pub struct PrefixCache {
    folder: Option<PathBuf>,
    cap: u64,
    used: AtomicU64,
    /// Bytes written since the folder was counted.
    uncounted: AtomicU64,
    /// Files that were last used before this make room for new ones.
    opened: SystemTime,
    told: AtomicBool,
    /// Digests of scans, of a pair both files, so that each is hashed once in a run.
    digests: Mutex<HashMap<PathBuf, String>>,
    /// What the check of the table decoded.
    decoded: Arc<DecodedScans>,
}

/// Changes when what the files hold would mean something else.
const VERSION: &str = "anymc3d prefix 5";

impl PrefixCache {
    /// A cache in a folder, up to `cap` bytes; without a folder nothing is kept.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folder: Option<&Path>, cap: u64) -> std::io::Result<Self> {
        let mut used = 0;
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
            let mut files: Vec<_> = std::fs::read_dir(folder)?
                .flatten()
                .filter_map(|e| Some((e.metadata().ok()?, e.path())))
                .filter(|(m, _)| m.is_file())
                .collect();
            // What was used longest ago makes room first.
            files.sort_by_key(|(m, _)| std::cmp::Reverse(m.modified().ok()));
            for (metadata, path) in files {
                if used + metadata.len() > cap {
                    let _ = std::fs::remove_file(path);
                } else {
                    used += metadata.len();
                }
            }
        }
        Ok(Self {
            folder: folder.map(Path::to_owned),
            cap,
            used: AtomicU64::new(used),
            uncounted: AtomicU64::default(),
            opened: SystemTime::now(),
            told: AtomicBool::new(false),
            digests: Mutex::default(),
            decoded: Arc::default(),
        })
    }

    /// With the scans that the table's check decoded: they are not read again in the first epoch.
    #[must_use]
    pub fn with_decoded(self, decoded: Arc<DecodedScans>) -> Self {
        Self { decoded, ..self }
    }

    /// For the data of a case.
    pub(super) fn decoded(&self) -> Arc<DecodedScans> {
        self.decoded.clone()
    }

    fn digest(&self, path: &Path) -> Result<String, VolumeError> {
        let known = |digests: &HashMap<PathBuf, String>| digests.get(path).cloned();
        if let Some(digest) = self.digests.lock().ok().and_then(|d| known(&d)) {
            return Ok(digest);
        }
        let digest = self.decoded.digest(path).map_or_else(|| digest_of(path), Ok)?;
        if let Ok(mut digests) = self.digests.lock() {
            digests.insert(path.to_owned(), digest.clone());
        }
        Ok(digest)
    }

    /// A view of a case up to the first adapted block, from the cache or computed. `data` keeps what was read for the
    /// case's other views.
    ///
    /// # Errors
    /// As `prepare`: when scan or mask cannot be read, or do not share a grid.
    #[allow(clippy::too_many_arguments)]
    pub fn sample(
        &self,
        data: &mut CaseData,
        row: &Row,
        view: &View,
        augmentation: &Augmentation,
        blocks: usize,
        backbone: &Backbone,
        precision: Precision,
        with_mask: bool,
    ) -> Result<Option<ViewSample>, SampleError> {
        let place = self.place(row, view, augmentation, blocks, backbone, precision, with_mask);
        if let Some(place) = &place
            && let Some(sample) = read(place, blocks, backbone, view)
        {
            // When it was last used; a cache that cannot be written to is read all the same.
            let _ = std::fs::File::open(place).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(Some(sample));
        }
        let Some(sample) = prepare(data, row, view, augmentation, blocks, backbone, with_mask)? else {
            return Ok(None);
        };
        let tensors = tensors_of(&sample).map_err(|e| failed(row, e))?;
        if let Some(place) = &place {
            // A full disk slows the run down; it does not end it.
            if let Err(e) = self.write(place, &tensors)
                && !self.told.swap(true, Ordering::Relaxed)
            {
                tracing::warn!("frozen prefixes are computed again in every epoch: {}: {e}", place.display());
            }
        }
        // As the cache would give it, rounded to f16: a run does not depend on what was in the cache.
        sample_of(&tensors, blocks, backbone.info().layout()).map(Some).map_err(|e| failed(row, e))
    }

    #[allow(clippy::too_many_arguments)]
    fn place(
        &self,
        row: &Row,
        view: &View,
        augmentation: &Augmentation,
        blocks: usize,
        backbone: &Backbone,
        precision: Precision,
        with_mask: bool,
    ) -> Option<PathBuf> {
        let folder = self.folder.as_ref()?;
        let scan = self.digest(row.images.get(&view.name)?).ok()?;
        let mask = match &row.mask {
            Some(mask) if with_mask || row.region().mask_of(view).is_some() => {
                format!("{with_mask}{}", self.digest(mask).ok()?)
            }
            _ => String::new(),
        };
        let point =
            row.point_mm.filter(|_| view.follows_region()).map(|p| format!("|{p:?}")).unwrap_or_default();
        let fingerprint = &backbone.info().fingerprint;
        let host = env!("CARGO_PKG_VERSION");
        // Another device rounds otherwise.
        let device = if backbone.device().is_cpu() { "" } else { "|cuda" };
        let text = format!(
            "{VERSION}|{host}|{scan}|{mask}|{view:?}|{augmentation:?}|{blocks}|{fingerprint}|{precision:?}{device}{point}"
        );
        Some(folder.join(format!("{}.safetensors", hex(&Sha256::digest(text.as_bytes())))))
    }

    /// Counts what lies in the folder, which other processes fill too: each time that a run has written a sixteenth of the cap.
    fn count(&self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let files = entries.flatten().filter_map(|e| e.metadata().ok()).filter(|m| m.is_file());
        let bytes = files.map(|m| m.len()).sum();
        self.used.store(bytes, Ordering::Relaxed);
        self.uncounted.store(0, Ordering::Relaxed);
    }

    /// Removes what this run has not used, the longest unused first, until no more than the cap is taken.
    fn make_room(&self, folder: &Path) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|e| Some((e.metadata().ok()?, e.path())))
            .filter_map(|(m, path)| Some((m.modified().ok()?, m.len(), path)))
            .filter(|(used, ..)| *used < self.opened)
            .collect();
        files.sort();
        for (_, size, path) in files {
            if self.used.load(Ordering::Relaxed) <= self.cap {
                break;
            }
            if std::fs::remove_file(path).is_ok() {
                self.used.fetch_sub(size, Ordering::Relaxed);
            }
        }
    }

    fn write(
        &self,
        place: &Path,
        tensors: &HashMap<&'static str, Tensor>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let bytes = safetensors::serialize(tensors.iter().map(|(n, t)| (*n, t)), None)?;
        let size = bytes.len() as u64;
        let folder = place.parent().ok_or("no folder")?;
        if self.uncounted.fetch_add(size, Ordering::Relaxed) + size > self.cap / 16 {
            self.count(folder);
        }
        if self.used.fetch_add(size, Ordering::Relaxed) + size > self.cap {
            self.make_room(folder);
        }
        let written = match self.used.load(Ordering::Relaxed) > self.cap {
            true => Err("the cache is full of what this run uses; give a larger --cache-size".into()),
            false => put(folder, place, &bytes),
        };
        if written.is_err() {
            self.used.fetch_sub(size, Ordering::Relaxed);
        }
        written
    }
}

fn put(folder: &Path, place: &Path, bytes: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.persist(place)?;
    Ok(())
}

fn failed(row: &Row, e: candle_core::Error) -> SampleError {
    SampleError::Backbone { case: row.case.clone(), source: e.into() }
}

/// What a file holds: tokens as f16, the mask in steps of 1/255.
fn tensors_of(sample: &ViewSample) -> candle_core::Result<HashMap<&'static str, Tensor>> {
    let (h, w) = sample.hidden.grid;
    let SliceGeometry { positions_mm, centres_mm, token_spacing_mm, .. } = &*sample.geometry;
    let mut tensors = HashMap::from([
        ("tokens", sample.hidden.tokens.to_device(&Device::Cpu)?.to_dtype(DType::F16)?),
        ("grid", Tensor::new(&[h as u32, w as u32], &Device::Cpu)?),
        ("centres", Tensor::from_vec(centres_mm.concat(), (centres_mm.len(), 3), &Device::Cpu)?),
        ("positions", Tensor::new(&**positions_mm, &Device::Cpu)?),
        ("spacing", Tensor::new(token_spacing_mm, &Device::Cpu)?),
    ]);
    if let Some(kept) = &sample.hidden.kept {
        tensors.insert("kept", kept.table(DType::U8, &Device::Cpu)?);
    }
    if let Some(scalars) = &sample.scalars {
        tensors.insert("scalars", Tensor::new(&scalars[..], &Device::Cpu)?);
    }
    if let Some(mask) = &sample.mask {
        tensors.insert("mask", (mask * 255.0)?.round()?.to_dtype(DType::U8)?);
    }
    Ok(tensors)
}

fn sample_of<K>(
    tensors: &HashMap<K, Tensor>,
    blocks: usize,
    layout: TokenLayout,
) -> candle_core::Result<ViewSample>
where
    K: std::borrow::Borrow<str> + std::hash::Hash + Eq,
{
    let tensor = |name: &str| {
        tensors.get(name).ok_or_else(|| candle_core::Error::Msg(format!("a frozen prefix without `{name}`")))
    };
    let [h, w] = tensor("grid")?.to_vec1::<u32>()?[..] else { candle_core::bail!("a grid of two numbers") };
    let tokens = tensor("tokens")?.to_dtype(DType::F32)?;
    let mask = match tensor("mask") {
        Ok(mask) => Some((mask.to_dtype(DType::F32)? / 255.0)?),
        Err(_) => None,
    };
    let scalars = match tensor("scalars") {
        Ok(scalars) => Some(scalars.to_vec1::<f64>()?),
        Err(_) => None,
    };
    let [slices, rows, columns] = tensor("spacing")?.to_vec1::<f64>()?[..] else {
        candle_core::bail!("a spacing of three numbers")
    };
    let centres = tensor("centres")?.to_vec2::<f64>()?;
    let geometry = Arc::new(SliceGeometry::new(
        tensor("positions")?.to_vec1()?,
        centres.iter().filter_map(|c| c[..].try_into().ok()).collect(),
        [slices, rows, columns],
    ));
    let kept = match tensor("kept") {
        Ok(kept) => KeptPatches::of_table(kept)?.map(Arc::new),
        Err(_) => None,
    };
    let hidden =
        HiddenStates { tokens, block: blocks, grid: (h as usize, w as usize), layout, kept, merging: None };
    Ok(ViewSample { hidden, geometry, mask, scalars })
}

fn read(place: &Path, blocks: usize, backbone: &Backbone, view: &View) -> Option<ViewSample> {
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(place, &Device::Cpu).ok()?;
    let info = backbone.info();
    let sample = sample_of(&tensors, blocks, info.layout()).ok()?;
    let dims = sample.hidden.tokens.dims();
    let expected = [info.tokens(sample.hidden.grid), info.embed_dim];
    if dims.len() != 3 || dims[1..] != expected || view.slices.is_some_and(|s| s != dims[0]) {
        return None;
    }
    Some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_share_a_folder_keep_to_its_cap_together() {
        let folder = tempfile::tempdir().unwrap();
        let cap = 64 << 10;
        let caches = [0, 1].map(|_| PrefixCache::open(Some(folder.path()), cap).unwrap());
        let tensors = HashMap::from([("tokens", Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap())]);
        let written = (0..60).filter(|i| {
            let place = folder.path().join(format!("{i}.safetensors"));
            caches[i % 2].write(&place, &tensors).is_ok()
        });
        let bytes: u64 =
            written.map(|i| folder.path().join(format!("{i}.safetensors")).metadata().unwrap().len()).sum();
        assert!(bytes > cap / 2 && bytes <= cap + 2 * cap / 16, "{bytes}");
        // What could not be written takes no room.
        let gone = folder.path().join("no/such/folder/x.safetensors");
        let cache = PrefixCache::open(Some(folder.path()), 2 * cap).unwrap();
        let before = cache.used.load(Ordering::Relaxed);
        assert!(cache.write(&gone, &tensors).is_err());
        assert_eq!(cache.used.load(Ordering::Relaxed), before);
    }

    #[test]
    fn slices_lie_where_they_lay_when_a_case_comes_from_the_cache() {
        let tokens = Tensor::zeros((3, 5, 2), DType::F32, &Device::Cpu).unwrap();
        let layout = TokenLayout { class_token: true, registers: 0 };
        let table = Tensor::new(&[[1u8, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], &Device::Cpu).unwrap();
        let kept = KeptPatches::of_table(&table).unwrap().map(Arc::new);
        let hidden =
            HiddenStates { tokens, block: 6, grid: (2, 2), layout, kept: kept.clone(), merging: None };
        let geometry = Arc::new(SliceGeometry::new(
            vec![-71.3, -68.1, 0.25],
            vec![[1.5, 2.5, -71.3], [1.75, 2.5, -68.1], [2.0, 2.5, 0.25]],
            [3.2, 9.8, 10.1],
        ));
        let sample = ViewSample {
            hidden,
            geometry: geometry.clone(),
            mask: None,
            scalars: Some(vec![1.0, -2.5, 3.0, 4.0, 5.0, 6.25]),
        };
        let found = sample_of(&tensors_of(&sample).unwrap(), 6, layout).unwrap();
        assert_eq!(*found.geometry, *geometry);
        assert_eq!(found.scalars, sample.scalars);
        assert!(kept.is_some() && found.hidden.kept == kept);
    }
}
