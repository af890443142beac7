//! Who this server is to an archive: a Bearer token or a Basic account, from a file or the environment, never from an
//! argument that other users of the machine see.

use serde::Deserialize;

use std::path::{Path, PathBuf};

/// Where the secret is. At most one of the four.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialSource {
    /// Environment variable with a Bearer token.
    pub bearer_env: Option<String>,
    /// File with a Bearer token, read anew for every request: tokens that expire are replaced there.
    pub bearer_file: Option<PathBuf>,
    /// Environment variable with `user:password`.
    pub basic_env: Option<String>,
    /// File with `user:password`, read anew for every request.
    pub basic_file: Option<PathBuf>,
}

/// How to get the value of the header `Authorization`. It has no `Debug`: what is printed ends in logs.
#[derive(Clone, Default)]
pub struct Credentials {
    scheme: &'static str,
    secret: Secret,
}

#[derive(Clone, Default)]
enum Secret {
    #[default]
    None,
    Variable(String),
    File(PathBuf),
}

impl CredentialSource {
    /// Looks the secret up; relative files lie in `folder`.
    ///
    /// # Errors
    /// One line, when several are named, or the named one is absent or empty.
    pub fn open(&self, folder: &Path) -> Result<Credentials, String> {
        let env = |scheme, name: &String| match std::env::var(name) {
            Ok(value) if !value.trim().is_empty() => {
                Ok(Credentials { scheme, secret: Secret::Variable(value) })
            }
            _ => {
                Err(format!("the environment variable {name} is not set; it must hold the archive's secret"))
            }
        };
        let file = |scheme, path: &PathBuf| {
            let credentials = Credentials { scheme, secret: Secret::File(folder.join(path)) };
            credentials.header().map(|_| credentials)
        };
        let named = [
            self.bearer_env.as_ref().map(|n| env("Bearer", n)),
            self.bearer_file.as_ref().map(|p| file("Bearer", p)),
            self.basic_env.as_ref().map(|n| env("Basic", n)),
            self.basic_file.as_ref().map(|p| file("Basic", p)),
        ];
        let mut named = named.into_iter().flatten();
        let first = named.next();
        if named.next().is_some() {
            return Err("bearer_env, bearer_file, basic_env, basic_file: give one of them".into());
        }
        first.unwrap_or_else(|| Ok(Credentials::default()))
    }
}

impl Credentials {
    /// The header's value; `None` where the archive asks for none.
    ///
    /// # Errors
    /// One line, when the file is gone or empty.
    pub fn header(&self) -> Result<Option<String>, String> {
        let secret = match &self.secret {
            Secret::None => return Ok(None),
            Secret::Variable(secret) => secret.clone(),
            Secret::File(path) => std::fs::read_to_string(path)
                .map_err(|e| format!("{}: the archive's secret cannot be read ({e})", path.display()))?,
        };
        let secret = secret.trim();
        if secret.is_empty() || secret.chars().any(char::is_control) {
            return Err("the archive's secret is empty or has more than one line".into());
        }
        Ok(Some(match self.scheme {
            "Basic" => format!("Basic {}", base64(secret.as_bytes())),
            scheme => format!("{scheme} {secret}"),
        }))
    }
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let known = digit <= chunk.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if known { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_that_may_change() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "abc\n").unwrap();
        let source = CredentialSource { bearer_file: Some("token".into()), ..CredentialSource::default() };
        let credentials = source.open(folder.path()).unwrap();
        assert_eq!(credentials.header().unwrap().as_deref(), Some("Bearer abc"));
        std::fs::write(folder.path().join("token"), "def").unwrap();
        assert_eq!(credentials.header().unwrap().as_deref(), Some("Bearer def"));
        std::fs::remove_file(folder.path().join("token")).unwrap();
        assert!(credentials.header().unwrap_err().contains("token"));
    }

    #[test]
    fn two_secrets_are_refused_and_so_is_one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("account"), "user:password").unwrap();
        let basic = CredentialSource { basic_file: Some("account".into()), ..CredentialSource::default() };
        let credentials = basic.open(folder.path()).unwrap();
        assert_eq!(credentials.header().unwrap().as_deref(), Some("Basic dXNlcjpwYXNzd29yZA=="));
        let both = CredentialSource { bearer_file: Some("account".into()), ..basic };
        assert!(both.open(folder.path()).is_err());
        let absent =
            CredentialSource { bearer_env: Some("ANYMC3D_NO_SUCH".into()), ..CredentialSource::default() };
        assert!(absent.open(folder.path()).err().unwrap().contains("ANYMC3D_NO_SUCH"));
    }
}
