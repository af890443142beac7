//! What an operator chooses.

use crate::jobs::Retention;
use crate::tls::TlsFiles;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a server listens, what it takes, and what it keeps.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names by which it may be called, beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Its folder: jobs, database, audit log, secret of DICOM names.
    pub data: PathBuf,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// Whether another address than loopback is fine without TLS or without tokens.
    pub insecure: bool,
    /// What requests may take.
    pub limits: RequestLimits,
    /// Most jobs and requests that wait.
    pub queue: usize,
    /// How long a job or a request waits for others of its scan.
    pub window: Duration,
    /// What is kept of ended jobs.
    pub retention: Retention,
    /// What is written beside each `result.json`.
    pub outputs: Outputs,
    /// How long what runs may go on when the server is told to end.
    pub grace: Duration,
    /// Studies that are answered as an archive gets them.
    pub studies: Option<StudyOptions>,
}

/// Where studies come from by themselves.
#[derive(Debug, Clone)]
pub struct StudyOptions {
    /// Base URL of a DICOMweb archive; without it they come by C-STORE.
    pub archive: Option<String>,
    /// rules.toml: which series are answered by which plugins.
    pub rules: PathBuf,
}

/// Files beside `result.json`.
#[derive(Debug, Clone, Copy)]
pub struct Outputs {
    /// `heatmap.nii.gz` and `preview.png`.
    pub heatmap: bool,
    /// `report.html`.
    pub report: bool,
    /// `dicom/*.dcm`, of scans that come as DICOM.
    pub dicom: bool,
}

impl Default for Outputs {
    fn default() -> Self {
        Self { heatmap: true, report: true, dicom: true }
    }
}

/// What a request may take before it is refused.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of a request's headers.
    pub header_bytes: usize,
    /// For the TLS handshake, for all headers, and for the pause between two requests.
    pub header_time: Duration,
    /// Without a byte of a body, or of an answer that the client takes.
    pub idle: Duration,
    /// Bytes per second that a body must reach on average, once `idle` has passed.
    pub slowest: u64,
    /// Bytes of `POST /scans`.
    pub scan_bytes: u64,
    /// Files of a scan.
    pub scan_files: usize,
    /// Bytes of an inference request, as it arrives and after decompression.
    pub infer_bytes: u64,
    /// Bytes of all inference requests at a time, with the numbers that come of them.
    pub infer_memory: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            header_bytes: 32 << 10,
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            slowest: 10_000,
            scan_bytes: 4 << 30,
            scan_files: 20_000,
            infer_bytes: 1 << 30,
            infer_memory: 2 << 30,
        }
    }
}
