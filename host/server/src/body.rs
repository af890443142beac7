//! Bodies as they arrive: never more than is taken, never slower than is waited for, never more than they say once unpacked.

use crate::error::ApiError;
use crate::options::RequestLimits;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use futures_util::StreamExt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A body on its way in.
pub(crate) struct Receiving {
    stream: BodyDataStream,
    most: u64,
    got: u64,
    began: Instant,
    idle: Duration,
    slowest: u64,
}

/// Refuses a body that says that it is too long, before any of it is read.
pub(crate) fn check_length(headers: &HeaderMap, most: u64) -> Result<(), ApiError> {
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > most => Err(above(most)),
        _ => Ok(()),
    }
}

fn above(most: u64) -> ApiError {
    ApiError::too_large(format!("the body is longer than the {most} bytes that are taken"))
}

impl Receiving {
    pub fn new(body: Body, most: u64, limits: &RequestLimits) -> Self {
        let (idle, slowest) = (limits.idle, limits.slowest);
        Self { stream: body.into_data_stream(), most, got: 0, began: Instant::now(), idle, slowest }
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let slow = || ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body arrives too slowly");
        let Ok(next) = tokio::time::timeout(self.idle, self.stream.next()).await else { return Err(slow()) };
        let bytes = match next {
            None => return Ok(None),
            Some(Ok(bytes)) => bytes,
            Some(Err(_)) => return Err(ApiError::bad_request("the body broke off")),
        };
        self.got += bytes.len() as u64;
        if self.got > self.most {
            return Err(above(self.most));
        }
        let took = self.began.elapsed();
        if took > self.idle && (self.got as f64) < self.slowest as f64 * (took - self.idle).as_secs_f64() {
            return Err(slow());
        }
        Ok(Some(bytes))
    }

    /// All of it, unpacked as the headers say.
    pub async fn unpacked(mut self, headers: &HeaderMap) -> Result<Vec<u8>, ApiError> {
        check_length(headers, self.most)?;
        let packed = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
        let mut into = match packed {
            None | Some(b"identity" | b"") => Unpacked::Plain(Bounded::new(self.most)),
            Some(b"gzip" | b"x-gzip") => Unpacked::Gzip(MultiGzDecoder::new(Bounded::new(self.most))),
            Some(b"deflate") => Unpacked::Zlib(ZlibDecoder::new(Bounded::new(self.most))),
            Some(_) => {
                let message = "Content-Encoding: expected gzip, deflate or none";
                return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
        };
        let most = self.most;
        let refused = |e: io::Error| match e.kind() {
            io::ErrorKind::FileTooLarge => {
                ApiError::too_large(format!("the body unpacks to more than the {most} bytes that are taken"))
            }
            _ => ApiError::bad_request("the body is not packed as Content-Encoding says"),
        };
        while let Some(bytes) = self.next().await? {
            // A piece unpacks to a thousand times its size at most: other connections wait no longer than for that.
            into.write(&bytes).map_err(refused)?;
        }
        into.finish().map_err(refused)
    }
}

/// Bytes that refuse to become too many.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
}

impl Bounded {
    fn new(most: u64) -> Self {
        Self { bytes: Vec::new(), most }
    }
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + more.len()) as u64 > self.most {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.try_reserve(more.len()).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Unpacked {
    Plain(Bounded),
    Gzip(MultiGzDecoder<Bounded>),
    Zlib(ZlibDecoder<Bounded>),
}

impl Unpacked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(to) => to.write_all(bytes),
            Self::Gzip(to) => to.write_all(bytes),
            Self::Zlib(to) => to.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        let bounded = match self {
            Self::Plain(to) => to,
            Self::Gzip(to) => to.finish()?,
            Self::Zlib(to) => to.finish()?,
        };
        Ok(bounded.bytes)
    }
}
