//! What one instance's header says, without its pixels; of its patient only the ID.

use crate::dataset::{Dataset, Encoding, Parsed, PixelElement, parse};
use crate::error::{DicomError, ErrorKind, Result};
use crate::frames::{FrameHeader, frames_of};
use crate::limits::Limits;
use crate::open::{FileMeta, NO_META_GROUP, inflate, opening, parse_whole};
use crate::source::{Prefix, Source};
use crate::tags::*;

/// The header of one SOP instance.
#[derive(Debug, Clone)]
pub struct InstanceHeader {
    /// Index into [`crate::Scan`]'s files.
    pub(crate) file: usize,
    pub transfer_syntax: String,
    pub sop_class: String,
    pub sop_instance: String,
    pub study_uid: String,
    /// For names of cases where the user asks for identity; nothing else may show it.
    pub patient_id: Option<crate::series::PatientId>,
    pub series_uid: String,
    pub frame_of_reference: Option<String>,
    pub modality: String,
    pub series_number: Option<i64>,
    pub instance_number: Option<i64>,
    pub study_description: Option<String>,
    pub series_description: Option<String>,
    pub protocol: Option<String>,
    pub manufacturer: Option<String>,
    /// As stored, or the meaning of the anatomic region's code.
    pub body_part: Option<String>,
    pub image_type: Vec<String>,
    pub contrast_agent: bool,
    pub acquisition: MrAcquisition,
    pub kernel: Option<String>,
    pub slice_thickness_mm: Option<f64>,
    /// As stored; the geometry is never taken from it.
    pub gantry_tilt_degrees: Option<f64>,
    /// `HU`, `US` …; PET: `BQML` …
    pub unit: Option<String>,
    pub burned_in_annotation: bool,
    pub lossy: bool,
    /// Centre and width, for pictures only.
    pub window: Option<[f64; 2]>,
    /// Absent for objects without pixel data.
    pub(crate) pixels: Option<PixelFormat>,
    /// One per frame that the header describes.
    pub(crate) frames: Vec<FrameHeader>,
    /// What is odd about the file itself.
    pub oddities: Vec<&'static str>,
}

/// What tells MR sequences apart. Times in ms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MrAcquisition {
    pub scanning_sequence: Vec<String>,
    pub sequence_variant: Vec<String>,
    pub sequence_name: Option<String>,
    /// Enhanced MR: `T1`, `T2`, `DIFFUSION` …
    pub contrast: Option<String>,
    pub repetition_time: Option<f64>,
    pub echo_time: Option<f64>,
    pub inversion_time: Option<f64>,
}

/// How the pixels are stored. Every number is as the header states it: checked where it is used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PixelFormat {
    pub element: PixelElement,
    /// Byte order of native pixel data.
    pub big_endian: bool,
    /// Big endian words of two 8-bit samples: the second one comes first.
    pub swapped_bytes: bool,
    pub rows: usize,
    pub columns: usize,
    pub samples: usize,
    pub photometric: String,
    pub frames: usize,
    pub bits_allocated: u32,
    pub bits_stored: u32,
    pub high_bit: u32,
    pub signed: bool,
    /// Stored values from .0 to .1 are padding.
    pub padding: Option<(f64, f64)>,
}

/// Reads one header, and stops before the pixel data.
pub(crate) fn read_header(source: &Source, limits: &Limits) -> Result<InstanceHeader> {
    let deflated = |opening: &FileMeta| opening.is_deflated();
    let first = source.read_prefix(limits.header_bytes, |bytes, complete| {
        let Some(opening) = opening(bytes, complete)? else { return Ok(Prefix::Need(bytes.len() + 1)) };
        if deflated(&opening) {
            return Ok(Prefix::Enough(None));
        }
        match parse(bytes, opening.data_set, opening.encoding, complete, limits.depth)? {
            Parsed::NeedMore(n) => Ok(Prefix::Need(n)),
            Parsed::Done(data) => Ok(Prefix::Enough(Some(header_of(&data, &opening, limits)?))),
        }
    })?;
    match first {
        Some(header) => Ok(header),
        None => with_whole_file(source, limits, |data, opening, _| header_of(data, opening, limits)),
    }
}

