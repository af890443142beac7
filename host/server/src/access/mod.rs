//! Who may ask, and from where: bearer tokens with scopes, the names by which the server may be called, no other origin.

mod guard;
mod principal;
mod tokens;

pub(crate) use guard::{NamedHosts, PathKind, guard};
pub use principal::{Principal, Scope};
pub use tokens::{TokenError, Tokens, add_token};
