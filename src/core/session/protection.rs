//! What protects a datagram: the footer, and the types that make a skipped check not compile.
//!
//! From the socket to the inner network a datagram passes an ordered chain of verifiers, each of which can
//! only be entered with what the one before it gave out:
//!
//! [`Sealed`] (well-formed) → [`Sealed::verify`] → [`Verified`] (authentic) → the replay window of
//! `core::inbound` → delivered. Only that module opens a [`Verified`].

use blake2::Blake2sMac;
use blake2::digest::{KeyInit, Mac, consts::U16, consts::U32};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::core::discard::Discard;
use crate::core::wire::{HEADER_LEN, Header};

/// Length of the MAC footer.
pub const MAC_LEN: usize = 16;

/// Manner of protection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    /// Nothing: the links run inside WireGuard or IPsec.
    None = 0,
    /// A footer of keyed BLAKE2s, 16 bytes (RFC 7693): authentic, not secret.
    Mac = 1,
}

impl Manner {
    /// The manner a peer named by `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Mac),
            _ => None,
        }
    }

    /// Bytes after the payload.
    pub const fn footer_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Mac => MAC_LEN,
        }
    }

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mac => "mac",
        }
    }
}

/// The key of one direction of one epoch.
pub enum Protector {
    /// [`Manner::None`].
    None,
    /// [`Manner::Mac`], with the key already absorbed.
    Mac(Box<Blake2sMac<U16>>),
}

impl Protector {
    /// Derives the key of `manner` from a secret of the exchange.
    pub fn new(manner: Manner, secret: &[u8; 32]) -> Self {
        match manner {
            Manner::None => Self::None,
            Manner::Mac => Self::Mac(Box::new(keyed(&derive(secret, b"netcombiner 1 mac")))),
        }
    }

    /// Bytes after the payload.
    pub fn footer_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Mac(_) => MAC_LEN,
        }
    }

    /// Writes the footer to the last bytes of `datagram`, which were left free for it.
    pub fn seal(&self, datagram: &mut [u8]) {
        if let Self::Mac(mac) = self {
            let (message, footer) = datagram.split_at_mut(datagram.len() - MAC_LEN);
            footer.copy_from_slice(&footer_of(mac, message));
        }
    }
}

/// A well-formed datagram of which nothing is proved yet.
pub struct Sealed<'a> {
    header: Header,
    datagram: &'a [u8],
}

/// A datagram that the peer wrote under a key of this session; it may still be a replay.
pub struct Verified<'a> {
    header: Header,
    body: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Checks the shape of a datagram that is not a handshake.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Discard> {
        let header = Header::read(datagram).ok_or(Discard::Malformed)?;
        Ok(Self { header, datagram })
    }

    /// The number of the key it claims to be protected with.
    pub fn epoch(&self) -> u8 {
        self.header.epoch
    }

    /// Checks the footer.
    pub fn verify(self, protector: &Protector) -> Result<Verified<'a>, Discard> {
        let end = self.datagram.len().checked_sub(protector.footer_len()).filter(|&end| end >= HEADER_LEN);
        let (message, footer) = self.datagram.split_at(end.ok_or(Discard::Malformed)?);
        if let Protector::Mac(mac) = protector {
            let mut mac = (**mac).clone();
            mac.update(message);
            mac.verify_slice(footer).map_err(|_| Discard::Forged)?;
        }
        Ok(Verified { header: self.header, body: &message[HEADER_LEN..] })
    }
}

impl<'a> Verified<'a> {
    /// The authentic header. Nothing may be done by it before the replay check.
    pub(in crate::core) fn header(&self) -> &Header {
        &self.header
    }

    /// The authentic body, between header and footer.
    pub(in crate::core) fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// A secret for one purpose, derived from a shared one.
pub(super) fn derive(secret: &[u8; 32], purpose: &[u8]) -> Secret {
    let mut mac = Blake2sMac::<U32>::new(secret.into());
    mac.update(purpose);
    Secret(mac.finalize().into_bytes().into())
}

/// The MAC under `key`, ready for messages.
pub(super) fn keyed(key: &Secret) -> Blake2sMac<U16> {
    Blake2sMac::new((&key.0).into())
}

/// The footer of `message`.
pub(super) fn footer_of(mac: &Blake2sMac<U16>, message: &[u8]) -> [u8; MAC_LEN] {
    let mut mac = mac.clone();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// Thirty-two secret bytes, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Secret(pub(super) [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::{Kind, Order};
    use proptest::prelude::*;

    fn datagram(payload: &[u8], protector: &Protector) -> Vec<u8> {
        let header = Header {
            kind: Kind::Data,
            flags: 0,
            link: 3,
            epoch: 2,
            timestamp: 77,
            in_flight: 0,
            sequence: 5,
            data_sequence: 6,
            order: Order::default(),
        };
        let mut bytes = vec![0; HEADER_LEN];
        header.write(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + protector.footer_len(), 0);
        protector.seal(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_was_sealed_verifies(payload in proptest::collection::vec(any::<u8>(), 0..1500), secret: [u8; 32], mac: bool) {
            let manner = if mac { Manner::Mac } else { Manner::None };
            let protector = Protector::new(manner, &secret);
            let bytes = datagram(&payload, &protector);
            prop_assert_eq!(bytes.len(), HEADER_LEN + payload.len() + manner.footer_len());
            let verified = Sealed::parse(&bytes).and_then(|sealed| sealed.verify(&protector));
            prop_assert_eq!(verified.map(|v| v.body().to_vec()), Ok(payload));
        }

        #[test]
        fn any_flipped_bit_and_any_other_key_is_forged(payload in proptest::collection::vec(any::<u8>(), 0..64), bit: proptest::sample::Index, secret: [u8; 32]) {
            let protector = Protector::new(Manner::Mac, &secret);
            let mut bytes = datagram(&payload, &protector);
            let other = Protector::new(Manner::Mac, &[secret[0] ^ 1; 32]);
            let verdict = Sealed::parse(&bytes).and_then(|sealed| sealed.verify(&other)).map(|_| ());
            prop_assert_eq!(verdict, Err(Discard::Forged));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verdict = Sealed::parse(&bytes).and_then(|sealed| sealed.verify(&protector)).map(|_| ());
            prop_assert!(matches!(verdict, Err(Discard::Forged | Discard::Malformed)));
        }

        #[test]
        fn every_truncation_is_refused(payload in proptest::collection::vec(any::<u8>(), 0..64), cut in 1usize..100, secret: [u8; 32]) {
            let protector = Protector::new(Manner::Mac, &secret);
            let bytes = datagram(&payload, &protector);
            let cut = &bytes[..bytes.len().saturating_sub(cut)];
            prop_assert!(Sealed::parse(cut).and_then(|sealed| sealed.verify(&protector)).is_err());
        }
    }

    #[test]
    fn the_footer_is_keyed_blake2s_of_16_bytes() {
        // RFC 7693 parameters: digest length 16, key length 32; the value is from Python's hashlib.blake2s.
        let mac = keyed(&Secret([7; 32]));
        assert_eq!(footer_of(&mac, b"netcombiner").map(|b| format!("{b:02x}")).concat(), PYTHON);
    }

    /// `hashlib.blake2s(b"netcombiner", digest_size=16, key=bytes([7] * 32)).hexdigest()`
    const PYTHON: &str = "05a5698870622fe1e10f713f8d26285a";
}
