//! Keys and signatures in minisign's format: what is signed here is verified by the tool `minisign` too, and the
//! other way round.

use crate::error::{RegistryError, Result};
use serde::{Deserialize, Serialize};
use std::io::Cursor;

/// A public key, as minisign writes it on one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    base64: String,
    id: String,
}

impl PublicKey {
    /// One line of base64, or the two lines of a `.pub` file.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self> {
        let line = text.trim().lines().last().unwrap_or_default().trim();
        let key = minisign::PublicKey::from_base64(line).map_err(|e| RegistryError::Key {
            what: "public key".to_owned(),
            reason: format!("{e}; expected minisign's, one line that begins with RW"),
        })?;
        Ok(Self { base64: line.to_owned(), id: id(key.keynum()) })
    }

    /// Sixteen hexadecimal digits, as minisign shows them.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.base64
    }

    /// The two lines of a `.pub` file.
    pub fn to_file(&self, of: &str) -> String {
        let of: String = of.chars().filter(|c| !c.is_control()).collect();
        format!("untrusted comment: minisign public key {} of {of}\n{}\n", self.id, self.base64)
    }

    /// The trusted comment of a signature over `bytes`.
    ///
    /// # Errors
    /// When the signature is malformed, is by another key, or does not fit the bytes.
    pub fn verify(&self, what: &str, bytes: &[u8], signature: &str) -> Result<String> {
        let bad = |reason: String| RegistryError::BadSignature {
            what: what.to_owned(),
            key: self.id.clone(),
            reason,
        };
        let form = |e: minisign_verify::Error| RegistryError::form(format!("signature of {what}"), e);
        let parsed = minisign_verify::Signature::decode(signature).map_err(form)?;
        let key = minisign_verify::PublicKey::from_base64(&self.base64).map_err(form)?;
        // Prehashed only: the legacy form is not made here.
        key.verify(bytes, &parsed, false).map_err(|e| bad(e.to_string()))?;
        Ok(parsed.trusted_comment().to_owned())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = RegistryError;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.base64
    }
}

fn id(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|b| format!("{b:02X}")).collect()
}

/// The unverified id of the key that made a signature. Use it only to look the key up.
///
/// # Errors
/// When it is no signature.
pub fn signer(what: &str, signature: &str) -> Result<String> {
    let parsed = minisign::SignatureBox::from_string(signature);
    let parsed = parsed.map_err(|e| RegistryError::form(format!("signature of {what}"), e))?;
    Ok(id(parsed.keynum()))
}

/// A key that signs.
pub struct SecretKey {
    secret: minisign::SecretKey,
    public: PublicKey,
}

impl SecretKey {
    /// Makes a new key and the text of its file, encrypted if a password is given.
    ///
    /// # Errors
    /// When the system gives no randomness, or the file's text cannot be made.
    pub fn generate(of: &str, password: Option<&str>) -> Result<(Self, String)> {
        let failed =
            |e: minisign::PError| RegistryError::Key { what: "new key".to_owned(), reason: e.to_string() };
        let pair = minisign::KeyPair::generate_unencrypted_keypair().map_err(failed)?;
        let text = match password {
            None => {
                let comment = format!("minisign secret key of {of}, not encrypted");
                pair.sk.to_box(Some(&comment)).map_err(failed)?.into_string()
            }
            Some(password) => {
                let pair = minisign::KeyPair::generate_encrypted_keypair(Some(password.to_owned()));
                let pair = pair.map_err(failed)?;
                let comment = format!("minisign encrypted secret key of {of}");
                let text = pair.sk.to_box(Some(&comment)).map_err(failed)?.into_string();
                return Ok((Self::parse("new key", &text, Some(password))?, text));
            }
        };
        Ok((Self::parse("new key", &text, None)?, text))
    }

    /// From its file's text.
    ///
    /// # Errors
    /// When it is no secret key, or the password is missing or wrong.
    pub fn parse(what: &str, text: &str, password: Option<&str>) -> Result<Self> {
        let failed = |reason: String| RegistryError::Key { what: what.to_owned(), reason };
        let boxed = minisign::SecretKeyBox::from_string(text);
        let boxed = boxed.map_err(|e| failed(format!("not a minisign secret key ({e})")))?;
        let secret = match password {
            Some(password) => boxed.into_secret_key(Some(password.to_owned())),
            None => boxed.into_unencrypted_secret_key(),
        };
        let secret = secret.map_err(|e| {
            let hint = if password.is_some() { "is the password right?" } else { "is it encrypted?" };
            failed(format!("cannot be opened ({e}); {hint}"))
        })?;
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(|e| failed(e.to_string()))?;
        let public = PublicKey::parse(&public.to_base64())?;
        Ok(Self { secret, public })
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Four lines of signature over `bytes`; `comment` is signed too.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> Result<String> {
        let signed = minisign::sign(
            None,
            &self.secret,
            Cursor::new(bytes),
            Some(comment),
            Some(&format!("signature by minisign key {}", self.public.id())),
        );
        let failed = |e: minisign::PError| RegistryError::Key {
            what: self.public.id().to_owned(),
            reason: e.to_string(),
        };
        Ok(signed.map_err(failed)?.into_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_verifies_and_a_changed_byte_does_not() {
        let (secret, text) = SecretKey::generate("a lab", None).unwrap();
        let again = SecretKey::parse("file", &text, None).unwrap();
        assert_eq!(again.public(), secret.public());
        let signature = again.sign(b"content", "lung_nodule 0.1.0").unwrap();
        let public = PublicKey::parse(&secret.public().to_file("a lab")).unwrap();
        assert_eq!(public.verify("it", b"content", &signature).unwrap(), "lung_nodule 0.1.0");
        assert_eq!(signer("it", &signature).unwrap(), public.id());
        assert!(matches!(
            public.verify("it", b"Content", &signature),
            Err(RegistryError::BadSignature { .. })
        ));
        let other = SecretKey::generate("another", None).unwrap().0;
        assert!(matches!(
            other.public().verify("it", b"content", &signature),
            Err(RegistryError::BadSignature { .. })
        ));
        let commented = signature.replace("0.1.0", "0.2.0");
        assert!(matches!(
            public.verify("it", b"content", &commented),
            Err(RegistryError::BadSignature { .. })
        ));
    }

    #[test]
    fn an_encrypted_key_needs_its_password() {
        let (secret, text) = SecretKey::generate("a lab", Some("correct horse")).unwrap();
        assert!(SecretKey::parse("file", &text, None).is_err());
        assert!(SecretKey::parse("file", &text, Some("wrong")).is_err());
        let again = SecretKey::parse("file", &text, Some("correct horse")).unwrap();
        assert_eq!(again.public(), secret.public());
    }
}
