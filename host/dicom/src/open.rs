//! From the bytes of a file to its data set: preamble or none, meta group or none, deflated or not.

use std::io::Read;

use crate::dataset::{Dataset, Encoding, Parsed, parse, written_form};
use crate::error::{DicomError, ErrorKind, Result};
use crate::limits::Limits;
use crate::tags::{MediaStorageSOPClassUID, MediaStorageSOPInstanceUID, TransferSyntaxUID};

/// Transfer syntaxes that say how the data set itself is written.
pub(crate) const IMPLICIT_LITTLE: &str = "1.2.840.10008.1.2";
pub(crate) const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
pub(crate) const EXPLICIT_BIG: &str = "1.2.840.10008.1.2.2";
const DEFLATED: [&str; 2] = ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"];

/// The oddity of a raw data set.
pub(crate) const NO_META_GROUP: &str = "a data set without file meta group";

/// How a file begins.
pub(crate) struct FileMeta {
    pub transfer_syntax: String,
    pub encoding: Encoding,
    /// MediaStorageSOPClassUID: directories have their class only here.
    pub media_class: Option<String>,
    /// MediaStorageSOPInstanceUID: some anonymisers empty SOPInstanceUID and leave this one.
    pub media_instance: Option<String>,
    /// First byte of the data set.
    pub data_set: usize,
    /// What the file lacks or contradicts, for the list of oddities.
    pub oddity: Option<&'static str>,
}

impl FileMeta {
    pub fn is_deflated(&self) -> bool {
        DEFLATED.contains(&self.transfer_syntax.as_str())
    }
}

/// Reads the start of a file. `complete` as in [`parse`]; `Ok(None)`: more bytes are needed.
pub(crate) fn opening(bytes: &[u8], complete: bool) -> Result<Option<FileMeta>> {
    if bytes.len() < 132 && !complete {
        return Ok(None);
    }
    let (start, lacks) = if bytes.get(128..132) == Some(b"DICM") {
        (132, None)
    } else if bytes.starts_with(b"DICM") {
        (4, Some("no preamble"))
    } else if bytes.len() >= 8 && bytes[..2] == [2, 0] && bytes[3] < 2 {
        (0, Some("no preamble and no DICM"))
    } else {
        return raw_data_set(bytes).map(Some);
    };
    let Some(MetaGroup { end: meta_end, transfer_syntax, media_class, media_instance }) =
        meta_group(bytes, start, complete)?
    else {
        return Ok(None);
    };
    let stated = match transfer_syntax.as_deref() {
        Some(IMPLICIT_LITTLE) => Encoding::ImplicitLittle,
        Some(EXPLICIT_BIG) => Encoding::ExplicitBig,
        _ => Encoding::ExplicitLittle,
    };
    let body = bytes.get(meta_end..).unwrap_or_default();
    if body.len() < 8 && !complete {
        return Ok(None);
    }
    let Some(transfer_syntax) = transfer_syntax else {
        // As pydicom: without a transfer syntax the first element decides.
        let encoding = written_form(body, Encoding::ImplicitLittle);
        let uid = if encoding == Encoding::ImplicitLittle { IMPLICIT_LITTLE } else { EXPLICIT_LITTLE };
        let oddity = Some("no transfer syntax in the file meta group");
        return Ok(Some(FileMeta {
            transfer_syntax: uid.into(),
            encoding,
            media_class,
            media_instance,
            data_set: meta_end,
            oddity,
        }));
    };
    let mut opening = FileMeta {
        transfer_syntax,
        encoding: stated,
        media_class,
        media_instance,
        data_set: meta_end,
        oddity: lacks,
    };
    if !opening.is_deflated() {
        // Group 0008 read with the wrong byte order is 0800.
        let little = stated.eq(&Encoding::ExplicitBig) && body.len() > 4 && body[0] != 0 && body[1] == 0;
        opening.encoding =
            if little { written_form(body, Encoding::ImplicitLittle) } else { written_form(body, stated) };
        if opening.encoding != stated {
            opening.oddity = Some("the data set is not written as its transfer syntax says");
        }
    }
    Ok(Some(opening))
}

/// What is read of the group 0002.
#[derive(Default)]
struct MetaGroup {
    end: usize,
    transfer_syntax: Option<String>,
    media_class: Option<String>,
    media_instance: Option<String>,
}

