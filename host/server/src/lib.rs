//! The library behind `host serve`: a server that runs scans through plugins, for programs and archives of a hospital.
//!
//! `work` is the queue before the one engine; [`jobs`] are the scans that wait in it and their results, kept across
//! restarts.

pub mod dicomweb;
pub mod dimse;
pub mod jobs;
pub mod work;
