//! What answers each path.

pub mod events;
pub mod infer;
pub mod jobs;
pub mod models;
pub mod monitor;
pub mod page;
pub mod reload;
pub mod results;
pub mod studies;
