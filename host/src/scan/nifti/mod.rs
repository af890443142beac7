//! NIfTI files: told by their content, read and written, plain or gzipped.

mod gzip;
mod header;
mod read;
pub(crate) mod sniff;
mod source;
mod twins;
mod write;

pub(crate) use read::*;
pub(crate) use source::Nifti;
pub use write::{write_mask, write_nifti_f32, write_nifti_i16, write_nifti_u8, write_planes};
