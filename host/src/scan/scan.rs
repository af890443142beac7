//! A scan as it was stored: voxels in the scan's own units, and where each of them is.

use std::path::{Path, PathBuf};

use anymc3d_manifest::Modality;
use rayon::prelude::*;

use crate::memory::copied;
use crate::scan::canonical::Volume;
use crate::scan::forms::Forms;
use crate::scan::limits::{Content, ReadLimits};
use crate::scan::source::{ScanPath, source_of};
use crate::scan::statistics::Statistics;
use crate::scan::{Affine, VolumeError, modality, nifti};

/// One 3D scan, in stored order.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Where it came from; a name for one made in memory.
    pub path: PathBuf,
    /// Stored order, first axis fastest; every value is finite. Empty of what [`Scan::into_canonical`] leaves.
    pub voxels: Vec<f32>,
    /// Voxels along each stored axis.
    pub shape: [usize; 3],
    /// Stored voxel index → RAS mm.
    pub affine: Affine,
    /// What its header says of position, for files that are to lie on it.
    pub forms: Forms,
    /// Of the file's bytes, lower-case hex; of the voxels' little-endian bytes for one made in memory.
    pub sha256: String,
    /// Where each stored axis runs to, for example `LPS`.
    pub orientation: String,
    /// Size of a voxel along each stored axis, mm.
    pub spacing_mm: [f64; 3],
    /// What the file says it is: DICOM does, NIfTI never.
    pub modality: Option<Modality>,
    /// What the intensities look like.
    pub modality_guess: Option<Modality>,
    /// What was noticed while reading, one line each.
    pub warnings: Vec<String>,
    /// Smallest and largest value.
    range: [f32; 2],
    /// What the intensities are shares of.
    pub(crate) shares: modality::Shares,
}

impl Scan {
    /// Reads a scan with the source that knows it by its content: NIfTI-1 or NIfTI-2 (`.nii`,
    /// `.nii.gz`, or one of a `.hdr`/`.img` pair), Analyze 7.5, NRRD, MetaImage, or DICOM (a folder, zip, DICOMDIR or file). A path may name one series of what lies there: see
    /// [`ScanPath`] and [`crate::scan::dicom::Locator`].
    ///
    /// # Errors
    /// [`VolumeError`]: unreadable, another format, cut short, several volumes, singular affine, a grid that no scanner
    /// makes, more memory than this process may use, no finite voxel.
    pub fn open(path: &Path) -> Result<Self, VolumeError> {
        Self::open_within(path, &ReadLimits::of_process())
    }

    /// [`Self::open`] within other limits.
    ///
    /// # Errors
    /// As there.
    pub fn open_within(path: &Path, limits: &ReadLimits) -> Result<Self, VolumeError> {
        // Without the path: logs tell how often, and not whose.
        tracing::debug!("a scan is opened");
        let path = ScanPath::parse(path);
        source_of(&path).open(&path, limits)
    }

    /// Reads a mask. What is no number counts as 0, no finding, and a warning tells how many voxels that were.
    ///
    /// # Errors
    /// As [`Scan::open`].
    pub fn open_mask(path: &Path) -> Result<Self, VolumeError> {
        Self::open_within(path, &ReadLimits::of_process().for_mask())
    }

