//! The Open Inference Protocol, version 2 (KServe, Triton): a model is a plugin, a request is a case.
//!
//! A request's voxels become the file that `host run` would read, and take the same way: an answer is the same to the bit. A
//! model is asked one case at a time; the queue stands before the engine.

mod answer;
mod case;
mod metadata;
mod request;
mod tensor;

pub(crate) use answer::{LENGTH_HEADER, respond, wanted, wants_heatmap};
pub(crate) use case::{case_of, scan_key};
pub(crate) use metadata::{model, server};
pub(crate) use request::InferRequest;
