//! Data tables, phantoms, training, metrics and evaluation.

pub mod doctor;
pub mod evaluation;
pub mod metrics;
pub mod phantom;
pub mod predictions;
pub mod table;
pub mod train;
