//! A file that is written as its bytes arrive, beside the threads that serve others.

use crate::error::ApiError;
use anymc3d_host::fs::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Bytes that are written at a time.
const BLOCK: usize = 1 << 20;
/// Bytes by which content is told.
const START: usize = 352;

/// A file on its way to the disk.
pub(super) struct Sink {
    /// None while a block is being written.
    parts: Option<(File, Sha256)>,
    buffer: Vec<u8>,
    start: Vec<u8>,
}

impl Sink {
    pub fn create(path: &Path) -> Result<Self, ApiError> {
        let file = File::create_new(path).map_err(ApiError::internal)?;
        Ok(Self { parts: Some((file, Sha256::new())), buffer: Vec::new(), start: Vec::new() })
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let more = START.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(&bytes[..more]);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BLOCK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ApiError> {
        let Some((mut file, mut hash)) = self.parts.take() else {
            return Err(ApiError::internal("a scan's file is written to after it failed"));
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let write = move || {
            hash.update(&buffer);
            let written = file.write_all(&buffer);
            buffer.clear();
            (written, file, hash, buffer)
        };
        let (written, file, hash, buffer) =
            tokio::task::spawn_blocking(write).await.map_err(ApiError::internal)?;
        written.map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull => {
                tracing::error!("the disk is full");
                let status = axum::http::StatusCode::INSUFFICIENT_STORAGE;
                ApiError::new(status, "the server's disk is full")
            }
            _ => ApiError::internal(e),
        })?;
        (self.parts, self.buffer) = (Some((file, hash)), buffer);
        Ok(())
    }

    /// Its digest, and its first bytes.
    pub async fn finish(mut self) -> Result<(String, Vec<u8>), ApiError> {
        self.flush().await?;
        let hash = self.parts.map(|(_, hash)| hash).unwrap_or_default();
        Ok((hex(&hash.finalize()), self.start))
    }
}
