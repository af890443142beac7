//! Plugins: find, check before loading, load, and the host's side of the operation table.
