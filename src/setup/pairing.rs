//! The line that tells one portal all it must know of the other.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blake2::{Blake2s256, Digest};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::{Cidr, Key};

/// What a line begins with: the number is that of its format.
const HEAD: &str = "nc1:";

/// Bytes of the checksum, which a line that was cut or mistyped does not pass.
const CHECKSUM: usize = 4;

/// Longest line that is looked at: the longest one that is made has some 600 characters.
const MAX_LEN: usize = 4096;

/// Who owns the remote portal's public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// The remote portal, which translates for the other side.
    Nat,
    /// The local portal, which translates for its LAN.
    LocalNat,
    /// A host behind the local portal.
    Address,
}

impl Manner {
    /// The word of the command line.
    pub fn name(self) -> &'static str {
        match self {
            Manner::Nat => "nat",
            Manner::LocalNat => "local-nat",
            Manner::Address => "address",
        }
    }
}

/// What the local portal must know of the remote one. A secret: the key is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Addresses by which the remote portal is reached, the preferred one of each family first; at least one.
    pub endpoints: Vec<IpAddr>,
    /// Port that it listens on, UDP.
    pub port: u16,
    /// The shared key.
    pub key: Key,
    /// Addresses of the local portal's interface.
    pub local: Vec<Cidr>,
    /// Addresses of the remote portal's interface.
    pub remote: Vec<Cidr>,
    /// Who owns the public address.
    pub manner: Manner,
    /// The public addresses as the remote system has them.
    pub owned: Vec<IpAddr>,
}

/// Why a text is no pairing line. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairingError(&'static str);

impl fmt::Display for PairingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a pairing line: {}", self.0)
    }
}

impl std::error::Error for PairingError {}

/// What is in a line, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    a: Vec<IpAddr>,
    p: u16,
    k: Zeroizing<String>,
    l: Vec<String>,
    r: Vec<String>,
    m: Manner,
    o: Vec<IpAddr>,
}

impl Pairing {
    /// The line.
    pub fn to_line(&self) -> Zeroizing<String> {
        let texts = |cidrs: &[Cidr]| cidrs.iter().map(Cidr::to_string).collect();
        let content = Content {
            a: self.endpoints.clone(),
            p: self.port,
            k: self.key.to_base64(),
            l: texts(&self.local),
            r: texts(&self.remote),
            m: self.manner,
            o: self.owned.clone(),
        };
        // Only maps with odd keys, and writers that fail, cannot be written as JSON.
        let json = Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default());
        let mut bytes = Zeroizing::new(checksum(&json).to_vec());
        bytes.extend_from_slice(&json);
        Zeroizing::new(format!("{HEAD}{}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes))))
    }
}

impl FromStr for Pairing {
    type Err = PairingError;

    fn from_str(line: &str) -> Result<Pairing, PairingError> {
        let line = line.trim();
        let Some(text) = line.strip_prefix(HEAD).filter(|text| text.len() <= MAX_LEN) else {
            return Err(PairingError("it begins with nc1:, and `netcombiner setup remote` prints it"));
        };
        const DAMAGED: PairingError = PairingError("it was cut or changed on the way; copy all of it");
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| DAMAGED)?);
        let (sum, json) = bytes.split_at_checked(CHECKSUM).ok_or(DAMAGED)?;
        if sum != checksum(json) {
            return Err(DAMAGED);
        }
        let content: Content = serde_json::from_slice(json)
            .map_err(|_| PairingError("another version of Netcombiner made it"))?;
        content.checked().ok_or(PairingError("another version of Netcombiner made it"))
    }
}

impl Content {
    /// The pairing, if every part of it is what it should be.
    fn checked(self) -> Option<Pairing> {
        let cidrs =
            |texts: Vec<String>| texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<Cidr>>>();
        let is_host = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
        let (endpoints, owned) = (self.a, self.o);
        let fine = !endpoints.is_empty() && endpoints.iter().chain(&owned).all(is_host) && self.p > 0;
        let (local, remote) = (cidrs(self.l)?, cidrs(self.r)?);
        (fine && !local.is_empty()).then_some(())?;
        let key = self.k.parse().ok()?;
        Some(Pairing { endpoints, port: self.p, key, local, remote, manner: self.m, owned })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = Blake2s256::digest(bytes);
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
pub(in crate::setup) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::setup) fn pairing(manner: Manner) -> Pairing {
        let cidrs = |texts: [&str; 2]| texts.map(|text| text.parse().expect("a CIDR")).to_vec();
        Pairing {
            endpoints: vec!["198.51.100.2".parse().expect("v4"), "2001:db8:51::2".parse().expect("v6")],
            port: 7000,
            key: Key::new([7; 32]),
            local: cidrs(["10.77.0.1/24", "fd77::1/64"]),
            remote: cidrs(["10.77.0.2/24", "fd77::2/64"]),
            manner,
            owned: vec!["198.51.100.2".parse().expect("v4")],
        }
    }

    #[test]
    fn a_line_reads_back() {
        for manner in [Manner::Nat, Manner::LocalNat, Manner::Address] {
            let line = pairing(manner).to_line();
            assert!(line.len() < 600 && !line.contains(char::is_whitespace), "{}", line.len());
            assert_eq!(line.parse(), Ok(pairing(manner)));
            assert_eq!(format!(" {}\n", *line).parse(), Ok(pairing(manner)));
        }
    }

    #[test]
    fn damage_is_noticed_and_the_secret_not_repeated() {
        let line = pairing(Manner::Nat).to_line();
        for length in 0..line.len() {
            let error = line[..length].parse::<Pairing>().expect_err("cut");
            assert!(error.to_string().len() < 100);
        }
        let changed = line.replacen(&line[60..61], if &line[60..61] == "A" { "B" } else { "A" }, 1);
        assert!(changed.parse::<Pairing>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(nc1:)?[A-Za-z0-9_-]{0,200}") {
            prop_assert!(text.parse::<Pairing>().is_err());
        }

        /// Whatever passes the checksum and is no pairing is refused as well.
        #[test]
        fn no_content_panics(json in ".{0,200}") {
            let bytes = [&checksum(json.as_bytes()), json.as_bytes()].concat();
            let line = format!("{HEAD}{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(line.parse::<Pairing>().is_err());
        }
    }
}
