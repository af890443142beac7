//! Bodies of several parts (RFC 2046), piece by piece as they arrive: `multipart/related` of DICOMweb and
//! `multipart/form-data`. No part is kept whole, and headers of a part are short or refused.

use memchr::memmem::Finder;

/// Most bytes of a part's headers.
const HEADERS: usize = 8 << 10;

/// What a part says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHeaders {
    /// Content-Type, as it stands there.
    pub content_type: Option<String>,
    /// The field's name in a form.
    pub name: Option<String>,
}

/// What comes of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A part begins.
    Begin(PartHeaders),
    /// Bytes of it.
    Data(Vec<u8>),
    /// It ends.
    Finish,
}

/// A body that is not what its boundary says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// It ends inside a part.
    #[error("the body ends before its last boundary")]
    Unfinished,
    /// Headers without end.
    #[error("a part's headers are longer than {HEADERS} bytes")]
    Headers,
    /// What follows a boundary.
    #[error("a boundary is followed by what is neither a part nor the end")]
    Boundary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Preamble,
    Delimiter,
    Headers,
    Data,
    Epilogue,
}

/// Takes a body apart.
pub struct Multipart {
    delimiter: Finder<'static>,
    length: usize,
    buffer: Vec<u8>,
    at: At,
}

impl Multipart {
    /// For a boundary, as [`boundary`] finds it.
    pub fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        let (length, finder) = (delimiter.len(), Finder::new(delimiter.as_bytes()).into_owned());
        // The first boundary has no line before it.
        Self { delimiter: finder, length, buffer: b"\r\n".to_vec(), at: At::Preamble }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they are not what the boundary says.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Piece>, MultipartError> {
        self.buffer.extend_from_slice(bytes);
        let (mut pieces, mut taken) = (Vec::new(), 0);
        loop {
            let rest = &self.buffer[taken..];
            match self.at {
                At::Preamble | At::Data => {
                    let inside = self.at == At::Data;
                    let found = self.delimiter.find(rest);
                    // What may be the beginning of a boundary waits for its rest.
                    let data = found.unwrap_or(rest.len().saturating_sub(self.length - 1));
                    if inside && data > 0 {
                        pieces.push(Piece::Data(rest[..data].to_vec()));
                    }
                    taken += data;
                    if found.is_none() {
                        break;
                    }
                    if inside {
                        pieces.push(Piece::Finish);
                    }
                    taken += self.length;
                    self.at = At::Delimiter;
                }
                At::Delimiter => {
                    if rest.starts_with(b"--") {
                        self.at = At::Epilogue;
                        continue;
                    }
                    let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                    match rest[blank..] {
                        [b'\r', b'\n', ..] => {
                            taken += blank;
                            self.at = At::Headers;
                        }
                        [] | [b'\r'] | [b'-'] if blank < HEADERS => break,
                        _ => return Err(MultipartError::Boundary),
                    }
                }
                At::Headers => {
                    // The line's end after the boundary stands before them: a part without headers ends them at once.
                    let end = memchr::memmem::find(&rest[..rest.len().min(HEADERS)], b"\r\n\r\n");
                    let Some(end) = end else {
                        if rest.len() >= HEADERS {
                            return Err(MultipartError::Headers);
                        }
                        break;
                    };
                    pieces.push(Piece::Begin(headers(&rest[..end])));
                    taken += end + 4;
                    self.at = At::Data;
                }
                At::Epilogue => {
                    taken = self.buffer.len();
                    break;
                }
            }
        }
        self.buffer.drain(..taken);
        Ok(pieces)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// When its last boundary has not come.
    pub fn finish(&self) -> Result<(), MultipartError> {
        let done = self.at == At::Epilogue || self.at == At::Delimiter && self.buffer.starts_with(b"--");
        if done { Ok(()) } else { Err(MultipartError::Unfinished) }
    }
}

fn headers(bytes: &[u8]) -> PartHeaders {
    let text = String::from_utf8_lossy(bytes);
    let mut found = PartHeaders::default();
    for (name, value) in text.split("\r\n").filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-type") {
            found.content_type = Some(value.trim().to_owned());
        } else if name.eq_ignore_ascii_case("content-disposition") {
            found.name = parameter(value, "name");
        }
    }
    found
}

/// A parameter of a header's value: `type; name=value` or `type; name="value"`.
pub fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, left) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (found, left) = quoted.split_once('"')?;
                (found, left.split_once(';').map_or("", |(_, left)| left))
            }
            None => after.split_once(';').unwrap_or((after, "")),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(found.trim().to_owned());
        }
        rest = left;
    }
}

/// The boundary of a `multipart/…` content type: 1 to 70 characters.
pub fn boundary(content_type: &str) -> Option<String> {
    parameter(content_type, "boundary").filter(|boundary| (1..=70).contains(&boundary.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = Vec<(PartHeaders, Vec<u8>)>;

    /// All parts, the body arriving in pieces of `step` bytes.
    fn parts(body: &[u8], step: usize) -> Result<Parts, MultipartError> {
        let mut multipart = Multipart::new("b");
        let (mut all, mut open): (Parts, bool) = (Vec::new(), false);
        for bytes in body.chunks(step) {
            for piece in multipart.push(bytes)? {
                match piece {
                    Piece::Begin(headers) => {
                        assert!(!open);
                        open = true;
                        all.push((headers, Vec::new()));
                    }
                    Piece::Data(data) => all.last_mut().unwrap().1.extend(data),
                    Piece::Finish => open = false,
                }
            }
        }
        multipart.finish().map(|()| all)
    }

    #[test]
    fn parts_come_out_whole_however_they_arrive() {
        let body = b"before\r\n--b \r\nContent-Type: application/dicom\r\n\r\none\r\n--\r\n-b\r\n--b\r\n\r\n\r\n--b\r\n\
                     content-disposition: form-data; filename=\"x;name=y\"; name=\"scan\"\r\n\r\n\0\r\n\r\n\r\n--b--after";
        for step in 1..body.len() + 1 {
            let all = parts(body, step).unwrap();
            let data: Vec<&[u8]> = all.iter().map(|(_, data)| data.as_slice()).collect();
            assert_eq!(data, [&b"one\r\n--\r\n-b"[..], b"", b"\0\r\n\r\n"], "in pieces of {step}");
            assert_eq!(all[0].0.content_type.as_deref(), Some("application/dicom"));
            assert_eq!(all[2].0.name.as_deref(), Some("scan"));
        }
    }

    #[test]
    fn a_body_that_is_cut_or_has_endless_headers_is_refused() {
        assert_eq!(parts(b"--b\r\n\r\none", 3), Err(MultipartError::Unfinished));
        assert_eq!(parts(b"", 1), Err(MultipartError::Unfinished));
        assert_eq!(parts(b"--bx\r\n\r\n", 4), Err(MultipartError::Boundary));
        let endless = [b"--b\r\nx: ".to_vec(), vec![b'y'; HEADERS + 1]].concat();
        assert_eq!(parts(&endless, 1000), Err(MultipartError::Headers));
        assert_eq!(parts(b"--b--", 2), Ok(Vec::new()));
    }

    #[test]
    fn boundaries_are_found_quoted_or_not() {
        let related = "multipart/related; type=\"application/dicom\"; boundary=a-b";
        assert_eq!(boundary(related).as_deref(), Some("a-b"));
        assert_eq!(boundary("multipart/form-data; BOUNDARY=\"x y\"").as_deref(), Some("x y"));
        for none in ["multipart/related", "multipart/related; boundary=", "text/plain; a=\"b"] {
            assert_eq!(boundary(none), None, "{none}");
        }
    }
}
