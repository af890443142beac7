//! Values of attributes: text, numbers by their representation, items of sequences.

use crate::dataset::{
    Dataset, Element, Encoding, Fault, ITEM, Parsed, UNDEFINED, head, item_end, parse, written_form,
};
use crate::error::{DicomError, ErrorKind, Result};
use crate::tags::{Tag, Vr};

impl<'a> Dataset<'a> {
    /// The element; the last one, where a file repeats it.
    pub fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        let after = self.elements.partition_point(|e| e.tag <= tag.number);
        self.elements[..after].last().filter(|e| e.tag == tag.number && !e.value.is_empty())
    }

    /// Text without padding; `None` where absent or empty.
    pub fn text(&self, tag: Tag) -> Option<String> {
        let text = decode_text(self.get(tag)?.value);
        (!text.is_empty()).then_some(text)
    }

    /// The values of a text attribute, split at backslashes.
    pub fn texts(&self, tag: Tag) -> Vec<String> {
        self.text(tag).map(|t| t.split('\\').map(|p| p.trim().to_owned()).collect()).unwrap_or_default()
    }

    /// All numbers of an attribute; `None` where absent, an error where one of them is no number.
    pub fn numbers(&self, tag: Tag) -> Result<Option<Vec<f64>>> {
        self.get(tag).map(|e| e.numbers(tag)).transpose()
    }

    /// The first number of an attribute, `None` where absent or unreadable: for facts, never for geometry or values.
    pub fn number(&self, tag: Tag) -> Option<f64> {
        self.numbers(tag).ok().flatten()?.first().copied().filter(|v| v.is_finite())
    }

    /// An unsigned integer that decides how pixels are read.
    pub fn count(&self, tag: Tag) -> Result<Option<u32>> {
        let Some(values) = self.numbers(tag)? else { return Ok(None) };
        match values.first() {
            Some(v) if *v >= 0.0 && *v <= f64::from(u32::MAX) && v.fract() == 0.0 => Ok(Some(*v as u32)),
            _ => Err(DicomError::new(ErrorKind::BadAttribute, format!("{} is not a whole number", tag.name))),
        }
    }

    pub fn bytes(&self, tag: Tag) -> Option<&'a [u8]> {
        self.get(tag).map(|e| e.value)
    }

    /// Bytes as 16-bit words in the data set's byte order.
    pub fn words(&self, tag: Tag) -> Vec<u16> {
        self.get(tag)
            .map(|e| e.value.chunks_exact(2).map(|b| e.encoding.u16(b)).collect())
            .unwrap_or_default()
    }

    /// The items of a sequence; empty where absent.
    pub fn items(&self, tag: Tag) -> Result<Vec<Dataset<'a>>> {
        match self.get(tag) {
            Some(e) => e.items(tag, self.depth),
            None => Ok(Vec::new()),
        }
    }

    /// The first item of a sequence.
    pub fn item(&self, tag: Tag) -> Result<Option<Dataset<'a>>> {
        Ok(self.items(tag)?.into_iter().next())
    }

    /// `true` where the data set has any element.
    pub fn has_elements(&self) -> bool {
        !self.elements.is_empty()
    }
}

impl<'a> Element<'a> {
    fn representation(&self, tag: Tag) -> Vr {
        match self.vr.as_ref() {
            Some(b"DS" | b"IS") => Vr::Number,
            Some(b"US" | b"SS") if tag.vr == Vr::X16 => Vr::X16,
            Some(b"US") => Vr::U16,
            Some(b"SS") => Vr::X16,
            Some(b"UL") => Vr::U32,
            Some(b"FL") => Vr::F32,
            Some(b"FD") => Vr::F64,
            // UN, absent, or one that says nothing about numbers: what the standard says.
            _ => tag.vr,
        }
    }

    fn numbers(&self, tag: Tag) -> Result<Vec<f64>> {
        let e = self.encoding;
        let le = |n: usize| self.value.chunks_exact(n);
        let bad = || {
            let found: String = decode_text(self.value).chars().take(40).collect();
            // Only what can be part of a number is shown: a shifted header may hold a name here.
            let shown =
                if found.chars().all(|c| "0123456789+-.eE,\\ ".contains(c)) { found } else { "text".into() };
            DicomError::new(
                ErrorKind::BadAttribute,
                format!("{} holds '{shown}' where a number was expected", tag.name),
            )
        };
        Ok(match self.representation(tag) {
            Vr::Number | Vr::Text => decode_text(self.value)
                .split('\\')
                .map(|p| p.trim().parse::<f64>().map_err(|_| bad()))
                .collect::<Result<_>>()?,
            Vr::U16 => le(2).map(|b| f64::from(e.u16(b))).collect(),
            // The sign depends on PixelRepresentation: the caller applies it.
            Vr::X16 => le(2).map(|b| f64::from(e.u16(b))).collect(),
            Vr::U32 => le(4).map(|b| f64::from(e.u32(b))).collect(),
            Vr::F32 => le(4).map(|b| f64::from(f32::from_bits(e.u32(b)))).collect(),
            Vr::F64 => le(8)
                .map(|b| {
                    let (a, z) = (u64::from(e.u32(b)), u64::from(e.u32(&b[4..])));
                    f64::from_bits(if e.big() { a << 32 | z } else { z << 32 | a })
                })
                .collect(),
            Vr::Sequence | Vr::Bytes => return Err(bad()),
        })
    }

    fn items(&self, tag: Tag, depth: usize) -> Result<Vec<Dataset<'a>>> {
        if depth == 0 {
            return Err(DicomError::new(
                ErrorKind::Malformed,
                format!("{} is nested deeper than the limit", tag.name),
            ));
        }
        let encoding = if self.vr == Some(*b"UN") { Encoding::ImplicitLittle } else { self.encoding };
        let fault = |f| match f {
            Fault::Short(_) => {
                DicomError::new(ErrorKind::Malformed, format!("{} ends inside an item", tag.name))
            }
            Fault::Bad(error) => error,
        };
        let (bytes, mut at, mut items) = (self.value, 0, Vec::new());
        while at + 8 <= bytes.len() {
            let h = head(bytes, at, encoding).map_err(fault)?;
            at += h.size;
            if h.tag != ITEM {
                break;
            }
            let end = if h.length == UNDEFINED {
                item_end(bytes, at, encoding, depth).map_err(fault)?
            } else {
                at.saturating_add(h.length as usize)
            };
            let body = bytes.get(at..end).ok_or_else(|| fault(Fault::Short(end)))?;
            match parse(body, 0, written_form(body, encoding), true, depth - 1)? {
                Parsed::Done(item) => items.push(item),
                Parsed::NeedMore(n) => return Err(fault(Fault::Short(n))),
            }
            at = end;
        }
        Ok(items)
    }
}

/// Text as UTF-8 where it is that, else each byte as Latin-1: descriptions in other character sets are only shown.
fn decode_text(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    };
    text.trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned()
}
