//! Second copies of young conversations' packets, for links that lose some.
//!
//! A conversation that has just begun asks for little and is hurt most by a hole: the wait for its repair looks
//! to its sender like a full path, and slow start ends (HyStart, RFC 9406 §4.2). While nothing else wants the
//! links, what such a conversation sends over a lossy one goes over another too. The first to come counts.

use std::collections::VecDeque;
use std::time::Duration;

use super::budget::Budget;
use crate::core::packet::Packet;
use crate::core::units::{Instant, LinkId};
use crate::core::wire::BUCKETS;

/// Bytes of a conversation that are sent twice: about what slow start sends on its way to 100 Mbit/s at 60 ms.
const YOUNG: u32 = 1 << 20;
/// A conversation is young again after such a silence.
const SILENCE: Duration = Duration::from_secs(1);
/// Least share of losses that makes a link lossy.
const LOSSY: f64 = 0.001;
/// Twins may take this share of the bytes sent, and so many at once after a quiet time: links may be metered.
const SHARE: f64 = 0.05;
const BURST: u64 = 2 << 20;
/// Most that wait; a train or two.
const MOST: usize = 128;

/// See the module.
pub struct Twins {
    waiting: VecDeque<Twin>,
    budget: Budget,
    /// Bytes of each conversation since it was last silent, and when it last sent.
    sent: Box<[(u32, Instant)]>,
}

struct Twin {
    origin: LinkId,
    expires: Instant,
    packet: Packet,
}

impl Default for Twins {
    fn default() -> Self {
        let sent = vec![(0, Instant::ZERO); BUCKETS.into()].into_boxed_slice();
        Self { waiting: VecDeque::new(), budget: Budget::new(SHARE, BURST), sent }
    }
}

impl Twins {
    /// A packet of `bytes` of conversation `bucket` leaves for the first time. True if it should get a twin,
    /// see [`Twins::add`]. `loss` is the share that its link loses.
    pub fn wants(&mut self, now: Instant, bucket: u16, bytes: usize, loss: f64) -> bool {
        let (sent, last) = &mut self.sent[usize::from(bucket)];
        if now.since(*last) > SILENCE {
            *sent = 0;
        }
        *sent = sent.saturating_add(bytes as u32);
        *last = now;
        self.budget.earn(bytes);
        loss >= LOSSY && *sent <= YOUNG && self.budget.allows(bytes) && self.waiting.len() < MOST
    }

    /// Adds the twin of a packet that leaves over `origin`; later than after `useful` it would not help.
    pub fn add(&mut self, now: Instant, origin: LinkId, useful: Duration, packet: Packet) {
        self.waiting.push_back(Twin { origin, expires: now + useful, packet });
    }

    /// Whether one waits that link `id` can take.
    pub fn has_for(&self, id: LinkId) -> bool {
        self.waiting.iter().any(|twin| twin.origin != id)
    }

    /// The next one for link `id` of at most `room` bytes.
    pub fn take(&mut self, id: LinkId, room: u64) -> Option<Packet> {
        let at = self.waiting.iter().position(|twin| twin.origin != id)?;
        let len = self.waiting[at].packet.len();
        let twin = if len as u64 <= room { self.waiting.remove(at) } else { None }?;
        self.budget.charge(len);
        Some(twin.packet)
    }

    /// Those that would come too late, and with `None` all.
    pub fn expire(&mut self, now: Option<Instant>) -> impl Iterator<Item = Packet> {
        let late = move |twin: &mut Twin| now.is_none_or(|now| now >= twin.expires);
        std::iter::from_fn(move || self.waiting.pop_front_if(late)).map(|twin| twin.packet)
    }

    /// When the first of them comes too late.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.waiting.front().map(|twin| twin.expires)
    }

    /// Whether any waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(10_000 + ms)
    }

    fn packet(len: usize) -> Packet {
        Packet::of(2_000, &vec![0; len])
    }

    #[test]
    fn only_the_beginning_of_a_conversation_on_a_lossy_link_wants_one() {
        let mut twins = Twins::default();
        assert!(!twins.wants(at(0), 1, 1_400, 0.0));
        assert!(twins.wants(at(0), 1, 1_400, 0.01));
        let wanted = (0..1_000).filter(|_| twins.wants(at(1), 1, 1_400, 0.01)).count();
        assert!((700..800).contains(&wanted), "{wanted}: a megabyte");
        assert!(!twins.wants(at(2), 1, 1_400, 0.01), "grown up");
        assert!(twins.wants(at(2), 2, 1_400, 0.01), "another one");
        assert!(twins.wants(at(1_003), 1, 1_400, 0.01), "after a silence");
    }

    #[test]
    fn it_goes_over_another_link_and_not_too_late() {
        let mut twins = Twins::default();
        twins.add(at(0), LinkId(0), Duration::from_millis(20), packet(1_400));
        assert!(!twins.has_for(LinkId(0)) && twins.has_for(LinkId(1)));
        assert!(twins.take(LinkId(1), 1_000).is_none(), "no room");
        assert!(twins.take(LinkId(1), 1_400).is_some());
        twins.add(at(0), LinkId(0), Duration::from_millis(20), packet(1_400));
        assert_eq!((twins.next_expiry(), twins.expire(Some(at(19))).count()), (Some(at(20)), 0));
        assert_eq!((twins.expire(Some(at(20))).count(), twins.is_empty()), (1, true));
    }

    #[test]
    fn they_take_a_twentieth_of_the_bytes_after_a_burst() {
        let (mut twins, mut sent, mut copied) = (Twins::default(), 0, 0);
        for n in 0..100_000u64 {
            sent += 1_000;
            // A new conversation every 100 packets.
            if twins.wants(at(n), 1 + (n / 100) as u16, 1_000, 0.02) {
                twins.add(at(n), LinkId(0), Duration::from_millis(20), packet(1_000));
                copied += twins.take(LinkId(1), 1_500).map_or(0, |packet| packet.len() as u64);
            }
        }
        assert!(copied > BURST && copied < BURST + sent / 19, "{copied} of {sent}");
    }
}
