//! Elements of a data set, as slices of the file's bytes: nothing is allocated by a length that a header claims.
//!
//! Accepted beside the standard, because real files need it: implicit elements inside explicit data sets, UN with
//! undefined length (read as implicit VR, CP-246), nested data sets in the other VR form, zeros after the end.

use crate::error::{DicomError, ErrorKind, Result};
use crate::tags::{PIXEL_DATA, Tag, Vr};

const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
const UNDEFINED: u32 = 0xFFFF_FFFF;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    ImplicitLittle,
    ExplicitLittle,
    ExplicitBig,
}

impl Encoding {
    fn explicit(self) -> bool {
        self != Self::ImplicitLittle
    }

    fn big(self) -> bool {
        self == Self::ExplicitBig
    }

    fn u16(self, b: &[u8]) -> u16 {
        let b = [b[0], b[1]];
        if self.big() { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    fn u32(self, b: &[u8]) -> u32 {
        let b = [b[0], b[1], b[2], b[3]];
        if self.big() { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn tag(self, b: &[u8]) -> u32 {
        u32::from(self.u16(b)) << 16 | u32::from(self.u16(&b[2..]))
    }
}

/// One element. `vr` is `None` where the file does not say it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub tag: u32,
    vr: Option<[u8; 2]>,
    value: &'a [u8],
    encoding: Encoding,
}

/// Where the pixel data starts in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PixelElement {
    pub tag: u32,
    /// First byte of the value.
    pub offset: usize,
    /// `None` for encapsulated data.
    pub length: Option<u32>,
    /// Written as OW.
    pub is_words: bool,
}

/// Elements up to the pixel data, sorted by tag.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dataset<'a> {
    elements: Vec<Element<'a>>,
    pub pixels: Option<PixelElement>,
    depth: usize,
}

/// What parsing a prefix of a file came to.
pub(crate) enum Parsed<'a> {
    Done(Dataset<'a>),
    /// At least this many bytes of the file are needed.
    NeedMore(usize),
}

/// The head of an element: what comes before its value.
struct Head {
    tag: u32,
    vr: Option<[u8; 2]>,
    length: u32,
    /// Bytes of the head.
    size: usize,
}

enum Fault {
    /// The bytes end before this offset.
    Short(usize),
    Bad(DicomError),
}

fn is_vr(b: &[u8]) -> bool {
    b[0].is_ascii_uppercase() && b[1].is_ascii_uppercase()
}

/// One of the standard's representations: two letters alone can be part of an implicit element's length.
fn is_known_vr(b: &[u8]) -> bool {
    const KNOWN: &[u8] = b"AEASATCSDADSDTFDFLISLOLTOBODOFOLOVOWPNSHSLSQSSSTSVTMUCUIULUNURUSUTUV";
    KNOWN.chunks_exact(2).any(|vr| vr == b)
}

fn head(bytes: &[u8], at: usize, encoding: Encoding) -> Result<Head, Fault> {
    let b = bytes.get(at..at + 8).ok_or(Fault::Short(at + 8))?;
    let tag = encoding.tag(b);
    if tag >> 16 == 0xFFFE || !encoding.explicit() || !is_vr(&b[4..6]) {
        return Ok(Head { tag, vr: None, length: encoding.u32(&b[4..]), size: 8 });
    }
    let vr = [b[4], b[5]];
    if matches!(
        &vr,
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
    ) {
        let b = bytes.get(at + 8..at + 12).ok_or(Fault::Short(at + 12))?;
        return Ok(Head { tag, vr: Some(vr), length: encoding.u32(b), size: 12 });
    }
    Ok(Head { tag, vr: Some(vr), length: u32::from(encoding.u16(&b[6..])), size: 8 })
}

/// The form in which the data set at `bytes` is really written, where that can be seen from its first element.
pub(crate) fn written_form(bytes: &[u8], stated: Encoding) -> Encoding {
    if bytes.len() < 8 || stated.big() {
        return stated;
    }
    // No group of the standard is above 0x7FE0; read the wrong way round, group 0008 is 0x0800.
    let explicit = if stated.explicit() { is_vr(&bytes[4..6]) } else { is_known_vr(&bytes[4..6]) };
    match (stated, explicit) {
        (_, true) => Encoding::ExplicitLittle,
        // An empty VR field is a damaged explicit element, not a sign of the implicit form.
        (Encoding::ExplicitLittle, false) if bytes[4..8] != [0; 4] => Encoding::ImplicitLittle,
        (other, false) => other,
    }
}

fn too_deep() -> Fault {
    Fault::Bad(DicomError::new(
        ErrorKind::Malformed,
        "the header nests sequences deeper than the limit; real files need less than 10 levels",
    ))
}

/// End of a sequence of undefined length whose first item starts at `at`: the offset after its delimiter.
fn sequence_end(bytes: &[u8], mut at: usize, encoding: Encoding, depth: usize) -> Result<usize, Fault> {
    if depth == 0 {
        return Err(too_deep());
    }
    loop {
        let item = head(bytes, at, encoding)?;
        at += item.size;
        match (item.tag, item.length) {
            (SEQUENCE_END, _) => return Ok(at),
            (ITEM, UNDEFINED) => at = item_end(bytes, at, encoding, depth - 1)?,
            (ITEM, n) => at = at.saturating_add(n as usize),
            _ => {
                return Err(Fault::Bad(DicomError::new(
                    ErrorKind::Malformed,
                    format!(
                        "a sequence holds ({:04X},{:04X}) where an item was expected",
                        item.tag >> 16,
                        item.tag & 0xFFFF
                    ),
                )));
            }
        }
        if at > bytes.len() {
            return Err(Fault::Short(at));
        }
    }
}

fn item_end(bytes: &[u8], mut at: usize, encoding: Encoding, depth: usize) -> Result<usize, Fault> {
    if depth == 0 {
        return Err(too_deep());
    }
    let encoding = written_form(bytes.get(at..).unwrap_or_default(), encoding);
    loop {
        let e = head(bytes, at, encoding)?;
        at += e.size;
        if e.tag == ITEM_END {
            return Ok(at);
        }
        at = if e.length == UNDEFINED {
            sequence_end(bytes, at, nested(&e, encoding), depth - 1)?
        } else {
            at.saturating_add(e.length as usize)
        };
        if at > bytes.len() {
            return Err(Fault::Short(at));
        }
    }
}

/// The encoding inside a sequence: UN holds implicit VR little endian, whatever the data set around it.
fn nested(head: &Head, encoding: Encoding) -> Encoding {
    if head.vr == Some(*b"UN") { Encoding::ImplicitLittle } else { encoding }
}

/// Parses elements from `at` up to the pixel data, an item delimiter or the end.
///
/// With `complete` the bytes are all there is: a cut element ends the data set, as long as pixel data or the end is
/// what was cut; else the caller is told how many bytes are needed.
pub(crate) fn parse(
    bytes: &[u8],
    mut at: usize,
    encoding: Encoding,
    complete: bool,
    depth: usize,
) -> Result<Parsed<'_>> {
    // Nothing is reserved: a damaged sequence may have an item every eight bytes.
    let mut elements: Vec<Element> = Vec::new();
    let mut pixels = None;
    let mut sorted = true;
    while at < bytes.len() || !complete {
        let e = match head(bytes, at, encoding) {
            Ok(e) => e,
            Err(Fault::Short(n)) if !complete => return Ok(Parsed::NeedMore(n)),
            // Fewer than eight bytes at the end are padding.
            Err(Fault::Short(_)) => break,
            Err(Fault::Bad(error)) => return Err(error),
        };
        // Zeros after the last element.
        if e.tag == 0 || e.tag == ITEM_END {
            break;
        }
        at += e.size;
        if PIXEL_DATA.contains(&e.tag) {
            let length = (e.length != UNDEFINED).then_some(e.length);
            pixels = Some(PixelElement { tag: e.tag, offset: at, length, is_words: e.vr == Some(*b"OW") });
            break;
        }
        if e.tag >> 16 == 0xFFFE {
            continue;
        }
        let end = if e.length == UNDEFINED {
            sequence_end(bytes, at, nested(&e, encoding), depth)
        } else {
            Ok(at.saturating_add(e.length as usize))
        };
        let end = match end {
            Ok(end) if end <= bytes.len() => end,
            Ok(n) | Err(Fault::Short(n)) if !complete => return Ok(Parsed::NeedMore(n)),
            Ok(_) | Err(Fault::Short(_)) => {
                return Err(DicomError::new(
                    ErrorKind::Truncated,
                    format!(
                        "the file ends inside ({:04X},{:04X}); copy it again",
                        e.tag >> 16,
                        e.tag & 0xFFFF
                    ),
                ));
            }
            Err(Fault::Bad(error)) => return Err(error),
        };
        sorted &= elements.last().is_none_or(|last| last.tag <= e.tag);
        elements.push(Element { tag: e.tag, vr: e.vr, value: &bytes[at..end], encoding });
        at = end;
    }
    if !sorted {
        elements.sort_by_key(|e| e.tag);
    }
    Ok(Parsed::Done(Dataset { elements, pixels, depth }))
}

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
