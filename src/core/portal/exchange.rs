//! The session with the other portal: when to begin an exchange of keys, and what one brings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Arrival, Entropy, Listener, Portal, Ring};
use crate::core::discard::Discard;
use crate::core::outbound::{Event, Outbound, SocketId};
use crate::core::session::protection::Suite;
use crate::core::session::{Handshaken, Session};
use crate::core::snapshot;
use crate::core::units::Instant;
use crate::core::wire::HandshakeHead;

/// A new try to begin a session comes after this …
const RETRY: Duration = Duration::from_secs(1);
/// … and after this once the first minute was in vain: a restarted peer is found within three seconds.
const SLOW_RETRY: Duration = Duration::from_secs(2);
/// Tries after which they become slow.
const FAST_TRIES: u32 = 60;
/// With no link up for so long, the peer may have been restarted and lost its keys.
const DARK: Duration = Duration::from_millis(500);
/// Tries without an answer after which an operator hears of it.
const TRIES_TO_TELL: u32 = 3;

/// The session and when to try what.
pub(super) struct SessionRoom {
    pub(super) session: Session,
    generation: u64,
    pub(super) listeners: HashMap<SocketId, Listener>,
    /// Not before this a new exchange begins.
    next_try: Instant,
    tries: u32,
    /// Data packets sent when the keys were agreed on: keys that were not used are not renewed.
    packets_at_exchange: u64,
    trouble: Option<String>,
}

impl SessionRoom {
    /// Begins an exchange as soon as there is a link.
    pub(super) fn new(now: Instant, session: Session) -> Self {
        Self {
            session,
            generation: 0,
            listeners: HashMap::new(),
            next_try: now,
            tries: 0,
            packets_at_exchange: 0,
            trouble: None,
        }
    }

    /// The peer said goodbye: it may be back in a moment.
    pub(super) fn close(&mut self, now: Instant) {
        self.session.close(now);
        self.next_try = now + RETRY;
    }

    /// How the session is.
    pub(super) fn describe(&self, now: Instant, into: &mut snapshot::Snapshot) {
        into.protection = self.session.manner().name().to_owned();
        into.cipher = self.session.suite().and_then(Suite::cipher).map(str::to_owned);
        into.session = snapshot::Session {
            state: match (self.session.is_established(), self.tries) {
                (true, _) => "established",
                (false, 0) => "none",
                (false, _) => "handshake",
            }
            .to_owned(),
            since_seconds: now.since(self.session.since()).as_secs_f64(),
            handshakes: self.session.handshakes(),
            trouble: self.trouble.clone(),
        };
    }

    /// When the next exchange is to begin; `None` if none is wanted.
    pub(super) fn try_at(&self, outbound: &Outbound) -> Option<Instant> {
        if !outbound.can_send() {
            return None;
        }
        if !self.session.is_established() {
            return Some(self.next_try);
        }
        let rekey = self.session.rekey_at().filter(|_| outbound.data_packets() > self.packets_at_exchange);
        let worn = self.session.is_worn().then_some(self.next_try);
        let dark = outbound.dark_since().map(|since| since + DARK);
        [rekey, worn, dark].into_iter().flatten().min().map(|at| at.max(self.next_try))
    }

    /// Remembers why there is no session. Gives an event if that is news.
    fn trouble(&mut self, trouble: String) -> Option<Event> {
        let news = self.trouble.as_ref() != Some(&trouble);
        self.trouble = Some(trouble.clone());
        news.then_some(Event::Trouble(trouble))
    }
}

impl Portal {
    /// A message of an exchange came in. Gives the answer, if there is one.
    pub(super) fn on_handshake(
        &self,
        now: Instant,
        entropy: &mut dyn Entropy,
        arrival: &Arrival<'_>,
        datagram: &[u8],
    ) -> Result<Option<Vec<u8>>, Discard> {
        let alive = self.outbound().dark_since().is_none();
        let mut room = self.session();
        match room.session.on_handshake(now, entropy.random(), alive, datagram) {
            Ok(Handshaken::Answer(answer)) => {
                self.publish(&room);
                Ok(Some(answer))
            }
            Ok(Handshaken::Established { new_peer }) => {
                self.established(now, &mut room, new_peer);
                Ok(None)
            }
            Err(reason) => {
                let first = HandshakeHead::read(datagram).is_some_and(|head| !head.response);
                if reason == Discard::StaleHandshake && first {
                    // It bears our key: a recording, or a peer that was restarted with its clock set back.
                    self.outbound().doubt(now);
                }
                let source = arrival.source;
                let told = match reason {
                    Discard::Forged if !room.session.is_established() => Some(format!(
                        "a handshake from {source} does not fit the Key: compare Key in both portals' files"
                    )),
                    Discard::OtherProtection => Some(format!(
                        "the portal at {source} uses another Protection than {}: set the same in both files",
                        room.session.manner().name()
                    )),
                    _ => None,
                };
                if let Some(event) = told.and_then(|told| room.trouble(told)) {
                    self.outbound().tell(event);
                }
                Err(reason)
            }
        }
    }

    /// A datagram under new keys came in: the peer has them.
    pub(super) fn confirm(&self, now: Instant, number: u8) {
        let mut room = self.session();
        if let Some(new_peer) = room.session.confirm(now, number) {
            self.established(now, &mut room, new_peer);
        }
    }

    fn established(&self, now: Instant, room: &mut SessionRoom, new_peer: bool) {
        if new_peer {
            room.generation += 1;
            self.inbound().reset(room.generation);
        }
        let mut outbound = self.outbound();
        if new_peer {
            outbound.reset(now);
        }
        (room.tries, room.trouble, room.next_try) = (0, None, now + RETRY);
        room.packets_at_exchange = outbound.data_packets();
        // After the numbers began anew: a train under new keys must not bear old ones.
        self.publish(room);
    }

    /// Shows the data path the keys that are in use now.
    pub(super) fn publish(&self, room: &SessionRoom) {
        self.ring.store(Arc::new(Ring { keys: room.session.ring(), generation: room.generation }));
    }

    /// Begins an exchange if one is due.
    pub(super) fn tend_session(&self, now: Instant, entropy: &mut dyn Entropy) {
        let mut room = self.session();
        let mut outbound = self.outbound();
        if room.try_at(&outbound).is_none_or(|at| now < at) {
            return;
        }
        let message = room.session.initiate(entropy.wall_nanos(), entropy.random());
        if !outbound.handshake(&message) {
            room.next_try = now + RETRY;
            return;
        }
        room.tries += 1;
        room.next_try = now + if room.tries < FAST_TRIES { RETRY } else { SLOW_RETRY };
        if room.tries == TRIES_TO_TELL {
            let told =
                "no answer from the other portal: it is not running, not reachable, or its Key differs";
            if let Some(event) = room.trouble(told.to_owned()) {
                outbound.tell(event);
            }
        }
    }
}
