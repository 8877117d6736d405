//! The key that the two portals share.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A shared key of 32 bytes. Wiped from memory when dropped, and never shown by `Debug`.
///
/// Equality tells whether a reload changed the key. It takes no constant time, so it must not
/// judge anything that came over the network.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; Key::LEN]);

impl Key {
    /// Length of a key, bytes.
    pub const LEN: usize = 32;

    /// Takes 32 bytes, which should come from the system's random source.
    pub fn new(bytes: [u8; Key::LEN]) -> Key {
        Key(bytes)
    }

    /// The bytes, for the cryptography.
    pub fn as_bytes(&self) -> &[u8; Key::LEN] {
        &self.0
    }

    /// The text form, 44 characters, for `genkey`.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }
}

impl FromStr for Key {
    type Err = String;

    /// Reads the text form. The error says what is allowed and never repeats what was given.
    fn from_str(text: &str) -> Result<Key, String> {
        const ALLOWED: &str = "32 bytes in base64, made by `netcombiner genkey`";
        let bytes = STANDARD
            .decode(text)
            .map(Zeroizing::new)
            .map_err(|_| format!("{ALLOWED}; given {} characters that are none", text.chars().count()))?;
        let bytes: [u8; Key::LEN] =
            bytes.as_slice().try_into().map_err(|_| format!("{ALLOWED}; given {} bytes", bytes.len()))?;
        Ok(Key(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn text_form_reads_back() {
        let key = Key::new([0x5a; 32]);
        let text = key.to_base64();
        assert_eq!(text.len(), 44);
        assert_eq!(text.parse::<Key>(), Ok(key));
    }

    #[test]
    fn faults_are_named_without_the_key() {
        let fault = |text: &str| text.parse::<Key>().expect_err("must not parse");
        assert!(fault("c2VjcmV0").ends_with("given 6 bytes"));
        assert!(fault("sec ret").ends_with("given 7 characters that are none"));
        assert!(!fault("c2VjcmV0").contains("c2VjcmV0"));
    }

    #[test]
    fn debug_does_not_show_it() {
        assert_eq!(format!("{:?}", Key::new([7; 32])), "Key(redacted)");
    }
}
