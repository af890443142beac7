//! Stored samples of an instance, frame by frame, as f32 values of the modality.

use std::ops::Range;

use crate::codec::{Compression, compression_of, decode};
use crate::error::{DicomError, ErrorKind, Result};
use crate::headers::{InstanceHeader, PixelFormat};
use crate::limits::Limits;
use crate::open::inflated;
use crate::rescale::Rescale;
use crate::source::Source;

/// The pixel data of one instance, in memory as the file has it.
pub(crate) struct PixelPayload<'a> {
    header: &'a InstanceHeader,
    format: &'a PixelFormat,
    compression: Compression,
    /// The file as it is stored.
    file: Vec<u8>,
    /// Where the pixel data begins in `file`, or all of it where the file has it deflated or in another order of bytes.
    pixels: Place,
    /// Fragments of each frame, in the pixel data; empty for native data.
    frames: Vec<Vec<Range<usize>>>,
}

enum Place {
    InFile(usize),
    Unpacked(Vec<u8>),
}

/// What a frame held beside values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FrameCounts {
    /// Pixels that are padding, set to NaN for now.
    pub padding: usize,
    /// Float pixels that are NaN or infinite, set to NaN.
    pub not_finite: usize,
}

/// Refuses what is no single-channel image of a size that is read, before anything is allocated.
pub(crate) fn check_format(header: &InstanceHeader) -> Result<&PixelFormat> {
    let format = header
        .pixels
        .as_ref()
        .ok_or_else(|| DicomError::new(ErrorKind::NoPixelData, "has no pixel data: not an image"))?;
    if format.samples != 1 || format.photometric.starts_with("PALETTE") {
        let found = format!("{} with {} samples per pixel", format.photometric, format.samples);
        return Err(DicomError::new(
            ErrorKind::Colour,
            format!("is a colour picture ({found}), not a measurement"),
        ));
    }
    if format.rows == 0 || format.columns == 0 || format.rows > 65535 || format.columns > 65535 {
        let message = format!("has {} rows and {} columns", format.rows, format.columns);
        return Err(DicomError::new(ErrorKind::BadAttribute, message));
    }
    let bits = (format.bits_allocated, format.bits_stored, format.high_bit);
    let readable = match format.element.tag {
        0x7FE0_0008 => bits.0 == 32,
        0x7FE0_0009 => bits.0 == 64,
        _ => matches!(bits.0, 1 | 8 | 16 | 32) && bits.1 >= 1 && bits.1 <= bits.0 && bits.2 + 1 == bits.1,
    };
    if !readable {
        let message = format!(
            "has {} bits allocated, {} stored, high bit {}; read are 1, 8, 16 and 32 allocated with the high bit one \
             below the bits stored",
            bits.0, bits.1, bits.2
        );
        return Err(DicomError::new(ErrorKind::UnsupportedPixelFormat, message));
    }
    Ok(format)
}

impl<'a> PixelPayload<'a> {
    /// Reads the pixel data of an instance.
    pub fn read(source: &Source, header: &'a InstanceHeader, limits: &Limits) -> Result<Self> {
        Self::load(source, header, limits).map_err(|e| e.in_file(source.name()))
    }

