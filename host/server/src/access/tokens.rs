//! The file of tokens: names, scopes and digests. The tokens themselves stand in no file.
//!
//! A token has 256 random bits, so that its plain SHA-256 gives nothing away: there is nothing to guess, and salt and slow
//! hashing, which passwords need, would add nothing.

use super::principal::{Principal, Scope};
use anymc3d_host::fs::{hex, write_atomically};
use anymc3d_host::output::random_salt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

/// Begins every token, so that scanners of leaked secrets know one.
const PREFIX: &str = "anymc3d_";

/// Why the file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Reading or writing it.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its content.
    #[error("{}: found {found}, expected tables [[token]] with name, scopes and sha256", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        found: String,
    },
    /// A name that is there already.
    #[error("{}: a token called {name} is there already; choose another name, or remove its table first", file.display())]
    Taken {
        /// The file.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// A name that could not stand in a log.
    #[error("`{0}`: expected a name of 1 to 64 letters, digits, `-`, `_` and `.`")]
    Name(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    scopes: BTreeSet<Scope>,
    /// Of the token, lower-case hex.
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    /// From here on the token is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    #[serde(default)]
    token: Vec<Entry>,
}

fn read(file: &Path) -> Result<TokenFile, TokenError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| TokenError::File { file: file.to_owned(), source })?;
    let wrong = |found: String| TokenError::Content { file: file.to_owned(), found };
    let parsed: TokenFile = toml::from_str(&text)
        .map_err(|e| wrong(e.message().lines().next().unwrap_or("no TOML").to_owned()))?;
    for entry in &parsed.token {
        if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong(format!("a digest of token {} that is no SHA-256", entry.name)));
        }
        check_name(&entry.name)?;
    }
    Ok(parsed)
}

fn check_name(name: &str) -> Result<(), TokenError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=64).contains(&name.len()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err(TokenError::Name(name.to_owned())),
    }
}

fn digest(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Makes a token and writes its digest into the file, which is made, readable by its owner only, where there is none. The
/// token itself is returned and stands nowhere.
///
/// # Errors
/// When the name does not fit or is taken, or the file cannot be read or written.
pub fn add_token(
    file: &Path,
    name: &str,
    scopes: BTreeSet<Scope>,
    expires: Option<Timestamp>,
) -> Result<String, TokenError> {
    check_name(name)?;
    let failed = |source| TokenError::File { file: file.to_owned(), source };
    let mut all = if file.exists() { read(file)? } else { TokenFile::default() };
    if all.token.iter().any(|entry| entry.name == name) {
        return Err(TokenError::Taken { file: file.to_owned(), name: name.to_owned() });
    }
    let random = random_salt().map_err(failed)?;
    let token = format!("{PREFIX}{}", String::from_utf8_lossy(&random));
    all.token.push(Entry {
        name: name.to_owned(),
        scopes,
        sha256: digest(&token),
        created: Some(Timestamp::now()),
        expires,
    });
    let text = toml::to_string(&all)
        .map_err(|e| TokenError::Content { file: file.to_owned(), found: e.to_string() })?;
    write_atomically(file, text.as_bytes()).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    }
    Ok(token)
}

/// The tokens of a server. A file that changes is read again; one that cannot be read leaves the tokens as they were.
pub struct Tokens {
    file: PathBuf,
    known: RwLock<(Option<SystemTime>, Arc<TokenFile>)>,
}

fn changed(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|about| about.modified()).ok()
}

impl Tokens {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or a table in it is wrong.
    pub fn open(file: &Path) -> Result<Self, TokenError> {
        let at = changed(file);
        Ok(Self { file: file.to_owned(), known: RwLock::new((at, Arc::new(read(file)?))) })
    }

    /// Reads the file again where it has changed.
    ///
    /// # Errors
    /// When it cannot be read; the tokens are then what they were.
    pub fn refresh(&self) -> Result<bool, TokenError> {
        let at = changed(&self.file);
        if at == self.known.read().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(false);
        }
        let new = read(&self.file)?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (at, Arc::new(new));
        Ok(true)
    }

    /// Whose token it is. What is compared are digests of what was sent: how long that takes says nothing of a token.
    pub fn principal(&self, token: &str) -> Option<Principal> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).1.clone();
        let sent = digest(token);
        let now = Timestamp::now();
        let valid = |entry: &&Entry| {
            entry.sha256.eq_ignore_ascii_case(&sent) && entry.expires.is_none_or(|end| now < end)
        };
        let entry = known.token.iter().find(valid)?;
        Some(Principal { name: entry.name.clone(), scopes: entry.scopes.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_digest_until_it_expires_or_its_table_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens.toml");
        let read_only = BTreeSet::from([Scope::Read]);
        let token = add_token(&file, "viewer", read_only.clone(), None).unwrap();
        let past = Some(Timestamp::now() - jiff::SignedDuration::from_secs(1));
        let old = add_token(&file, "old", BTreeSet::from([Scope::Admin]), past).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&token) && token.len() > 60, "{text}");
        let tokens = Tokens::open(&file).unwrap();
        assert_eq!(tokens.principal(&token), Some(Principal { name: "viewer".into(), scopes: read_only }));
        assert_eq!((tokens.principal(&old), tokens.principal("")), (None, None));
        assert!(matches!(add_token(&file, "old", BTreeSet::new(), None), Err(TokenError::Taken { .. })));
        assert!(matches!(add_token(&file, "a\nb", BTreeSet::new(), None), Err(TokenError::Name(_))));
        std::fs::write(&file, "tokens = 3").unwrap();
        filetime(&file, 10);
        assert!(tokens.refresh().is_err() && tokens.principal(&token).is_some(), "what was known stays");
        std::fs::write(&file, "").unwrap();
        filetime(&file, 20);
        assert!(tokens.refresh().unwrap() && tokens.principal(&token).is_none());
    }

    /// A clock may be coarse: the change is made visible.
    fn filetime(file: &Path, seconds: u64) {
        let at = SystemTime::now() + std::time::Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(file).unwrap().set_modified(at).unwrap();
    }
}
