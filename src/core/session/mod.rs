//! The session with the other portal: fresh keys at every start and every two minutes.
//!
//! The exchange is Noise `NNpsk0` (noiseprotocol.org, revision 34) in one round trip. Randomness and
//! wall-clock time are inputs. As in WireGuard, the responder starts to use new keys only when it has
//! received a datagram under them, so a replayed first message changes nothing.
//!
//! Called by `core::Portal` alone: [`Session::initiate`] and [`Session::on_handshake`] for the messages,
//! [`Session::confirm`] at the first authentic datagram under a new key, [`Session::ring`] for the data path.

mod macs;
mod noise;
pub mod protection;
#[cfg(target_arch = "x86_64")]
mod wide;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::U16;

use super::discard::Discard;
use super::units::Instant;
use super::wire::{HANDSHAKE_HEAD_LEN, HandshakeHead};
use noise::{Exchange, Responded, Secrets};
use protection::{MAC_LEN, Manner, Protector, SEAL_LIMIT, Secret, Suite, derive, footer_of, keyed};

/// Age at which the initiator of a session's keys starts a new exchange (WireGuard's REKEY_AFTER_TIME).
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// The responder starts one itself if the initiator has not by then.
const REKEY_RESPONDER_AFTER: Duration = Duration::from_secs(135);
/// Datagrams after which either side starts one.
const REKEY_AFTER_DATAGRAMS: u64 = SEAL_LIMIT / 2;
/// Exchanges begun and not answered that are kept: at one a second, round trips of four seconds complete.
const MAX_PENDING: usize = 4;
/// First messages remembered, so that one that was recorded is not taken twice (see [`Session::fresh_enough`]).
const REMEMBERED: usize = 256;

/// Keys of both directions that one exchange gave.
pub struct Epoch {
    /// Our number of it: datagrams to us bear it.
    pub receive_number: u8,
    /// The peer's number of it: datagrams to the peer bear it.
    pub send_number: u8,
    /// Protects what we send.
    pub seal: Protector,
    /// Verifies what we receive.
    pub open: Protector,
    /// The peer takes packets whose checksum is not summed.
    pub takes_unsummed: bool,
    suite: Suite,
    /// Datagrams that were sealed.
    sealed: AtomicU64,
    created: Instant,
    initiator: bool,
}

impl Epoch {
    /// `numbers` are ours and the peer's.
    fn new(now: Instant, numbers: (u8, u8), terms: Terms, secrets: &Secrets, initiator: bool) -> Epoch {
        let Terms { suite, takes_unsummed } = terms;
        let protector = |secret: &Secret| Protector::new(suite, &secret.0);
        let (to_initiator, to_responder) =
            (protector(&secrets.to_initiator), protector(&secrets.to_responder));
        let (seal, open) =
            if initiator { (to_responder, to_initiator) } else { (to_initiator, to_responder) };
        let (receive_number, send_number) = numbers;
        let sealed = AtomicU64::new(0);
        Epoch {
            receive_number,
            send_number,
            seal,
            open,
            takes_unsummed,
            suite,
            sealed,
            created: now,
            initiator,
        }
    }