    fn load(source: &Source, header: &'a InstanceHeader, limits: &Limits) -> Result<Self> {
        let format = check_format(header)?;
        let compression = compression_of(&header.transfer_syntax)?;
        let offset = format.element.offset;
        let file = source.read_whole(limits.file_bytes)?;
        let mut pixels = Place::InFile(offset.min(file.len()));
        if header.transfer_syntax.ends_with(".1.99") {
            let mut data_set = inflated(&file, limits)?;
            pixels = Place::Unpacked(data_set.split_off(offset.min(data_set.len())));
        }
        let mut frames = Vec::new();
        let bytes = pixels.bytes(&file);
        if compression == Compression::Native {
            let needed = native_bytes(format)?;
            let Some(stated) = format.element.length else {
                let message = "has encapsulated pixel data in an uncompressed transfer syntax";
                return Err(DicomError::new(ErrorKind::Malformed, message));
            };
            let found = u64::from(stated).min(bytes.len() as u64);
            if found < needed {
                return Err(too_short(found, needed));
            }
            if format.swapped_bytes {
                let mut swapped = bytes.to_vec();
                swapped.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.swap(0, 1));
                pixels = Place::Unpacked(swapped);
            }
        } else {
            if format.element.length.is_some() {
                let message = "has pixel data that is not encapsulated in a compressed transfer syntax";
                return Err(DicomError::new(ErrorKind::Malformed, message));
            }
            frames = frames_of_fragments(bytes, format)?;
        }
        Ok(Self { header, format, compression, file, pixels, frames })
    }

    /// The file as it is stored.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    fn bytes(&self) -> &[u8] {
        self.pixels.bytes(&self.file)
    }

    /// Decodes frame `frame` (from 0) into `out`, rows × columns values, x fastest.
    ///
    /// With `mark_padding`, padding becomes NaN and is counted.
    pub fn decode(&self, frame: usize, mark_padding: bool, out: &mut [f32]) -> Result<FrameCounts> {
        let rescale = match self.header.frames.get(frame) {
            Some(f) => f.rescale.clone()?,
            None => return Err(DicomError::new(ErrorKind::Malformed, format!("has no frame {}", frame + 1))),
        };
        let padding = self.format.padding.filter(|_| mark_padding);
        if self.compression == Compression::Native {
            return Ok(self.native_frame(frame, &rescale, padding, out));
        }
        let (fragments, bytes) = (&self.frames[frame], self.bytes());
        let joined;
        let encoded = match fragments.as_slice() {
            [one] => &bytes[one.clone()],
            several => {
                joined = several.iter().flat_map(|r| bytes[r.clone()].iter().copied()).collect::<Vec<u8>>();
                &joined
            }
        };
        // Without its padding byte a frame of odd length still decodes; decoders take both.
        let (samples, bits) = decode(encoded, self.format, self.compression, &self.header.transfer_syntax)?;
        let needed = out.len() * bits as usize / 8;
        if samples.len() < needed {
            return Err(too_short(samples.len() as u64, needed as u64));
        }
        Ok(convert(&samples[..needed], bits, false, self.format, &rescale, padding, out))
    }

    fn native_frame(
        &self,
        frame: usize,
        rescale: &Rescale,
        padding: Option<(f64, f64)>,
        out: &mut [f32],
    ) -> FrameCounts {
        let (format, pixels, bytes) = (self.format, out.len(), self.bytes());
        if format.bits_allocated == 1 {
            // Bits are packed across frames, lowest bit first.
            for (i, value) in out.iter_mut().enumerate() {
                let bit = frame * pixels + i;
                *value = rescale.apply(f64::from(bytes[bit / 8] >> (bit % 8) & 1));
            }
            return FrameCounts::default();
        }
        let size = pixels * format.bits_allocated as usize / 8;
        let samples = &bytes[frame * size..(frame + 1) * size];
        convert(samples, format.bits_allocated, format.big_endian, format, rescale, padding, out)
    }
}

impl Place {
    fn bytes<'a>(&'a self, file: &'a [u8]) -> &'a [u8] {
        match self {
            Self::InFile(start) => &file[*start..],
            Self::Unpacked(bytes) => bytes,
        }
    }
}

fn too_short(found: u64, expected: u64) -> DicomError {
    let message = format!("has {found} bytes of pixel data, its header asks for {expected}; copy it again");
    DicomError::new(ErrorKind::Truncated, message)
}

