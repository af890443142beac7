//! `POST /scans`: a scan as its body comes, one file or several, becomes the files of a job.

pub mod multipart;
mod receive;
mod sink;

pub(crate) use receive::{name_once, point, receive};
