//! DICOM in: from what a PACS exports to volumes in mm and in the modality's unit. DICOM out: results as DICOM
//! objects, in [`write`].
//!
//! [`scan`] reads headers and lists [`Study`]s with their [`Series`]; [`choose`] picks the stack that fits a
//! [`Request`] and says why; [`read_volume`] decodes it. Every refusal is a [`DicomError`] with an [`ErrorKind`].
//!
//! Positions are LPS mm inside, as in the files; [`Affine`] and everything a caller sees is RAS mm.
#![doc = include_str!("../README.md")]

mod attributes;
mod choose;
mod codec;
mod codestream;
mod dataset;
mod digest;
mod error;
mod exclusion;
mod frames;
mod geometry;
mod headers;
mod hints;
mod identity;
mod instance;
mod jpeg2000;
mod limits;
mod open;
mod pixels;
mod rescale;
mod rle;
mod scan;
mod series;
mod source;
mod split;
mod straighten;
mod tags;
mod volume;
pub mod write;

pub use choose::{Choice, Fit, Request, SeriesSelector, choose, describe, fit};
pub use digest::{digest, files};
pub use error::{DicomError, ErrorKind};
pub use exclusion::{Exclusion, OWN_MANUFACTURER};
pub use geometry::{Affine, Orientation, StackGeometry};
pub use headers::MrAcquisition;
pub use hints::SequenceHint;
pub use identity::case_id;
pub use instance::{Instance, read_instance};
pub use limits::Limits;
pub use scan::{Scan, scan};
pub use series::{LeftOut, PatientId, Series, Study};
pub use split::Stack;
pub use volume::{FilePixels, Replaced, SourceFrame, Volume, read_file, read_volume};