/// Bytes of all frames, uncompressed.
fn native_bytes(format: &PixelFormat) -> Result<u64> {
    let bits = (format.rows as u64 * format.columns as u64)
        .checked_mul(format.frames as u64)
        .and_then(|n| n.checked_mul(u64::from(format.bits_allocated)));
    let above = || DicomError::new(ErrorKind::AboveLimit, "claims more pixel data than can be counted");
    Ok(bits.ok_or_else(above)?.div_ceil(8))
}

/// The fragments of each frame, as ranges of the encapsulated data.
fn frames_of_fragments(bytes: &[u8], format: &PixelFormat) -> Result<Vec<Vec<Range<usize>>>> {
    let bad = |message: String| DicomError::new(ErrorKind::DecodeFailed, message);
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (mut at, mut items) = (0, Vec::<Range<usize>>::new());
    while let (Some(0xE000_FFFE), Some(length)) = (word(at), word(at + 4)) {
        let end = (at + 8).saturating_add(length as usize);
        if end > bytes.len() {
            return Err(DicomError::new(
                ErrorKind::Truncated,
                "the file ends inside a compressed frame; copy it again",
            ));
        }
        items.push(at + 8..end);
        at = end;
    }
    let Some((table, fragments)) = items.split_first() else {
        return Err(bad("has no fragments in its encapsulated pixel data".into()));
    };
    let frames = format.frames;
    if fragments.len() < frames {
        return Err(bad(format!("has {} fragments for {frames} frames", fragments.len())));
    }
    if frames == 1 {
        return Ok(vec![fragments.to_vec()]);
    }
    if fragments.len() == frames {
        return Ok(fragments.iter().map(|f| vec![f.clone()]).collect());
    }
    let offsets: Vec<usize> = bytes[table.clone()]
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    let base = fragments[0].start - 8;
    // Where a frame starts: at an offset of the table, else at a fragment that begins a JPEG or JPEG 2000 stream.
    let starts = |f: &Range<usize>| match offsets.len() == frames {
        true => offsets.contains(&(f.start - 8 - base)),
        false => matches!(bytes[f.clone()], [0xFF, 0xD8, ..] | [0xFF, 0x4F, ..]),
    };
    let mut grouped: Vec<Vec<Range<usize>>> = Vec::with_capacity(frames);
    for fragment in fragments {
        match grouped.last_mut() {
            Some(frame) if !starts(fragment) => frame.push(fragment.clone()),
            _ => grouped.push(vec![fragment.clone()]),
        }
    }
    if grouped.len() != frames {
        let message = format!(
            "has {} fragments that make {} frames, the header says {frames}",
            fragments.len(),
            grouped.len()
        );
        return Err(bad(message));
    }
    Ok(grouped)
}

/// Stored samples to values. `bits` allocated per sample; unused high bits are cut off and the sign extended.
fn convert(
    samples: &[u8],
    bits: u32,
    big: bool,
    format: &PixelFormat,
    rescale: &Rescale,
    padding: Option<(f64, f64)>,
    out: &mut [f32],
) -> FrameCounts {
    let counts = match (format.element.tag, big) {
        (0x7FE0_0008, false) => {
            fill(chunks(samples).map(|b| f64::from(f32::from_le_bytes(*b))), rescale, padding, out)
        }
        (0x7FE0_0008, true) => {
            fill(chunks(samples).map(|b| f64::from(f32::from_be_bytes(*b))), rescale, padding, out)
        }
        (0x7FE0_0009, false) => fill(chunks(samples).map(|b| f64::from_le_bytes(*b)), rescale, padding, out),
        (0x7FE0_0009, true) => fill(chunks(samples).map(|b| f64::from_be_bytes(*b)), rescale, padding, out),
        _ => return convert_integers(samples, bits, big, format, rescale, padding, out),
    };
    let mut not_finite = 0;
    for value in out.iter_mut().filter(|v| !v.is_finite()) {
        *value = f32::NAN;
        not_finite += 1;
    }
    FrameCounts { not_finite: not_finite - counts.padding, ..counts }
}

