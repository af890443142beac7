//! What an archive says of the instances that were sent to it (PS3.18 10.5.3, I.2).

use super::json::{
    Attributes, FAILED_SOP_SEQUENCE, FAILURE_REASON, REFERENCED_SOP_INSTANCE, REFERENCED_SOP_SEQUENCE,
};

/// The answer to a STOW-RS request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoreAnswer {
    /// SOP Instance UIDs that were stored.
    pub stored: Vec<String>,
    /// Those that were not, and why.
    pub failed: Vec<(String, Failure)>,
}

/// A FailureReason, by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The instance is there already.
    Duplicate,
    /// Repeating would give the same.
    Refused(u16),
    /// Out of resources, or processing failed: may go away.
    Later(u16),
}

impl Failure {
    /// PS3.18 table I.2-2 and PS3.4 annex B.2.3.
    pub fn of_code(code: u16) -> Self {
        match code {
            0x0111 => Self::Duplicate,
            // SOP class not supported; not authorised; no such class; invalid or mismatching data; transfer syntax.
            0x0122 | 0x0124 | 0x0118 | 0x0106 | 0x0117 | 0xA900..=0xA9FF | 0xC000..=0xCFFF => {
                Self::Refused(code)
            }
            _ => Self::Later(code),
        }
    }
}

impl StoreAnswer {
    pub fn of_json(data: Attributes<'_>) -> Self {
        let uid = |item: &Attributes<'_>| item.text(REFERENCED_SOP_INSTANCE).map(str::to_owned);
        let failure = |item: &Attributes<'_>| {
            let code = item.count(FAILURE_REASON).and_then(|n| u16::try_from(n).ok()).unwrap_or(0x0110);
            Some((uid(item)?, Failure::of_code(code)))
        };
        Self {
            stored: data.items(REFERENCED_SOP_SEQUENCE).iter().filter_map(uid).collect(),
            failed: data.items(FAILED_SOP_SEQUENCE).iter().filter_map(failure).collect(),
        }
    }

    /// It says nothing of any instance.
    pub fn is_silent(&self) -> bool {
        self.stored.is_empty() && self.failed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_partial_answer_tells_what_was_kept_and_why_the_rest_was_not() {
        let value = json!({
            "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.1"]}}]},
            "00081198": {"vr": "SQ", "Value": [
                {"00081155": {"vr": "UI", "Value": ["1.2.2"]}, "00081197": {"vr": "US", "Value": [290]}},
                {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [272]}},
                {"00081155": {"vr": "UI", "Value": ["1.2.4"]}, "00081197": {"vr": "US", "Value": [273]}},
                {"00081155": {"vr": "UI", "Value": ["1.2.5"]}}
            ]}
        });
        let answer = StoreAnswer::of_json(Attributes(&value));
        assert_eq!(answer.stored, ["1.2.1"]);
        let expected = [
            ("1.2.2", Failure::Refused(0x0122)),
            ("1.2.3", Failure::Later(0x0110)),
            ("1.2.4", Failure::Duplicate),
            ("1.2.5", Failure::Later(0x0110)),
        ];
        assert_eq!(answer.failed, expected.map(|(uid, why)| (uid.to_owned(), why)));
        assert!(StoreAnswer::of_json(Attributes(&json!({}))).is_silent());
    }
}
