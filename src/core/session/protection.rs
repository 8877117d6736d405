//! What protects a datagram, and the types that make a skipped check not compile.
//!
//! From the socket to the inner network a datagram passes an ordered chain of verifiers, each of which can
//! only be entered with what the one before it gave out:
//!
//! [`Sealed`] (well-formed) → [`Protector::open_all`] → [`Verified`] (authentic) → the replay window of
//! `core::inbound` → delivered. Only that module opens a [`Verified`].
//!
//! # Encryption
//!
//! With [`Manner::Aead`] the first [`CLEAR_LEN`] bytes of a datagram are readable and authentic (RFC 5116's
//! associated data), the place in the order and the body are encrypted, and the tag follows. The nonce is
//! bytes 0 to 3 and 8 to 15 of the header: type, flags, link, number of the key, a part of the timestamp,
//! sequence, data sequence. The receiver keeps no state for it, so strangers have none to disturb, and a
//! datagram opens however late it comes.
//!
//! INVARIANT: no two datagrams under one key bear the same nonce. Two that did would be of one type and link.
//! Each transmission of data takes a new sequence number of its link, be it the first, a repair, or a copy on
//! another link; each other datagram takes a new data sequence number. Neither begins anew while a key is used:
//! a link's slot goes on counting where the link before it ended (`Outbound::remove_link`), new keys leave the
//! numbers alone, and where a peer was (re)started they begin anew together with a key that nothing was sealed
//! with (`Portal::established`, under the lock under which `Portal::pull` takes numbers and key). Of both numbers
//! the low 32 bits are sent, and a key is given up long before as many datagrams ([`SEAL_LIMIT`]). A portal that
//! starts has no keys but those of a new exchange, for which both sides draw fresh Diffie-Hellman keys.

use blake2::Blake2sMac;
use blake2::digest::{KeyInit, Mac, consts::U16, consts::U32};
use ring::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use super::macs::MAC_LEN;
use super::macs::Macs;
use crate::core::discard::Discard;
use crate::core::wire::{HEADER_LEN, Header};

/// Length of the tag of an encrypted datagram.
const TAG_LEN: usize = 16;
/// Bytes at the beginning of an encrypted datagram that are not encrypted.
pub const CLEAR_LEN: usize = 16;
/// Most datagrams that one key seals. RFC 9001 §B.1.1 allows AES-GCM 2²⁸ packets of at most 2¹¹ bytes; an
/// attacker then tells them from random bytes with a probability of 2⁻⁵⁷. Twelve minutes at 5 Gbit/s.
pub const SEAL_LIMIT: u64 = 1 << 28;

/// Manner of protection of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    /// Nothing: the links run inside WireGuard or IPsec.
    None = 0,
    /// A footer of keyed BLAKE2s, 16 bytes (RFC 7693): authentic, not secret.
    Mac = 1,
    /// Encrypted and authentic, by the [`Suite`] that suits both CPUs.
    Aead = 2,
}

impl Manner {
    /// Bytes after the payload.
    pub const fn footer_len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Mac => MAC_LEN,
            Self::Aead => TAG_LEN,
        }
    }

    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mac => "mac",
            Self::Aead => "aead",
        }
    }
}

/// The algorithm that both portals of a session arrive at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// For [`Manner::None`].
    None,
    /// For [`Manner::Mac`].
    Blake2s,
    /// For [`Manner::Aead`] if both CPUs have instructions for it (NIST SP 800-38D).
    Aes128Gcm,
    /// For [`Manner::Aead`] otherwise (RFC 8439).
    ChaCha20Poly1305,
}

impl Suite {
    /// What follows from the manner, and from whether both CPUs have instructions for AES-GCM.
    pub const fn agree(manner: Manner, both_have_aes: bool) -> Self {
        match (manner, both_have_aes) {
            (Manner::None, _) => Self::None,
            (Manner::Mac, _) => Self::Blake2s,
            (Manner::Aead, true) => Self::Aes128Gcm,
            (Manner::Aead, false) => Self::ChaCha20Poly1305,
        }
    }

    /// The standard name of the cipher, if it is one.
    pub const fn cipher(self) -> Option<&'static str> {
        match self {
            Self::None | Self::Blake2s => None,
            Self::Aes128Gcm => Some("AES-128-GCM"),
            Self::ChaCha20Poly1305 => Some("ChaCha20-Poly1305"),
        }
    }
}