fn chunks<const N: usize>(samples: &[u8]) -> std::slice::Iter<'_, [u8; N]> {
    samples.as_chunks::<N>().0.iter()
}

fn convert_integers(
    samples: &[u8],
    bits: u32,
    big: bool,
    format: &PixelFormat,
    rescale: &Rescale,
    padding: Option<(f64, f64)>,
    out: &mut [f32],
) -> FrameCounts {
    // A decoder may have written fewer bits than the header allocates.
    let shift = 32 - format.bits_stored.min(bits);
    let signed = format.signed;
    if let (Some(offset), 16, false) = (whole_offset(rescale), bits, big) {
        let value =
            move |v: u32| if signed { (v << shift) as i32 >> shift } else { (v << shift >> shift) as i32 };
        let stored = chunks(samples).map(|b| value(u32::from(u16::from_le_bytes(*b))));
        return fill_whole(stored, offset, padding, out);
    }
    let value = move |v: u32| match signed {
        true => f64::from((v << shift) as i32 >> shift),
        false => f64::from(v << shift >> shift),
    };
    match (bits, big) {
        (8, _) => fill(samples.iter().map(|b| value(u32::from(*b))), rescale, padding, out),
        (16, false) => {
            fill(chunks(samples).map(|b| value(u32::from(u16::from_le_bytes(*b)))), rescale, padding, out)
        }
        (16, true) => {
            fill(chunks(samples).map(|b| value(u32::from(u16::from_be_bytes(*b)))), rescale, padding, out)
        }
        (_, false) => fill(chunks(samples).map(|b| value(u32::from_le_bytes(*b))), rescale, padding, out),
        (_, true) => fill(chunks(samples).map(|b| value(u32::from_be_bytes(*b))), rescale, padding, out),
    }
}

/// What is added to stored values of slope 1, where it is a whole number: sums of 16-bit values are exact in i32 then, and
/// rounded to f32 as they are from f64.
fn whole_offset(rescale: &Rescale) -> Option<i32> {
    match *rescale {
        Rescale::Linear { slope: 1.0, intercept } if intercept.fract() == 0.0 && intercept.abs() < 1e9 => {
            Some(intercept as i32)
        }
        _ => None,
    }
}

/// [`fill`] for what nearly all CT is, several pixels at a time.
fn fill_whole(
    stored: impl Iterator<Item = i32>,
    offset: i32,
    padding: Option<(f64, f64)>,
    out: &mut [f32],
) -> FrameCounts {
    let mut counts = FrameCounts::default();
    match padding.filter(|(low, high)| low <= high) {
        None => out.iter_mut().zip(stored).for_each(|(value, stored)| *value = (stored + offset) as f32),
        Some((low, high)) => {
            let (low, high) = (low.ceil() as i32, high.floor() as i32);
            let mut padded = 0u32;
            for (value, stored) in out.iter_mut().zip(stored) {
                let is_padding = (stored >= low) & (stored <= high);
                padded += u32::from(is_padding);
                *value = if is_padding { f32::NAN } else { (stored + offset) as f32 };
            }
            counts.padding = padded as usize;
        }
    }
    counts
}

fn fill(
    stored: impl Iterator<Item = f64>,
    rescale: &Rescale,
    padding: Option<(f64, f64)>,
    out: &mut [f32],
) -> FrameCounts {
    let mut counts = FrameCounts::default();
    match (rescale, padding) {
        // The common case has no branch per pixel.
        (Rescale::Linear { slope, intercept }, None) => {
            for (value, stored) in out.iter_mut().zip(stored) {
                *value = (stored * slope + intercept) as f32;
            }
        }
        (rescale, padding) => {
            for (value, stored) in out.iter_mut().zip(stored) {
                *value = match padding {
                    Some((low, high)) if stored >= low && stored <= high => {
                        counts.padding += 1;
                        f32::NAN
                    }
                    _ => rescale.apply(stored),
                };
            }
        }
    }
    counts
}
