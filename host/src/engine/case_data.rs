//! From a case's files to slices: each file read once, each preprocessing done once, however many tasks ask.

use crate::backbone::{BackboneInfo, HiddenStates, KeptPatches, Slices};
use crate::device::uploaded;
use crate::engine::cut_slices::{CutSlices, cut_slices, is_cut};
use crate::engine::memory::{self, MemoryCap};
use crate::memory::MemoryBudget;
use crate::scan::{
    ContentDigest, DecodedScans, ReadLimits, RegionOfInterest, Scan, SliceStack, Target, Volume, VolumeError,
    mask_details, mask_scalars, modality_warning, slices_of_target,
};
use crate::task::MaskTensors;
use anymc3d_manifest::{MaskFeature, Modality, Region, Tokens, View};
use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// A scan and its canonical volume.
pub struct ReadScan {
    /// As read; its voxels are the volume's.
    pub scan: Scan,
    /// Closest to RAS.
    pub volume: Volume,
    content: OnceLock<ContentDigest>,
}

impl ReadScan {
    /// Of a scan that was brought into canonical order.
    pub fn new(scan: Scan, volume: Volume) -> Self {
        Self { scan, volume, content: OnceLock::new() }
    }

    /// Digest of what the scan shows, computed at the first request.
    pub fn content_digest(&self) -> &ContentDigest {
        self.content.get_or_init(|| self.volume.content_digest())
    }
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
    /// The patches that are computed; `None`: all.
    pub kept: Option<Arc<KeptPatches>>,
    /// Tokens that each block merges away.
    pub merge: usize,
    /// Frozen prefixes that tasks share, by number of blocks.
    pub prefixes: BTreeMap<usize, HiddenStates>,
    /// Of the case's mask inside the scan, where a view's head asks for them.
    pub scalars: Option<[f64; 6]>,
    /// More of them.
    pub details: Option<[f64; 28]>,
    /// `[S, H, W]`: how much of each pixel the mask covers, where a view's head asks for it.
    pub covered: Option<Vec<f32>>,
}

impl Prepared {
    fn new(
        read: Arc<ReadScan>,
        stack: SliceStack,
        pixels: Tensor,
        kept: Option<Arc<KeptPatches>>,
        merge: usize,
    ) -> Self {
        let prefixes = BTreeMap::new();
        Self { read, stack, pixels, kept, merge, prefixes, scalars: None, details: None, covered: None }
    }

    /// As the backbone takes them.
    pub fn slices(&self) -> Slices<'_> {
        Slices { pixels: &self.pixels, kept: self.kept.as_ref(), merge: self.merge }
    }

    /// What a view's head is told of the mask, on patches h, w.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn mask_tensors(
        &self,
        view: &View,
        (h, w): (usize, usize),
        device: &Device,
    ) -> candle_core::Result<MaskTensors> {
        let asks = |feature: MaskFeature| view.mask_features.contains(&feature);
        let scalars = self.scalars.filter(|_| asks(MaskFeature::Scalars)).map(Vec::from);
        let details = self.details.filter(|_| asks(MaskFeature::Details)).map(Vec::from);
        let covered = self.covered.as_ref().filter(|_| asks(MaskFeature::Cover));
        let cover = covered.map(|slices| self.stack.grid.cover(slices, (h, w)));
        MaskTensors::new(joined(scalars, details), cover.map(|c| (c, h * w)), device)
    }
}

/// Slices of a view for training: a prediction's, changed by an augmentation.
pub struct TrainingSlices {
    /// Pixels before they are normalised, and the way back.
    pub stack: SliceStack,
    /// `[S, 3, H, W]` on the processor.
    pub pixels: Tensor,
    /// The patches that are computed; `None`: all.
    pub kept: Option<Arc<KeptPatches>>,
    /// `[S, H, W]`: how much of each pixel the mask covers, 0 to 1.
    pub mask: Option<Vec<f32>>,
    /// Numbers of the mask inside the scan, where the view's head asks for them: scalars, then details.
    pub scalars: Option<Vec<f64>>,
}

