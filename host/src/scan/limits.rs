//! What a scan may be: the voxel sizes that scanners make, and the memory that is left for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory::MemoryBudget;
use crate::scan::{Affine, VolumeError};

/// Bounds of a grid that a scanner makes. Beyond them a header is damaged or speaks of other units, and what follows
/// from it (a square of equal millimetres, slices every millimetre) has no bounds either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeometryLimits {
    /// Smallest and largest step along a voxel axis, mm.
    pub spacing_mm: [f64; 2],
    /// Largest quotient of two of them.
    pub aspect: f64,
    /// Longest side of the grid, mm.
    pub field_of_view_mm: f64,
    /// Largest deviation from a right angle between voxel axes, degrees. Gantries tilt by 30 at most.
    pub shear_degrees: f64,
}

impl GeometryLimits {
    /// Of scanners for people and animals.
    pub const SCANNER: Self =
        Self { spacing_mm: [0.01, 100.0], aspect: 1000.0, field_of_view_mm: 5000.0, shear_degrees: 60.0 };
    /// Of micro-CT and microscopes: down to a tenth of a micrometre.
    pub const MICRO_CT: Self = Self { spacing_mm: [1e-4, 100.0], ..Self::SCANNER };

    /// Refuses a grid outside these bounds. `form` is what the header took it from.
    ///
    /// # Errors
    /// [`VolumeError::Content`] that says what was found and which bound it breaks.
    pub(crate) fn check(
        &self,
        path: &Path,
        form: &str,
        affine: &Affine,
        shape: [usize; 3],
    ) -> Result<(), VolumeError> {
        // Headers hold f32: 0.01 there is a little less than 0.01 here.
        const ROUNDING: f64 = 1e-5;
        let spacing = affine.spacing();
        let refuse = |found: String, expected: String| {
            let micro = if self.spacing_mm[0] > Self::MICRO_CT.spacing_mm[0] {
                "; for micro-CT give --micro-ct"
            } else {
                ""
            };
            Err(VolumeError::Content {
                path: path.to_path_buf(),
                found: format!("{found} ({form})"),
                expected,
                todo: format!("the header is damaged or in other units: export the scan again{micro}"),
            })
        };
        let [least, most] = self.spacing_mm;
        let sizes = spacing.map(short).join(" × ");
        if spacing.iter().any(|s| !(least * (1.0 - ROUNDING)..=most * (1.0 + ROUNDING)).contains(s)) {
            return refuse(format!("voxels of {sizes} mm"), format!("{least} to {most} mm along each axis"));
        }
        let (low, high) = spacing.iter().fold((f64::INFINITY, 0f64), |(l, h), &s| (l.min(s), h.max(s)));
        if high > self.aspect * low * (1.0 + ROUNDING) {
            let expected = format!("no axis more than {} times as coarse as another", self.aspect);
            return refuse(format!("voxels of {sizes} mm"), expected);
        }
        let sides = [0, 1, 2].map(|a| spacing[a] * shape[a] as f64);
        if sides.iter().any(|side| *side > self.field_of_view_mm * (1.0 + ROUNDING)) {
            let found = format!("a field of view of {} mm", sides.map(short).join(" × "));
            return refuse(found, format!("at most {} mm along each axis", self.field_of_view_mm));
        }
        let shear = affine.shear_degrees();
        if shear > self.shear_degrees {
            let found = format!("voxel axes {shear:.1} degrees off a right angle");
            return refuse(found, format!("at most {} degrees", self.shear_degrees));
        }
        Ok(())
    }
}

/// Four digits, with an exponent only where there is no reading the number without.
fn short(mm: f64) -> String {
    if (0.001..100_000.0).contains(&mm) {
        let text = format!("{mm:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{mm:.3e}")
    }
}

static MICRO_CT: AtomicBool = AtomicBool::new(false);

/// `--micro-ct`: scans of the whole process may have voxels as small as a micro-CT's. Before any scan is read.
pub fn allow_micro_ct(allowed: bool) {
    MICRO_CT.store(allowed, Ordering::Relaxed);
}

/// What a file's numbers are. It decides what a value counts as that is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Content {
    /// Intensities: the smallest one, as around the body.
    #[default]
    Intensities,
    /// A mask of a finding: 0, no finding. Programs mark with NaN what they did not look at.
    Mask,
}

/// What a scan may be, to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadLimits {
    /// Its grid.
    pub geometry: GeometryLimits,
    /// What reading it may take.
    pub room: MemoryBudget,
    /// What its numbers are.
    pub content: Content,
}

impl ReadLimits {
    /// As the command line set them, with all the room that the process has.
    pub fn of_process() -> Self {
        Self::with_room(MemoryBudget::of_process())
    }

    /// The same with less room.
    pub fn with_room(room: MemoryBudget) -> Self {
        let micro = MICRO_CT.load(Ordering::Relaxed);
        let geometry = if micro { GeometryLimits::MICRO_CT } else { GeometryLimits::SCANNER };
        Self { geometry, room, content: Content::Intensities }
    }

    /// The same for a mask.
    pub fn for_mask(self) -> Self {
        Self { content: Content::Mask, ..self }
    }

    /// Whether `what` of `path`, which takes `bytes`, may be allocated.
    ///
    /// # Errors
    /// [`VolumeError::Memory`] with the sizes.
    pub(crate) fn allow(
        &self,
        path: &Path,
        bytes: usize,
        what: impl FnOnce() -> String,
    ) -> Result<(), VolumeError> {
        if bytes <= self.room.bytes {
            return Ok(());
        }
        Err(VolumeError::Memory { path: path.to_path_buf(), found: what(), bytes, room: self.room })
    }
}
