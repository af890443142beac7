//! Tiny random models made on the fly.