/// Reads and parses a whole file: for deflated data sets, and directories.
pub(crate) fn with_whole_file<T>(
    source: &Source,
    limits: &Limits,
    work: impl FnOnce(&Dataset, &FileMeta, &[u8]) -> Result<T>,
) -> Result<T> {
    let mut bytes = source.read_whole(limits.file_bytes)?;
    let run = || {
        let truncated = || DicomError::new(ErrorKind::Truncated, "the file ends inside its header");
        let mut opening = opening(&bytes, true)?.ok_or_else(truncated)?;
        if opening.is_deflated() {
            bytes = inflate(bytes.get(opening.data_set..).unwrap_or_default(), limits)?;
            opening.data_set = 0;
            opening.encoding = Encoding::ExplicitLittle;
        }
        let data = parse_whole(&bytes, &opening, limits)?;
        work(&data, &opening, &bytes)
    };
    run().map_err(|e: DicomError| e.in_file(source.name()))
}

fn header_of(data: &Dataset, opening: &FileMeta, limits: &Limits) -> Result<InstanceHeader> {
    if !data.has_elements() {
        return Err(DicomError::new(ErrorKind::NotDicom, "has a DICOM meta group, and nothing after it"));
    }
    let named = [SOPClassUID, Modality, StudyInstanceUID].iter().any(|tag| data.get(*tag).is_some());
    if opening.oddity == Some(NO_META_GROUP) && !named && data.pixels.is_none() {
        return Err(DicomError::new(ErrorKind::NotDicom, "begins like a DICOM data set, but is none"));
    }
    let pixels = data.pixels.map(|element| pixel_format(data, element, opening)).transpose()?;
    let integer = |tag| data.number(tag).map(|v| v as i64);
    let mut frames = match &pixels {
        Some(format) => frames_of(data, format, limits)?,
        None => Vec::new(),
    };
    let body_part = match data.text(BodyPartExamined) {
        None => data.item(AnatomicRegionSequence)?.and_then(|code| code.text(CodeMeaning)),
        stored => stored,
    };
    // Enhanced objects keep window and thickness in functional groups.
    let shared = data.item(SharedFunctionalGroupsSequence)?.unwrap_or_default();
    let shared_window = shared.item(FrameVOILUTSequence)?.unwrap_or_default();
    let shared_measures = shared.item(PixelMeasuresSequence)?.unwrap_or_default();
    let window_of = |level: &Dataset| Some([level.number(WindowCenter)?, level.number(WindowWidth)?]);
    let header = InstanceHeader {
        file: 0,
        transfer_syntax: opening.transfer_syntax.clone(),
        sop_class: data.text(SOPClassUID).or_else(|| opening.media_class.clone()).unwrap_or_default(),
        sop_instance: data
            .text(SOPInstanceUID)
            .or_else(|| opening.media_instance.clone())
            .unwrap_or_default(),
        study_uid: data.text(StudyInstanceUID).unwrap_or_default(),
        patient_id: data.text(PatientID).map(crate::series::PatientId),
        series_uid: data.text(SeriesInstanceUID).unwrap_or_default(),
        frame_of_reference: data.text(FrameOfReferenceUID),
        // Code strings are upper case; some exporters write them otherwise.
        modality: data.text(Modality).unwrap_or_default().to_ascii_uppercase(),
        series_number: integer(SeriesNumber),
        instance_number: integer(InstanceNumber),
        study_description: data.text(StudyDescription),
        series_description: data.text(SeriesDescription),
        protocol: data.text(ProtocolName),
        manufacturer: data.text(Manufacturer),
        body_part,
        image_type: data.texts(ImageType),
        contrast_agent: data.text(ContrastBolusAgent).is_some_and(|t| !is_no(&t))
            || !data.items(ContrastBolusAgentSequence)?.is_empty(),
        acquisition: MrAcquisition {
            scanning_sequence: data.texts(ScanningSequence),
            sequence_variant: data.texts(SequenceVariant),
            sequence_name: data.text(SequenceName),
            contrast: data.text(AcquisitionContrast),
            repetition_time: data.number(RepetitionTime),
            echo_time: data
                .number(EchoTime)
                .or_else(|| frames.first().and_then(|f| f.tell_apart.echo_time())),
            inversion_time: data.number(InversionTime),
        },
        kernel: data.text(ConvolutionKernel),
        slice_thickness_mm: data.number(SliceThickness).or_else(|| shared_measures.number(SliceThickness)),
        gantry_tilt_degrees: data.number(GantryDetectorTilt),
        unit: data.text(Units).or_else(|| data.text(RescaleType)),
        burned_in_annotation: data.text(BurnedInAnnotation).is_some_and(|t| t.eq_ignore_ascii_case("YES")),
        lossy: data.text(LossyImageCompression).as_deref() == Some("01"),
        window: window_of(data).or_else(|| window_of(&shared_window)),
        pixels,
        frames: std::mem::take(&mut frames),
        oddities: opening.oddity.into_iter().collect(),
    };
    Ok(header)
}

