//! Scans in (NIfTI), canonical volume, slices; and back onto the scan's grid.
//!
//! A manifest says *what* preprocessing a task needs; this room alone knows *how*. The way in:
//! [`Scan::open`] → [`Scan::canonical`] → [`slices`]; the way back: [`SliceGrid::to_scan`] →
//! [`write_nifti_f32`]. Each file answers one question and is named after it.

mod affine;
mod back;
mod canonical;
mod components;
mod container;
mod deflate;
mod error;
mod geometry;
mod intensity;
mod limits;
mod modality;
mod nifti;
mod plan;
mod region;
mod resample;
mod scan;
mod slices;
mod write;

pub use affine::Affine;
pub use back::SliceGrid;
pub use canonical::{StoredAxis, Volume};
pub use error::VolumeError;
pub use limits::{GeometryLimits, ReadLimits, allow_micro_ct};
pub use modality::modality_warning;
pub use nifti::{files_of, memory_of};
pub use scan::Scan;
pub use slices::{SliceStack, slices, slices_within};
pub use write::{write_nifti_f32, write_nifti_i16, write_nifti_u8};

#[cfg(test)]
pub(crate) mod tests;
