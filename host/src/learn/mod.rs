//! Data tables, phantoms, training and metrics.

pub mod phantom;
