//! The AnyMC3D host: one frozen 2D vision foundation model in one process, and any number of
//! 3D medical classification tasks as plugins.
//!
//! Rooms, from the ground up: [`fs`] (files written whole, digests), [`memory`] (what
//! the process may use), [`device`] (processor or GPU), [`scan`] (scans to
//! slices and back), [`phantom`] (synthetic scans), [`backbone`] (the frozen ViT), [`plugin`] (find, check, load; the
//! host's side of the ABI), [`task`] (a plugin with its trained weights), [`data`] (labelled tables), [`engine`] (one
//! backbone and many tasks to predictions), [`output`] (results as files), [`check`] (is a plugin fit to be
//! shipped), [`run`] (sessions: cases through plugins, here or in a process of their own), [`batch`] (a cohort: its work
//! in shards, what is done, one table of all), [`eval`] (predictions, metrics, charts), [`train`] (adapters and heads), [`study`] (tasks ×
//! backbones × methods as one table), [`benchmark`] (methods against baselines). An arrow never points up this list.
//!
//! The command line is a package of its own, `host/cli`; it knows this library, and this library does not know it.

pub mod backbone;
pub mod batch;
pub mod benchmark;
pub mod check;
pub mod data;
pub mod device;
pub mod engine;
pub mod eval;
pub mod fs;
pub mod memory;
pub mod output;
pub mod phantom;
pub mod plugin;
pub mod run;
pub mod scan;
pub mod study;
pub mod task;
pub mod train;