/// The key of one direction of one epoch.
pub enum Protector {
    /// [`Manner::None`].
    None,
    /// [`Manner::Mac`].
    Mac(Box<Macs>),
    /// [`Manner::Aead`].
    Aead(Box<LessSafeKey>),
}

impl Protector {
    /// Derives the key of `suite` from a secret of the exchange.
    pub fn new(suite: Suite, secret: &[u8; 32]) -> Self {
        let aead = |algorithm: &'static ring::aead::Algorithm, purpose| {
            let key = derive(secret, purpose);
            let key =
                UnboundKey::new(algorithm, &key.0[..algorithm.key_len()]).expect("a key of that length");
            Self::Aead(Box::new(LessSafeKey::new(key)))
        };
        match suite {
            Suite::None => Self::None,
            Suite::Blake2s => Self::Mac(Box::new(Macs::new(&derive(secret, b"netcombiner 1 mac")))),
            Suite::Aes128Gcm => aead(&AES_128_GCM, b"netcombiner 1 aes-128-gcm"),
            Suite::ChaCha20Poly1305 => aead(&CHACHA20_POLY1305, b"netcombiner 1 chacha20-poly1305"),
        }
    }

    /// Bytes after the payload.
    pub fn footer_len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Mac(_) => MAC_LEN,
            Self::Aead(_) => TAG_LEN,
        }
    }

    /// Protects `datagrams`, each with a header and [`Protector::footer_len`] bytes left free at its end. Of two with
    /// one nonce under one key both could be read and others be forged: see the module.
    pub fn seal_all<'a>(&self, datagrams: impl Iterator<Item = &'a mut [u8]>) {
        match self {
            Self::None => {}
            Self::Mac(macs) => {
                let messages = datagrams.map(|datagram| {
                    let (message, footer) = datagram.split_at_mut(datagram.len() - MAC_LEN);
                    (&*message, footer)
                });
                macs.each(messages, |footer, mac| footer.copy_from_slice(mac));
            }
            Self::Aead(key) => datagrams.for_each(|datagram| {
                let (clear, rest) = datagram.split_at_mut(CLEAR_LEN);
                let (secret, footer) = rest.split_at_mut(rest.len() - TAG_LEN);
                let sealed = key.seal_in_place_separate_tag(nonce(clear), Aad::from(clear), secret);
                footer.copy_from_slice(sealed.expect("a datagram is shorter than 64 GB").as_ref());
            }),
        }
    }

    /// Protects one datagram, see [`Protector::seal_all`].
    pub fn seal(&self, datagram: &mut [u8]) {
        self.seal_all(std::iter::once(datagram));
    }

    /// Checks datagrams, decrypts them where they are, and gives them to `then` in their order.
    pub fn open_all<'a>(
        &self,
        sealed: impl Iterator<Item = Sealed<'a>>,
        mut then: impl FnMut(Result<Verified<'a>, Discard>),
    ) {
        match self {
            Self::None => sealed.for_each(|sealed| then(Verified::of(sealed.datagram, 0))),
            Self::Mac(macs) => {
                let messages = sealed.map(|sealed| {
                    let datagram: &'a [u8] = sealed.datagram;
                    (&datagram[..datagram.len().saturating_sub(MAC_LEN)], datagram)
                });
                macs.each(messages, |datagram, mac| {
                    let footer = datagram.last_chunk::<MAC_LEN>();
                    let authentic = footer.is_some_and(|footer| mac.ct_eq(footer).into());
                    then(if authentic { Verified::of(datagram, MAC_LEN) } else { Err(Discard::Forged) });
                });
            }
            Self::Aead(key) => sealed.for_each(|Sealed { datagram, .. }| {
                // A datagram that is parsed has a whole header.
                let (clear, rest) = datagram.split_at_mut(CLEAR_LEN);
                let opened = key.open_in_place(nonce(clear), Aad::from(clear), rest).is_ok();
                then(if opened { Verified::of(datagram, TAG_LEN) } else { Err(Discard::Forged) });
            }),
        }
    }

    /// Checks and decrypts one datagram.
    pub fn open<'a>(&self, sealed: Sealed<'a>) -> Result<Verified<'a>, Discard> {
        let mut opened = Err(Discard::Forged);
        self.open_all(std::iter::once(sealed), |result| opened = result);
        opened
    }
}

