//! A data set in the DICOM JSON model (PS3.18 F), as QIDO-RS and STOW-RS answer.

use serde_json::Value;

pub(crate) const SOP_CLASS_UID: &str = "00080016";
pub(crate) const SOP_INSTANCE_UID: &str = "00080018";
pub(crate) const MODALITY: &str = "00080060";
pub(crate) const MANUFACTURER: &str = "00080070";
pub(crate) const SERIES_DESCRIPTION: &str = "0008103E";
pub(crate) const REFERENCED_SOP_SEQUENCE: &str = "00081199";
pub(crate) const FAILED_SOP_SEQUENCE: &str = "00081198";
pub(crate) const FAILURE_REASON: &str = "00081197";
pub(crate) const REFERENCED_SOP_INSTANCE: &str = "00081155";
pub(crate) const BODY_PART: &str = "00180015";
pub(crate) const SLICE_THICKNESS: &str = "00180050";
pub(crate) const PROTOCOL: &str = "00181030";
pub(crate) const STUDY_UID: &str = "0020000D";
pub(crate) const SERIES_UID: &str = "0020000E";
pub(crate) const STUDY_INSTANCES: &str = "00201208";
pub(crate) const SERIES_INSTANCES: &str = "00201209";
pub(crate) const PIXEL_MEASURES: &str = "00289110";
pub(crate) const SHARED_GROUPS: &str = "52009229";

/// One data set: `{"00080060": {"vr": "CS", "Value": ["CT"]}, …}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a>(pub &'a Value);

impl<'a> Attributes<'a> {
    fn first(self, tag: &str) -> Option<&'a Value> {
        self.0.get(tag)?.get("Value")?.as_array()?.first()
    }

    /// The first value as text without padding; `None` where absent or empty.
    pub fn text(self, tag: &str) -> Option<&'a str> {
        let text = self.first(tag)?.as_str()?.trim_matches(['\0', ' ']);
        (!text.is_empty()).then_some(text)
    }

    /// The first value as a number; archives write decimal strings as numbers or as text.
    pub fn number(self, tag: &str) -> Option<f64> {
        let value = self.first(tag)?;
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        number.filter(|n| n.is_finite())
    }

    pub fn count(self, tag: &str) -> Option<u64> {
        self.number(tag).filter(|n| *n >= 0.0 && *n < 1e15).map(|n| n as u64)
    }

    /// The items of a sequence; empty where absent.
    pub fn items(self, tag: &str) -> Vec<Attributes<'a>> {
        let items = self.0.get(tag).and_then(|e| e.get("Value")).and_then(Value::as_array);
        items.map(|items| items.iter().map(Attributes).collect()).unwrap_or_default()
    }
}

/// Numbers joined by dots, at most 64 characters: what comes from outside and goes into a URL.
pub(crate) fn is_uid(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= 64 && text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_archives_write_them() {
        let value = serde_json::json!({
            "00080060": {"vr": "CS", "Value": ["CT "]},
            "00180050": {"vr": "DS", "Value": ["1.25"]},
            "00201208": {"vr": "IS", "Value": [21]},
            "0008103E": {"vr": "LO"},
            "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
        });
        let data = Attributes(&value);
        assert_eq!(data.text(MODALITY), Some("CT"));
        assert_eq!(data.number(SLICE_THICKNESS), Some(1.25));
        assert_eq!(data.count(STUDY_INSTANCES), Some(21));
        assert_eq!(data.text(SERIES_DESCRIPTION), None);
        assert_eq!(data.items(REFERENCED_SOP_SEQUENCE)[0].text(REFERENCED_SOP_INSTANCE), Some("1.2.3"));
        assert!(data.items(FAILED_SOP_SEQUENCE).is_empty());
    }

    #[test]
    fn a_uid_cannot_lead_a_url_elsewhere() {
        assert!(is_uid("1.2.840.10008.1"));
        for text in ["", "1", "1..2", "../1.2", "1.2/../3", "1.2?x", "1.2.", &"1.".repeat(40)] {
            assert!(!is_uid(text), "{text}");
        }
    }
}
