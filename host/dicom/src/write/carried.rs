//! What a source instance says about patient and study, for our objects of the same study.
//!
//! This is the one place where identity is read. Values are not interpreted; those that their representation forbids
//! (a date that is none, a sex other than M, F, O) are left out, names and ids stay as they are.

use super::attribute::*;
use super::code::Code;
use super::encode::DataSet;
use super::moment::offset_minutes;
use super::uid::is_uid;
use crate::dataset::{Dataset, Parsed, parse};
use crate::error::Result;
use crate::headers::with_whole_file;
use crate::limits::Limits;
use crate::open::opening;
use crate::source::{Prefix, Source};
use crate::tags::{Tag, Vr};

/// Patient, General Study and Patient Study modules.
const STUDY_LEVEL: [Attribute; 19] = [
    StudyDate,
    StudyTime,
    AccessionNumber,
    ReferringPhysicianName,
    StudyDescription,
    PhysiciansOfRecord,
    PatientName,
    PatientID,
    IssuerOfPatientID,
    PatientBirthDate,
    PatientBirthTime,
    PatientSex,
    PatientAge,
    PatientSize,
    PatientWeight,
    EthnicGroup,
    PatientIdentityRemoved,
    DeidentificationMethod,
    StudyID,
];

/// Type 2: present even where the source has none.
const ALWAYS: [Attribute; 9] = [
    StudyDate,
    StudyTime,
    AccessionNumber,
    ReferringPhysicianName,
    PatientName,
    PatientID,
    PatientBirthDate,
    PatientSex,
    StudyID,
];

/// What is carried over.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    /// Modules of patient and study, with the character set.
    pub study: DataSet,
    /// The text is UTF-8; else the source's bytes are kept, and our own text must be ASCII.
    pub utf8: bool,
    pub body_part: Option<String>,
    /// `L` or `R`.
    pub laterality: Option<String>,
    pub position_reference: Option<String>,
    pub procedure: Vec<Code>,
    pub region: Option<Code>,
    pub utc_offset_minutes: Option<i32>,
}

/// Reads the header of one file.
pub(crate) fn read_carried(source: &Source, limits: &Limits) -> Result<Carried> {
    let first = source.read_prefix(limits.header_bytes, |bytes, complete| {
        let Some(opening) = opening(bytes, complete)? else { return Ok(Prefix::Need(bytes.len() + 1)) };
        if opening.is_deflated() {
            return Ok(Prefix::Enough(None));
        }
        match parse(bytes, opening.data_set, opening.encoding, complete, limits.depth)? {
            Parsed::NeedMore(n) => Ok(Prefix::Need(n)),
            Parsed::Done(data) => Ok(Prefix::Enough(Some(carried_of(&data)?))),
        }
    })?;
    match first {
        Some(carried) => Ok(carried),
        None => with_whole_file(source, limits, |data, _, _| carried_of(data)),
    }
}

fn tag(attribute: Attribute) -> Tag {
    let vr = if attribute.vr == *b"SQ" { Vr::Sequence } else { Vr::Text };
    Tag { number: attribute.tag, vr, name: "attribute of the patient or study" }
}

fn carried_of(data: &Dataset) -> Result<Carried> {
    let text = |attribute| data.text(tag(attribute));
    let stated = text(SpecificCharacterSet).unwrap_or_default();
    // Latin-1 and ASCII become UTF-8; what would need tables is kept as it is.
    let utf8 = matches!(stated.as_str(), "" | "ISO_IR 6" | "ISO_IR 100" | "ISO_IR 192");
    let mut study = DataSet::default();
    study.texts(SpecificCharacterSet, &[if utf8 { "ISO_IR 192" } else { stated.as_str() }]);
    for attribute in STUDY_LEVEL {
        let Some(bytes) = data.bytes(tag(attribute)) else { continue };
        let Some(text) = text(attribute).filter(|t| is_valid(attribute, t)) else { continue };
        study.bytes(attribute, if utf8 { text.into_bytes() } else { trimmed(bytes).to_vec() });
    }
    if text(PatientIdentityRemoved).as_deref() == Some("YES") && !study.has(DeidentificationMethod) {
        // Type 1C with the flag; the code sequence that may stand for it is not carried over.
        study.text(DeidentificationMethod, "not stated in the source");
    }
    for attribute in ALWAYS {
        if !study.has(attribute) {
            study.empty(attribute);
        }
    }
    let procedure = codes(data, ProcedureCodeSequence)?;
    if !procedure.is_empty() {
        study.items(ProcedureCodeSequence, procedure.iter().map(Code::item).collect());
    }
    // Enhanced objects keep the anatomy in a functional group.
    let shared = data.item(tag(SharedFunctionalGroupsSequence))?.unwrap_or_default();
    let anatomy = shared.item(tag(FrameAnatomySequence))?.unwrap_or_default();
    let mut region = codes(data, AnatomicRegionSequence)?;
    region.extend(codes(&anatomy, AnatomicRegionSequence)?);
    let side = |found: Option<String>| found.filter(|s| matches!(s.as_str(), "L" | "R"));
    let laterality = side(text(Laterality))
        .or_else(|| side(text(ImageLaterality)))
        .or_else(|| side(anatomy.text(tag(FrameLaterality))));
    Ok(Carried {
        study,
        utf8,
        body_part: text(BodyPartExamined).filter(|t| is_valid(BodyPartExamined, t)),
        laterality,
        position_reference: text(PositionReferenceIndicator),
        procedure,
        region: region.into_iter().next(),
        utc_offset_minutes: text(TimezoneOffsetFromUTC).and_then(|t| offset_minutes(&t)),
    })
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| !matches!(b, 0 | b' ')).map_or(0, |at| at + 1);
    &bytes[..end]
}

/// The complete codes of a sequence.
fn codes(data: &Dataset, sequence: Attribute) -> Result<Vec<Code>> {
    let code = |item: Dataset| {
        let value = item.text(tag(CodeValue)).or_else(|| item.text(tag(LongCodeValue)))?;
        let scheme = item.text(tag(CodingSchemeDesignator))?;
        Some(Code { value, scheme, meaning: item.text(tag(CodeMeaning))? })
    };
    Ok(data.items(tag(sequence))?.into_iter().filter_map(code).collect())
}

/// Whether a text is one that its representation allows, for those where a wrong one makes the object invalid.
fn is_valid(attribute: Attribute, text: &str) -> bool {
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    match &attribute.vr {
        _ if attribute == PatientSex => matches!(text, "M" | "F" | "O"),
        _ if attribute == PatientIdentityRemoved => matches!(text, "YES" | "NO"),
        b"DA" => text.len() == 8 && digits(text),
        b"TM" => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            matches!(whole.len(), 2 | 4 | 6) && digits(whole) && fraction.len() <= 6 && digits(fraction)
        }
        b"AS" => text.len() == 4 && digits(&text[..3]) && text.ends_with(['D', 'W', 'M', 'Y']),
        b"DS" => text.len() <= 16 && text.parse::<f64>().is_ok_and(f64::is_finite),
        b"CS" => {
            let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_');
            text.len() <= 16 && text.bytes().all(allowed)
        }
        b"UI" => is_uid(text),
        _ => true,
    }
}
