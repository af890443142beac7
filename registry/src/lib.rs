//! The registry: a plugin's way from its author to a hospital.
//!
//! A [`package`] is one signed archive per plugin, version and target. A [`store`] holds packages and the signed
//! [`index`] of them; it is trusted with nothing. A [`Registry`] is a store whose index was verified: it searches,
//! resolves and installs into a [`Home`]. [`publish`] is the other side. [`installed`] tells what runs, and whether it
//! still is what was installed.
//!
//! This crate knows neither tensors nor plugins' code: what only the host can see (does the library say what
//! `plugin.toml` says, do the golden cases come out) is asked for through [`Probe`].

mod digest;
mod download;
mod error;
mod home;
pub mod index;
mod install;
pub mod installed;
mod key;
mod lockfile;
mod mirror;
pub mod package;
pub mod publish;
mod registry;
mod resolve;
mod rotation;
pub mod store;
mod trust;

pub use digest::{sha256, sha256_of_file};
pub use error::{RegistryError, Result};
pub use home::{Home, HomeLock};
pub use install::{Candidate, Done, Installation, Probe, remove};
pub use installed::{GoldenReport, InstalledPackage, Receipt};
pub use key::{PublicKey, SecretKey, signer};
pub use lockfile::{LOCK_FILE, LockFile, Locked};
pub use mirror::Mirrored;
pub use registry::Registry;
pub use resolve::{BackboneHere, Platform, Request, Wanted, resolve, short, yanked};
pub use rotation::{Rotation, Statement};
pub use trust::{Claim, Role, Trust, Trusted};