/// What decides the slices.
pub(super) type SlicesKey = (PathBuf, String);

/// A view without its name, its choice of a series and whether it is required; without its modality too, unless that decides what the body is.
pub(super) fn slices_of(path: &Path, view: &View, region: &RegionOfInterest) -> SlicesKey {
    let decides = matches!(view.region, Region::Body | Region::Lungs);
    let modality = if decides { view.modality } else { Modality::Any };
    let bare = View {
        name: String::new(),
        modality,
        required: true,
        series: None,
        mask_features: Vec::new(),
        // What becomes of the slices' tokens, not the slices.
        tokens: Tokens::All,
        ..view.clone()
    };
    (path.to_owned(), format!("{bare:?}{:?}", region.read_by(view)))
}

/// What one case has read and sliced so far.
#[derive(Default)]
pub struct CaseData {
    scans: HashMap<PathBuf, Result<Arc<ReadScan>, PrepareError>>,
    masks: HashMap<PathBuf, Result<Arc<Volume>, PrepareError>>,
    stacks: HashMap<SlicesKey, Prepared>,
    /// Bytes taken so far, at their most.
    taken: usize,
    /// What may be taken.
    pub cap: Option<MemoryCap>,
    /// Where pixels are put; the processor where none was named.
    device: Option<Device>,
    /// Scans that were decoded before.
    decoded: Option<Arc<DecodedScans>>,
    /// Milliseconds spent reading, since last asked.
    pub read_ms: f64,
    /// Milliseconds spent preprocessing, since last asked.
    pub preprocess_ms: f64,
    /// Milliseconds of what was done ahead of the case's turn, and of the wait for it, until they were told.
    pub ahead_ms: Option<[f64; 2]>,
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

    /// Takes scans from those that were decoded before, where they are there.
    pub fn with_decoded(decoded: Arc<DecodedScans>) -> Self {
        Self { decoded: Some(decoded), ..Self::default() }
    }

    fn open_as(&self, path: &Path, limits: &ReadLimits) -> Result<Scan, VolumeError> {
        let decoded = self.decoded.as_ref().and_then(|decoded| decoded.take(path));
        decoded.map_or_else(|| Scan::open_within(path, limits), Ok)
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
        let read = self.open_as(path, &limits).map_err(PrepareError::from);
        let read = read.and_then(|scan| canonical(path, scan));
        if read.is_ok() {
            self.taken = self.taken.saturating_add(bytes);
        }
        self.read_ms += ms(start);
        self.scans.insert(path.to_owned(), read.clone());
        read
    }

    /// Takes a scan that is in memory; a case that names `path` reads it and no file.
    ///
    /// # Errors
    /// When it has nothing to see in it.
    pub fn put_scan(&mut self, path: &Path, scan: Scan) -> Result<Arc<ReadScan>, PrepareError> {
        let bytes = scan.voxels.len().saturating_mul(size_of::<f32>());
        let read = canonical(path, scan)?;
        self.taken = self.taken.saturating_add(bytes);
        self.scans.insert(path.to_owned(), Ok(read.clone()));
        Ok(read)
    }

    /// Takes a mask that is in memory, as [`Self::put_scan`] takes a scan.
    pub fn put_mask(&mut self, path: &Path, mask: Scan) {
        self.taken = self.taken.saturating_add(mask.voxels.len().saturating_mul(size_of::<f32>()));
        self.masks.insert(path.to_owned(), Ok(Arc::new(mask.into_canonical().1)));
    }

