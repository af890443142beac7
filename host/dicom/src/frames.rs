//! Position, orientation, spacing and rescale of every frame: from the top level of a header, or from the
//! functional groups of an enhanced or legacy converted object (shared ones first, a frame's own win).

use crate::dataset::Dataset;
use crate::error::{DicomError, ErrorKind, Result};
use crate::headers::PixelFormat;
use crate::limits::Limits;
use crate::rescale::{Rescale, rescale_of};
use crate::tags::*;

/// Where a frame lies. Positions and directions are LPS mm, as stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plane {
    /// Centre of the first pixel.
    pub position: [f64; 3],
    /// Unit direction along a row (x of the image), and along a column.
    pub orientation: [[f64; 3]; 2],
    /// Between rows, between columns, mm.
    pub spacing: [f64; 2],
}

/// One frame. What is broken is raised where it is needed: such a file is listed all the same.
#[derive(Debug, Clone)]
pub(crate) struct FrameHeader {
    pub plane: Result<Plane>,
    pub rescale: Result<Rescale>,
    /// The header has no rescale at all.
    pub rescale_absent: bool,
    pub tell_apart: Distinctions,
}

/// What may tell two frames at one position apart, in the order in which a stack is split by it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Distinctions {
    /// One text per [`Distinctions::NAMES`]; `None` where the header does not say.
    pub values: [Option<String>; 11],
}

impl Distinctions {
    /// What each value is, for the person who has to choose.
    pub const NAMES: [&str; 11] = [
        "image type",
        "echo time",
        "echo number",
        "b-value",
        "inversion time",
        "temporal position",
        "acquisition number",
        "trigger time",
        "stack",
        "gradient direction",
        "acquisition time",
    ];

    pub fn echo_time(&self) -> Option<f64> {
        self.values[1].as_ref()?.parse().ok()
    }
}

/// The frames that a header describes.
pub(crate) fn frames_of(data: &Dataset, format: &PixelFormat, limits: &Limits) -> Result<Vec<FrameHeader>> {
    if format.frames > limits.frames {
        return Err(DicomError::new(
            ErrorKind::AboveLimit,
            format!("claims {} frames, the limit is {}", format.frames, limits.frames),
        ));
    }
    let per_frame = data.items(PerFrameFunctionalGroupsSequence)?;
    let shared = data.item(SharedFunctionalGroupsSequence)?.unwrap_or_default();
    if per_frame.is_empty() && !shared.has_elements() {
        let mut frame = classic(data, format)?;
        if format.frames > 1 {
            let message = format!("has {} frames and no position for each of them", format.frames);
            frame.plane = Err(DicomError::new(ErrorKind::NoPosition, message));
        }
        return Ok(vec![frame; format.frames]);
    }
    if per_frame.len() != format.frames {
        return Err(DicomError::new(
            ErrorKind::Malformed,
            format!(
                "has functional groups for {} frames, NumberOfFrames is {}",
                per_frame.len(),
                format.frames
            ),
        ));
    }
    let mut frames = Vec::with_capacity(per_frame.len());
    for own in &per_frame {
        frames.push(enhanced(data, &shared, own, format.signed)?);
    }
    check_rescales(&mut frames, &per_frame, data, format.signed);
    Ok(frames)
}

/// A rescale on some frames only is refused for all: the others would be on another scale.
fn check_rescales(frames: &mut [FrameHeader], per_frame: &[Dataset], data: &Dataset, signed: bool) {
    let absent = frames.iter().filter(|f| f.rescale_absent).count();
    if absent == frames.len() {
        // Legacy objects may have it at the top level.
        match rescale_of(data, signed) {
            Ok(None) => {}
            Ok(Some(rescale)) => frames.iter_mut().for_each(|f| {
                f.rescale = Ok(rescale.clone());
                f.rescale_absent = false;
            }),
            Err(e) => frames.iter_mut().for_each(|f| f.rescale = Err(e.clone())),
        }
    } else if absent > 0 {
        let error = DicomError::new(
            ErrorKind::BadRescale,
            format!("{absent} of {} frames have no rescale, the others do", per_frame.len()),
        );
        frames.iter_mut().for_each(|f| f.rescale = Err(error.clone()));
    }
}

fn classic(data: &Dataset, format: &PixelFormat) -> Result<FrameHeader> {
    let rescale = rescale_of(data, format.signed);
    let text = |tag| data.text(tag);
    let number = |tag| data.number(tag).map(|v| v.to_string());
    let mut image_type = data.texts(ImageType);
    image_type.truncate(6);
    Ok(FrameHeader {
        plane: plane(data, data, data),
        rescale_absent: matches!(rescale, Ok(None)),
        rescale: rescale.map(|r| r.unwrap_or(Rescale::IDENTITY)),
        tell_apart: Distinctions {
            values: [
                (!image_type.is_empty()).then(|| image_type.join("\\")),
                number(EchoTime),
                number(EchoNumbers),
                number(DiffusionBValue),
                number(InversionTime),
                number(TemporalPositionIdentifier),
                number(AcquisitionNumber),
                number(TriggerTime),
                None,
                data.numbers(DiffusionGradientOrientation).ok().flatten().map(|v| format!("{v:?}")),
                text(AcquisitionDateTime).or_else(|| text(AcquisitionTime)).or_else(|| text(ContentTime)),
            ],
        },
    })
}

