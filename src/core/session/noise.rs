//! Noise `NNpsk0` through `snow`, with randomness as an input.

use blake2::Blake2sMac;
use blake2::digest::{KeyInit, Mac, consts::U32};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{BoxedCryptoResolver, CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

use super::protection::Secret;
use super::{Discard, Hello};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"netcombiner 1";
const HELLO_LEN: usize = 18;
/// Ephemeral key (32), payload and tag (16).
const MESSAGE_LEN: usize = 32 + HELLO_LEN + 16;

/// The secrets of one exchange, one for each direction.
pub(super) struct Secrets {
    pub(super) to_responder: Secret,
    pub(super) to_initiator: Secret,
}

/// The initiator's half of an exchange that waits for its answer.
pub(super) struct Exchange(HandshakeState);

/// The responder's half is complete at once.
pub(super) struct Responded {
    pub(super) peer: Hello,
    pub(super) secrets: Secrets,
    pub(super) message: Vec<u8>,
}

impl Exchange {
    /// Begins an exchange; gives the first message.
    pub(super) fn initiate(psk: &Secret, random: [u8; 32], hello: &Hello) -> (Self, Vec<u8>) {
        let mut state = builder(psk, random).and_then(Builder::build_initiator).expect(FIXED);
        let message = write(&mut state, hello);
        (Self(state), message)
    }

    /// Takes the answer. A wrong one leaves the exchange as it was, for a right one to come.
    pub(super) fn complete(&mut self, message: &[u8]) -> Result<(Hello, Secrets), Discard> {
        let hello = read(&mut self.0, message)?;
        Ok((hello, split(&mut self.0)))
    }

    /// Takes a first message; `admit` decides by its authentic payload whether it is worth an answer.
    pub(super) fn respond(
        psk: &Secret,
        random: [u8; 32],
        message: &[u8],
        hello: &Hello,
        admit: impl FnOnce(&Hello) -> Result<(), Discard>,
    ) -> Result<Responded, Discard> {
        let mut state = builder(psk, random).and_then(Builder::build_responder).expect(FIXED);
        let peer = read(&mut state, message)?;
        admit(&peer)?;
        let message = write(&mut state, hello);
        Ok(Responded { peer, secrets: split(&mut state), message })
    }
}

/// Why the builder and the writing of a message cannot fail: nothing in them comes from outside.
const FIXED: &str = "pattern, key length and buffer are constants that fit";

fn builder(psk: &Secret, random: [u8; 32]) -> Result<Builder<'_>, Error> {
    let params: NoiseParams = PATTERN.parse()?;
    let resolver: BoxedCryptoResolver = Box::new(Seeded(random));
    Builder::with_resolver(params, resolver).psk(0, &psk.0)?.prologue(PROLOGUE)
}

fn write(state: &mut HandshakeState, hello: &Hello) -> Vec<u8> {
    let mut message = vec![0; MESSAGE_LEN];
    let len = state.write_message(&hello.to_bytes(), &mut message).expect(FIXED);
    message.truncate(len);
    message
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Hello, Discard> {
    if message.len() != MESSAGE_LEN {
        return Err(Discard::Malformed);
    }
    let mut payload = [0; HELLO_LEN];
    match state.read_message(message, &mut payload) {
        Ok(HELLO_LEN) => Ok(Hello::from_bytes(&payload)),
        _ => Err(Discard::Forged),
    }
}

fn split(state: &mut HandshakeState) -> Secrets {
    let (to_responder, to_initiator) = state.dangerously_get_raw_split();
    Secrets { to_responder: Secret(to_responder), to_initiator: Secret(to_initiator) }
}

impl Hello {
    fn to_bytes(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(&self.instance.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[16] = self.manner;
        bytes[17] = u8::from(self.hardware_aes) | u8::from(self.takes_unsummed) << 1;
        bytes
    }

    fn from_bytes(bytes: &[u8; HELLO_LEN]) -> Self {
        let number = |at: usize| bytes[at..at + 8].iter().fold(0, |n, &b| n << 8 | u64::from(b));
        Self {
            instance: number(0),
            timestamp: number(8),
            manner: bytes[16],
            hardware_aes: bytes[17] & 1 != 0,
            takes_unsummed: bytes[17] & 2 != 0,
        }
    }
}

/// The default primitives, but with randomness drawn from a given seed: `core` has none of its own.
struct Seeded([u8; 32]);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom { seed: self.0, drawn: 0 }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SeededRandom {
    seed: [u8; 32],
    drawn: u64,
}

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        for chunk in dest.chunks_mut(32) {
            let mut mac = Blake2sMac::<U32>::new((&self.seed).into());
            mac.update(&self.drawn.to_be_bytes());
            self.drawn += 1;
            chunk.copy_from_slice(&mac.finalize().into_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