/// Reads the group 0002. Its length is not trusted: the group ends where another begins.
fn meta_group(bytes: &[u8], start: usize, complete: bool) -> Result<Option<MetaGroup>> {
    let mut meta = MetaGroup { end: start, ..MetaGroup::default() };
    loop {
        let at = meta.end;
        let Some(b) = bytes.get(at..at + 8) else {
            meta.end = at.min(bytes.len());
            return Ok(complete.then_some(meta));
        };
        if b[..2] != [2, 0] {
            return Ok(Some(meta));
        }
        let element = u32::from(u16::from_le_bytes([b[2], b[3]]));
        let explicit = b[4].is_ascii_uppercase() && b[5].is_ascii_uppercase();
        let (length, size) = if !explicit {
            (u32::from_le_bytes([b[4], b[5], b[6], b[7]]), 8)
        } else if matches!(&b[4..6], b"OB" | b"OW" | b"UN" | b"SQ" | b"UT") {
            let Some(n) = bytes.get(at + 8..at + 12) else { return Ok(complete.then_some(meta)) };
            (u32::from_le_bytes([n[0], n[1], n[2], n[3]]), 12)
        } else {
            (u32::from(u16::from_le_bytes([b[6], b[7]])), 8)
        };
        let end = (at + size).saturating_add(length as usize);
        let Some(value) = bytes.get(at + size..end) else {
            if complete {
                let message = "the file ends inside its meta group; copy it again";
                return Err(DicomError::new(ErrorKind::Truncated, message));
            }
            return Ok(None);
        };
        let text = String::from_utf8_lossy(value);
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let text = (!text.is_empty()).then(|| text.to_owned());
        if element == TransferSyntaxUID.number & 0xFFFF {
            meta.transfer_syntax = text;
        } else if element == MediaStorageSOPClassUID.number & 0xFFFF {
            meta.media_class = text;
        } else if element == MediaStorageSOPInstanceUID.number & 0xFFFF {
            meta.media_instance = text;
        }
        meta.end = end;
    }
}

/// A file that begins with its data set: accepted where the first element is one of group 0008.
fn raw_data_set(bytes: &[u8]) -> Result<FileMeta> {
    let found = |uid: &str, encoding| {
        Ok(FileMeta {
            transfer_syntax: uid.into(),
            encoding,
            media_class: None,
            media_instance: None,
            data_set: 0,
            oddity: Some(NO_META_GROUP),
        })
    };
    if let Some(b) = bytes.get(..8) {
        let vr = b[4].is_ascii_uppercase() && b[5].is_ascii_uppercase();
        match (&b[..2], vr) {
            ([8, 0], true) => return found(EXPLICIT_LITTLE, Encoding::ExplicitLittle),
            // The first element of group 0008 is short: a long one is another kind of file.
            ([8, 0], false) if b[5..8] == [0, 0, 0] => {
                return found(IMPLICIT_LITTLE, Encoding::ImplicitLittle);
            }
            ([0, 8], true) => return found(EXPLICIT_BIG, Encoding::ExplicitBig),
            _ => {}
        }
    }
    Err(DicomError::new(
        ErrorKind::NotDicom,
        "is not DICOM: no 'DICM' at byte 128 and no data set at its start",
    ))
}

/// Unpacks a deflated data set, at most `limits.file_bytes`.
pub(crate) fn inflate(bytes: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let limit = limits.file_bytes;
    let read = flate2::read::DeflateDecoder::new(bytes).take(limit + 1).read_to_end(&mut out);
    if out.len() as u64 > limit {
        return Err(DicomError::new(
            ErrorKind::AboveLimit,
            format!("the deflated data set unpacks to more than {limit} bytes"),
        ));
    }
    match read {
        Ok(_) => Ok(out),
        Err(e) => {
            Err(DicomError::new(ErrorKind::Malformed, format!("the deflated data set does not unpack: {e}")))
        }
    }
}

/// The data set of a deflated file that is in memory, unpacked.
pub(crate) fn inflated(file: &[u8], limits: &Limits) -> Result<Vec<u8>> {
    let truncated = || DicomError::new(ErrorKind::Truncated, "the file ends inside its header");
    let meta = opening(file, true)?.ok_or_else(truncated)?;
    inflate(file.get(meta.data_set..).unwrap_or_default(), limits)
}

/// Parses the data set of a whole file that is in memory.
pub(crate) fn parse_whole<'a>(bytes: &'a [u8], opening: &FileMeta, limits: &Limits) -> Result<Dataset<'a>> {
    match parse(bytes, opening.data_set, opening.encoding, true, limits.depth)? {
        Parsed::Done(data) => Ok(data),
        Parsed::NeedMore(_) => Err(DicomError::new(ErrorKind::Truncated, "the file ends inside its header")),
    }
}
