//! Golden numbers of other implementations (PyTorch, scikit-learn, nibabel) against ours. Each module has `parity` in its
//! name, so that `cargo test parity` runs them all.

mod parity_backbone;
mod parity_families;
mod parity_metrics;
mod parity_plugin;
mod parity_reference;
mod parity_volume;