    /// A view's slices, cut at the first request; their tokens will be kept after `kept` of the blocks.
    ///
    /// # Errors
    /// When the scan cannot be read or sliced.
    pub fn slices(
        &mut self,
        path: &Path,
        view: &View,
        region: &RegionOfInterest,
        backbone: &BackboneInfo,
        kept: usize,
    ) -> Result<&mut Prepared, PrepareError> {
        if is_cut(path) {
            return self.slices_of_file(path, view, backbone, kept);
        }
        let read = self.scan(path)?;
        let mask = region.mask_of(view).map(|mask| self.mask(mask)).transpose()?;
        let target = Target { mask: mask.as_deref(), point_mm: region.point_mm };
        target.check(&read.volume, view)?;
        let key = slices_of(path, view, region);
        if !self.stacks.contains_key(&key) {
            let start = Instant::now();
            let stack = slices_of_target(&read.volume, view, backbone.patch_size, self.room(), target)?;
            self.reserve(path, memory::of_stack(&stack, backbone, kept), read.volume.voxels.len())?;
            let device = self.device.clone().unwrap_or(Device::Cpu);
            let pixels = pixels_of(&stack, path, backbone, &device)?;
            self.preprocess_ms += ms(start);
            let kept = kept_of(&stack, backbone);
            let new = Prepared::new(read.clone(), stack, pixels, kept, view.merge);
            self.stacks.insert(key.clone(), new);
        }
        let prepared =
            self.stacks.get_mut(&key).ok_or_else(|| PrepareError("slices were lost".to_owned()))?;
        for feature in &view.mask_features {
            // `check` refused a case without one.
            let Some(mask) = mask.as_deref() else { continue };
            match feature {
                MaskFeature::Scalars if prepared.scalars.is_none() => {
                    prepared.scalars = Some(mask_scalars(&read.volume, mask)?);
                }
                MaskFeature::Cover if prepared.covered.is_none() => {
                    prepared.covered = Some(prepared.stack.grid.mask_to_slices(mask)?);
                }
                MaskFeature::Details if prepared.details.is_none() => {
                    prepared.details = Some(mask_details(&read.volume, mask)?);
                }
                MaskFeature::Scalars | MaskFeature::Cover | MaskFeature::Details => {}
            }
        }
        Ok(prepared)
    }

    /// Counts `bytes` of slices as taken, where they and what writing a scan of `voxels` takes fit below the cap.
    fn reserve(&mut self, path: &Path, bytes: usize, voxels: usize) -> Result<(), PrepareError> {
        if let Some(cap) = self.cap {
            let writing = cap.of_writing(voxels);
            cap.allow(path, self.taken, bytes.saturating_add(writing)).map_err(PrepareError)?;
        }
        self.taken = self.taken.saturating_add(bytes);
        Ok(())
    }

    /// Slices that were cut elsewhere, read at the first request.
    fn slices_of_file(
        &mut self,
        path: &Path,
        view: &View,
        backbone: &BackboneInfo,
        kept: usize,
    ) -> Result<&mut Prepared, PrepareError> {
        let key = slices_of(path, view, &RegionOfInterest::default());
        if !self.stacks.contains_key(&key) {
            let start = Instant::now();
            let cut = cut_slices(path, view, backbone, self.room()).map_err(PrepareError)?;
            let CutSlices { scan: (scan, volume), stack, pixels } = cut;
            let read = Arc::new(ReadScan::new(scan, volume));
            self.reserve(path, memory::of_stack(&stack, backbone, kept), read.volume.voxels.len())?;
            let device = self.device.clone().unwrap_or(Device::Cpu);
            let pixels = pixels.to_device(&device).map_err(|e| PrepareError(crate::device::one_line(&e)))?;
            self.read_ms += ms(start);
            let new = Prepared::new(read, stack, pixels, None, view.merge);
            self.stacks.insert(key.clone(), new);
        }
        self.stacks.get_mut(&key).ok_or_else(|| PrepareError("slices were lost".to_owned()))
    }

