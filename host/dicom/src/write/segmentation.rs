//! A mask as Segmentation Storage (binary, bits packed across frames) or Label Map Segmentation Storage.

use super::attribute::*;
use super::body::Body;
use super::code::Code;
use super::encode::DataSet;
use super::functional_groups::{Derivation, dimensions, frame_groups, referenced_series, shared_geometry};
use super::provenance::{Draft, Kind, Object, Provenance, label, or};
use super::source::SourceSeries;
use super::sr::Algorithm;
use crate::error::{DicomError, ErrorKind, Result};

const BINARY_CLASS: &str = "1.2.840.10008.5.1.4.1.1.66.4";
const LABELMAP_CLASS: &str = "1.2.840.10008.5.1.4.1.1.66.7";

/// A mask with up to 255 segments that do not overlap.
#[derive(Debug, Clone)]
pub struct Segmentation<'a> {
    /// [frames, rows, columns]; 0 is background, n is `segments[n - 1]`.
    pub labels: &'a [u8],
    pub segments: Vec<Segment>,
    pub title: String,
    pub algorithm: Algorithm,
    pub encoding: SegmentationEncoding,
}

/// One structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub label: String,
    /// Such as (91723000, SCT, "Anatomical Structure").
    pub category: Code,
    /// Such as (39607008, SCT, "Lung").
    pub kind: Code,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentationEncoding {
    /// One frame per segment and slice; those without a pixel are left out, unless the whole mask is empty. Every
    /// program reads it.
    Binary,
    /// One frame per slice with the segments' numbers; of 2024 (supplement 243), read by few programs yet.
    LabelMap,
}

/// Writes a mask.
///
/// # Errors
/// [`ErrorKind::BadAttribute`] where the number of labels does not fit the source, a label has no segment, or there
/// are no segments or more than 255; [`ErrorKind::AboveLimit`] above 4 GiB.
pub fn segmentation(source: &SourceSeries, mask: &Segmentation, origin: &mut Provenance) -> Result<Object> {
    source.check_length(mask.labels.len())?;
    check_segments(mask)?;
    let binary = mask.encoding == SegmentationEncoding::Binary;
    let title = or(&mask.title, "Segmentation");
    let sop_class = if binary { BINARY_CLASS } else { LABELMAP_CLASS };
    let mut draft = Draft::new(source, origin, &Kind { sop_class, modality: "SEG", title, body: Body::Part });
    draft.place(source);
    let data = &mut draft.data;
    data.texts(ImageType, &["DERIVED", "PRIMARY"])
        .text(ContentLabel, label(title))
        .text(ContentDescription, title)
        .empty(ContentCreatorName)
        .text(LossyImageCompression, "00")
        .u16(SamplesPerPixel, 1)
        .text(PhotometricInterpretation, "MONOCHROME2")
        .u16(PixelRepresentation, 0)
        .u16(Rows, source.rows as u16)
        .u16(Columns, source.columns as u16)
        .text(SegmentationType, if binary { "BINARY" } else { "LABELMAP" })
        .items(SegmentSequence, segment_items(mask, origin))
        .item(ReferencedSeriesSequence, referenced_series(source))
        .item(SharedFunctionalGroupsSequence, shared_geometry(source));
    let position = (ImagePositionPatient, PlanePositionSequence, "Image Position Patient");
    let derivation = Derivation {
        code: Code::dcm("113076", "Segmentation"),
        purpose: Code::dcm("121322", "Source image for image processing operation"),
    };
    let frames: Vec<DataSet> = if binary {
        let segment = (ReferencedSegmentNumber, SegmentIdentificationSequence, "Segment Number");
        dimensions(data, &mut origin.uids, &[segment, position]);
        let kept = kept_frames(source, mask);
        data.u16(BitsAllocated, 1)
            .u16(BitsStored, 1)
            .u16(HighBit, 0)
            .text(SegmentsOverlap, "NO")
            .bytes(PixelData, packed(source, mask, &kept));
        let groups = |(segment, frame): &(u8, usize)| {
            let index = [u32::from(*segment), *frame as u32 + 1];
            let mut groups = frame_groups(source, *frame, &index, &derivation);
            groups.item(
                SegmentIdentificationSequence,
                DataSet::build(|s| {
                    s.u16(ReferencedSegmentNumber, u16::from(*segment));
                }),
            );
            groups
        };
        kept.iter().map(groups).collect()
    } else {
        dimensions(data, &mut origin.uids, &[position]);
        data.u16(BitsAllocated, 8)
            .u16(BitsStored, 8)
            .u16(HighBit, 7)
            .u16(PixelPaddingValue, 0)
            .bytes(PixelData, mask.labels.to_vec());
        (0..source.frames()).map(|f| frame_groups(source, f, &[f as u32 + 1], &derivation)).collect()
    };
    data.integer(NumberOfFrames, frames.len() as u32).items(PerFrameFunctionalGroupsSequence, frames);
    draft.finish()
}

