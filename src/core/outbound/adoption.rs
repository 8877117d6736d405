//! Whole conversations for links that are too late to share one.
//!
//! Over 20 Mbit/s by satellite a packet arrives 300 ms after one over a DSL line, longer than any conversation can be
//! kept in order for. While several long conversations fill the other links, such a link takes some of them for
//! itself, packet for packet, as many as its share of the rate; those keep their order without being waited for, and
//! all have more. Short conversations and the last long one stay where the delay is short.

use std::time::Duration;

use super::Outbound;
use super::link::Link;
use super::train::{Sealing, Train};
use crate::core::units::{Instant, LinkId, MAX_LINKS};

/// The other links must have been full for so long: a burst is over sooner …
const FULL_FOR: Duration = Duration::from_millis(500);
/// … and this is the time between two adoptions, in which the first can grow.
const ADOPT_EVERY: Duration = Duration::from_millis(100);

/// Since when the links are full, and when a conversation may be adopted next.
#[derive(Default)]
pub(super) struct Adoption {
    full_since: Option<Instant>,
    next: Instant,
}

impl Adoption {
    /// The backlog is gone.
    pub(super) fn on_drained(&mut self) {
        self.full_since = None;
    }
}

impl Outbound {
    /// Lets a late link adopt one more conversation, if it is time to.
    pub(super) fn adopt(&mut self, now: Instant) {
        if !self.queue.has_backlog() {
            return;
        }
        let full_since = *self.adoption.full_since.get_or_insert(now);
        if now < self.adoption.next || now.since(full_since) < FULL_FOR {
            return;
        }
        self.adoption.next = now + ADOPT_EVERY;
        for id in (0..MAX_LINKS as u8).map(LinkId).filter(|id| self.active & 1 << id.0 != 0) {
            if self.carries_backlog(id) {
                self.queue.unbind(id);
            } else if self.wants_more(now, id) {
                return self.queue.bind_one(id);
            }
        }
    }

    /// Whether the link, which is a late one, has less than its share of the long conversations.
    fn wants_more(&self, now: Instant, id: LinkId) -> bool {
        let Some(link) = self.link(id) else { return false };
        let (residents, free) = (self.queue.residents(now, id), self.queue.long_backlogged());
        let rate = |link: &Link| link.sender.rate().map_or(0.0, |rate| rate.bytes_per_second() as f64);
        let share = if link.sender.controller().is_searching() {
            // It shows what it can only when it is used.
            1.0 / f64::from(self.active.count_ones().max(1))
        } else {
            rate(link) / self.active_links().map(rate).sum::<f64>().max(1.0)
        };
        free > 1 && ((residents + free) as f64 * share).round() as usize > residents
    }

    /// Whether conversations are bound to the link and wait.
    pub(super) fn has_adopted(&self, id: LinkId) -> bool {
        self.queue.has_bound(id)
    }

    /// Sends what waits of the conversations that the link has adopted.
    pub(super) fn pull_adopted(&mut self, now: Instant, id: LinkId, sealing: Sealing, train: &mut Train) {
        let Some(sender) = self.link(id).map(|link| &link.sender) else { return };
        let (credit, before) = (sender.credit(now), sender.in_flight());
        loop {
            let left = |link: &Link| credit.saturating_sub(link.sender.in_flight().saturating_sub(before));
            let Some(room) = self.room(id, sealing, train, left) else { return };
            let Some(packet) = self.queue.pop_bound(now, id, room, self.carries(id)) else { return };
            self.send(now, id, sealing, train, packet);
        }
    }
}
