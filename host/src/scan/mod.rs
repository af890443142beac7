//! Scans in (NIfTI, Analyze, NRRD, MetaImage, DICOM, NumPy archives), canonical volume, slices; and back onto the grid.
//!
//! A manifest says *what* preprocessing a task needs; this room alone knows *how*. The way in:
//! [`Scan::open`] → [`Scan::into_canonical`] → [`slices`]; the way back: [`ScanPlanes`] →
//! [`write_planes`]. Each file answers one question and is named after it.

mod adjacent;
mod affine;
mod axis_plan;
mod body;
mod bytes;
mod canonical;
mod components;
mod content;
mod decoded;
pub mod dicom;
mod distance;
mod error;
mod forms;
mod geometry;
mod intensity;
mod limits;
mod mask_details;
mod mask_scalars;
mod metaimage;
mod modality;
mod nifti;
pub mod npz;
mod nrrd;
mod numbers;
mod planes;
mod raw_image;
mod region;
mod region_of_interest;
mod resample;
#[allow(clippy::module_inception)] // a Scan is what the room is about
mod scan;
mod slice_grid;
mod slices;
pub mod source;
mod statistics;

pub use affine::Affine;
pub use canonical::{StoredAxis, Volume};
pub use content::ContentDigest;
pub use decoded::DecodedScans;
pub use error::VolumeError;
pub use forms::Forms;
pub use limits::{Content, GeometryLimits, ReadLimits, allow_micro_ct};
pub use mask_details::mask_details;
pub use mask_scalars::{mask_scalars, scan_scalars};
pub use modality::modality_warning;
pub use nifti::{write_mask, write_nifti_f32, write_nifti_i16, write_nifti_u8, write_planes};
pub use planes::ScanPlanes;
pub use region::region_warnings;
pub(crate) use region_of_interest::patch_means;
pub use region_of_interest::{RegionOfInterest, Target};
pub use scan::Scan;
pub use slice_grid::SliceGrid;
pub use slices::{SliceStack, slices, slices_of_target, slices_within};
pub use source::{ScanPath, Source, files_of, memory_of};

#[cfg(test)]
pub(crate) mod tests;
