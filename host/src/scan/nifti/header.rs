//! Headers of the NIfTI family, all as NIfTI-1 has its fields: NIfTI-2 is the same with more digits, Analyze 7.5 is its
//! ancestor, which says nothing of position.

use std::path::Path;

use ::nifti::{Endianness, NiftiHeader};

use crate::scan::VolumeError;
use crate::scan::nifti::sniff::Family;
use crate::scan::numbers::truncated;

/// Length of a NIfTI-2 header with its extension flag.
pub(crate) const NIFTI_2: usize = 544;
/// Length of a NIfTI-1 header with its extension flag.
pub(crate) const NIFTI_1: usize = 352;
/// Most voxels along an axis: what NIfTI-1 can say, and what is written.
const LONGEST_AXIS: i64 = 32767;

/// A header, and the numbers that NIfTI-2 says with more digits than NIfTI-1 has.
pub(crate) struct Header {
    pub fields: NiftiHeader,
    /// Byte of the first voxel, as told.
    pub offset: f64,
    pub slope: f64,
    pub intercept: f64,
}

/// Reads `start`, which begins with a header of `family`.
///
/// # Errors
/// [`VolumeError::Content`]: cut short, longer than NIfTI-1 could say, or Analyze of another orientation.
pub(crate) fn parse(path: &Path, start: &[u8], family: Family) -> Result<Header, VolumeError> {
    match family {
        Family::Nifti1 | Family::Nifti1Pair => Ok(of_nifti_1(parse_fields(path, start)?)),
        Family::Nifti2 | Family::Nifti2Pair => nifti_2(path, start),
        Family::Analyze => analyze(path, start),
    }
}

fn parse_fields(path: &Path, start: &[u8]) -> Result<NiftiHeader, VolumeError> {
    NiftiHeader::from_reader(start)
        .map_err(|e| truncated(path, &format!("a header that cannot be read ({e})")))
}

fn of_nifti_1(fields: NiftiHeader) -> Header {
    let [offset, slope, intercept] = [fields.vox_offset, fields.scl_slope, fields.scl_inter].map(f64::from);
    Header { fields, offset, slope, intercept }
}

/// Fields of one byte order by their offset.
struct Fields<'a> {
    bytes: &'a [u8; 540],
    big: bool,
}

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[at..at + N]);
        if self.big {
            bytes.reverse();
        }
        bytes
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.at(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.at(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.at(at))
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.at(at))
    }

    /// As NIfTI-1 has it: 24 bits of a number, well below a micrometre in a metre.
    fn f32(&self, at: usize) -> f32 {
        self.f64(at) as f32
    }
}

/// `nifti2.h`.
fn nifti_2(path: &Path, start: &[u8]) -> Result<Header, VolumeError> {
    let Some(bytes) = start.first_chunk::<540>() else {
        return Err(truncated(path, &format!("a NIfTI-2 header cut short ({} of 540 bytes)", start.len())));
    };
    let big = bytes[..4] == 540i32.to_be_bytes();
    let h = Fields { bytes, big };
    let code = |at: usize| h.i32(at).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    let mut fields = NiftiHeader {
        datatype: h.i16(12),
        bitpix: h.i16(14),
        qform_code: code(344),
        sform_code: code(348),
        quatern_b: h.f32(352),
        quatern_c: h.f32(360),
        quatern_d: h.f32(368),
        quatern_x: h.f32(376),
        quatern_y: h.f32(384),
        quatern_z: h.f32(392),
        xyzt_units: (h.i32(500) & 0xff) as u8,
        endianness: if big { Endianness::Big } else { Endianness::Little },
        ..NiftiHeader::default()
    };
    for axis in 0..8 {
        let size = h.i64(16 + 8 * axis);
        if !(0..=LONGEST_AXIS).contains(&size) {
            return Err(VolumeError::Content {
                path: path.to_path_buf(),
                found: format!("dim[{axis}] of {size}"),
                expected: format!("at most {LONGEST_AXIS} voxels along an axis"),
                todo: "the header is damaged, or the image is no scan: export the scan again".into(),
            });
        }
        fields.dim[axis] = size as u16;
        fields.pixdim[axis] = h.f32(104 + 8 * axis);
    }
    let row = |at: usize| [0, 8, 16, 24].map(|column| h.f32(at + column));
    (fields.srow_x, fields.srow_y, fields.srow_z) = (row(400), row(432), row(464));
    Ok(Header { fields, offset: h.i64(168) as f64, slope: h.f64(176), intercept: h.f64(184) })
}

/// Sizes, type and voxel sizes stand where NIfTI-1 has them; where NIfTI-1 has the forms is a history. Of the six
/// orientations that a byte of it may name only the usual one is read: programs disagree about the others.
fn analyze(path: &Path, start: &[u8]) -> Result<Header, VolumeError> {
    let Some(bytes) = start.first_chunk::<348>() else {
        return Err(truncated(path, &format!("an Analyze header cut short ({} of 348 bytes)", start.len())));
    };
    const ORIENT: usize = 252;
    const NAMES: [&str; 6] =
        ["transverse", "coronal", "sagittal", "transverse flipped", "coronal flipped", "sagittal flipped"];
    // Some programs write the digit.
    let orient = usize::from(bytes[ORIENT]);
    let orient = if bytes[ORIENT].is_ascii_digit() { orient - usize::from(b'0') } else { orient };
    if orient != 0 {
        let name = NAMES.get(orient).copied().unwrap_or("one that is not defined");
        return Err(VolumeError::Content {
            path: path.to_path_buf(),
            found: format!("an Analyze 7.5 header of orientation {orient} ({name})"),
            expected: "orientation 0 (transverse): programs disagree about where the others lie".into(),
            todo: "convert it to NIfTI-1 with a tool that knows".into(),
        });
    }
    let mut fields = *bytes;
    fields[ORIENT..].fill(0);
    fields[344..348].copy_from_slice(b"ni1\0");
    // The unit is a text in Analyze, and millimetres.
    fields[123] = 0;
    Ok(of_nifti_1(parse_fields(path, &fields)?))
}
