//! DICOM out: a result as Part 10 files that a PACS takes and other programs open.
//!
//! Pure functions from plain structs to bytes: [`structured_report`] (Comprehensive 3D SR, TID 1500),
//! [`parametric_map`] (a heatmap), [`segmentation`] (a mask), [`secondary_capture`] (pictures). What they say about the
//! patient and the study comes from [`SourceSeries`], the only place of this crate that reads identity; it goes into
//! these objects only, as DICOM wants it. Everything is explicit VR little endian, uncompressed.
//!
//! Each call makes new UIDs: an archive keeps the first content that it got under a UID.

mod attribute;
mod body;
mod carried;
mod code;
mod encode;
mod functional_groups;
mod moment;
mod parametric_map;
mod provenance;
mod secondary_capture;
mod segmentation;
mod source;
mod sr;
mod sr_items;
mod uid;

#[cfg(test)]
mod tests;

pub use code::{Code, OWN_SCHEME};
pub use encode::file_meta;
pub use moment::Moment;
pub use parametric_map::{ParametricMap, parametric_map};
pub use provenance::{Object, Provenance, Software};
pub use secondary_capture::{Picture, secondary_capture};
pub use segmentation::{Segment, Segmentation, SegmentationEncoding, segmentation};
pub use source::{Patient, SourceSeries};
pub use sr::{Algorithm, Finding, Person, Report, TellingSlice, structured_report};
pub use uid::Uids;