/// The nonce of a datagram that begins with `clear`, see the module.
fn nonce(clear: &[u8]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&clear[..4]);
    nonce[4..].copy_from_slice(&clear[8..CLEAR_LEN]);
    Nonce::assume_unique_for_key(nonce)
}

/// A well-formed datagram of which nothing is proved yet.
pub struct Sealed<'a> {
    epoch: u8,
    datagram: &'a mut [u8],
}

/// A datagram that the peer wrote under a key of this session; it may still be a replay.
pub struct Verified<'a> {
    header: Header,
    body: &'a [u8],
    len: usize,
}

impl<'a> Sealed<'a> {
    /// Checks the shape of a datagram that is not a handshake.
    pub fn parse(datagram: &'a mut [u8]) -> Result<Self, Discard> {
        let header = Header::read(datagram).ok_or(Discard::Malformed)?;
        Ok(Self { epoch: header.epoch, datagram })
    }

    /// The number of the key it claims to be protected with.
    pub fn epoch(&self) -> u8 {
        self.epoch
    }
}

impl<'a> Verified<'a> {
    /// The authentic `datagram`, without the `footer_len` bytes at its end.
    fn of(datagram: &'a [u8], footer_len: usize) -> Result<Self, Discard> {
        let header = Header::read(datagram).ok_or(Discard::Malformed)?;
        let end = datagram.len().checked_sub(footer_len).filter(|&end| end >= HEADER_LEN);
        let body = &datagram[HEADER_LEN..end.ok_or(Discard::Malformed)?];
        Ok(Self { header, body, len: datagram.len() })
    }

    /// The authentic header. Nothing may be done by it before the replay check.
    pub(in crate::core) fn header(&self) -> &Header {
        &self.header
    }

