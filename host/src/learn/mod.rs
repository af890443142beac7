//! Data tables, phantoms, training and metrics.

pub mod doctor;
pub mod metrics;
pub mod phantom;
pub mod table;
pub mod train;