    /// Counts datagrams that are about to be sealed.
    pub fn on_seal(&self, datagrams: usize) {
        self.sealed.fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    /// It sealed so many datagrams that it must not seal another: the peer did not answer for long.
    pub fn is_used_up(&self) -> bool {
        self.sealed.load(Ordering::Relaxed) >= SEAL_LIMIT
    }

    fn is_worn(&self) -> bool {
        self.sealed.load(Ordering::Relaxed) >= REKEY_AFTER_DATAGRAMS
    }
}

/// The keys in use, as the data path sees them.
#[derive(Default)]
pub struct KeyRing {
    /// What to send with; `None` before the first exchange.
    pub sending: Option<Arc<Epoch>>,
    /// Epochs that may be received, by our number.
    receiving: [Option<Arc<Epoch>>; 16],
    /// The epoch that waits for its first authentic datagram, see [`Session::confirm`].
    pub unconfirmed: Option<u8>,
}

impl KeyRing {
    /// The epoch that our number `number` names.
    pub fn receiving(&self, number: u8) -> Option<&Arc<Epoch>> {
        self.receiving.get(usize::from(number))?.as_ref()
    }
}

/// What became of a handshake message.
pub enum Handshaken {
    /// Send this back to where it came from.
    Answer(Vec<u8>),
    /// New keys are in use; `new_peer` if the other portal was (re)started since the last ones.
    Established {
        /// All sequence numbers begin anew.
        new_peer: bool,
    },
}

/// The session with the other portal.
pub struct Session {
    psk: Secret,
    handshake_mac: Blake2sMac<U16>,
    manner: Manner,
    hardware_aes: bool,
    takes_unsummed: bool,
    /// Random name of this run of the program; the peer tells a restart by it.
    instance: u64,
    peer_instance: Option<u64>,
    current: Option<Arc<Epoch>>,
    /// Two, the newest first: after both sides began at once, the peer may still send with the older one.
    previous: [Option<Arc<Epoch>>; 2],
    next: Option<Next>,
    pending: VecDeque<Pending>,
    last_number: u8,
    latest_timestamp: u64,
    remembered: VecDeque<[u8; MAC_LEN]>,
    handshakes: u64,
    since: Instant,
}

/// Keys given to an initiator that has not used them yet.
struct Next {
    epoch: Arc<Epoch>,
    peer_instance: u64,
    /// Footer of the message that was answered, and the answer: a copy of it on another link gets the same.
    answered: [u8; MAC_LEN],
    answer: Vec<u8>,
}

struct Pending {
    number: u8,
    exchange: Exchange,
}

/// Payload of both messages.
pub(in crate::core) struct Hello {
    instance: u64,
    /// Nanoseconds of the wall clock; orders the first messages of one peer.
    timestamp: u64,
    manner: u8,
    /// The CPU has instructions for AES-GCM.
    hardware_aes: bool,
    /// Packets whose checksum is not summed cost the sender's portal nothing more than others.
    takes_unsummed: bool,
}

/// What follows from the words of both sides.
struct Terms {
    suite: Suite,
    takes_unsummed: bool,
}

impl Session {
    /// A session that has no keys yet. `hardware_aes`: this CPU has instructions for AES-GCM. `instance` is random
    /// for every run of the program.
    pub fn new(now: Instant, psk: &[u8; 32], manner: Manner, hardware_aes: bool, instance: u64) -> Self {
        Self {
            psk: Secret(*psk),
            handshake_mac: keyed(&derive(psk, b"netcombiner 1 handshake")),
            manner,
            hardware_aes,
            takes_unsummed: false,
            instance,
            peer_instance: None,
            current: None,
            previous: [None, None],
            next: None,
            pending: VecDeque::new(),
            // Another one than in the run before, mostly: see [`Session::is_ambiguous`].
            last_number: (instance % 16) as u8,
            latest_timestamp: 0,
            remembered: VecDeque::new(),
            handshakes: 0,
            since: now,
        }
    }

    /// From the next exchange on the peer may leave checksums for us to sum, or not: see [`Epoch::takes_unsummed`].
    pub fn allow_unsummed(&mut self, allow: bool) {
        self.takes_unsummed = allow;
    }

    /// Begins an exchange and returns the datagram that does so, to be sent over any number of links.
    pub fn initiate(&mut self, wall_nanos: u64, random: [u8; 32]) -> Vec<u8> {
        let number = self.free_number();
        let hello = self.hello(wall_nanos);
        let (exchange, message) = Exchange::initiate(&self.psk, random, &hello);
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { number, exchange });
        self.datagram(HandshakeHead { response: false, epoch: number, answers: 0 }, &message)
    }

