//! When a result was made, by which program, and, where that is wanted, on which machine and for whom.

use crate::fs::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a record says of its making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// UTC, to the second: `2026-02-03T04:05:06Z`.
    pub time: String,
    /// Digest of the program's file, lower-case hex; null where it cannot be read.
    pub program_sha256: Option<String>,
    /// A digest that is the same for all results of a machine and does not name it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The account that ran it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

static MACHINE: AtomicBool = AtomicBool::new(false);
static USER: AtomicBool = AtomicBool::new(false);

/// What records of this process say besides time and program. Before the first case.
pub fn record(machine: bool, user: bool) {
    MACHINE.store(machine, Ordering::Relaxed);
    USER.store(user, Ordering::Relaxed);
}

/// As [`record`] was told: machine, user.
pub fn recorded() -> (bool, bool) {
    (MACHINE.load(Ordering::Relaxed), USER.load(Ordering::Relaxed))
}

impl Provenance {
    /// Of what is made now.
    pub fn now() -> Self {
        let (machine, user) = recorded();
        let now = jiff::Timestamp::now();
        let whole = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
        Self {
            time: whole.to_string(),
            program_sha256: program_sha256(),
            machine: machine.then(machine_id).flatten(),
            user: user.then(account).flatten(),
        }
    }
}

/// Of the file that this process runs, read once.
fn program_sha256() -> Option<String> {
    static DIGEST: OnceLock<Option<String>> = OnceLock::new();
    let digest = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(std::env::current_exe()?)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hash.finalize())),
                n => hash.update(&buffer[..n]),
            }
        }
    };
    DIGEST.get_or_init(|| digest().ok()).clone()
}

/// machine-id(5) asks programs not to show the id itself: it is hashed with a text of this program.
fn machine_id() -> Option<String> {
    let places = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let id = places
        .iter()
        .find_map(|place| std::fs::read_to_string(place).ok())
        .filter(|id| !id.trim().is_empty())?;
    Some(hex(&Sha256::digest(format!("anymc3d/machine/1\n{}", id.trim()))[..16]))
}

fn account() -> Option<String> {
    ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_time_and_program_and_neither_machine_nor_user_unless_asked() {
        let made = Provenance::now();
        assert!(made.time.len() == 20 && made.time.ends_with('Z') && made.time.contains('T'), "{made:?}");
        assert_eq!(made.program_sha256.as_ref().map(String::len), Some(64));
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(made.program_sha256.unwrap(), hex(&Sha256::digest(bytes)));
        assert_eq!((made.machine, made.user), (None, None));
    }
}
