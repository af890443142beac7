//! Names of cases that say nothing about the patient.

use sha2::{Digest, Sha256};

/// A case id from a study's UID: the first 16 hexadecimal digits of HMAC-SHA-256 with `salt` as the key.
///
/// The same study and salt give the same id on every machine; without the salt neither the UID nor whether two
/// ids belong to one study can be found out.
pub fn case_id(salt: &[u8], study_uid: &str) -> String {
    hmac(salt, study_uid.as_bytes())[..8].iter().map(|b| format!("{b:02x}")).collect()
}

/// RFC 2104.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|b| b ^ 0x5C)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_rfc_4231() {
        assert_eq!(case_id(b"Jefe", "what do ya want for nothing?"), "5bdcc146bf60754e");
        assert_eq!(
            case_id(&[0xAA; 131], "Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f"
        );
    }

    #[test]
    fn another_salt_gives_another_id() {
        assert_ne!(case_id(b"a", "1.2.3"), case_id(b"b", "1.2.3"));
    }
}
