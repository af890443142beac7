//! Backbones that were brought here: imported or pulled into `$ANYMC3D_HOME/backbones`, each with a card that says where it
//! comes from, under which licence, and what it computes for a golden image.

mod acceptance;
mod card;
mod import;
mod licence;
mod quantise;

pub use acceptance::{Unaccepted, accept_licences, check_licence, licence_of};
pub use card::{BackboneCard, CARD_FILE, FileDigest, Verified, verify};
pub use import::{Import, Imported, StoreError, import, remove, store_folder};
pub use licence::Licence;
pub use quantise::quantise;
