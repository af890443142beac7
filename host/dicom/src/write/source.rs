//! The series that a result was computed from: what results refer to, and what they carry over.

use super::attribute::{PatientBirthDate, PatientID, PatientName, PatientSex};
use super::carried::{Carried, read_carried};
use super::uid::{is_uid, uid_of};
use crate::error::{DicomError, ErrorKind, Result};
use crate::frames::Plane;
use crate::limits::Limits;
use crate::scan::Scan;
use crate::series::Series;
use crate::split::geometry_of;

/// One stack of a series with its patient and study. Holds identity: keep it out of logs (it has no `Debug`).
#[derive(Clone)]
pub struct SourceSeries {
    pub study_uid: String,
    pub series_uid: String,
    /// `CT`, `MR`, `PT`, `NM`.
    pub modality: String,
    pub rows: usize,
    pub columns: usize,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    pub(crate) frame_of_reference: String,
    /// Median gap between the slices and slice thickness, mm.
    pub(crate) gap_mm: f64,
    pub(crate) thickness_mm: f64,
    pub(crate) body_part: Option<String>,
    /// In the order of [`crate::Volume::frames`].
    pub(crate) frames: Vec<PlacedFrame>,
    pub(crate) carried: Carried,
}

/// A patient as the header says; empty where it does not. Identity: no `Debug`.
#[derive(Clone)]
pub struct Patient {
    pub name: String,
    pub id: String,
    /// `YYYYMMDD`
    pub birth_date: String,
    pub sex: String,
}

/// One frame of the source, and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct PlacedFrame {
    pub sop_class: String,
    pub sop_instance: String,
    /// From 1; `None` where the instance has one frame only.
    pub frame_number: Option<u32>,
    /// LPS mm.
    pub plane: Plane,
}

impl SourceSeries {
    /// Reads the header of one file of the stack again, now with the patient. The stack is the one that was given to
    /// [`crate::read_volume`].
    ///
    /// # Errors
    /// [`ErrorKind::BadAttribute`] where an instance lacks the UIDs that results must refer to; those of the geometry;
    /// those of reading a header.
    pub fn read(scan: &Scan, series: &Series, stack: usize, limits: &Limits) -> Result<Self> {
        let Some(stack) = series.stacks.get(stack) else {
            return Err(DicomError::new(ErrorKind::NothingFits, format!("no stack {stack} in the series")));
        };
        let geometry = geometry_of(stack)?;
        let mut frames = Vec::with_capacity(stack.frames.len());
        for at in &stack.frames {
            let header = &series.instances[at.instance];
            let name = scan.sources[header.file].name();
            for (uid, what) in [(&header.sop_class, "SOPClassUID"), (&header.sop_instance, "SOPInstanceUID")]
            {
                check_uid(uid, what).map_err(|e| e.in_file(name))?;
            }
            frames.push(PlacedFrame {
                sop_class: header.sop_class.clone(),
                sop_instance: header.sop_instance.clone(),
                frame_number: (header.frames.len() > 1).then_some(at.frame as u32 + 1),
                plane: header.frames[at.frame].plane.clone().map_err(|e| e.in_file(name))?,
            });
        }
        let Some(first) = stack.frames.first().map(|at| &series.instances[at.instance]) else {
            return Err(DicomError::new(ErrorKind::NothingFits, "the stack has no frames"));
        };
        let mut warnings = Vec::new();
        let mut own = |uid: &str, what: &str, of: &str| match is_uid(uid) {
            true => uid.to_owned(),
            false => {
                warnings.push(format!(
                    "the source has no valid {what}: the DICOM results have one of their own, an archive will not \
                     file them with the scan"
                ));
                uid_of(&format!("{what} of {of}"))
            }
        };
        let instance = &first.sop_instance;
        let study_uid = own(
            &first.study_uid,
            "StudyInstanceUID",
            // Series of one scan share it, as the reader groups them.
            first.frame_of_reference.as_ref().unwrap_or(instance),
        );
        let series_uid = own(&series.uid, "SeriesInstanceUID", instance);
        let gap_mm = geometry.spacing_mm[2];
        Ok(Self {
            study_uid,
            series_uid,
            warnings,
            modality: series.modality.clone(),
            rows: geometry.rows,
            columns: geometry.columns,
            // Positions need one; the same for all results of a series that has none.
            frame_of_reference: first
                .frame_of_reference
                .clone()
                .filter(|uid| is_uid(uid))
                .unwrap_or_else(|| uid_of(&format!("frame of reference of {instance}"))),
            gap_mm,
            thickness_mm: first.slice_thickness_mm.filter(|t| *t > 0.0).unwrap_or(gap_mm),
            body_part: first.body_part.clone(),
            frames,
            carried: read_carried(&scan.sources[first.file], limits)?,
        })
    }

    /// Whose series it is, for a page that may say it.
    pub fn patient(&self) -> Patient {
        let of = |attribute| self.carried.study.shown(attribute);
        Patient {
            name: of(PatientName).replace('^', " ").trim().to_owned(),
            id: of(PatientID),
            birth_date: of(PatientBirthDate),
            sex: of(PatientSex),
        }
    }

    /// Number of frames, each [rows, columns].
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Refuses values that are not [frames, rows, columns].
    pub(crate) fn check_length(&self, found: usize) -> Result<()> {
        let expected = self.frames.len() * self.rows * self.columns;
        if found == expected {
            return Ok(());
        }
        Err(DicomError::new(
            ErrorKind::BadAttribute,
            format!(
                "{found} values were given for {} frames of {} × {}; {expected} were expected (Volume::onto_frames)",
                self.frames.len(),
                self.rows,
                self.columns
            ),
        ))
    }
}

fn check_uid(uid: &str, what: &str) -> Result<()> {
    if is_uid(uid) {
        return Ok(());
    }
    let message = format!("has no valid {what}: a DICOM result can't refer to it");
    Err(DicomError::new(ErrorKind::BadAttribute, message))
}
