//! Compressed frames to stored samples, through the decoders of dicom-rs.

use std::borrow::Cow;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_encoding::adapters::{PixelDataObject, RawPixelData};
use dicom_encoding::transfer_syntax::{Codec, TransferSyntaxIndex};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::codestream::{self, Codestream};
use crate::error::{DicomError, ErrorKind, Result};
use crate::headers::PixelFormat;
use crate::{jpeg2000, rle};

/// The families of transfer syntaxes that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Samples as they are, in one element.
    Native,
    /// Samples as they are, a fragment per frame.
    EncapsulatedNative,
    DeflatedFrames,
    Rle,
    Jpeg,
    JpegLs,
    Jpeg2000,
    JpegXl,
}

/// How the pixels of a transfer syntax are compressed.
pub(crate) fn compression_of(transfer_syntax: &str) -> Result<Compression> {
    let Some(suffix) = transfer_syntax.strip_prefix("1.2.840.10008.1.2") else {
        return Err(unsupported(transfer_syntax));
    };
    Ok(match suffix {
        "" | ".1" | ".2" | ".1.99" => Compression::Native,
        ".1.98" => Compression::EncapsulatedNative,
        ".8.1" => Compression::DeflatedFrames,
        ".5" => Compression::Rle,
        ".4.50" | ".4.51" | ".4.57" | ".4.70" => Compression::Jpeg,
        ".4.80" | ".4.81" if cfg!(feature = "jpeg-ls") => Compression::JpegLs,
        ".4.80" | ".4.81" => {
            return Err(DicomError::new(
                ErrorKind::JpegLsNotBuilt,
                "is JPEG-LS, which this program was built without: build it with the feature jpeg-ls, or convert the \
                 files to uncompressed DICOM",
            ));
        }
        ".4.90" | ".4.91" | ".4.201" | ".4.202" | ".4.203" => Compression::Jpeg2000,
        ".4.110" | ".4.111" | ".4.112" => Compression::JpegXl,
        _ => return Err(unsupported(transfer_syntax)),
    })
}

fn unsupported(transfer_syntax: &str) -> DicomError {
    DicomError::new(
        ErrorKind::UnsupportedTransferSyntax,
        format!(
            "has transfer syntax {transfer_syntax}, for which there is no decoder; convert it to Explicit VR Little \
             Endian"
        ),
    )
}

fn failed(message: String) -> DicomError {
    DicomError::new(ErrorKind::DecodeFailed, message)
}

/// Decodes one frame to little endian samples of the returned number of bits: 8, 16 or 32 allocated.
///
/// # Errors
/// [`ErrorKind::DecodeFailed`] where the codestream states another size than the header, the decoder fails or
/// panics, or its output is too short.
pub(crate) fn decode(
    frame: &[u8],
    format: &PixelFormat,
    compression: Compression,
    transfer_syntax: &str,
) -> Result<(Vec<u8>, u32)> {
    let pixels = format.rows * format.columns;
    let bytes = (format.bits_allocated as usize).div_ceil(8);
    let stated = match compression {
        Compression::Native => return Err(failed("is not encapsulated".into())),
        Compression::EncapsulatedNative => return Ok((frame.to_vec(), format.bits_allocated)),
        Compression::Rle => return Ok((rle::decode(frame, pixels, bytes)?, format.bits_allocated)),
        Compression::DeflatedFrames => {
            let mut out = Vec::new();
            let limit = (pixels * bytes + 1) as u64;
            let read = flate2::read::DeflateDecoder::new(frame).take(limit).read_to_end(&mut out);
            read.map_err(|e| failed(format!("a deflated frame does not unpack: {e}")))?;
            return Ok((out, format.bits_allocated));
        }
        Compression::Jpeg | Compression::JpegLs => codestream::jpeg(frame),
        Compression::Jpeg2000 => codestream::jpeg_2000(frame),
        Compression::JpegXl => codestream::jpeg_xl(frame),
    };
    let stated = stated.ok_or_else(|| failed("a frame has no readable codestream header".into()))?;
    check_stated(&stated, format, compression)?;
    // A decoder writes one byte for up to 8 bits, whatever BitsAllocated says.
    let by_depth = if stated.precision <= 8 { 8 } else { 16 };
    let bits = match compression {
        Compression::Jpeg | Compression::JpegLs => by_depth,
        _ => format.bits_allocated,
    };
    let object = OneFrame { frame, transfer_syntax, format, bits: bits as u16 };
    let out = run_decoder(&object, compression)?;
    let expected = pixels * bits as usize / 8;
    if out.len() != expected {
        return Err(failed(format!("the decoder gave {} bytes for a frame, expected {expected}", out.len())));
    }
    Ok((out, bits))
}

