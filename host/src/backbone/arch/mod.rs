//! The families of vision transformers, one file each.

pub(crate) mod dinov2;
pub(crate) mod position;
