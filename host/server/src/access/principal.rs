//! Whose request it is, and what it may ask for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a token allows. None contains another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// All jobs with their results, the models, the metrics.
    Read,
    /// Submits scans, asks models, and sees and deletes the jobs that the same token submitted.
    Infer,
    /// Deletes any job, and opens plugins again.
    Admin,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Infer => "infer",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "infer" => Ok(Self::Infer),
            "admin" => Ok(Self::Admin),
            other => Err(format!("`{other}`: expected read, infer or admin")),
        }
    }
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's name; `local` where the server takes requests without one.
    pub name: String,
    /// What it may ask for.
    pub scopes: BTreeSet<Scope>,
}

impl Principal {
    /// Whoever reaches a server that asks for no token.
    pub fn local() -> Self {
        Self { name: "local".to_owned(), scopes: BTreeSet::from([Scope::Read, Scope::Infer, Scope::Admin]) }
    }

    /// Whether it has a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}
