//! DICOM in: from what a PACS exports to volumes in mm and in the modality's unit.
//!
//! [`scan`] reads headers only and lists [`Study`]s with their [`Series`]; [`choose`] picks the stack that fits a
//! [`Request`] and says why; [`read_volume`] decodes it. This crate knows DICOM and nothing of plugins, models or the
//! command line. Every refusal is a [`DicomError`] of a closed list of [`ErrorKind`]s.
//!
//! Positions are LPS mm inside, as in the files; [`Affine`] and everything a caller sees is RAS mm.
//! MONOCHROME1 is not inverted (neither pydicom nor dcm2niix do; SimpleITK does).

mod choose;
mod codec;
mod codestream;
mod dataset;
mod error;
mod exclusion;
mod frames;
mod geometry;
mod headers;
mod hints;
mod identity;
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

pub use choose::{Choice, Fit, Request, SeriesSelector, choose, fit};
pub use error::{DicomError, ErrorKind};
pub use exclusion::{Exclusion, OWN_MANUFACTURER};
pub use geometry::{Affine, Orientation, StackGeometry};
pub use headers::MrAcquisition;
pub use hints::SequenceHint;
pub use identity::case_id;
pub use limits::Limits;
pub use scan::{Scan, scan};
pub use series::{LeftOut, Series, Study};
pub use split::Stack;
pub use volume::{FilePixels, Replaced, SourceFrame, Volume, read_file, read_volume};
