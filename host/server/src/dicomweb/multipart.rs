//! multipart/related (RFC 2387), read and written as a stream: a series is larger than memory may be.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Read};
use std::path::PathBuf;

/// Bytes of a part's header, above which it is none.
const MOST_HEADER: usize = 8 << 10;

/// The boundary that a Content-Type names.
pub(crate) fn boundary_of(content_type: &str) -> Option<String> {
    let mut parameters = content_type.split(';');
    if !parameters.next()?.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let found = parameters.find_map(|p| {
        let (name, value) = p.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    (!found.is_empty() && found.len() <= 200).then_some(found)
}

/// The parts of a body, one after the other.
pub(crate) struct Parts<R> {
    reader: BufReader<Chain<&'static [u8], R>>,
    /// CR LF and two hyphens before the boundary.
    delimiter: Vec<u8>,
    /// The first delimiter was read.
    started: bool,
    ended: bool,
}

impl<R: Read> Parts<R> {
    pub fn new(reader: R, boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // A body may begin with its first delimiter, whose line end is then missing.
        let reader = (&b"\r\n"[..]).chain(reader);
        Self { reader: BufReader::with_capacity(64 << 10, reader), delimiter, started: false, ended: false }
    }

    /// Goes to the next part's content; `None` after the last one.
    ///
    /// # Errors
    /// Of the stream; [`io::ErrorKind::UnexpectedEof`] where it ends before the closing delimiter.
    pub fn next(&mut self) -> io::Result<Option<Part<'_, R>>> {
        if !self.started {
            self.started = true;
            // What stands before the first delimiter is no part.
            copy_to_delimiter(&mut self.reader, &self.delimiter, &mut io::sink(), MOST_HEADER as u64)?;
            self.after_delimiter()?;
        }
        if self.ended {
            return Ok(None);
        }
        self.skip_headers()?;
        Ok(Some(Part { parts: self }))
    }

    /// After a delimiter: two hyphens end the body, else a line ends.
    fn after_delimiter(&mut self) -> io::Result<()> {
        let mut two = [0; 2];
        self.reader.read_exact(&mut two)?;
        if &two == b"--" {
            self.ended = true;
            return Ok(());
        }
        if &two == b"\r\n" {
            return Ok(());
        }
        // Blanks may follow the boundary.
        let mut line = Vec::new();
        (&mut self.reader).take(200).read_until(b'\n', &mut line)?;
        match line.last() {
            Some(b'\n') => Ok(()),
            _ => Err(bad("a boundary is followed by text")),
        }
    }

    fn skip_headers(&mut self) -> io::Result<()> {
        let mut seen = 0;
        loop {
            let mut line = Vec::new();
            let n = (&mut self.reader).take(MOST_HEADER as u64).read_until(b'\n', &mut line)?;
            seen += n;
            if line.last() != Some(&b'\n') || seen > MOST_HEADER {
                return Err(if n == 0 { ended() } else { bad("a part's header has no end") });
            }
            if matches!(line.as_slice(), b"\r\n" | b"\n") {
                return Ok(());
            }
        }
    }
}

/// One part. What is not copied of it is lost with the rest of the body.
pub(crate) struct Part<'a, R> {
    parts: &'a mut Parts<R>,
}

impl<R: Read> Part<'_, R> {
    /// Copies the content; returns its length.
    ///
    /// # Errors
    /// Of both sides; [`io::ErrorKind::FileTooLarge`] above `most` bytes.
    pub fn copy_to(self, out: &mut impl io::Write, most: u64) -> io::Result<u64> {
        let parts = self.parts;
        let copied = copy_to_delimiter(&mut parts.reader, &parts.delimiter, out, most)?;
        parts.after_delimiter()?;
        Ok(copied)
    }
}

fn bad(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends in the middle of a part")
}

