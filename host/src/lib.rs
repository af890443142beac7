//! The AnyMC3D host: one frozen 2D vision foundation model in one process, and any number of
//! 3D medical classification tasks as plugins.
//!
//! Rooms, from the ground up: [`memory`] (what the process may use), [`device`] (processor or GPU), [`volume`] (scans to slices and back), [`backbone`] (the frozen ViT),
//! [`plugin`] (find, check, load; the host's side of the ABI), [`engine`] (one backbone and many
//! plugins to predictions), [`learn`] (tables, phantoms, training, metrics), [`explain`] (heatmaps
//! and pictures), [`check`] (is a plugin fit to be shipped), [`cli`] (one file per command). An arrow never points up
//! this list.

pub mod backbone;
pub mod check;
pub mod cli;
pub mod device;
pub mod engine;
pub mod explain;
pub mod learn;
pub mod memory;
pub mod plugin;
pub mod volume;
