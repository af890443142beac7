//! Data sets as bytes: explicit VR little endian, sequences and items of defined length.

use std::collections::BTreeMap;

use super::attribute::*;
use crate::error::{DicomError, ErrorKind, Result};
use crate::open::EXPLICIT_LITTLE;

/// Names this program in the file meta group; made once, under 2.25.
const IMPLEMENTATION_CLASS: &str = "2.25.174176549165020585176492767992105832665";
const IMPLEMENTATION_VERSION: &str = concat!("ANYMC3D_", env!("CARGO_PKG_VERSION"));

/// A value before it is written.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    /// Written as UTF-8, or with '?' for what is not ASCII where the data set has another character set.
    Text(String),
    Bytes(Vec<u8>),
    Items(Vec<DataSet>),
}

/// Elements by tag.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DataSet(BTreeMap<u32, ([u8; 2], Value)>);

impl DataSet {
    fn set(&mut self, attribute: Attribute, value: Value) -> &mut Self {
        self.0.insert(attribute.tag, (attribute.vr, value));
        self
    }

    /// One text. What the representation forbids (a backslash, control characters, more than it holds) is replaced
    /// or cut: this is for our own text, never for identifiers of a patient.
    pub fn text(&mut self, attribute: Attribute, text: impl AsRef<str>) -> &mut Self {
        let long = matches!(&attribute.vr, b"ST" | b"LT" | b"UT");
        let most = match &attribute.vr {
            b"SH" | b"CS" => 16,
            b"LO" | b"PN" | b"UI" => 64,
            b"ST" => 1024,
            b"LT" => 10240,
            _ => usize::MAX,
        };
        let clean = |c: char| match c {
            '\\' if !long => '/',
            '\n' if long => '\n',
            c if c.is_control() => ' ',
            c => c,
        };
        let text: String = text.as_ref().trim().chars().map(clean).take(most).collect();
        self.set(attribute, Value::Text(text))
    }

    /// Several texts that hold no backslash.
    pub fn texts(&mut self, attribute: Attribute, texts: &[&str]) -> &mut Self {
        self.set(attribute, Value::Text(texts.join("\\")))
    }

    /// Present without a value, as type 2 wants it.
    pub fn empty(&mut self, attribute: Attribute) -> &mut Self {
        let value = if attribute.vr == *b"SQ" { Value::Items(Vec::new()) } else { Value::Bytes(Vec::new()) };
        self.set(attribute, value)
    }

    pub fn bytes(&mut self, attribute: Attribute, bytes: Vec<u8>) -> &mut Self {
        self.set(attribute, Value::Bytes(bytes))
    }

    pub fn u16(&mut self, attribute: Attribute, value: u16) -> &mut Self {
        self.bytes(attribute, value.to_le_bytes().to_vec())
    }

