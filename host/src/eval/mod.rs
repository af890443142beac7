//! How well a model answers: predictions, metrics with their intervals, charts.

pub mod chart;
pub mod evaluation;
pub mod files;
pub mod metrics;
pub mod predictions;
