//! Where the status page is served, and to whom.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The status page: where it listens, and what it asks of its readers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Address and port to listen on, port 1 to 65535.
    pub address: SocketAddr,
    /// What readers must know. Always there if others than this host can reach the address.
    pub password: Option<Password>,
}

impl Status {
    /// A page for this host only, or one that asks for a password.
    pub fn new(address: SocketAddr, password: Option<Password>) -> Status {
        Status { address, password }
    }
}

/// What the readers of the status page must know. Wiped from memory when dropped, and never shown by `Debug`.
///
/// Equality tells whether a reload changed it. It takes no constant time, so it must not judge what a reader sent.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Password(String);

impl Password {
    /// Lengths that are allowed, characters.
    const LEN: RangeInclusive<usize> = 8..=128;

    /// The password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Password {
    type Err = String;

    /// Takes printable ASCII, of which every browser makes the same bytes. The error never repeats what was given.
    fn from_str(text: &str) -> Result<Password, String> {
        if Self::LEN.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Password(text.to_owned()));
        }
        let (min, max) = (Self::LEN.start(), Self::LEN.end());
        Err(format!("a password of {min} to {max} ASCII characters without blanks"))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// The value of `Status`; `None` is `off`.
pub(super) fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    const ALLOWED: &str = "off, or an address and a port, as in 127.0.0.1:8475 or [::1]:8475";
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address: SocketAddr = text.parse().map_err(|_| ALLOWED)?;
    if address.port() == 0 || address.ip().is_multicast() {
        Err(ALLOWED.to_owned())
    } else {
        Ok(Some(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_off_or_has_address_and_port() {
        assert_eq!(address("OFF"), Ok(None));
        assert_eq!(address("127.0.0.1:8475"), Ok(Some(([127, 0, 0, 1], 8475).into())));
        for wrong in ["8475", "localhost:8475", "127.0.0.1", "127.0.0.1:0", "224.0.0.1:80", "on"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_printable_and_not_shown() {
        let password: Password = "Tr0ub4dor&3".parse().expect("a password");
        assert_eq!(format!("{password:?}"), "Password(redacted)");
        for wrong in ["short", "with a blank", "pässwörter", &"x".repeat(129)] {
            let fault = wrong.parse::<Password>().expect_err("refused");
            assert!(!fault.contains(wrong), "{fault}");
        }
    }
}