    pub fn u32s(&mut self, attribute: Attribute, values: &[u32]) -> &mut Self {
        self.bytes(attribute, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    pub fn f64(&mut self, attribute: Attribute, value: f64) -> &mut Self {
        self.bytes(attribute, value.to_le_bytes().to_vec())
    }

    /// Decimal strings of at most 16 characters.
    pub fn decimals(&mut self, attribute: Attribute, values: &[f64]) -> &mut Self {
        let texts: Vec<String> = values.iter().map(|v| decimal(*v)).collect();
        self.set(attribute, Value::Text(texts.join("\\")))
    }

    pub fn integer(&mut self, attribute: Attribute, value: impl Into<i64>) -> &mut Self {
        self.set(attribute, Value::Text(value.into().to_string()))
    }

    /// A tag as a value.
    pub fn pointer(&mut self, attribute: Attribute, to: Attribute) -> &mut Self {
        let halves = [(to.tag >> 16) as u16, to.tag as u16];
        self.bytes(attribute, halves.iter().flat_map(|h| h.to_le_bytes()).collect())
    }

    pub fn items(&mut self, attribute: Attribute, items: Vec<DataSet>) -> &mut Self {
        self.set(attribute, Value::Items(items))
    }

    pub fn item(&mut self, attribute: Attribute, item: DataSet) -> &mut Self {
        self.items(attribute, vec![item])
    }

    /// A text for people; what is no UTF-8 has marks in its place.
    pub fn shown(&self, attribute: Attribute) -> String {
        let text = match self.0.get(&attribute.tag) {
            Some((_, Value::Text(text))) => text.clone(),
            Some((_, Value::Bytes(bytes))) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        text.trim_matches(['\0', ' ']).to_owned()
    }

    pub fn has(&self, attribute: Attribute) -> bool {
        self.0.contains_key(&attribute.tag)
    }

    /// Adds the elements of `other`; ours win.
    pub fn fill_from(&mut self, other: &DataSet) {
        for (tag, element) in &other.0 {
            self.0.entry(*tag).or_insert_with(|| element.clone());
        }
    }

    /// A data set built in one expression.
    pub fn build(with: impl FnOnce(&mut DataSet)) -> DataSet {
        let mut data = DataSet::default();
        with(&mut data);
        data
    }

    fn write(&self, out: &mut Vec<u8>, utf8: bool) -> Result<()> {
        for (tag, (vr, value)) in &self.0 {
            out.extend(((tag >> 16) as u16).to_le_bytes());
            out.extend((*tag as u16).to_le_bytes());
            out.extend(vr);
            let long = matches!(vr, b"OB" | b"OF" | b"OW" | b"SQ" | b"UC" | b"UT");
            out.extend(if long { &[0_u8; 6][..] } else { &[0_u8; 2][..] });
            let start = out.len();
            match value {
                Value::Text(text) if utf8 => out.extend(text.as_bytes()),
                Value::Text(text) => {
                    out.extend(text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }));
                }
                Value::Bytes(bytes) => out.extend_from_slice(bytes),
                Value::Items(items) => {
                    for item in items {
                        out.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
                        let item_start = out.len();
                        item.write(out, utf8)?;
                        set_length(out, item_start, *tag)?;
                    }
                }
            }
            if !(out.len() - start).is_multiple_of(2) {
                out.push(if matches!(vr, b"UI" | b"OB") { 0 } else { b' ' });
            }
            if long {
                set_length(out, start, *tag)?;
            } else {
                let length = u16::try_from(out.len() - start).map_err(|_| too_long(*tag))?;
                out[start - 2..start].copy_from_slice(&length.to_le_bytes());
            }
        }
        Ok(())
    }
}

fn too_long(tag: u32) -> DicomError {
    let message = format!("({:04X},{:04X}) is longer than DICOM can write", tag >> 16, tag & 0xFFFF);
    DicomError::new(ErrorKind::AboveLimit, message)
}

/// Fills in the four bytes before `start` with the length of what follows it.
fn set_length(out: &mut [u8], start: usize, tag: u32) -> Result<()> {
    let length =
        u32::try_from(out.len() - start).ok().filter(|n| *n < u32::MAX).ok_or_else(|| too_long(tag))?;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The closest decimal string of at most 16 characters.
pub(crate) fn decimal(value: f64) -> String {
    // Minus zero is no number to read.
    let value = if value == 0.0 { 0.0 } else { value };
    let shortest = format!("{value}");
    if shortest.len() <= 16 {
        return shortest;
    }
    if !(1e-4..1e15).contains(&value.abs()) {
        return format!("{value:.8e}");
    }
    (0..=14).rev().map(|digits| format!("{value:.digits$}")).find(|t| t.len() <= 16).unwrap_or(shortest)
}

/// What stands before the data set in a file: preamble and meta group, for a data set in `transfer_syntax`.
///
/// # Errors
/// [`ErrorKind::AboveLimit`] where a value is longer than its length field can say.
pub fn file_meta(sop_class: &str, sop_instance: &str, transfer_syntax: &str) -> Result<Vec<u8>> {
    let meta = DataSet::build(|d| {
        d.bytes(FileMetaInformationVersion, vec![0, 1])
            .text(MediaStorageSOPClassUID, sop_class)
            .text(MediaStorageSOPInstanceUID, sop_instance)
            .text(TransferSyntaxUID, transfer_syntax)
            .text(ImplementationClassUID, IMPLEMENTATION_CLASS)
            .text(ImplementationVersionName, IMPLEMENTATION_VERSION);
    });
    let mut group = Vec::new();
    meta.write(&mut group, true)?;
    let mut out = vec![0; 128];
    out.extend(b"DICM");
    DataSet::build(|d| {
        d.u32s(FileMetaInformationGroupLength, &[group.len() as u32]);
    })
    .write(&mut out, true)?;
    out.extend(group);
    Ok(out)
}

/// A whole file: preamble, meta group, data set. `utf8`: the data set's character set is ISO_IR 192.
///
/// # Errors
/// As [`file_meta`].
pub(crate) fn part10(data: &DataSet, sop_class: &str, sop_instance: &str, utf8: bool) -> Result<Vec<u8>> {
    let mut out = file_meta(sop_class, sop_instance, EXPLICIT_LITTLE)?;
    data.write(&mut out, utf8)?;
    Ok(out)
}