    /// Takes a handshake datagram from anywhere. `peer_alive`: something authentic came in lately.
    pub fn on_handshake(
        &mut self,
        now: Instant,
        random: [u8; 32],
        peer_alive: bool,
        datagram: &[u8],
    ) -> Result<Handshaken, Discard> {
        let head = HandshakeHead::read(datagram).ok_or(Discard::Malformed)?;
        let end = datagram.len().checked_sub(MAC_LEN).filter(|&end| end > HANDSHAKE_HEAD_LEN);
        let (signed, footer) = datagram.split_at(end.ok_or(Discard::Malformed)?);
        let footer: [u8; MAC_LEN] = footer.try_into().map_err(|_| Discard::Malformed)?;
        // The check that follows (Noise's own) is what counts; this one sorts out strangers cheaply.
        if footer_of(&self.handshake_mac, signed) != footer {
            return Err(Discard::Forged);
        }
        let message = &signed[HANDSHAKE_HEAD_LEN..];
        if head.response {
            self.on_response(now, head, message)
        } else {
            self.on_first(now, random, peer_alive, head, message, footer)
        }
    }

    fn on_first(
        &mut self,
        now: Instant,
        random: [u8; 32],
        peer_alive: bool,
        head: HandshakeHead,
        message: &[u8],
        footer: [u8; MAC_LEN],
    ) -> Result<Handshaken, Discard> {
        if let Some(next) = &self.next
            && next.answered == footer
        {
            return Ok(Handshaken::Answer(next.answer.clone()));
        }
        let hello = self.hello(0);
        let Responded { peer, secrets, message } =
            Exchange::respond(&self.psk, random, message, &hello, |peer| {
                if peer.manner != self.manner as u8 {
                    return Err(Discard::OtherProtection);
                }
                let fresh = self.fresh_enough(peer.timestamp, peer_alive, &footer);
                if fresh { Ok(()) } else { Err(Discard::StaleHandshake) }
            })?;
        if self.is_ambiguous(head.epoch, peer.instance) {
            return Err(Discard::StaleHandshake);
        }
        self.latest_timestamp = peer.timestamp;
        self.remember(footer);

        let number = self.free_number();
        let terms = self.terms_with(&peer);
        let numbers = (number, head.epoch);
        let epoch = Arc::new(Epoch::new(now, numbers, terms, &secrets, false));
        let answer =
            self.datagram(HandshakeHead { response: true, epoch: number, answers: head.epoch }, &message);
        self.next =
            Some(Next { epoch, peer_instance: peer.instance, answered: footer, answer: answer.clone() });
        Ok(Handshaken::Answer(answer))
    }

    fn on_response(
        &mut self,
        now: Instant,
        head: HandshakeHead,
        message: &[u8],
    ) -> Result<Handshaken, Discard> {
        let asked = self.pending.iter().position(|pending| pending.number == head.answers);
        let pending = &mut self.pending[asked.ok_or(Discard::StaleHandshake)?];
        let (peer, secrets) = pending.exchange.complete(message)?;
        if peer.manner != self.manner as u8 {
            return Err(Discard::OtherProtection);
        }
        let number = pending.number;
        if self.is_ambiguous(head.epoch, peer.instance) {
            return Err(Discard::StaleHandshake);
        }
        let terms = self.terms_with(&peer);
        let numbers = (number, head.epoch);
        let epoch = Arc::new(Epoch::new(now, numbers, terms, &secrets, true));
        self.pending.clear();
        Ok(Handshaken::Established { new_peer: self.establish(now, epoch, peer.instance) })
    }

    /// Tells that an authentic datagram came under our epoch `number`. Gives what
    /// [`Handshaken::Established`] says if that put new keys into use.
    pub fn confirm(&mut self, now: Instant, number: u8) -> Option<bool> {
        let next = self.next.take_if(|next| next.epoch.receive_number == number)?;
        Some(self.establish(now, next.epoch, next.peer_instance))
    }

    fn establish(&mut self, now: Instant, epoch: Arc<Epoch>, peer_instance: u64) -> bool {
        let new_peer = self.peer_instance.replace(peer_instance) != Some(peer_instance);
        if self.current.is_none() || new_peer {
            self.since = now;
        }
        // Keys of a former run of the peer must not open anything any more.
        let [older, _] = std::mem::take(&mut self.previous);
        self.previous = if new_peer { [None, None] } else { [self.current.take(), older] };
        self.current = Some(epoch);
        self.handshakes += 1;
        new_peer
    }

