//! A new key takes an old one's place: a statement that both keys sign, so that whoever trusts the old one may trust
//! the new one, and nobody can claim a key that is not theirs.

use crate::error::{RegistryError, Result};
use crate::key::{PublicKey, SecretKey};
use crate::trust::Role;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const SCHEMA: &str = "anymc3d/rotation/1";

/// What both keys sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    schema: String,
    /// Whose keys.
    pub name: String,
    /// What they sign.
    pub role: Role,
    /// From.
    pub old: PublicKey,
    /// To.
    pub new: PublicKey,
    /// When.
    pub date: Timestamp,
}

/// A statement with its two signatures, and the revision of the index that it came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Releases from this revision on must be signed by the new key. 0 until it is in an index.
    #[serde(default)]
    pub revision: u64,
    statement: String,
    by_old: String,
    by_new: String,
}

impl Rotation {
    /// Signs the statement with both keys.
    ///
    /// # Errors
    /// When either cannot sign, or they are the same key.
    pub fn make(name: &str, role: Role, old: &SecretKey, new: &SecretKey) -> Result<Self> {
        let (from, to) = (old.public().clone(), new.public().clone());
        if from == to {
            return Err(RegistryError::Usage(format!("key {}: cannot take its own place", from.id())));
        }
        let comment = format!("{name}: {} takes the place of {}", to.id(), from.id());
        let (schema, name, date) = (SCHEMA.to_owned(), name.to_owned(), Timestamp::now());
        let statement = Statement { schema, name, role, old: from, new: to, date };
        let statement = serde_json::to_string(&statement).map_err(|e| RegistryError::form("rotation", e))?;
        let by_old = old.sign(statement.as_bytes(), &comment)?;
        let by_new = new.sign(statement.as_bytes(), &comment)?;
        Ok(Self { revision: 0, statement, by_old, by_new })
    }

    /// Verifies both signatures and returns the statement.
    ///
    /// # Errors
    /// When the text is malformed, or either signature does not verify.
    pub fn verified(&self) -> Result<Statement> {
        let statement: Statement =
            serde_json::from_str(&self.statement).map_err(|e| RegistryError::form("rotation", e))?;
        if statement.schema != SCHEMA {
            let reason = format!("schema {}, expected {SCHEMA}; upgrade the host", statement.schema);
            return Err(RegistryError::form("rotation", reason));
        }
        let what = format!("rotation of {}", statement.name);
        statement.old.verify(&what, self.statement.as_bytes(), &self.by_old)?;
        statement.new.verify(&what, self.statement.as_bytes(), &self.by_new)?;
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Trust;

    #[test]
    fn trust_goes_over_a_chain_of_cross_signed_keys_and_not_over_a_forged_one() {
        let [a, b, c, thief] = [(); 4].map(|()| SecretKey::generate("lab", None).unwrap().0);
        let mut first = Rotation::make("lab", Role::Publisher, &a, &b).unwrap();
        let mut second = Rotation::make("lab", Role::Publisher, &b, &c).unwrap();
        (first.revision, second.revision) = (3, 7);
        let mut trust = Trust::default();
        trust.add(Role::Publisher, "lab", a.public(), "added").unwrap();
        let learned = trust.follow("r", &[second.clone(), first.clone()]).unwrap();
        assert_eq!(learned.len(), 2);
        assert_eq!(trust.find(Role::Publisher, "lab", a.public().id()).unwrap().retired["r"], 3);
        assert!(trust.find(Role::Publisher, "lab", c.public().id()).unwrap().retired.is_empty());
        // A second look changes nothing.
        assert!(trust.follow("r", &[first.clone(), second]).unwrap().is_empty());

        // The thief has his own key only: he cannot sign for the old one.
        let mut forged = Rotation::make("lab", Role::Publisher, &thief, &c).unwrap();
        forged.statement = forged.statement.replace(thief.public().as_str(), a.public().as_str());
        assert!(matches!(trust.follow("r", &[forged]), Err(RegistryError::BadSignature { .. })));
        // A rotation of a key that nobody trusts teaches nothing.
        let own = Rotation::make("lab", Role::Publisher, &thief, &c).unwrap();
        let mut fresh = Trust::default();
        fresh.add(Role::Publisher, "lab", a.public(), "added").unwrap();
        assert!(fresh.follow("r", &[own]).unwrap().is_empty());
    }
}
