//! Frames on the source's planes: functional groups, dimensions and references of multi-frame objects.

use super::attribute::*;
use super::code::Code;
use super::encode::DataSet;
use super::source::{PlacedFrame, SourceSeries};
use super::uid::Uids;

/// How pixels follow from the source's: (code, purpose of the reference).
pub(crate) struct Derivation {
    pub code: Code,
    pub purpose: Code,
}

/// SOP class and instance, and the frame where there are several.
pub(crate) fn reference(frame: &PlacedFrame) -> DataSet {
    DataSet::build(|d| {
        d.text(ReferencedSOPClassUID, &frame.sop_class).text(ReferencedSOPInstanceUID, &frame.sop_instance);
        if let Some(number) = frame.frame_number {
            d.integer(ReferencedFrameNumber, number);
        }
    })
}

/// Each instance of the frames once, without frame numbers, in their order.
pub(crate) fn instances(frames: &[PlacedFrame]) -> Vec<DataSet> {
    let mut seen = std::collections::HashSet::new();
    let first = frames.iter().filter(|f| seen.insert(f.sop_instance.as_str()));
    first.map(|f| reference(&PlacedFrame { frame_number: None, ..f.clone() })).collect()
}

/// Common Instance Reference module: the source's series and its instances.
pub(crate) fn referenced_series(source: &SourceSeries) -> DataSet {
    DataSet::build(|d| {
        d.text(SeriesInstanceUID, &source.series_uid)
            .items(ReferencedInstanceSequence, instances(&source.frames));
    })
}

/// Pixel Measures and Plane Orientation, where all frames share them.
pub(crate) fn shared_geometry(source: &SourceSeries) -> DataSet {
    DataSet::build(|d| {
        if let Some(first) = source.frames.first() {
            d.item(
                PixelMeasuresSequence,
                DataSet::build(|m| {
                    m.decimals(PixelSpacing, &first.plane.spacing)
                        .decimals(SliceThickness, &[source.thickness_mm])
                        .decimals(SpacingBetweenSlices, &[source.gap_mm]);
                }),
            );
            if one_orientation(source) {
                d.item(PlaneOrientationSequence, orientation(first));
            }
        }
    })
}

fn one_orientation(source: &SourceSeries) -> bool {
    source.frames.windows(2).all(|w| w[0].plane.orientation == w[1].plane.orientation)
}

fn orientation(frame: &PlacedFrame) -> DataSet {
    DataSet::build(|o| {
        o.decimals(ImageOrientationPatient, frame.plane.orientation.as_flattened());
    })
}

/// The groups of one frame. `index` is its value in each dimension.
pub(crate) fn frame_groups(
    source: &SourceSeries,
    frame: usize,
    index: &[u32],
    derivation: &Derivation,
) -> DataSet {
    let placed = &source.frames[frame];
    DataSet::build(|d| {
        d.item(
            FrameContentSequence,
            DataSet::build(|c| {
                c.u32s(DimensionIndexValues, index);
            }),
        )
        .item(
            PlanePositionSequence,
            DataSet::build(|p| {
                p.decimals(ImagePositionPatient, &placed.plane.position);
            }),
        );
        if !one_orientation(source) {
            d.item(PlaneOrientationSequence, orientation(placed));
        }
        let mut image = reference(placed);
        image
            .item(PurposeOfReferenceCodeSequence, derivation.purpose.item())
            .text(SpatialLocationsPreserved, "YES");
        d.item(
            DerivationImageSequence,
            DataSet::build(|i| {
                i.item(DerivationCodeSequence, derivation.code.item()).item(SourceImageSequence, image);
            }),
        );
    })
}

/// Multi-frame Dimension module: (attribute, its functional group, label) in the order of the indices.
pub(crate) fn dimensions(data: &mut DataSet, uids: &mut Uids, by: &[(Attribute, Attribute, &str)]) {
    let organization = uids.make();
    let index = |(attribute, group, label): &(Attribute, Attribute, &str)| {
        DataSet::build(|d| {
            d.text(DimensionOrganizationUID, &organization)
                .pointer(DimensionIndexPointer, *attribute)
                .pointer(FunctionalGroupPointer, *group)
                .text(DimensionDescriptionLabel, label);
        })
    };
    data.items(DimensionIndexSequence, by.iter().map(index).collect());
    data.item(
        DimensionOrganizationSequence,
        DataSet::build(|d| {
            d.text(DimensionOrganizationUID, &organization);
        }),
    );
}
