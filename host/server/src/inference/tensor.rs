//! A tensor of the protocol: shape, type, and numbers as JSON or as little-endian bytes.

use crate::error::ApiError;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An element's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp32,
    Fp64,
    Bytes,
}

impl DataType {
    /// Bytes of an element; none of texts, whose lengths differ.
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

/// A tensor's numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers<'a> {
    /// Of JSON, flat.
    Plain(Vec<f64>),
    /// Little-endian, as the type says.
    Binary(&'a [u8]),
}

/// An input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub datatype: DataType,
    pub numbers: Numbers<'a>,
}

impl Tensor<'_> {
    /// Elements that the shape says.
    pub fn elements(shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }

    fn wrong(&self, what: impl fmt::Display) -> ApiError {
        ApiError::bad_request(format!("input `{}`: {what}", self.name))
    }

    /// As the reader of a file would give them: 32-bit floats, each the nearest of what was sent.
    pub fn f32s(&self) -> Result<Vec<f32>, ApiError> {
        let count = Self::elements(&self.shape).unwrap_or(0);
        let mut all = Vec::new();
        all.try_reserve_exact(count).map_err(|_| ApiError::too_large("no memory for so many voxels"))?;
        self.each(|v| all.push(v as f32))?;
        Ok(all)
    }

    /// As 64-bit floats.
    pub fn f64s(&self) -> Result<Vec<f64>, ApiError> {
        let mut all = Vec::new();
        self.each(|v| all.push(v))?;
        Ok(all)
    }

    fn each(&self, mut take: impl FnMut(f64)) -> Result<(), ApiError> {
        fn all<const N: usize>(bytes: &[u8], mut take: impl FnMut([u8; N])) {
            for element in bytes.as_chunks::<N>().0 {
                take(*element);
            }
        }
        let bytes = match &self.numbers {
            Numbers::Plain(numbers) => {
                numbers.iter().for_each(|v| take(*v));
                return Ok(());
            }
            Numbers::Binary(bytes) => bytes,
        };
        match self.datatype {
            DataType::Bool | DataType::Uint8 => bytes.iter().for_each(|b| take(f64::from(*b))),
            DataType::Int8 => all(bytes, |b: [u8; 1]| take(f64::from(i8::from_le_bytes(b)))),
            DataType::Uint16 => all(bytes, |b: [u8; 2]| take(f64::from(u16::from_le_bytes(b)))),
            DataType::Int16 => all(bytes, |b: [u8; 2]| take(f64::from(i16::from_le_bytes(b)))),
            DataType::Uint32 => all(bytes, |b: [u8; 4]| take(f64::from(u32::from_le_bytes(b)))),
            DataType::Int32 => all(bytes, |b: [u8; 4]| take(f64::from(i32::from_le_bytes(b)))),
            DataType::Fp32 => all(bytes, |b: [u8; 4]| take(f64::from(f32::from_le_bytes(b)))),
            DataType::Int64 => all(bytes, |b: [u8; 8]| take(i64::from_le_bytes(b) as f64)),
            DataType::Fp64 => all(bytes, |b: [u8; 8]| take(f64::from_le_bytes(b))),
            DataType::Bytes => return Err(self.wrong("found BYTES, expected numbers")),
        }
        Ok(())
    }
}

/// Numbers of JSON, however they are nested, flat. A value takes its eight bytes and no more.
#[derive(Debug, Default)]
pub(super) struct Flat(pub Vec<f64>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        deserializer.deserialize_any(Collect(&mut all))?;
        Ok(Self(all))
    }
}

/// Puts what it visits into a list.
struct Collect<'a>(&'a mut Vec<f64>);

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, or lists of them")
    }

    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.0.push(v);
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.0.push(v as f64);
        Ok(())
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.0.push(v as f64);
        Ok(())
    }

    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.0.push(f64::from(u8::from(v)));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Next(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct Next<'a>(&'a mut Vec<f64>);

impl<'de> serde::de::DeserializeSeed<'de> for Next<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Collect(self.0))
    }
}
