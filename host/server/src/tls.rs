//! TLS from two files, which are read again when they change.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct TlsError {
    file: PathBuf,
    reason: String,
}

type Times = [Option<SystemTime>; 2];

/// The configuration of new connections.
pub(crate) struct Tls {
    files: TlsFiles,
    current: RwLock<(Times, Arc<ServerConfig>)>,
}

fn times(files: &TlsFiles) -> Times {
    [&files.certificate, &files.key].map(|file| std::fs::metadata(file).and_then(|m| m.modified()).ok())
}

fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    fn wrong<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> TlsError {
        move |e| TlsError { file: file.to_owned(), reason: e.to_string() }
    }
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&files.certificate).map_err(wrong(&files.certificate))?.collect();
    let certificates = certificates.map_err(wrong(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong(&files.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong(&files.certificate))?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(wrong(&files.certificate))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Tls {
    /// Reads the files.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = (times(&files), load(&files)?);
        Ok(Self { files, current: RwLock::new(current) })
    }

    /// Reads the files again where one has changed; a pair that does not fit leaves what was.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let at = times(&self.files);
        if at == self.current.read().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(false);
        }
        let config = load(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (at, config);
        Ok(true)
    }

    /// For a new connection.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone().into()
    }
}
