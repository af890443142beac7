//! From stored values to the modality's unit: the one place where slope, intercept and Modality LUT are read.

use std::sync::Arc;

use crate::dataset::Dataset;
use crate::error::{DicomError, ErrorKind, Result};
use crate::tags::{LUTData, LUTDescriptor, ModalityLUTSequence, RescaleIntercept, RescaleSlope};

/// How stored values become values.
#[derive(Debug, Clone, PartialEq)]
pub enum Rescale {
    /// value = stored × slope + intercept, in f64, then rounded to f32.
    Linear {
        /// Not zero, finite.
        slope: f64,
        /// Finite.
        intercept: f64,
    },
    /// value = table\[stored − first\], clamped to the table's ends.
    Lut(Arc<ModalityLut>),
}

/// A Modality LUT.
#[derive(Debug, PartialEq)]
pub struct ModalityLut {
    /// The stored value of the first entry.
    pub first: i32,
    /// At least one entry.
    pub entries: Vec<u16>,
}

impl Rescale {
    /// Stored values as they are.
    pub const IDENTITY: Self = Self::Linear { slope: 1.0, intercept: 0.0 };

    /// The value of one stored value.
    pub fn apply(&self, stored: f64) -> f32 {
        match self {
            Self::Linear { slope, intercept } => (stored * slope + intercept) as f32,
            Self::Lut(lut) => {
                let last = lut.entries.len() as i64 - 1;
                let index = (stored as i64 - i64::from(lut.first)).clamp(0, last);
                f32::from(lut.entries[index as usize])
            }
        }
    }
}

fn bad(message: String) -> DicomError {
    DicomError::new(ErrorKind::BadRescale, message)
}

/// The rescale of one level of a header: the top level, a shared group or one frame's group. `None` where it has none.
pub(crate) fn rescale_of(level: &Dataset, signed: bool) -> Result<Option<Rescale>> {
    let number = |tag: crate::tags::Tag| match level.numbers(tag) {
        Ok(None) => Ok(None),
        Ok(Some(values)) if values.len() == 1 && values[0].is_finite() => Ok(Some(values[0])),
        Ok(Some(values)) => Err(bad(format!("{} has {} values or is not finite", tag.name, values.len()))),
        Err(e) => Err(bad(format!("{}; the values would be wrong", e.without_file()))),
    };
    let linear = match (number(RescaleSlope)?, number(RescaleIntercept)?) {
        (None, None) => None,
        (Some(slope), Some(intercept)) => {
            if slope == 0.0 {
                return Err(bad("RescaleSlope is 0: every value would be the same".into()));
            }
            Some(Rescale::Linear { slope, intercept })
        }
        // Half of a rescale is a guess, unless the half that is there changes nothing.
        (Some(1.0), None) | (None, Some(0.0)) => None,
        (Some(_), None) => return Err(bad("RescaleSlope without RescaleIntercept".into())),
        (None, Some(_)) => return Err(bad("RescaleIntercept without RescaleSlope".into())),
    };
    let lut = modality_lut(level, signed)?;
    match (linear, lut) {
        (Some(_), Some(_)) => {
            Err(bad("both a rescale and a Modality LUT: the standard allows one of them".into()))
        }
        (linear, lut) => Ok(linear.or(lut)),
    }
}

fn modality_lut(level: &Dataset, signed: bool) -> Result<Option<Rescale>> {
    let items = level.items(ModalityLUTSequence)?;
    let Some(item) = items.first() else { return Ok(None) };
    if items.len() > 1 {
        return Err(bad(format!("ModalityLUTSequence has {} items, expected 1", items.len())));
    }
    let descriptor = item.numbers(LUTDescriptor)?.unwrap_or_default();
    let &[count, first, bits] = descriptor.as_slice() else {
        return Err(bad(format!("LUTDescriptor has {} values, expected 3", descriptor.len())));
    };
    // 0 stands for 65536, which does not fit into 16 bits.
    let count = if count == 0.0 { 65536 } else { count as u16 as usize };
    let first = if signed { i32::from(first as u16 as i16) } else { first as i32 };
    let data = item.bytes(LUTData).unwrap_or_default();
    let entries: Vec<u16> = match (bits as u32, data.len()) {
        (1..=16, n) if n >= count * 2 => item.words(LUTData).into_iter().take(count).collect(),
        (1..=8, n) if n >= count => data[..count].iter().map(|b| u16::from(*b)).collect(),
        (bits, n) => return Err(bad(format!("LUTData has {n} bytes for {count} entries of {bits} bits"))),
    };
    Ok(Some(Rescale::Lut(Arc::new(ModalityLut { first, entries }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lut_is_clamped_at_its_ends() {
        let lut = Rescale::Lut(Arc::new(ModalityLut { first: -2, entries: vec![10, 20, 30] }));
        let values: Vec<f32> = [-9.0, -2.0, -1.0, 0.0, 7.0].iter().map(|v| lut.apply(*v)).collect();
        assert_eq!(values, [10.0, 10.0, 20.0, 30.0, 30.0]);
    }
}
