//! Asynchronous clients behind the blocking store: one thread, nothing runs while nobody waits.

use crate::error::{RegistryError, Result};
use tokio::runtime::{Builder, Runtime};

pub(super) fn runtime(store: &str) -> Result<Runtime> {
    // One provider of cryptography for all of TLS; a second call finds it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Builder::new_current_thread().enable_all().build().map_err(|e| RegistryError::store(store, e))
}
