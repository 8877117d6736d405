//! Someone on the way who listens and sends, but does not know the key.

use std::time::Duration;

use super::End;
use super::net::Net;
use super::rng::Rng;
use super::wire::Datagram;
use crate::core::session::Session;
use crate::core::session::protection::Manner;
use crate::core::units::Instant;
use crate::core::wire::Kind;

/// Datagrams of each direction that are remembered.
const REMEMBERED: usize = 2_048;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// A datagram that arrived before, as it was.
    Replayed,
    /// A handshake that arrived before, as it was.
    ReplayedHandshake,
    /// A datagram that arrived before, with one bit changed.
    Flipped,
    /// A datagram that arrived before, without its end.
    Truncated,
    /// A datagram that arrived before, with up to 60,000 bytes added.
    Oversized,
    /// Random bytes that begin like a datagram.
    Garbage,
    /// A first message of a portal with another key.
    ForeignHandshake,
}

impl Forgery {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Replayed,
        Self::ReplayedHandshake,
        Self::Flipped,
        Self::Truncated,
        Self::Oversized,
        Self::Garbage,
        Self::ForeignHandshake,
    ];
}

/// A run of forgeries.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// What is sent.
    pub forgery: Forgery,
    /// To whom.
    pub to: End,
    /// At which of its sockets.
    pub path: usize,
    /// How often.
    pub every: Duration,
    /// With the other portal's address instead of the attacker's own.
    pub spoofed: bool,
}

/// Who listens and sends.
pub struct Adversary {
    /// What is being sent.
    pub attacks: Vec<Attack>,
    /// Datagrams sent to each end.
    pub injected: [u64; 2],
    rng: Rng,
    listens: bool,
    heard: [Vec<Vec<u8>>; 2],
    handshakes: [Vec<Vec<u8>>; 2],
}

impl Adversary {
    /// One who does nothing yet.
    pub fn new(rng: Rng) -> Self {
        Self {
            attacks: Vec::new(),
            injected: [0; 2],
            rng,
            listens: false,
            heard: Default::default(),
            handshakes: Default::default(),
        }
    }

    /// Begins to record what arrives.
    pub fn listen(&mut self) {
        self.listens = true;
    }

    /// Datagrams arrived at an end.
    pub fn overhear(&mut self, to: End, datagrams: &[Box<Datagram>]) {
        if !self.listens {
            return;
        }
        for Datagram { bytes, .. } in datagrams.iter().map(|datagram| &**datagram) {
            if Kind::of(bytes) == Some(Kind::Handshake) {
                self.handshakes[to as usize].push(bytes.clone());
            }
            let heard = &mut self.heard[to as usize];
            if heard.len() < REMEMBERED {
                heard.push(bytes.clone());
            } else {
                heard[self.rng.below(REMEMBERED as u64) as usize].clone_from(bytes);
            }
        }
    }

    /// The next datagram of an attack, if there is something to make it of.
    pub fn forge(&mut self, now: Instant, attack: &Attack, net: &Net) -> Option<Box<Datagram>> {
        let bytes = match attack.forgery {
            Forgery::Replayed => self.recorded(attack.to)?,
            Forgery::ReplayedHandshake => pick(&mut self.rng, &self.handshakes[attack.to as usize])?,
            Forgery::Flipped => {
                let mut bytes = self.recorded(attack.to)?;
                let bit = self.rng.below(bytes.len() as u64 * 8) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            }
            Forgery::Truncated => {
                let mut bytes = self.recorded(attack.to)?;
                bytes.truncate(self.rng.below(bytes.len() as u64) as usize);
                bytes
            }
            Forgery::Oversized => {
                let mut bytes = self.recorded(attack.to)?;
                let more = 1 + self.rng.below(60_000) as usize;
                bytes.resize((bytes.len() + more).min(65_507), 0);
                bytes
            }
            Forgery::Garbage => {
                let mut bytes = vec![0; self.rng.below(1_472) as usize];
                self.rng.fill(&mut bytes);
                if let Some(first) = bytes.first_mut() {
                    *first = 0x10 | *first & 0xf;
                }
                bytes
            }
            Forgery::ForeignHandshake => {
                let (mut key, mut random) = ([0; 32], [0; 32]);
                self.rng.fill(&mut key);
                self.rng.fill(&mut random);
                let mut session = Session::new(now, &key, Manner::Aead, true, self.rng.next());
                session.initiate(u64::MAX, random)
            }
        };
        let path = &net.paths[attack.path];
        let source = match (attack.spoofed, attack.to) {
            (false, _) => Net::STRANGER,
            (true, End::Local) => path.remote,
            (true, End::Remote) => path.mapped,
        };
        self.injected[attack.to as usize] += 1;
        Some(Box::new(Datagram { bytes, source, path: attack.path }))
    }

    fn recorded(&mut self, to: End) -> Option<Vec<u8>> {
        pick(&mut self.rng, &self.heard[to as usize])
    }
}

fn pick(rng: &mut Rng, from: &[Vec<u8>]) -> Option<Vec<u8>> {
    from.get(rng.below(from.len() as u64) as usize).cloned()
}
