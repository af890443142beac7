//! Command sets (PS3.7 E): a dozen elements of group 0000, implicit VR little endian.

use std::collections::BTreeMap;

pub(crate) const C_STORE_RQ: u16 = 0x0001;
pub(crate) const C_STORE_RSP: u16 = 0x8001;
pub(crate) const C_ECHO_RQ: u16 = 0x0030;

const AFFECTED_SOP_CLASS: u16 = 0x0002;
const COMMAND_FIELD: u16 = 0x0100;
const MESSAGE_ID: u16 = 0x0110;
const ANSWERED_MESSAGE: u16 = 0x0120;
const PRIORITY: u16 = 0x0700;
const DATA_SET_TYPE: u16 = 0x0800;
const STATUS: u16 = 0x0900;
const AFFECTED_SOP_INSTANCE: u16 = 0x1000;

/// No data set follows.
const NO_DATA_SET: u16 = 0x0101;
/// A data set follows; any other value than 0101 says so.
const DATA_SET: u16 = 0x0000;

/// One command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Command(BTreeMap<u16, Vec<u8>>);

impl Command {
    /// Reads a command set; `None` where it is none.
    pub fn read(mut bytes: &[u8]) -> Option<Self> {
        let mut elements = BTreeMap::new();
        while !bytes.is_empty() {
            let head = bytes.get(..8)?;
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let value = bytes.get(8..8_usize.checked_add(length)?)?;
            if head[..2] != [0, 0] {
                return None;
            }
            elements.insert(u16::from_le_bytes([head[2], head[3]]), value.to_vec());
            bytes = &bytes[8 + length..];
        }
        Some(Self(elements))
    }

    pub fn write(&self) -> Vec<u8> {
        let mut group = Vec::new();
        for (element, value) in &self.0 {
            element_of(*element, value, &mut group);
        }
        let mut all = Vec::new();
        element_of(0, &(group.len() as u32).to_le_bytes(), &mut all);
        all.extend(group);
        all
    }

    fn number(&self, element: u16) -> Option<u16> {
        let value = self.0.get(&element)?;
        Some(u16::from_le_bytes([*value.first()?, *value.get(1)?]))
    }

    fn text(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.0.get(&element)?).ok()?.trim_matches(['\0', ' ']);
        (!text.is_empty()).then_some(text)
    }

    fn with_number(mut self, element: u16, value: u16) -> Self {
        self.0.insert(element, value.to_le_bytes().to_vec());
        self
    }

    fn with_uid(mut self, element: u16, uid: &str) -> Self {
        let mut value = uid.as_bytes().to_vec();
        if value.len() % 2 == 1 {
            value.push(0);
        }
        self.0.insert(element, value);
        self
    }

    pub fn field(&self) -> Option<u16> {
        self.number(COMMAND_FIELD)
    }

    pub fn message(&self) -> Option<u16> {
        self.number(MESSAGE_ID)
    }

    pub fn answered_message(&self) -> Option<u16> {
        self.number(ANSWERED_MESSAGE)
    }

    pub fn status(&self) -> Option<u16> {
        self.number(STATUS)
    }

    pub fn sop_class(&self) -> Option<&str> {
        self.text(AFFECTED_SOP_CLASS)
    }

    pub fn sop_instance(&self) -> Option<&str> {
        self.text(AFFECTED_SOP_INSTANCE)
    }

    pub fn has_data_set(&self) -> bool {
        self.number(DATA_SET_TYPE).is_some_and(|kind| kind != NO_DATA_SET)
    }

    /// A request to store an instance.
    pub fn store(message: u16, sop_class: &str, sop_instance: &str) -> Self {
        Self::default()
            .with_uid(AFFECTED_SOP_CLASS, sop_class)
            .with_number(COMMAND_FIELD, C_STORE_RQ)
            .with_number(MESSAGE_ID, message)
            .with_number(PRIORITY, 0)
            .with_number(DATA_SET_TYPE, DATA_SET)
            .with_uid(AFFECTED_SOP_INSTANCE, sop_instance)
    }

    /// The answer to a request.
    pub fn answer(&self, status: u16) -> Self {
        let field = self.field().unwrap_or(0) | 0x8000;
        let mut answer = Self::default()
            .with_number(COMMAND_FIELD, field)
            .with_number(ANSWERED_MESSAGE, self.message().unwrap_or(0))
            .with_number(DATA_SET_TYPE, NO_DATA_SET)
            .with_number(STATUS, status);
        for element in [AFFECTED_SOP_CLASS, AFFECTED_SOP_INSTANCE] {
            if let Some(value) = self.0.get(&element) {
                answer.0.insert(element, value.clone());
            }
        }
        answer
    }
}

fn element_of(element: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend([0, 0]);
    out.extend(element.to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let request = Command::store(7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3");
        let read = Command::read(&request.write()).unwrap();
        assert_eq!((read.field(), read.message(), read.has_data_set()), (Some(C_STORE_RQ), Some(7), true));
        assert_eq!(
            (read.sop_class(), read.sop_instance()),
            (Some("1.2.840.10008.5.1.4.1.1.2"), Some("1.2.3"))
        );
        let answer = Command::read(&read.answer(0xA700).write()).unwrap();
        assert_eq!((answer.field(), answer.answered_message()), (Some(C_STORE_RSP), Some(7)));
        assert_eq!((answer.status(), answer.has_data_set()), (Some(0xA700), false));
        assert_eq!(answer.sop_instance(), Some("1.2.3"));
    }

    #[test]
    fn bytes_that_are_no_command_are_none() {
        let good = Command::store(1, "1.2", "1.3").write();
        for cut in 1..good.len() {
            // Where it ends between elements it is a shorter command.
            if let Some(read) = Command::read(&good[..cut]) {
                assert!(read.0.len() < 7);
            }
        }
        assert_eq!(Command::read(&[8, 0, 0, 0, 0, 0, 0, 0]), None, "group 0008");
        assert_eq!(Command::read(&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]), None, "longer than there is");
    }
}
