//! An object store (S3) as a place of scans and of a batch's records.
//!
//! A batch works in a folder of this machine, its [`Mirror`]: what other processes have recorded is copied into it, and each
//! result goes from it into the store as soon as it is there. An object is written whole or not at all, and the record of
//! a result only where no other process has written one.

mod client;
mod lease;
mod mirror;
mod scans;

pub use client::Objects;
pub use mirror::Mirror;
pub use scans::{ListedScans, StoredScans};