fn check_segments(mask: &Segmentation) -> Result<()> {
    let bad = |message: String| Err(DicomError::new(ErrorKind::BadAttribute, message));
    let count = mask.segments.len();
    if count == 0 || count > 255 {
        return bad(format!("{count} segments were given; 1 to 255 were expected"));
    }
    match mask.labels.iter().max() {
        Some(highest) if usize::from(*highest) > count => {
            bad(format!("the mask holds the label {highest}, but there are {count} segments"))
        }
        _ => Ok(()),
    }
}

/// (segment, frame) of every frame that is written.
fn kept_frames(source: &SourceSeries, mask: &Segmentation) -> Vec<(u8, usize)> {
    let size = source.rows * source.columns;
    let empty = mask.labels.iter().all(|l| *l == 0);
    let has = |segment: u8, frame: usize| mask.labels[frame * size..][..size].contains(&segment);
    (1..=mask.segments.len() as u8)
        .flat_map(|segment| (0..source.frames()).map(move |frame| (segment, frame)))
        // An object needs a frame: an empty mask keeps all of them.
        .filter(|(segment, frame)| empty || has(*segment, *frame))
        .collect()
}

/// One bit per pixel, the first one lowest, without a gap between frames.
fn packed(source: &SourceSeries, mask: &Segmentation, kept: &[(u8, usize)]) -> Vec<u8> {
    let size = source.rows * source.columns;
    let mut bytes = vec![0_u8; (kept.len() * size).div_ceil(8)];
    for (n, (segment, frame)) in kept.iter().enumerate() {
        for (i, found) in mask.labels[frame * size..][..size].iter().enumerate() {
            if found == segment {
                let bit = n * size + i;
                bytes[bit / 8] |= 1 << (bit % 8);
            }
        }
    }
    bytes
}

fn segment_items(mask: &Segmentation, origin: &mut Provenance) -> Vec<DataSet> {
    let algorithm = DataSet::build(|a| {
        a.item(AlgorithmFamilyCodeSequence, Code::dcm("123110", "Artificial Intelligence").item())
            .text(AlgorithmName, &mask.algorithm.name)
            .text(AlgorithmVersion, &mask.algorithm.version);
        if !mask.algorithm.parameters.is_empty() {
            a.text(AlgorithmParameters, mask.algorithm.parameters.join("; "));
        }
    });
    let item = |(i, segment): (usize, &Segment)| {
        DataSet::build(|d| {
            d.u16(SegmentNumber, i as u16 + 1)
                .text(SegmentLabel, &segment.label)
                .text(SegmentAlgorithmType, "AUTOMATIC")
                .text(SegmentAlgorithmName, &mask.algorithm.name)
                .item(SegmentedPropertyCategoryCodeSequence, segment.category.item())
                .item(SegmentedPropertyTypeCodeSequence, segment.kind.item())
                .item(SegmentationAlgorithmIdentificationSequence, algorithm.clone())
                .text(TrackingID, &segment.label)
                .text(TrackingUID, origin.uids.make());
        })
    };
    mask.segments.iter().enumerate().map(item).collect()
}
