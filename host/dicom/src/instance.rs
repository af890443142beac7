//! What one file says of itself, for programs that pass files on and never look at their pixels.

use std::path::Path;

use crate::error::Result;
use crate::exclusion::{Exclusion, OWN_MANUFACTURER, exclusion_of};
use crate::headers::{InstanceHeader, read_header};
use crate::limits::Limits;
use crate::source::Source;

/// One instance's UIDs, and the facts of its series that rules look at. Its UIDs lead back to a patient: it has no
/// `Debug`.
#[derive(Clone, PartialEq)]
pub struct Instance {
    pub sop_class: String,
    pub sop_instance: String,
    pub study_uid: String,
    pub series_uid: String,
    pub transfer_syntax: String,
    pub modality: String,
    /// As stored, or the meaning of the anatomic region's code.
    pub body_part: Option<String>,
    /// Free text of the hospital: not for logs.
    pub series_description: Option<String>,
    /// Free text of the hospital: not for logs.
    pub protocol: Option<String>,
    /// Of a multi-frame object its shared one.
    pub slice_thickness_mm: Option<f64>,
    /// Why it is no slice of a volume; `None` for slices.
    pub exclusion: Option<Exclusion>,
    /// Written by this program.
    pub is_own: bool,
}

/// Reads the header of one file.
///
/// # Errors
/// As [`crate::scan`] of a file that is refused.
pub fn read_instance(path: &Path, limits: &Limits) -> Result<Instance> {
    let header = read_header(&Source::File(path.to_path_buf()), limits)?;
    Ok(Instance::of(header))
}

impl Instance {
    fn of(header: InstanceHeader) -> Self {
        Self {
            exclusion: exclusion_of(&header),
            is_own: header.manufacturer.as_deref() == Some(OWN_MANUFACTURER),
            sop_class: header.sop_class,
            sop_instance: header.sop_instance,
            study_uid: header.study_uid,
            series_uid: header.series_uid,
            transfer_syntax: header.transfer_syntax,
            modality: header.modality,
            body_part: header.body_part,
            series_description: header.series_description,
            protocol: header.protocol,
            slice_thickness_mm: header.slice_thickness_mm,
        }
    }
}
