//! Pictures for viewers that show nothing else: Secondary Capture, one frame or several.

use super::attribute::*;
use super::body::Body;
use super::functional_groups::instances;
use super::provenance::{Draft, Kind, Object, Provenance, or};
use super::source::SourceSeries;
use crate::error::{DicomError, ErrorKind, Result};

const SINGLE_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";
const TRUE_COLOUR_CLASS: &str = "1.2.840.10008.5.1.4.1.1.7.4";

/// Pixels as a decoded PNG has them.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// [rows, columns, 3]: red, green, blue.
    pub rgb: &'a [u8],
    pub rows: usize,
    pub columns: usize,
}

/// Writes one picture as Secondary Capture Image, several as Multi-frame True Color Secondary Capture.
///
/// # Errors
/// [`ErrorKind::BadAttribute`] where there is no picture, they differ in size, or one is larger than 65,535 pixels
/// along a side; [`ErrorKind::AboveLimit`] above 4 GiB.
pub fn secondary_capture(
    source: &SourceSeries,
    pictures: &[Picture],
    title: &str,
    origin: &mut Provenance,
) -> Result<Object> {
    let (rows, columns) = size_of(pictures)?;
    let several = pictures.len() > 1;
    let sop_class = if several { TRUE_COLOUR_CLASS } else { SINGLE_CLASS };
    let title = or(title, "Preview");
    let mut draft =
        Draft::new(source, origin, &Kind { sop_class, modality: "OT", title, body: Body::PartAndLaterality });
    let data = &mut draft.data;
    data.texts(ImageType, &["DERIVED", "SECONDARY"])
        .text(ConversionType, "WSD")
        .text(DerivationDescription, format!("Research only, not for diagnosis: {title}"))
        .empty(PatientOrientation)
        .text(BurnedInAnnotation, "NO")
        .text(LossyImageCompression, "00")
        .items(SourceImageSequence, instances(&source.frames))
        .u16(SamplesPerPixel, 3)
        .text(PhotometricInterpretation, "RGB")
        .u16(PlanarConfiguration, 0)
        .u16(Rows, rows)
        .u16(Columns, columns)
        .u16(BitsAllocated, 8)
        .u16(BitsStored, 8)
        .u16(HighBit, 7)
        .u16(PixelRepresentation, 0)
        .bytes(PixelData, pictures.iter().flat_map(|p| p.rgb.iter().copied()).collect());
    if several {
        let pages: Vec<String> = (1..=pictures.len()).map(|p| p.to_string()).collect();
        let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
        data.integer(NumberOfFrames, pictures.len() as u32)
            .pointer(FrameIncrementPointer, PageNumberVector)
            .texts(PageNumberVector, &pages);
    }
    draft.finish()
}

fn size_of(pictures: &[Picture]) -> Result<(u16, u16)> {
    let bad = |message: String| DicomError::new(ErrorKind::BadAttribute, message);
    let first = pictures.first().ok_or_else(|| bad("no picture was given".into()))?;
    for (n, p) in pictures.iter().enumerate() {
        if (p.rows, p.columns) != (first.rows, first.columns) || p.rgb.len() != p.rows * p.columns * 3 {
            return Err(bad(format!(
                "picture {n} has {} bytes for {} × {} pixels; all must have 3 bytes per pixel and {} × {} pixels",
                p.rgb.len(),
                p.columns,
                p.rows,
                first.columns,
                first.rows
            )));
        }
    }
    match (u16::try_from(first.rows), u16::try_from(first.columns)) {
        (Ok(rows @ 1..), Ok(columns @ 1..)) => Ok((rows, columns)),
        _ => Err(bad(format!("a picture of {} × {} pixels has no size in DICOM", first.columns, first.rows))),
    }
}