fn enhanced(data: &Dataset, shared: &Dataset, own: &Dataset, signed: bool) -> Result<FrameHeader> {
    // The first item of a functional group: the frame's own, else the shared one.
    let group = |tag| -> Result<Dataset> {
        Ok(match own.item(tag)? {
            Some(item) => item,
            None => shared.item(tag)?.unwrap_or_default(),
        })
    };
    let rescale = rescale_of(&group(PixelValueTransformationSequence)?, signed);
    let content = group(FrameContentSequence)?;
    let diffusion = group(MRDiffusionSequence)?;
    let mut frame_type = Vec::new();
    for tag in [MRImageFrameTypeSequence, CTImageFrameTypeSequence, PETFrameTypeSequence] {
        if frame_type.is_empty() {
            frame_type = group(tag)?.texts(FrameType);
        }
    }
    let direction = diffusion.item(DiffusionGradientDirectionSequence)?.unwrap_or_default();
    let number = |level: &Dataset, tag| level.number(tag).map(|v| v.to_string());
    Ok(FrameHeader {
        plane: plane(
            &group(PlanePositionSequence)?,
            &group(PlaneOrientationSequence)?,
            &group(PixelMeasuresSequence)?,
        ),
        rescale_absent: matches!(rescale, Ok(None)),
        rescale: rescale.map(|r| r.unwrap_or(Rescale::IDENTITY)),
        tell_apart: Distinctions {
            values: [
                (!frame_type.is_empty()).then(|| frame_type.join("\\")),
                number(&group(MREchoSequence)?, EffectiveEchoTime),
                None,
                number(&diffusion, DiffusionBValue),
                number(data, InversionTime),
                number(&content, TemporalPositionIndex),
                number(&content, FrameAcquisitionNumber),
                None,
                content.text(StackID),
                direction.numbers(DiffusionGradientOrientation).ok().flatten().map(|v| format!("{v:?}")),
                content.text(FrameReferenceDateTime).or_else(|| content.text(FrameAcquisitionDateTime)),
            ],
        },
    })
}

fn plane(position: &Dataset, orientation: &Dataset, measures: &Dataset) -> Result<Plane> {
    let absent = |tag: Tag| {
        DicomError::new(ErrorKind::NoPosition, format!("has no {}: not a slice of a volume", tag.name))
    };
    Ok(Plane {
        position: triple(position, ImagePositionPatient)?.ok_or_else(|| absent(ImagePositionPatient))?,
        orientation: directions(orientation)?.ok_or_else(|| absent(ImageOrientationPatient))?,
        spacing: spacing(measures)?.ok_or_else(|| absent(PixelSpacing))?,
    })
}

fn bad(tag: Tag, what: &str) -> DicomError {
    DicomError::new(ErrorKind::BadAttribute, format!("{} {what}", tag.name))
}

fn triple(level: &Dataset, tag: Tag) -> Result<Option<[f64; 3]>> {
    match level.numbers(tag)?.as_deref() {
        None => Ok(None),
        Some(&[x, y, z]) if [x, y, z].iter().all(|v| v.is_finite() && v.abs() < 1e6) => Ok(Some([x, y, z])),
        Some(_) => Err(bad(tag, "is not three finite numbers below a kilometre")),
    }
}

/// Row and column direction, made unit length and perpendicular where they are so up to rounding.
fn directions(level: &Dataset) -> Result<Option<[[f64; 3]; 2]>> {
    let tag = ImageOrientationPatient;
    let Some(v) = level.numbers(tag)? else { return Ok(None) };
    let &[a, b, c, d, e, f] = v.as_slice() else { return Err(bad(tag, "has not six numbers")) };
    let (row, column) = ([a, b, c], [d, e, f]);
    let length = |v: [f64; 3]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let dot: f64 = (0..3).map(|i| row[i] * column[i]).sum();
    let (r, k) = (length(row), length(column));
    // 0.01 is half a degree: real scanners round to three digits, not worse.
    if !((r - 1.0).abs() < 0.01 && (k - 1.0).abs() < 0.01 && dot.abs() < 0.01) {
        return Err(bad(tag, "is not two perpendicular unit vectors"));
    }
    let row = row.map(|x| x / r);
    let dot: f64 = (0..3).map(|i| row[i] * column[i]).sum();
    let column: [f64; 3] = std::array::from_fn(|i| column[i] - dot * row[i]);
    let k = length(column);
    Ok(Some([row, column.map(|x| x / k)]))
}

fn spacing(level: &Dataset) -> Result<Option<[f64; 2]>> {
    match level.numbers(PixelSpacing)?.as_deref() {
        None => Ok(None),
        Some(&[rows, columns]) if [rows, columns].iter().all(|v| v.is_finite() && *v > 1e-4 && *v < 1e3) => {
            Ok(Some([rows, columns]))
        }
        Some(_) => Err(bad(PixelSpacing, "is not two positive numbers of mm")),
    }
}
