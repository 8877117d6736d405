//! Whole conversations for links that are too late to share one.
//!
//! Over 20 Mbit/s by satellite a packet arrives 300 ms after one over a DSL line, longer than any conversation can be
//! kept in order for. While several long conversations fill the other links, such a link takes some of them for
//! itself, packet for packet, as many as its share of the rate; those keep their order without being waited for, and
//! all have more. Short conversations stay where the delay is short, and so does the last long one unless the late
//! link alone has much more for it than all others.
//!
//! What a late link carries is not seen before it is used. So it is measured once, with padding, when the others are
//! full.

use std::time::Duration;

use super::Outbound;
use super::link::Link;
use super::stamp::Stamp;
use super::train::{Sealing, Train};
use crate::core::units::{Instant, LinkId, MAX_LINKS};
use crate::core::wire::{HEADER_LEN, Kind};

/// The other links must have been full for so long: a burst is over sooner …
const FULL_FOR: Duration = Duration::from_millis(500);
/// … and this is the time between two adoptions, in which the first can grow.
const ADOPT_EVERY: Duration = Duration::from_millis(100);

/// What the last long conversation must gain by moving.
const WORTH: f64 = 1.5;
/// A measurement ends after this at the latest, in time and bytes: slow start over a satellite of 50 Mbit/s …
const MEASURE_TIME: Duration = Duration::from_secs(6);
const MEASURE_BYTES: u64 = 16 << 20;
/// … and is not repeated sooner, as data may cost money there.
const MEASURE_EVERY: Duration = Duration::from_secs(1_800);

/// The measurement of a late link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measurement {
    begun: Option<Instant>,
    bytes: u64,
    over: bool,
}

impl Measurement {
    /// Begins, if it is time to.
    fn begin(&mut self, now: Instant) {
        if self.begun.is_none_or(|begun| now.since(begun) >= MEASURE_EVERY) {
            *self = Self { begun: Some(now), bytes: 0, over: false };
        }
    }

    /// Whether padding is to be sent. It ends for good once there is no need for it.
    fn goes_on(&mut self, now: Instant, needed: bool) -> bool {
        self.over |= !needed || self.bytes >= MEASURE_BYTES;
        self.is_on(now)
    }

    /// Whether padding may be sent.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        !self.over && self.begun.is_some_and(|begun| now.since(begun) < MEASURE_TIME)
    }
}

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
                self.queue.unbind(1 << id.0);
            } else if self.wants_more(now, id) {
                return self.queue.bind_one(id);
            } else if let Some(link) = self.links[id.index()].as_deref_mut()
                && link.sender.controller().is_searching()
            {
                link.measurement.begin(now);
            }
        }
    }

    /// Whether the link, which is a late one, has less than its share of the long conversations.
    fn wants_more(&self, now: Instant, id: LinkId) -> bool {
        let Some(link) = self.link(id) else { return false };
        let (residents, free) = (self.queue.residents(now, id), self.queue.long_backlogged());
        let rate = |link: &Link| link.sender.rate().map_or(0.0, |rate| rate.bytes_per_second() as f64);
        let (own, all) = (rate(link), self.active_links().map(rate).sum::<f64>().max(1.0));
        // It shows what it can only when it is used; what it has shown by now is the least.
        let searching = link.sender.controller().is_searching();
        let untried = if searching { 1.0 / f64::from(self.active.count_ones().max(1)) } else { 0.0 };
        let share = untried.max(own / all);
        let worth = free > 1 || free == 1 && own >= WORTH * (all - own);
        worth && ((residents + free) as f64 * share).round() as usize > residents
    }

    /// Whether the link has something to send that no other link takes: of what it has adopted, or padding.
    pub(super) fn has_own_load(&self, now: Instant, id: LinkId) -> bool {
        self.queue.has_bound(id)
            || self.load.fills(id)
            || self.link(id).is_some_and(|link| link.measurement.is_on(now))
    }

    /// Sends what waits of the conversations that the link has adopted; if that is nothing, padding while it is being
    /// measured.
    pub(super) fn pull_own_load(&mut self, now: Instant, id: LinkId, sealing: Sealing, train: &mut Train) {
        if self.queue.has_bound(id) {
            self.fill(now, id, sealing, train, |this, train, room| {
                let packet = this.queue.pop_bound(now, id, room, this.carries(id));
                packet.map(|packet| this.send(now, id, sealing, train, packet)).is_some()
            });
        } else if self.load.fills(id) {
            self.fill(now, id, sealing, train, |this, train, room| {
                this.pad_for_test(now, id, sealing, train, room)
            });
        } else if self.has_own_load(now, id) {
            self.fill(now, id, sealing, train, |this, train, room| this.pad(now, id, sealing, train, room));
        }
    }

    /// Sends one datagram of padding, if there is room and it is needed.
    fn pad(&mut self, now: Instant, id: LinkId, sealing: Sealing, train: &mut Train, room: u64) -> bool {
        let longest = self.carries(id);
        let Some(link) = self.links[id.index()].as_deref_mut().filter(|_| room >= longest) else {
            return false;
        };
        let needed = link.sender.controller().is_searching();
        if !link.measurement.goes_on(now, needed) {
            return false;
        }
        let bytes = HEADER_LEN + longest as usize + sealing.footer_len;
        link.measurement.bytes += bytes as u64;
        let mut stamp = Stamp::new(now, id, 0, sealing, &mut self.data_sequence);
        stamp.control(train, link, Kind::Padding, 0, longest as usize).fill(0);
        link.sender.on_sent(now, bytes, None);
        true
    }
}