fn check_stated(stated: &Codestream, format: &PixelFormat, compression: Compression) -> Result<()> {
    if (stated.rows, stated.columns) != (format.rows as u64, format.columns as u64) || stated.components != 1
    {
        return Err(failed(format!(
            "a compressed frame is {} × {} with {} components, the header says {} × {} with 1",
            stated.rows, stated.columns, stated.components, format.rows, format.columns
        )));
    }
    if compression == Compression::Jpeg && matches!(stated.process, 1 | 2) && stated.precision > 8 {
        return Err(DicomError::new(
            ErrorKind::TwelveBitJpeg,
            "is lossy JPEG with 12 bits, which the decoder reads wrongly; convert it to JPEG 2000 or uncompressed",
        ));
    }
    if stated.tiles > 4096 {
        return Err(failed(format!("a frame has {} tiles, the limit is 4096", stated.tiles)));
    }
    if stated.precision > format.bits_allocated {
        return Err(failed(format!(
            "a frame has {} bits per sample, BitsAllocated is {}",
            stated.precision, format.bits_allocated
        )));
    }
    Ok(())
}

fn run_decoder(object: &OneFrame, compression: Compression) -> Result<Vec<u8>> {
    let decode = || match compression {
        Compression::Jpeg2000 => match jpeg2000::decode(object.frame, u32::from(object.bits)) {
            Some(samples) => Ok(samples),
            None => general_decoder(object),
        },
        _ => general_decoder(object),
    };
    // Decoders of damaged data panic; the rest of the program must not end by that.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(failed("the decoder panicked: the frame is damaged".into())))
}

/// The decoder of dicom-rs for a transfer syntax.
fn general_decoder(object: &OneFrame) -> Result<Vec<u8>> {
    let syntax = TransferSyntaxRegistry.get(object.transfer_syntax);
    let Some(Codec::EncapsulatedPixelData(Some(reader), _)) = syntax.map(|s| s.codec()) else {
        return Err(unsupported(object.transfer_syntax));
    };
    let mut out = Vec::new();
    let decoded = reader.decode_frame(object, 0, &mut out);
    decoded.map(|()| out).map_err(|e| failed(format!("the decoder failed: {e}")))
}

/// One compressed frame, in the shape that the decoders of dicom-rs take.
struct OneFrame<'a> {
    frame: &'a [u8],
    transfer_syntax: &'a str,
    format: &'a PixelFormat,
    bits: u16,
}

impl PixelDataObject for OneFrame<'_> {
    fn transfer_syntax_uid(&self) -> &str {
        self.transfer_syntax
    }

    fn rows(&self) -> Option<u16> {
        u16::try_from(self.format.rows).ok()
    }

    fn cols(&self) -> Option<u16> {
        u16::try_from(self.format.columns).ok()
    }

    fn samples_per_pixel(&self) -> Option<u16> {
        Some(1)
    }

    fn bits_allocated(&self) -> Option<u16> {
        Some(self.bits)
    }

    fn bits_stored(&self) -> Option<u16> {
        u16::try_from(self.format.bits_stored).ok()
    }

    fn photometric_interpretation(&self) -> Option<&str> {
        Some(&self.format.photometric)
    }

    fn number_of_frames(&self) -> Option<u32> {
        Some(1)
    }

    fn number_of_fragments(&self) -> Option<u32> {
        Some(1)
    }

    fn fragment(&self, fragment: usize) -> Option<Cow<'_, [u8]>> {
        (fragment == 0).then_some(Cow::Borrowed(self.frame))
    }

    fn offset_table(&self) -> Option<Cow<'_, [u32]>> {
        Some(Cow::Borrowed(&[]))
    }

    fn raw_pixel_data(&self) -> Option<RawPixelData> {
        let fragments = std::iter::once(self.frame.to_vec()).collect();
        Some(RawPixelData { fragments, offset_table: std::iter::empty().collect() })
    }
}

/// A JPEG 2000 frame through the general decoder alone.
#[cfg(test)]
pub(crate) fn general_samples(frame: &[u8], bits: u32) -> Result<Vec<u8>> {
    let stated = codestream::jpeg_2000(frame).ok_or_else(|| failed("no codestream".into()))?;
    let format = PixelFormat {
        element: crate::dataset::PixelElement { tag: 0x7FE0_0010, offset: 0, length: None, is_words: false },
        big_endian: false,
        swapped_bytes: false,
        rows: stated.rows as usize,
        columns: stated.columns as usize,
        samples: 1,
        photometric: "MONOCHROME2".into(),
        frames: 1,
        bits_allocated: bits,
        bits_stored: stated.precision,
        high_bit: stated.precision - 1,
        signed: false,
        padding: None,
    };
    let transfer_syntax = "1.2.840.10008.1.2.4.90";
    let object = OneFrame { frame, transfer_syntax, format: &format, bits: bits as u16 };
    catch_unwind(AssertUnwindSafe(|| general_decoder(&object)))
        .unwrap_or_else(|_| Err(failed("the decoder panicked".into())))
}