    /// A scan made in memory: `voxels` in stored order (first axis fastest), `affine` to RAS mm.
    ///
    /// # Errors
    /// As [`Scan::open`], and where `voxels` and `shape` differ in size.
    pub fn from_voxels(
        name: impl AsRef<Path>,
        voxels: Vec<f32>,
        shape: [usize; 3],
        affine: Affine,
    ) -> Result<Self, VolumeError> {
        use sha2::{Digest, Sha256};
        let path = name.as_ref().to_path_buf();
        if shape.contains(&0) || Some(voxels.len()) != shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
        {
            return Err(VolumeError::Content {
                path,
                found: format!("{} voxels", voxels.len()),
                expected: format!("{shape:?}, at least one along each axis"),
                todo: "give as many voxels as the shape says".into(),
            });
        }
        if !affine.is_invertible() {
            return Err(VolumeError::Content {
                path,
                found: "a singular affine".into(),
                expected: "three independent voxel axes with finite steps".into(),
                todo: "give the map from voxel index to RAS mm".into(),
            });
        }
        ReadLimits::of_process().geometry.check(&path, "by its affine", &affine, shape)?;
        let mut hash = Sha256::new();
        for chunk in voxels.chunks(1 << 14) {
            hash.update(chunk.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }
        let sha256 = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        let forms = Forms::of_affine(&affine);
        let stored =
            nifti::Stored { voxels, shape, affine, forms, sha256, modality: None, warnings: Vec::new() };
        Self::assemble(path, stored, Content::Intensities)
    }

    /// Of what a source has read.
    pub(crate) fn assemble(
        path: PathBuf,
        stored: nifti::Stored,
        content: Content,
    ) -> Result<Self, VolumeError> {
        let nifti::Stored { mut voxels, shape, affine, forms, sha256, modality, mut warnings } = stored;
        let mut statistics = Statistics::of(&voxels);
        let bad = statistics.not_finite;
        if bad == voxels.len() {
            let (expected, todo) = match content {
                Content::Intensities => ("intensities", "the scan is empty or damaged: export it again"),
                Content::Mask => ("1 where the finding is and 0 elsewhere", "export the mask again"),
            };
            return Err(VolumeError::Content {
                path,
                found: "no finite voxel".into(),
                expected: expected.into(),
                todo: todo.into(),
            });
        }
        if bad > 0 {
            let instead = match content {
                Content::Intensities => statistics.low,
                Content::Mask => 0.0,
            };
            voxels.par_iter_mut().filter(|v| !v.is_finite()).for_each(|v| *v = instead);
            statistics = statistics.with_replaced(instead);
            warnings.push(match content {
                Content::Intensities => {
                    format!("{bad} voxels are NaN or infinite: replaced by the minimum, {instead}")
                }
                Content::Mask => {
                    format!("{bad} of the mask's voxels are NaN or infinite: they count as 0, no finding")
                }
            });
        }
        let Statistics { low, high, .. } = statistics;
        if low == high && content == Content::Intensities {
            warnings.push(format!("every voxel is {low}: there is nothing to see in this scan"));
        }
        let modality_guess = modality::guess(&voxels, &statistics);
        Ok(Self {
            path,
            shape,
            sha256,
            orientation: affine.orientation(),
            spacing_mm: affine.spacing(),
            affine,
            forms,
            modality,
            modality_guess,
            warnings,
            range: [low, high],
            shares: modality::Shares::of(&voxels, &statistics, modality.or(modality_guess)),
            voxels,
        })
    }

    /// Smallest and largest value.
    pub fn range(&self) -> [f32; 2] {
        self.range
    }

    /// `true` where all voxels have one value; nothing should be predicted from such a scan.
    pub fn is_constant(&self) -> bool {
        self.range[0] == self.range[1]
    }

    /// A warning where slices lie more than half of `smallest_mm` apart along an axis: a finding of this diameter may lie
    /// between two of them, or show in one alone.
    pub fn thick_slices(&self, smallest_mm: f64) -> Option<String> {
        let coarsest = self.spacing_mm.into_iter().fold(0.0, f64::max);
        (coarsest > smallest_mm / 2.0).then(|| {
            format!(
                "slices lie {coarsest:.1} mm apart, the smallest findings of the task are {smallest_mm} mm: farther apart than \
                 half of that, they may miss one"
            )
        })
    }

    /// The same voxels with their axes permuted and flipped to the closest RAS.
    ///
    /// # Panics
    /// Where there is no memory for the copy; scans of users go through [`Self::try_canonical`].
    pub fn canonical(&self) -> Volume {
        self.try_canonical().unwrap_or_else(|e| panic!("{e}"))
    }

    /// [`Self::canonical`] of a scan of any size.
    ///
    /// # Errors
    /// [`VolumeError::NoMemory`] where there is none for the copy.
    pub fn try_canonical(&self) -> Result<Volume, VolumeError> {
        let copy = copied(&self.voxels);
        let voxels = copy.map_err(VolumeError::no_memory(&self.path, "the scan in canonical order"))?;
        Ok(Volume::of(self, voxels))
    }

    /// As [`Scan::canonical`], in the memory of the scan's own voxels; the scan is left without them.
    pub fn into_canonical(mut self) -> (Self, Volume) {
        let voxels = std::mem::take(&mut self.voxels);
        let volume = Volume::of(&self, voxels);
        (self, volume)
    }
}
