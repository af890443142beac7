//! Tests of the plugin room that need no built library.

mod gradients;
mod handles;
mod losses;
mod volumes;