    /// The keys in use, for the data path. Ask again after every call that takes `&mut self`.
    pub fn ring(&self) -> KeyRing {
        let mut ring = KeyRing {
            sending: self.current.clone(),
            receiving: Default::default(),
            unconfirmed: self.next.as_ref().map(|next| next.epoch.receive_number),
        };
        let next = self.next.as_ref().map(|next| &next.epoch);
        let previous = self.previous.iter().flatten();
        for epoch in previous.chain(self.current.as_ref()).chain(next) {
            ring.receiving[usize::from(epoch.receive_number)] = Some(Arc::clone(epoch));
        }
        ring
    }

    /// When the present keys are due for replacement by this side; `None` without keys.
    pub fn rekey_at(&self) -> Option<Instant> {
        let epoch = self.current.as_ref()?;
        Some(epoch.created + if epoch.initiator { REKEY_AFTER } else { REKEY_RESPONDER_AFTER })
    }

    /// So much was sealed with the present keys that they are due for replacement now.
    pub fn is_worn(&self) -> bool {
        self.current.as_ref().is_some_and(|epoch| epoch.is_worn())
    }

    /// True once keys are in use.
    pub fn is_established(&self) -> bool {
        self.current.is_some()
    }

    /// Completed exchanges.
    pub fn handshakes(&self) -> u64 {
        self.handshakes
    }

    /// When the session with this run of the peer began, or this portal if there is none.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The protection as configured.
    pub fn manner(&self) -> Manner {
        self.manner
    }

    /// What was agreed on with the peer; `None` without keys.
    pub fn suite(&self) -> Option<Suite> {
        self.current.as_ref().map(|epoch| epoch.suite)
    }

    /// The peer said that it stops: its keys are void.
    pub fn close(&mut self, now: Instant) {
        (self.current, self.previous, self.next) = (None, [None, None], None);
        self.since = now;
    }

    fn hello(&self, timestamp: u64) -> Hello {
        Hello {
            instance: self.instance,
            timestamp,
            manner: self.manner as u8,
            hardware_aes: self.hardware_aes,
            takes_unsummed: self.takes_unsummed,
        }
    }

    fn terms_with(&self, peer: &Hello) -> Terms {
        Terms {
            suite: Suite::agree(self.manner, self.hardware_aes && peer.hardware_aes),
            takes_unsummed: peer.takes_unsummed,
        }
    }

    /// A first message must be younger than any before it. A peer whose clock went backwards (a router
    /// without a clock battery) is let in when nothing else is heard of it and the message is new to us; a
    /// recording that passes here leads nowhere, because its keys are never confirmed.
    fn fresh_enough(&self, timestamp: u64, peer_alive: bool, footer: &[u8; MAC_LEN]) -> bool {
        timestamp > self.latest_timestamp || (!peer_alive && !self.remembered.contains(footer))
    }

    /// Without a footer only the number of a key tells what was meant for a former run of the peer and is
    /// still on its way. Its next try has another number.
    fn is_ambiguous(&self, send_number: u8, peer_instance: u64) -> bool {
        let former = self.previous.iter().flatten().chain(&self.current);
        self.manner == Manner::None
            && self.peer_instance.is_some_and(|known| known != peer_instance)
            && former.into_iter().any(|epoch| epoch.send_number == send_number)
    }

    fn remember(&mut self, footer: [u8; MAC_LEN]) {
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(footer);
    }

    /// A number that names no key and no pending exchange of ours.
    fn free_number(&mut self) -> u8 {
        let next = self.next.as_ref().map(|next| &next.epoch);
        let epochs = self.previous.iter().flatten().chain(&self.current).chain(next);
        let in_use: Vec<u8> = epochs.map(|epoch| epoch.receive_number).collect();
        loop {
            self.last_number = (self.last_number + 1) % 16;
            let number = self.last_number;
            if !in_use.contains(&number) && !self.pending.iter().any(|p| p.number == number) {
                return number;
            }
        }
    }

    fn datagram(&self, head: HandshakeHead, message: &[u8]) -> Vec<u8> {
        let mut datagram = head.to_bytes().to_vec();
        datagram.extend_from_slice(message);
        let footer = footer_of(&self.handshake_mac, &datagram);
        datagram.extend_from_slice(&footer);
        datagram
    }
}

#[cfg(test)]
mod tests;
