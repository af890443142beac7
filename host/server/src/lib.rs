//! The library behind `host serve`: a server that runs scans through plugins, for programs and archives of a hospital.
//!
//! Rooms, from the ground up: [`jobs`] (scans that were submitted and their results, kept across restarts) with [`work`] (the
//! queue before the one engine), [`access`] (who may ask, and from where), `body` and [`scans`] (what arrives), `inference`
//! (the Open Inference Protocol), `runner` (the thread that owns the session), [`dicomweb`] and [`dimse`] (studies of an
//! archive that become jobs by rules, and their results on the way back), `handlers` and `app` (paths; the page's files lie in
//! `page/`), `listen` and `tls`
//! (connections), [`Server`] (all of it).
//!
//! Everything about scans and results is the library's, `anymc3d-host`: a job is read, computed and written as `host run`
//! does it, in a session whose plugins are in processes of their own.
#![cfg(unix)]

pub mod access;
mod app;
mod audit;
mod body;
mod database;
pub mod dicomweb;
pub mod dimse;
mod error;
mod handlers;
mod inference;
pub mod jobs;
mod listen;
mod log;
mod metrics;
mod models;
mod options;
mod runner;
pub mod scans;
mod serve;
mod tls;
pub mod work;

pub use options::{Outputs, RequestLimits, ServerOptions, StudyOptions};
pub use serve::{ServeError, Server, Stop};
pub use tls::{TlsError, TlsFiles};
