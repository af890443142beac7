//! The frozen vision transformer: configuration, weights, forward pass, and low-rank adapters inside the blocks.
