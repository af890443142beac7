//! The bytes of a file, unpacked while they are read.

use std::io::{self, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};

/// The bytes of a file, plain or as the members of a gzip stream, read once from front to back.
pub(crate) enum Bytes<'a> {
    Plain(&'a [u8]),
    Gzip(Option<Box<GzDecoder<&'a [u8]>>>),
    /// What a header says to be a zlib stream; nothing tells it by itself.
    Zlib(Box<ZlibDecoder<&'a [u8]>>),
}

/// Deflate cannot shrink below 1 / 1032; more than that claimed is a damaged or hostile header.
pub(crate) const MOST_EXPANSION: u64 = 1032;

impl<'a> Bytes<'a> {
    /// By the magic bytes, never by the name.
    pub fn of(file: &'a [u8]) -> Self {
        if is_gzip(file) { Self::Gzip(Some(Box::new(GzDecoder::new(file)))) } else { Self::Plain(file) }
    }

    /// A zlib stream.
    pub fn zlib(stream: &'a [u8]) -> Self {
        Self::Zlib(Box::new(ZlibDecoder::new(stream)))
    }

    /// The most bytes that a file of `file` bytes can hold.
    pub fn most(&self, file: usize) -> u64 {
        match self {
            Self::Plain(rest) => rest.len() as u64,
            Self::Gzip(_) | Self::Zlib(_) => (file as u64).saturating_mul(MOST_EXPANSION),
        }
    }

    /// Passes over `n` bytes.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn skip(&mut self, n: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(n), &mut io::sink())?;
        if skipped < n { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// As many bytes as there are, up to `n`, which is small.
    pub fn up_to(&mut self, n: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(n);
        self.by_ref().take(n as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(rest) => rest.read(buffer),
            Self::Zlib(stream) => stream.read(buffer),
            Self::Gzip(stream) => loop {
                let Some(member) = stream else { return Ok(0) };
                let n = member.read(buffer)?;
                if n > 0 || buffer.is_empty() {
                    return Ok(n);
                }
                // This member is over, its checksum was right. Another may follow; zeros that pad
                // a tape block or other trailing bytes are not part of the file.
                let rest: &[u8] = member.get_ref();
                *stream = is_gzip(rest).then(|| Box::new(GzDecoder::new(rest)));
            },
        }
    }
}

pub(crate) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&[0x1f, 0x8b])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(bytes).unwrap();
        e.finish().unwrap()
    }

    #[test]
    fn several_members_read_as_one_and_padding_is_ignored() {
        let mut file = gz(b"abc");
        file.extend(gz(b""));
        file.extend(gz(b"defg"));
        file.extend([0; 512]);
        assert_eq!(Bytes::of(&file).up_to(100).unwrap(), b"abcdefg");
    }
}
