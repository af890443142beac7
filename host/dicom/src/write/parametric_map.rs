//! A heatmap as Parametric Map Storage: float pixels on the source's frames.

use super::attribute::*;
use super::body::Body;
use super::code::Code;
use super::encode::DataSet;
use super::functional_groups::{Derivation, dimensions, frame_groups, referenced_series, shared_geometry};
use super::provenance::{Draft, Kind, Object, Provenance, label, or};
use super::source::SourceSeries;
use crate::error::{DicomError, ErrorKind, Result};

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.30";

/// A map of numbers.
#[derive(Debug, Clone)]
pub struct ParametricMap<'a> {
    /// [frames, rows, columns] as [`crate::Volume::onto_frames`] returns them; finite.
    pub values: &'a [f32],
    /// What the numbers are, such as `Heatmap of lung nodule malignancy`.
    pub title: String,
    /// `None`: (1, UCUM, "no units").
    pub unit: Option<Code>,
    /// The quantity as a code, where there is one.
    pub quantity: Option<Code>,
}

/// Writes a map as one multi-frame object.
///
/// # Errors
/// [`ErrorKind::BadAttribute`] where the number of values does not fit the source or one is not finite;
/// [`ErrorKind::AboveLimit`] above 4 GiB.
pub fn parametric_map(source: &SourceSeries, map: &ParametricMap, origin: &mut Provenance) -> Result<Object> {
    source.check_length(map.values.len())?;
    let (lowest, highest) = range(map.values)?;
    let title = or(&map.title, "Parametric map");
    let kind = Kind { sop_class: CLASS, modality: &source.modality, title, body: Body::PartAndLaterality };
    let mut draft = Draft::new(source, origin, &kind);
    draft.place(source);
    let data = &mut draft.data;
    data.texts(ImageType, &IMAGE_TYPE)
        .text(ContentLabel, label(title))
        .text(ContentDescription, title)
        .empty(ContentCreatorName)
        .text(ContentQualification, "RESEARCH")
        .text(BurnedInAnnotation, "NO")
        .text(RecognizableVisualFeatures, "NO")
        .text(LossyImageCompression, "00")
        .text(PresentationLUTShape, "IDENTITY")
        .empty(AcquisitionContextSequence)
        .u16(SamplesPerPixel, 1)
        .text(PhotometricInterpretation, "MONOCHROME2")
        .integer(NumberOfFrames, source.frames() as u32)
        .u16(Rows, source.rows as u16)
        .u16(Columns, source.columns as u16)
        .u16(BitsAllocated, 32)
        .item(ReferencedSeriesSequence, referenced_series(source));
    dimensions(
        data,
        &mut origin.uids,
        &[(ImagePositionPatient, PlanePositionSequence, "Image Position Patient")],
    );
    let mut shared = shared_geometry(source);
    shared.fill_from(&values_group(map, title, lowest, highest));
    data.item(SharedFunctionalGroupsSequence, shared);
    let derivation = Derivation {
        code: Code::dcm("113070", "Image Processing"),
        purpose: Code::dcm("121322", "Source image for image processing operation"),
    };
    let frame = |f| frame_groups(source, f, &[f as u32 + 1], &derivation);
    data.items(PerFrameFunctionalGroupsSequence, (0..source.frames()).map(frame).collect());
    data.bytes(FloatPixelData, map.values.iter().flat_map(|v| v.to_le_bytes()).collect());
    draft.finish()
}

const IMAGE_TYPE: [&str; 4] = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"];

fn range(values: &[f32]) -> Result<(f64, f64)> {
    if let Some(bad) = values.iter().position(|v| !v.is_finite()) {
        let message = format!("value {bad} of the map is {}; finite numbers were expected", values[bad]);
        return Err(DicomError::new(ErrorKind::BadAttribute, message));
    }
    let lowest = values.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    Ok((lowest.into(), highest.into()))
}

/// Frame type, identity transformation, window, and what the numbers mean.
fn values_group(map: &ParametricMap, title: &str, lowest: f64, highest: f64) -> DataSet {
    // A window has a width, even where all values are equal.
    let width = if highest > lowest { highest - lowest } else { 1.0 };
    DataSet::build(|d| {
        d.item(
            ParametricMapFrameTypeSequence,
            DataSet::build(|t| {
                t.texts(FrameType, &IMAGE_TYPE);
            }),
        )
        .item(
            PixelValueTransformationSequence,
            DataSet::build(|t| {
                t.decimals(RescaleIntercept, &[0.0]).decimals(RescaleSlope, &[1.0]).text(RescaleType, "US");
            }),
        )
        .item(
            FrameVOILUTSequence,
            DataSet::build(|w| {
                w.decimals(WindowCenter, &[lowest + width / 2.0])
                    .decimals(WindowWidth, &[width])
                    .text(VOILUTFunction, "LINEAR_EXACT");
            }),
        )
        .item(
            RealWorldValueMappingSequence,
            DataSet::build(|r| {
                let unit = map.unit.clone().unwrap_or_else(|| Code::new("1", "UCUM", "no units"));
                r.f64(DoubleFloatRealWorldValueFirstValueMapped, lowest)
                    .f64(DoubleFloatRealWorldValueLastValueMapped, highest)
                    .f64(RealWorldValueIntercept, 0.0)
                    .f64(RealWorldValueSlope, 1.0)
                    .text(LUTExplanation, title)
                    .text(LUTLabel, label(title))
                    .item(MeasurementUnitsCodeSequence, unit.item());
                if let Some(quantity) = &map.quantity {
                    r.item(QuantityDefinitionSequence, quantity_item(quantity));
                }
            }),
        );
    })
}

fn quantity_item(quantity: &Code) -> DataSet {
    DataSet::build(|q| {
        q.text(ValueType, "CODE")
            .item(ConceptNameCodeSequence, Code::sct("246205007", "Quantity").item())
            .item(ConceptCodeSequence, quantity.item());
    })
}
