//! Coded concepts.

use super::attribute::*;
use super::encode::DataSet;

/// A code of a scheme, such as (52101004, SCT, "Present").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub value: String,
    /// `DCM`, `SCT`, `UCUM` …; schemes of your own begin with `99`.
    pub scheme: String,
    pub meaning: String,
}

/// The scheme of concepts that no public scheme has a code for.
pub const OWN_SCHEME: &str = "99ANYMC3D";

impl Code {
    pub fn new(value: &str, scheme: &str, meaning: &str) -> Self {
        Self { value: value.into(), scheme: scheme.into(), meaning: meaning.into() }
    }

    pub(crate) fn dcm(value: &str, meaning: &str) -> Self {
        Self::new(value, "DCM", meaning)
    }

    pub(crate) fn sct(value: &str, meaning: &str) -> Self {
        Self::new(value, "SCT", meaning)
    }

    /// The item of a code sequence.
    pub(crate) fn item(&self) -> DataSet {
        DataSet::build(|d| {
            // SH holds 16 characters.
            let value = if self.value.chars().count() > 16 { LongCodeValue } else { CodeValue };
            d.text(value, &self.value)
                .text(CodingSchemeDesignator, &self.scheme)
                .text(CodeMeaning, &self.meaning);
        })
    }
}

/// The region of BodyPartExamined (PS3.16 annex L), for the parts that volumes are usually made of.
pub(crate) fn region_of(body_part: &str) -> Option<Code> {
    let (value, meaning) = match body_part.to_ascii_uppercase().as_str() {
        "ABDOMEN" => ("818981001", "Abdomen"),
        "ADRENAL" => ("23451007", "Adrenal gland"),
        "BRAIN" => ("12738006", "Brain"),
        "BREAST" => ("76752008", "Breast"),
        "CHEST" | "THORAX" => ("816094009", "Chest"),
        "HEAD" => ("69536005", "Head"),
        "HEART" => ("80891009", "Heart"),
        "HIP" => ("29836001", "Hip"),
        "KIDNEY" => ("64033007", "Kidney"),
        "KNEE" => ("72696002", "Knee"),
        "LIVER" => ("10200004", "Liver"),
        "LUNG" => ("39607008", "Lung"),
        "NECK" => ("45048000", "Neck"),
        "PELVIS" => ("816092008", "Pelvis"),
        "PROSTATE" => ("41216001", "Prostate"),
        "SHOULDER" => ("16982005", "Shoulder"),
        "SPINE" => ("421060004", "Spine"),
        _ => return None,
    };
    Some(Code::sct(value, meaning))
}