    /// The authentic body, between header and footer.
    pub(in crate::core) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Bytes of the whole datagram.
    pub(in crate::core) fn wire_len(&self) -> usize {
        self.len
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
    use proptest::sample::Index;

    /// The largest payload of a UDP datagram over IPv4.
    const LONGEST: usize = 65_507;

    fn suites() -> impl Strategy<Value = Suite> {
        proptest::sample::select(
            &[Suite::None, Suite::Blake2s, Suite::Aes128Gcm, Suite::ChaCha20Poly1305][..],
        )
    }

    fn protecting_suites() -> impl Strategy<Value = Suite> {
        suites().prop_filter("protects", |suite| *suite != Suite::None)
    }

    /// Lengths of a datagram without its footer.
    fn lengths() -> impl Strategy<Value = usize> {
        prop_oneof![
            HEADER_LEN..200,
            HEADER_LEN..1_500,
            HEADER_LEN..=LONGEST - MAC_LEN,
            Just(LONGEST - MAC_LEN)
        ]
    }

    /// A datagram whose body begins with `payload` and has the given length altogether, not sealed.
    fn plain(sequence: u32, len: usize, protector: &Protector) -> Vec<u8> {
        let header = Header {
            kind: Kind::Data,
            flags: 0,
            link: 3,
            epoch: 2,
            timestamp: 77,
            in_flight: 0,
            sequence,
            data_sequence: 6,
            order: Order { bucket: 5, position: 4 },
        };
        let mut bytes: Vec<u8> = (0..len).map(|i| (i as u32 ^ sequence) as u8).collect();
        header.write(&mut bytes);
        bytes.resize(len + protector.footer_len(), 0);
        bytes
    }

    fn open(protector: &Protector, bytes: &mut [u8]) -> Result<(Header, Vec<u8>), Discard> {
        let verified = Sealed::parse(bytes).and_then(|sealed| protector.open(sealed))?;
        Ok((*verified.header(), verified.body().to_vec()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_sealed_opens(lengths in proptest::collection::vec(lengths(), 0..70), suite in suites(), secret: [u8; 32]) {
            let protector = Protector::new(suite, &secret);
            let plain: Vec<_> = (0..).zip(&lengths).map(|(i, len)| plain(i, *len, &protector)).collect();
            let mut sealed = plain.clone();
            protector.seal_all(sealed.iter_mut().map(|datagram| &mut datagram[..]));
            let mut opened = Vec::new();
            let parsed = sealed.iter_mut().map(|datagram| Sealed::parse(datagram).map_err(|_| ()).expect("well-formed"));
            protector.open_all(parsed, |verified| {
                opened.push(verified.map(|verified| (*verified.header(), verified.body().to_vec(), verified.wire_len())));
            });
            prop_assert_eq!(opened.len(), plain.len());
            for (opened, plain) in opened.into_iter().zip(plain) {
                let body = plain[HEADER_LEN..plain.len() - protector.footer_len()].to_vec();
                let header = Header::read(&plain).expect("it was written");
                prop_assert_eq!(opened, Ok((header, body, plain.len())));
            }
        }

        #[test]
        fn any_flipped_bit_and_any_other_key_is_forged(len in HEADER_LEN..120, bit: Index, suite in protecting_suites(), secret: [u8; 32]) {
            let protector = Protector::new(suite, &secret);
            let mut bytes = plain(1, len, &protector);
            protector.seal(&mut bytes);
            let other = Protector::new(suite, &[secret[0] ^ 1; 32]);
            prop_assert_eq!(open(&other, &mut bytes.clone()), Err(Discard::Forged));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(open(&protector, &mut bytes), Err(Discard::Forged | Discard::Malformed)));
        }

        #[test]
        fn every_truncation_is_refused(len in HEADER_LEN..100, cut in 1usize..120, suite in protecting_suites(), secret: [u8; 32]) {
            let protector = Protector::new(suite, &secret);
            let mut bytes = plain(1, len, &protector);
            protector.seal(&mut bytes);
            let left = bytes.len().saturating_sub(cut);
            prop_assert!(open(&protector, &mut bytes[..left]).is_err());
        }

        #[test]
        fn one_forgery_does_not_harm_its_neighbours(count in 1usize..70, which: Index, suite in protecting_suites(), secret: [u8; 32]) {
            let protector = Protector::new(suite, &secret);
            let mut sealed: Vec<_> = (0..count).map(|i| plain(i as u32, 60 + i, &protector)).collect();
            protector.seal_all(sealed.iter_mut().map(|datagram| &mut datagram[..]));
            let which = which.index(count);
            sealed[which][40] ^= 1;
            let mut opened = Vec::new();
            let parsed = sealed.iter_mut().map(|datagram| Sealed::parse(datagram).map_err(|_| ()).expect("well-formed"));
            protector.open_all(parsed, |verified| opened.push(verified.map(|verified| verified.header().sequence)));
            let want: Vec<_> = (0..count).map(|i| if i == which { Err(Discard::Forged) } else { Ok(i as u32) }).collect();
            prop_assert_eq!(opened, want);
        }

        #[test]
        fn what_is_encrypted_shows_only_the_clear_part(body in proptest::collection::vec(any::<u8>(), 16..200), secret: [u8; 32]) {
            for suite in [Suite::Aes128Gcm, Suite::ChaCha20Poly1305] {
                let protector = Protector::new(suite, &secret);
                let mut bytes = plain(9, HEADER_LEN + body.len(), &protector);
                bytes[HEADER_LEN..HEADER_LEN + body.len()].copy_from_slice(&body);
                let before = bytes.clone();
                protector.seal(&mut bytes);
                prop_assert_eq!(&bytes[..CLEAR_LEN], &before[..CLEAR_LEN]);
                prop_assert!(bytes.chunks(8).zip(before.chunks(8)).skip(2).all(|(now, then)| now != then || now.len() < 8));
            }
        }
    }

    #[test]
    fn the_nonce_is_of_what_is_new_for_every_transmission() {
        let clear: Vec<u8> = (0..CLEAR_LEN as u8).collect();
        assert_eq!(nonce(&clear).as_ref(), &[0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn aes_only_if_both_have_it() {
        assert_eq!(Suite::agree(Manner::Aead, true), Suite::Aes128Gcm);
        assert_eq!(Suite::agree(Manner::Aead, false), Suite::ChaCha20Poly1305);
        assert_eq!(Suite::agree(Manner::Mac, true), Suite::Blake2s);
        assert_eq!(Suite::agree(Manner::None, true), Suite::None);
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
