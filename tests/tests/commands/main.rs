//! The program `host` as a user types it, one module per group of commands.

mod backbones;
mod background;
mod batch;
mod bench;
mod benchmark;
mod command_line;
mod dicom;
mod evaluation;
mod faults;
mod full_device;
mod memory_limits;
mod one_path;
mod prompt;
mod regions;
mod registry;
mod sequences;
mod study;
mod training;
