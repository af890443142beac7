//! From a case's files to slices: each file read once, each preprocessing done once, however many tasks ask.

use crate::backbone::{BackboneInfo, HiddenStates};
use crate::device::uploaded;
use crate::engine::memory::{self, MemoryCap};
use crate::memory::MemoryBudget;
use crate::scan::{ReadLimits, Scan, SliceStack, Volume, VolumeError, modality_warning, slices_within};
use anymc3d_manifest::{Modality, Region, View};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A scan and its canonical volume.
pub struct ReadScan {
    /// As read; its voxels are the volume's.
    pub scan: Scan,
    /// Closest to RAS.
    pub volume: Volume,
}

/// A scan that one of the case's views needs could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct PrepareError(pub String);

impl From<VolumeError> for PrepareError {
    fn from(e: VolumeError) -> Self {
        Self(e.to_string())
    }
}

/// Slices of a view, normalised for the backbone.
pub struct Prepared {
    /// The scan they come from.
    pub read: Arc<ReadScan>,
    /// Pixels and the way back.
    pub stack: SliceStack,
    /// `[S, 3, H, W]`
    pub pixels: Tensor,
    /// Frozen prefixes that tasks share, by number of blocks.
    pub prefixes: BTreeMap<usize, HiddenStates>,
}

/// Slices of a view for training: a prediction's, changed by an augmentation.
pub struct TrainingSlices {
    /// Pixels before they are normalised, and the way back.
    pub stack: SliceStack,
    /// `[S, 3, H, W]` on the processor.
    pub pixels: Tensor,
    /// `[S, H, W]`: how much of each pixel the mask covers, 0 to 1.
    pub mask: Option<Vec<f32>>,
}

/// What decides the slices.
pub(super) type Slices = (PathBuf, String);

/// A view without its name, its choice of a series and whether it is required; without its modality too, unless that decides what the body is.
pub(super) fn slices_of(path: &Path, view: &View) -> Slices {
    let modality = if view.region == Region::Full { Modality::Any } else { view.modality };
    let bare = View { name: String::new(), modality, required: true, series: None, ..view.clone() };
    (path.to_owned(), format!("{bare:?}"))
}

/// What one case has read and sliced so far.
#[derive(Default)]
pub struct CaseData {
    scans: HashMap<PathBuf, Result<Arc<ReadScan>, PrepareError>>,
    masks: HashMap<PathBuf, Result<Arc<Volume>, PrepareError>>,
    stacks: HashMap<Slices, Prepared>,
    /// Bytes taken so far, at their most.
    taken: usize,
    /// What may be taken.
    pub cap: Option<MemoryCap>,
    /// Where pixels are put; the processor where none was named.
    device: Option<Device>,
    /// Milliseconds spent reading, since last asked.
    pub read_ms: f64,
    /// Milliseconds spent preprocessing, since last asked.
    pub preprocess_ms: f64,
}

/// Milliseconds since `start`.
pub fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

impl CaseData {
    /// Whose pixels are put on a device.
    pub fn on(device: Device) -> Self {
        Self { device: Some(device), ..Self::default() }
    }

    /// What may still be taken.
    fn room(&self) -> MemoryBudget {
        self.cap.map_or_else(MemoryBudget::of_process, |cap| cap.room()).less(self.taken)
    }

    /// A scan, read at the first request.
    ///
    /// # Errors
    /// When it cannot be read, or has nothing to see in it.
    pub fn scan(&mut self, path: &Path) -> Result<Arc<ReadScan>, PrepareError> {
        if let Some(known) = self.scans.get(path) {
            return known.clone();
        }
        let start = Instant::now();
        let bytes = memory::of_scan(path);
        let limits = ReadLimits::with_room(self.room());
        let read = Scan::open_within(path, &limits).map_err(PrepareError::from).and_then(|scan| {
            if scan.is_constant() {
                let [value, _] = scan.range();
                let message = format!(
                    "{}: every voxel is {value}; expected a scan with something in it",
                    path.display()
                );
                return Err(PrepareError(message));
            }
            let (scan, volume) = scan.into_canonical();
            Ok(Arc::new(ReadScan { scan, volume }))
        });
        if read.is_ok() {
            self.taken = self.taken.saturating_add(bytes);
        }
        self.read_ms += ms(start);
        self.scans.insert(path.to_owned(), read.clone());
        read
    }