/// Copies up to `delimiter`, which is read and not copied.
fn copy_to_delimiter<R: Read>(
    reader: &mut BufReader<R>,
    delimiter: &[u8],
    out: &mut impl io::Write,
    most: u64,
) -> io::Result<u64> {
    let mut copied = 0_u64;
    // The start of a delimiter that the end of a buffer may hold: its rest comes with the next one.
    let mut held: Vec<u8> = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(ended());
        }
        if held.is_empty() {
            // The delimiter begins with CR, so only there a comparison is needed.
            let end = match buffer.iter().position(|b| *b == b'\r') {
                Some(0) => 0,
                Some(at) => at,
                None => buffer.len(),
            };
            if end > 0 {
                copied += end as u64;
                if copied > most {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "above the limit"));
                }
                out.write_all(&buffer[..end])?;
                reader.consume(end);
                continue;
            }
        }
        // Held bytes match so far; one byte more, until all or none match.
        let byte = buffer[0];
        if byte == delimiter[held.len()] {
            reader.consume(1);
            held.push(byte);
            if held.len() == delimiter.len() {
                return Ok(copied);
            }
            continue;
        }
        // No delimiter: its first byte is content. The rest cannot begin one, for CR stands only at its start.
        copied += held.len() as u64;
        if copied > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "above the limit"));
        }
        out.write_all(&held)?;
        held.clear();
        if byte != b'\r' {
            copied += 1;
            out.write_all(&[byte])?;
            reader.consume(1);
        }
    }
}

/// Files as the body of a STOW-RS request, read when they are sent.
pub(crate) struct FilesBody {
    pieces: std::vec::IntoIter<Piece>,
    now: Option<Box<dyn Read + Send>>,
}

enum Piece {
    Text(Vec<u8>),
    File(PathBuf),
}

impl FilesBody {
    /// The body and its length in bytes.
    ///
    /// # Errors
    /// Where a file's length cannot be read.
    pub fn new(files: &[PathBuf], boundary: &str) -> io::Result<(Self, u64)> {
        let (mut pieces, mut length) = (Vec::new(), 0);
        for (at, file) in files.iter().enumerate() {
            let start = if at == 0 { "" } else { "\r\n" };
            let head = format!("{start}--{boundary}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes();
            length += head.len() as u64 + file.metadata()?.len();
            pieces.push(Piece::Text(head));
            pieces.push(Piece::File(file.clone()));
        }
        let end = format!("\r\n--{boundary}--\r\n").into_bytes();
        length += end.len() as u64;
        pieces.push(Piece::Text(end));
        Ok((Self { pieces: pieces.into_iter(), now: None }, length))
    }
}

impl Read for FilesBody {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(now) = &mut self.now {
                match now.read(out)? {
                    0 if !out.is_empty() => self.now = None,
                    n => return Ok(n),
                }
            }
            self.now = match self.pieces.next() {
                None => return Ok(0),
                Some(Piece::Text(text)) => Some(Box::new(io::Cursor::new(text))),
                Some(Piece::File(path)) => Some(Box::new(File::open(path)?)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `n` bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let n = out.len().min(self.1).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn parts(body: &[u8], boundary: &str, at_once: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut parts = Parts::new(Slow(body, at_once), boundary);
        let mut all = Vec::new();
        while let Some(part) = parts.next()? {
            let mut content = Vec::new();
            part.copy_to(&mut content, 1 << 20)?;
            all.push(content);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read_however_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let contents: [&[u8]; 4] =
            [b"", b"plain", b"\r\n--\r\n--b\r\r\n--boundar\r\n", b"\0\r\n\r\n--not-boundary--"];
        let files: Vec<PathBuf> = (0..4).map(|i| folder.path().join(i.to_string())).collect();
        files.iter().zip(contents).for_each(|(f, c)| std::fs::write(f, c).unwrap());
        let (mut body, length) = FilesBody::new(&files, "boundary").unwrap();
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, length);
        for at_once in [10, 13, 64, 1 << 20] {
            assert_eq!(parts(&bytes, "boundary", at_once).unwrap(), contents, "{at_once}");
        }
        // Cut anywhere it is an error, never a part that is shorter.
        for cut in 0..bytes.len() - 4 {
            assert!(parts(&bytes[..cut], "boundary", 1 << 20).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_preamble_and_blanks_are_allowed_and_a_limit_holds() {
        let body = b"preamble\r\n--x  \r\nA: b\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--";
        assert_eq!(parts(body, "x", 100).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        let mut all = Parts::new(&body[..], "x");
        let part = all.next().unwrap().unwrap();
        let error = part.copy_to(&mut io::sink(), 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn the_boundary_is_read_from_the_content_type() {
        let of = |t: &str| boundary_of(t);
        assert_eq!(of("multipart/related; type=\"application/dicom\"; boundary=a-b").as_deref(), Some("a-b"));
        assert_eq!(of("Multipart/Related;Boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(of("application/json; boundary=a"), None);
        assert_eq!(of("multipart/related"), None);
    }
}
