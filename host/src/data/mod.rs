//! Data tables with labels, and what is wrong with them.

pub mod doctor;
pub mod sheet;
pub mod table;
