//! `server_bench OUT`: what the checks of `host serve` ask: a good plugin, and one that aborts where a scan lies more than three
//! metres away, with their weights. Both run on the tiny backbone, whose folder is printed.

use anymc3d_tests::{small, tiny_backbone};
use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("a folder for the plugins"));
    small::probe(&out);
    small::misbehaving(&out, "abort_far_away");
    println!("{}", tiny_backbone().display());
}
