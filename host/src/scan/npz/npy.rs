//! One array of a NumPy archive: its header first, then as many bytes as the header was allowed to ask for.

use std::io::Read;

use crate::memory::zeroed;

/// Longest header that is read: NumPy's are of a few hundred bytes.
const MOST_HEADER: usize = 1 << 16;

/// What an array's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// For example `|u1`.
    pub dtype: String,
    /// Lengths of the axes, the slowest first.
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads the header of a `.npy` (versions 1 to 3).
    ///
    /// # Errors
    /// What was found and expected.
    pub fn read(from: &mut impl Read) -> Result<Self, String> {
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(|e| format!("an array cut short ({e})"))?;
        if &start[..6] != b"\x93NUMPY" {
            return Err("no NumPy array".to_owned());
        }
        let mut length = [0; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        from.read_exact(&mut length[..bytes]).map_err(|e| format!("an array cut short ({e})"))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MOST_HEADER {
            return Err(format!("an array's header of {length} bytes"));
        }
        let mut text = vec![0; length];
        from.read_exact(&mut text).map_err(|e| format!("an array cut short ({e})"))?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let unreadable = || format!("an array's header that cannot be read: `{}`", text.trim());
        let after = |key: &str| text.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
        let dtype = after("descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next());
        let dtype = dtype.ok_or_else(unreadable)?.to_owned();
        if after("fortran_order").ok_or_else(unreadable)?.starts_with("True") {
            return Err("an array in Fortran order; expected C order".to_owned());
        }
        let inner = after("shape").and_then(|rest| rest.strip_prefix('(')?.split(')').next());
        let parts = inner.ok_or_else(unreadable)?.split(',').map(str::trim).filter(|p| !p.is_empty());
        let shape: Option<Vec<usize>> = parts.map(|p| p.trim_end_matches('L').parse().ok()).collect();
        Ok(Self { dtype, shape: shape.ok_or_else(unreadable)? })
    }

    /// Bytes of an element.
    ///
    /// # Errors
    /// A type that is not read here.
    pub fn element(&self) -> Result<usize, String> {
        match self.dtype.as_str() {
            "|u1" | "|i1" | "|b1" => Ok(1),
            "<i2" | "<u2" => Ok(2),
            "<i4" | "<u4" | "<f4" => Ok(4),
            "<i8" | "<u8" | "<f8" => Ok(8),
            other => Err(format!("numbers of type `{other}`")),
        }
    }

    /// Bytes of all elements.
    ///
    /// # Errors
    /// A type that is not read here, or more bytes than a number of this machine can say.
    pub fn bytes(&self) -> Result<usize, String> {
        let count = self.shape.iter().try_fold(self.element()?, |n, &d| n.checked_mul(d));
        count.ok_or_else(|| format!("an array of {:?}", self.shape))
    }

    /// The elements' bytes; `most` is what they may take.
    ///
    /// # Errors
    /// More than `most`, or an array that is cut short.
    pub fn data(&self, from: &mut impl Read, most: usize) -> Result<Vec<u8>, String> {
        let bytes = self.bytes()?;
        if bytes > most {
            let (mib, room) = ((bytes >> 20) + 1, most >> 20);
            return Err(format!(
                "an array of {:?}, which takes {mib} MiB of {room} that are free",
                self.shape
            ));
        }
        let mut data = zeroed::<u8>(bytes).map_err(|e| e.to_string())?;
        from.read_exact(&mut data).map_err(|e| format!("an array cut short ({e})"))?;
        Ok(data)
    }

    /// Elements as numbers.
    pub fn numbers(&self, data: &[u8]) -> Vec<f64> {
        fn of<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
        }
        match self.dtype.as_str() {
            "|i1" => of::<1>(data, |b| f64::from(i8::from_le_bytes(b))),
            "<i2" => of::<2>(data, |b| f64::from(i16::from_le_bytes(b))),
            "<u2" => of::<2>(data, |b| f64::from(u16::from_le_bytes(b))),
            "<i4" => of::<4>(data, |b| f64::from(i32::from_le_bytes(b))),
            "<u4" => of::<4>(data, |b| f64::from(u32::from_le_bytes(b))),
            "<f4" => of::<4>(data, |b| f64::from(f32::from_le_bytes(b))),
            "<i8" => of::<8>(data, |b| i64::from_le_bytes(b) as f64),
            "<u8" => of::<8>(data, |b| u64::from_le_bytes(b) as f64),
            "<f8" => of::<8>(data, f64::from_le_bytes),
            _ => data.iter().map(|b| f64::from(*b)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn a_header_as_numpy_writes_it_is_read_and_what_it_asks_for_is_counted_first() {
        let bytes =
            array("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 1), }  \n", &[1, 0, 255, 255]);
        let mut from = &bytes[..];
        let header = Header::read(&mut from).unwrap();
        assert_eq!(header, Header { dtype: "<i2".into(), shape: vec![2, 1] });
        assert_eq!(header.numbers(&header.data(&mut from, 4).unwrap()), [1.0, -1.0]);
        let mut from = &bytes[..];
        let header = Header::read(&mut from).unwrap();
        assert!(header.data(&mut from, 3).unwrap_err().contains("which takes"));
    }

    #[test]
    fn headers_that_lie_are_refused_and_allocate_nothing() {
        let refused = |header: &str, data: &[u8]| {
            let bytes = array(header, data);
            let mut from = &bytes[..];
            Header::read(&mut from).and_then(|h| h.data(&mut from, 1 << 20)).unwrap_err()
        };
        let of = |shape: &str, dtype: &str| {
            format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}")
        };
        assert!(refused(&of("(18446744073709551615, 2)", "|u1"), &[]).contains("an array of"));
        assert!(refused(&of("(99999999,)", "|u1"), &[1]).contains("which takes"));
        assert!(refused(&of("(9,)", "|u1"), &[1]).contains("cut short"));
        assert!(refused(&of("(1,)", "|O"), &[1]).contains("type `|O`"));
        assert!(refused(&of("(-1,)", "|u1"), &[]).contains("cannot be read"));
        assert!(
            refused("{'descr': '|u1', 'fortran_order': True, 'shape': (1,), }", &[1]).contains("Fortran")
        );
        assert!(refused("nonsense", &[]).contains("cannot be read"));
        for cut in 0..20 {
            let bytes = array(&of("(4,)", "|u1"), &[1, 2, 3, 4]);
            let mut from = &bytes[..cut];
            assert!(Header::read(&mut from).is_err());
        }
    }
}
