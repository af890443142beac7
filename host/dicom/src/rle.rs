//! RLE Lossless (PS3.5 annex G), any number of bytes per sample.

use crate::error::{DicomError, ErrorKind, Result};

fn bad(what: &str) -> DicomError {
    DicomError::new(ErrorKind::DecodeFailed, format!("an RLE frame {what}"))
}

/// Decodes a frame of one sample per pixel into little endian samples.
pub(crate) fn decode(frame: &[u8], pixels: usize, bytes_per_sample: usize) -> Result<Vec<u8>> {
    let word = |n: usize| -> Result<usize> {
        let b = frame.get(n * 4..n * 4 + 4).ok_or_else(|| bad("ends inside its header"))?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
    };
    let segments = word(0)?;
    if segments != bytes_per_sample {
        return Err(bad(&format!("has {segments} segments, expected {bytes_per_sample}")));
    }
    let mut out = vec![0; pixels * bytes_per_sample];
    for segment in 0..segments {
        let start = word(1 + segment)?;
        let end = if segment + 1 < segments { word(2 + segment)? } else { frame.len() };
        let packed = frame.get(start..end).ok_or_else(|| bad("has segments outside of it"))?;
        // The first segment holds the most significant bytes.
        let byte = bytes_per_sample - 1 - segment;
        let filled = unpack(packed, &mut out[byte..], bytes_per_sample, pixels);
        if filled != pixels {
            return Err(bad(&format!("gives {filled} pixels, the header says {pixels}")));
        }
    }
    Ok(out)
}

/// Unpacks into every `step`-th byte; returns how many were written, at most `count`.
fn unpack(mut packed: &[u8], out: &mut [u8], step: usize, count: usize) -> usize {
    let mut n = 0;
    while let [control, rest @ ..] = packed {
        if n == count {
            break;
        }
        match *control {
            0..=127 => {
                let take = (usize::from(*control) + 1).min(rest.len());
                for byte in rest[..take].iter().take(count - n) {
                    out[n * step] = *byte;
                    n += 1;
                }
                packed = &rest[take..];
            }
            128 => packed = rest,
            repeat => {
                let [byte, rest @ ..] = rest else { break };
                for _ in 0..(257 - usize::from(repeat)).min(count - n) {
                    out[n * step] = *byte;
                    n += 1;
                }
                packed = rest;
            }
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_and_repeated_runs_make_two_byte_samples() {
        let mut frame = vec![0_u8; 64];
        frame[0] = 2;
        frame[4] = 64;
        frame[8] = 66;
        frame.extend([0xFD, 1]); // four times 1
        frame.extend([3, 9, 8, 7, 6]);
        assert_eq!(decode(&frame, 4, 2).unwrap(), [9, 1, 8, 1, 7, 1, 6, 1]);
        assert_eq!(decode(&frame, 5, 2).unwrap_err().kind, ErrorKind::DecodeFailed);
        assert_eq!(decode(&frame, 4, 1).unwrap_err().kind, ErrorKind::DecodeFailed);
    }
}
