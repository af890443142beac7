//! `host registry keygen`: makes a key pair in minisign's format, or a key pair that replaces another.

use super::options::{PASSWORD, secret_key};
use crate::console::Console;
use crate::outcome::{CommandError, Outcome};
use anymc3d_registry::{Role, Rotation, SecretKey};
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  ANYMC3D_KEY_PASSWORD=… host registry keygen --name \"Example Lab\" --out lab      lab.key (encrypted) and lab.pub
  host registry keygen --name plugins.example --out index --no-password         for a machine that signs without a person
  host registry keygen --name \"Example Lab\" --out lab2 --rotate lab.key           and lab2.rotation, signed by both

Keep the .key file where nobody else can read it, and keep a backup.";

/// Make a key pair that signs packages or an index
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES)]
pub(super) struct Keygen {
    /// Owner of the key: the publisher's name, or the registry's
    #[arg(long)]
    name: String,
    /// Output: FILE.key and FILE.pub
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Do not encrypt the secret key [default: encrypt it with $ANYMC3D_KEY_PASSWORD]
    #[arg(long)]
    no_password: bool,
    /// Key that the new key replaces; also writes FILE.rotation, for `host registry renew`
    #[arg(long, value_name = "KEY")]
    rotate: Option<PathBuf>,
    /// The rotated key signs an index, not packages
    #[arg(long, requires = "rotate")]
    registry: bool,
}

impl Keygen {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let password = std::env::var(PASSWORD).ok().filter(|p| !p.is_empty());
        if password.is_none() && !self.no_password {
            return Err(CommandError::usage(format!(
                "set ${PASSWORD} to a password for the secret key, or give --no-password"
            )));
        }
        let old = self.rotate.as_deref().map(secret_key).transpose()?;
        let password = password.filter(|_| !self.no_password);
        let (key, text) = SecretKey::generate(&self.name, password.as_deref())?;
        let with = |ending: &str| PathBuf::from(format!("{}.{ending}", self.out.display()));
        write_new(&with("key"), &text, true)?;
        write_new(&with("pub"), &key.public().to_file(&self.name), false)?;
        if let Some(old) = old {
            let role = if self.registry { Role::Registry } else { Role::Publisher };
            let rotation = Rotation::make(&self.name, role, &old, &key)?;
            let json = serde_json::to_string_pretty(&rotation).map_err(CommandError::failed)?;
            write_new(&with("rotation"), &(json + "\n"), false)?;
            console.result(with("rotation").display());
        }
        console.result(with("key").display());
        console.result(with("pub").display());
        console.note(format!("key {}; its public half: {}", key.public().id(), key.public().as_str()));
        Ok(Outcome::Done)
    }
}

/// A key is never overwritten.
fn write_new(path: &Path, text: &str, secret: bool) -> Result<(), CommandError> {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let written =
        options.open(path).and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()));
    written.map_err(|e| CommandError::failed(format!("{}: cannot be written ({e})", path.display())))
}