/// `ContrastBolusAgent` of scanners that write "none" instead of leaving it empty.
fn is_no(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    matches!(text.as_str(), "no" | "none" | "n" | "off" | "without" | "0")
        || text.starts_with("no ")
        || text.starts_with("non")
}

fn pixel_format(data: &Dataset, element: PixelElement, opening: &FileMeta) -> Result<PixelFormat> {
    let need = |tag: Tag| {
        data.count(tag)?.ok_or_else(|| {
            DicomError::new(ErrorKind::BadAttribute, format!("has pixel data, but no {}", tag.name))
        })
    };
    let bits_allocated = need(BitsAllocated)?;
    let bits_stored = data.count(BitsStored)?.unwrap_or(bits_allocated);
    let signed = data.count(PixelRepresentation)? == Some(1);
    let frames = data.number(NumberOfFrames).map_or(1.0, |n| n.max(1.0)) as usize;
    Ok(PixelFormat {
        element,
        big_endian: opening.encoding == Encoding::ExplicitBig,
        swapped_bytes: opening.encoding == Encoding::ExplicitBig && element.is_words && bits_allocated <= 8,
        rows: need(Rows)? as usize,
        columns: need(Columns)? as usize,
        samples: data.count(SamplesPerPixel)?.unwrap_or(1) as usize,
        photometric: data.text(PhotometricInterpretation).unwrap_or_default(),
        frames,
        bits_allocated,
        bits_stored,
        high_bit: data.count(HighBit)?.unwrap_or(bits_stored.saturating_sub(1)),
        signed,
        padding: padding(data, element, bits_allocated, signed),
    })
}

fn padding(data: &Dataset, element: PixelElement, bits_allocated: u32, signed: bool) -> Option<(f64, f64)> {
    let float = match element.tag {
        0x7FE0_0008 => data.number(FloatPixelPaddingValue),
        0x7FE0_0009 => data.number(DoubleFloatPixelPaddingValue),
        _ => None,
    };
    if let Some(value) = float {
        return Some((value, value));
    }
    let sign = |v: f64| match (signed, bits_allocated) {
        (true, 8) if v >= 0.0 => f64::from(v as u16 as u8 as i8),
        (true, _) if v >= 0.0 => f64::from(v as u16 as i16),
        _ => v,
    };
    let value = sign(data.number(PixelPaddingValue)?);
    let limit = data.number(PixelPaddingRangeLimit).map_or(value, sign);
    Some((value.min(limit), value.max(limit)))
}
