//! DIMSE over TCP, for archives that route by C-STORE alone: a receiver (C-STORE and C-ECHO SCP) and a sender (C-STORE
//! SCU). The upper layer is `dicom-ul`'s.

mod command;
mod incoming;
mod receiver;
pub(crate) mod sender;
#[cfg(test)]
mod tests;

pub(crate) use incoming::Incoming;
pub use receiver::Receiver;

/// Explicit VR little endian: what this program's objects are written in.
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