    /// A view's slices, cut at the first request; their tokens will be kept after `kept` of the blocks.
    ///
    /// # Errors
    /// When the scan cannot be read or sliced.
    pub fn slices(
        &mut self,
        path: &Path,
        view: &View,
        backbone: &BackboneInfo,
        kept: usize,
    ) -> Result<&mut Prepared, PrepareError> {
        let read = self.scan(path)?;
        let key = slices_of(path, view);
        if !self.stacks.contains_key(&key) {
            let start = Instant::now();
            let stack = slices_within(&read.volume, view, backbone.patch_size, self.room())?;
            let bytes = memory::of_stack(&stack, backbone, kept);
            if let Some(cap) = self.cap {
                let writing = cap.of_writing(read.volume.voxels.len());
                cap.allow(path, self.taken, bytes.saturating_add(writing)).map_err(PrepareError)?;
            }
            self.taken = self.taken.saturating_add(bytes);
            let device = self.device.clone().unwrap_or(Device::Cpu);
            let pixels = pixels_of(&stack, path, backbone, &device)?;
            self.preprocess_ms += ms(start);
            self.stacks.insert(key.clone(), Prepared { read, stack, pixels, prefixes: BTreeMap::new() });
        }
        self.stacks.get_mut(&key).ok_or_else(|| PrepareError("slices were lost".to_owned()))
    }

    /// A mask in canonical order, read at the first request.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mask(&mut self, path: &Path) -> Result<Arc<Volume>, PrepareError> {
        if let Some(known) = self.masks.get(path) {
            return known.clone();
        }
        let limits = ReadLimits::with_room(self.room());
        let read = Scan::open_within(path, &limits).map(|scan| Arc::new(scan.into_canonical().1));
        let read = read.map_err(PrepareError::from);
        self.masks.insert(path.to_owned(), read.clone());
        read
    }

    /// A view's slices for training. `augment` changes pixels and mask before the pixels are normalised; where it leaves
    /// them, they are a prediction's, bit for bit.
    ///
    /// # Errors
    /// When the scan cannot be read or sliced, or the mask is on another grid.
    pub fn training_slices(
        &mut self,
        path: &Path,
        view: &View,
        backbone: &BackboneInfo,
        mask: Option<&Volume>,
        augment: impl FnOnce(&mut SliceStack, Option<&mut Vec<f32>>),
    ) -> Result<TrainingSlices, PrepareError> {
        let read = self.scan(path)?;
        let mut stack = slices_within(&read.volume, view, backbone.patch_size, self.room())?;
        let mut mask = mask.map(|mask| stack.grid.mask_to_slices(mask)).transpose()?;
        augment(&mut stack, mask.as_mut());
        let pixels = pixels_of(&stack, path, backbone, &Device::Cpu)?;
        Ok(TrainingSlices { stack, pixels, mask })
    }
}

/// Pixels as the backbone takes them, `[S, 3, H, W]`.
fn pixels_of(
    stack: &SliceStack,
    path: &Path,
    backbone: &BackboneInfo,
    device: &Device,
) -> Result<Tensor, PrepareError> {
    let [s, _, h, w] = stack.shape;
    let normalised = stack
        .normalised(backbone.mean, backbone.std)
        .map_err(|e| PrepareError(format!("{}: {e} for its pixels", path.display())))?;
    uploaded(normalised, (s, 3, h, w), device).map_err(|e| PrepareError(crate::device::one_line(&e)))
}

/// What to tell of a scan that a view reads: the reader's warnings, the slicer's, and a modality that is not the
/// view's.
pub fn warnings(prepared: &Prepared, view: &View) -> Vec<String> {
    let scan = &prepared.read.scan;
    let mut all = scan.warnings.clone();
    all.extend(prepared.stack.warnings.iter().cloned());
    all.extend(modality_warning(scan, view.modality));
    all
}
