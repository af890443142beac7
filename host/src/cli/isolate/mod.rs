//! Plugins' code in a process of its own: what ends that process does not end the run.
//!
//! `wire` is what is said between the two, `process` the one from the outside, `worker` the one from the inside,
//! `apart` keeps an engine running in one, whatever its plugins do.

mod apart;
mod process;
mod wire;
mod worker;

pub(super) use apart::{Apart, Limits};
pub(super) use process::{End, Process};
pub(super) use wire::{Ask, Opening, ProbeOrder, Said};
pub(super) use worker::Worker;
