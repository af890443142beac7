//! The registry: carries plugins from their authors to hospitals.
//!
//! A [`package`] is a signed archive of a plugin for a version and a target. A [`store`] holds packages and their signed
//! [`index`]; nothing trusts a store. A [`Registry`] is a store whose index was verified: it searches, resolves and
//! installs into a [`Home`]. [`publish`] serves publishers. [`installed`] finds the package that runs, and checks that
//! it is unchanged.
//!
//! This crate knows neither tensors nor plugins' code. The host implements [`Probe`] for checks that need them: whether
//! the library contains this `plugin.toml`, and whether the golden cases give their logits.

mod digest;
mod download;
mod error;
mod home;
#[cfg(feature = "http")]
pub mod hub;
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
