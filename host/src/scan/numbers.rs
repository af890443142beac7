//! From stored numbers to voxels: one decoder for all formats of raw numbers.

use std::io::{self, Read};
use std::path::Path;

use rayon::prelude::*;

use crate::memory::{reserved, zeroed};
use crate::scan::VolumeError;
use crate::scan::bytes::Bytes;

/// What a voxel is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl NumberType {
    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

/// A file that ends before its voxels do, or says what cannot be.
pub(crate) fn truncated(path: &Path, found: &str) -> VolumeError {
    VolumeError::Content {
        path: path.to_path_buf(),
        found: found.into(),
        expected: "a whole file".into(),
        todo: "copy or download it again".into(),
    }
}

/// How a stored number becomes a value: `stored * slope + intercept` in f64, kept as f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Numbers {
    pub kind: NumberType,
    /// The first byte is the highest.
    pub big: bool,
    pub slope: f64,
    pub intercept: f64,
}

/// Voxels that are unpacked before they are made f32: what is stored never stands in memory whole beside them.
const AT_A_TIME: usize = 1 << 20;

/// `count` voxels of `length` bytes; then reads on to the end, so that a gzip stream's checksum is checked.
///
/// # Errors
/// [`VolumeError::Content`]: fewer bytes than the shape needs, a damaged stream. [`VolumeError::NoMemory`].
pub(crate) fn voxels(
    path: &Path,
    mut bytes: Bytes,
    file: usize,
    (count, length): (usize, usize),
    shape: [usize; 3],
    numbers: Numbers,
) -> Result<Vec<f32>, VolumeError> {
    let short = |has: u64| {
        truncated(path, &format!("{has} bytes of voxels where the header's shape {shape:?} needs {length}"))
    };
    let room = bytes.most(file);
    // Checked before the memory is asked for: a damaged header may claim terabytes.
    if room < length as u64 {
        return Err(if matches!(bytes, Bytes::Plain(_)) {
            short(room)
        } else {
            truncated(
                path,
                &format!(
                    "{file} bytes, compressed, where the header's shape {shape:?} needs {length} unpacked"
                ),
            )
        });
    }
    let damaged = |e: io::Error| {
        truncated(path, &format!("a file that ends early or a damaged gzip or zlib stream ({e})"))
    };
    let no_memory = VolumeError::no_memory(path, "its voxels");
    let size = numbers.kind.size();
    let mut out = zeroed::<f32>(count).map_err(&no_memory)?;
    // One part is unpacked while the one before it is made f32.
    let buffer = || reserved::<u8>(AT_A_TIME.min(count) * size).map_err(&no_memory);
    let (mut raw, mut next) = (buffer()?, buffer()?);
    let mut has = 0;
    let mut before: Option<&mut [f32]> = None;
    for out in out.chunks_mut(AT_A_TIME) {
        let wanted = out.len() * size;
        let unpack = || {
            next.clear();
            bytes.by_ref().take(wanted as u64).read_to_end(&mut next)
        };
        let convert = || before.take().map_or((), |out| decode(&raw, out, numbers));
        let (read, ()) = rayon::join(unpack, convert);
        read.map_err(damaged)?;
        has += next.len() as u64;
        if next.len() < wanted {
            return Err(short(has));
        }
        std::mem::swap(&mut raw, &mut next);
        before = Some(out);
    }
    let read_on = || io::copy(&mut bytes, &mut io::sink());
    let convert = || before.take().map_or((), |out| decode(&raw, out, numbers));
    rayon::join(read_on, convert).0.map_err(damaged)?;
    Ok(out)
}

fn decode(raw: &[u8], out: &mut [f32], Numbers { kind, big, slope, intercept }: Numbers) {
    macro_rules! as_f32 {
        ($t:ty) => {{
            const N: usize = size_of::<$t>();
            let plain = slope == 1.0 && intercept == 0.0;
            out.par_chunks_mut(1 << 16).zip(raw.par_chunks(N << 16)).for_each(|(out, raw)| {
                for (v, b) in out.iter_mut().zip(raw.chunks_exact(N)) {
                    let mut bytes = [0u8; N];
                    bytes.copy_from_slice(b);
                    let stored = if big { <$t>::from_be_bytes(bytes) } else { <$t>::from_le_bytes(bytes) };
                    *v = if plain { stored as f32 } else { (stored as f64 * slope + intercept) as f32 };
                }
            });
        }};
    }
    match kind {
        NumberType::U8 => as_f32!(u8),
        NumberType::I8 => as_f32!(i8),
        NumberType::I16 => as_f32!(i16),
        NumberType::U16 => as_f32!(u16),
        NumberType::I32 => as_f32!(i32),
        NumberType::U32 => as_f32!(u32),
        NumberType::I64 => as_f32!(i64),
        NumberType::U64 => as_f32!(u64),
        NumberType::F64 => as_f32!(f64),
        NumberType::F32 => as_f32!(f32),
    }
}
