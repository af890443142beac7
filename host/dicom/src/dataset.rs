//! Elements of a data set, as slices of the file's bytes: nothing is allocated by a length that a header claims.
//!
//! Accepted beside the standard, because real files need it: implicit elements inside explicit data sets, UN with
//! undefined length (read as implicit VR, CP-246), nested data sets in the other VR form, zeros after the end.

use crate::error::{DicomError, ErrorKind, Result};
use crate::tags::PIXEL_DATA;

pub(crate) const ITEM: u32 = 0xFFFE_E000;
const ITEM_END: u32 = 0xFFFE_E00D;
const SEQUENCE_END: u32 = 0xFFFE_E0DD;
pub(crate) const UNDEFINED: u32 = 0xFFFF_FFFF;

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

    pub fn big(self) -> bool {
        self == Self::ExplicitBig
    }

    pub fn u16(self, b: &[u8]) -> u16 {
        let b = [b[0], b[1]];
        if self.big() { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    pub fn u32(self, b: &[u8]) -> u32 {
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
    pub vr: Option<[u8; 2]>,
    pub value: &'a [u8],
    pub encoding: Encoding,
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
    pub elements: Vec<Element<'a>>,
    pub pixels: Option<PixelElement>,
    pub depth: usize,
}

/// What parsing a prefix of a file came to.
pub(crate) enum Parsed<'a> {
    Done(Dataset<'a>),
    /// At least this many bytes of the file are needed.
    NeedMore(usize),
}

/// The head of an element: what comes before its value.
pub(crate) struct Head {
    pub tag: u32,
    vr: Option<[u8; 2]>,
    pub length: u32,
    /// Bytes of the head.
    pub size: usize,
}

pub(crate) enum Fault {
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

pub(crate) fn head(bytes: &[u8], at: usize, encoding: Encoding) -> Result<Head, Fault> {
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

pub(crate) fn item_end(
    bytes: &[u8],
    mut at: usize,
    encoding: Encoding,
    depth: usize,
) -> Result<usize, Fault> {
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