    /// A mask in canonical order, read at the first request; what is no number counts as 0.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn mask(&mut self, path: &Path) -> Result<Arc<Volume>, PrepareError> {
        if let Some(known) = self.masks.get(path) {
            return known.clone();
        }
        let limits = ReadLimits::with_room(self.room()).for_mask();
        let read = self.open_as(path, &limits).map(|scan| Arc::new(scan.into_canonical().1));
        let read = read.map_err(PrepareError::from);
        self.masks.insert(path.to_owned(), read.clone());
        read
    }

    /// A view's slices for training. `augment` changes pixels and mask before the pixels are normalised; where it leaves
    /// them, they are a prediction's, bit for bit. `mask` supervises; the region's mask is read where the view needs it.
    ///
    /// # Errors
    /// When the scan cannot be read or sliced, a mask is on another grid, or the view's region is not known.
    pub fn training_slices(
        &mut self,
        path: &Path,
        view: &View,
        region: &RegionOfInterest,
        backbone: &BackboneInfo,
        mask: Option<&Volume>,
        augment: impl FnOnce(&mut SliceStack, Option<&mut Vec<f32>>),
    ) -> Result<TrainingSlices, PrepareError> {
        let read = self.scan(path)?;
        let regions = region.mask_of(view).map(|mask| self.mask(mask)).transpose()?;
        let target = Target { mask: regions.as_deref(), point_mm: region.point_mm };
        target.check(&read.volume, view)?;
        let mut stack = slices_of_target(&read.volume, view, backbone.patch_size, self.room(), target)?;
        let wants =
            |feature: MaskFeature| regions.as_deref().filter(|_| view.mask_features.contains(&feature));
        let scalars = wants(MaskFeature::Scalars).map(|mask| mask_scalars(&read.volume, mask)).transpose()?;
        let details = wants(MaskFeature::Details).map(|mask| mask_details(&read.volume, mask)).transpose()?;
        let scalars = joined(scalars.map(Vec::from), details.map(Vec::from));
        let drawn = mask.or(wants(MaskFeature::Cover));
        let mut mask = drawn.map(|mask| stack.grid.mask_to_slices(mask)).transpose()?;
        augment(&mut stack, mask.as_mut());
        let pixels = pixels_of(&stack, path, backbone, &Device::Cpu)?;
        let kept = kept_of(&stack, backbone);
        Ok(TrainingSlices { stack, pixels, kept, mask, scalars })
    }
}

/// Numbers of a mask as a head is told them: the scalars, then the details.
fn joined(scalars: Option<Vec<f64>>, details: Option<Vec<f64>>) -> Option<Vec<f64>> {
    let all: Vec<f64> = scalars.into_iter().chain(details).flatten().collect();
    (!all.is_empty()).then_some(all)
}

/// The patches that show the body; `None` where all do, or the view keeps its background.
fn kept_of(stack: &SliceStack, backbone: &BackboneInfo) -> Option<Arc<KeptPatches>> {
    let ([_, _, h, w], edge) = (stack.shape, backbone.patch_size);
    KeptPatches::showing(stack.body.as_deref()?, (h / edge, w / edge), edge).map(Arc::new)
}

/// A scan with something in it, in canonical order.
fn canonical(path: &Path, scan: Scan) -> Result<Arc<ReadScan>, PrepareError> {
    if scan.is_constant() {
        let [value, _] = scan.range();
        let message =
            format!("{}: every voxel is {value}; expected a scan with something in it", path.display());
        return Err(PrepareError(message));
    }
    let (scan, volume) = scan.into_canonical();
    Ok(Arc::new(ReadScan::new(scan, volume)))
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

/// What to tell of a scan that a view reads: the reader's warnings, the slicer's, a modality that is not the view's, and
/// slices too far apart for the task's smallest finding.
pub fn warnings(prepared: &Prepared, view: &View, smallest_mm: Option<f64>) -> Vec<String> {
    let scan = &prepared.read.scan;
    let mut all = scan.warnings.clone();
    all.extend(prepared.stack.warnings.iter().cloned());
    all.extend(modality_warning(scan, view.modality));
    all.extend(smallest_mm.and_then(|mm| scan.thick_slices(mm)));
    all
}
