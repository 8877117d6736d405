//! Whole conversations for links that are too late to share one.
//!
//! Over 20 Mbit/s by satellite a packet arrives 300 ms after one over a DSL line, longer than any conversation can be
//! kept in order for. While several long conversations fill the other links, such a link takes some of them for itself,
//! packet for packet, as many as its share of the rate, and half as many again while nothing waits for it: their
//! windows grew over a short path. Those keep their order without being waited for, and all have more. Short
//! conversations stay where the delay is short, and so does the last long one unless the late link alone has much more
//! for it than all others. That one takes its window along, and grows it first: it moves when as much of it waits as
//! the longer round trip needs, so that it does not begin there with a tenth of what it had. Until then it may wait,
//! and so may all while late links look for conversations: one that has just been told to slow down needs many round
//! trips to fill a long path.
//!
//! What a late link carries is not seen before it is used. So it is measured once, with padding, when the others are
//! full.

use std::time::Duration;

use super::Outbound;
use super::link::Link;
use super::stamp::Stamp;
use super::train::{Train, Trip};
use crate::core::units::{Instant, LinkId};
use crate::core::wire::{HEADER_LEN, Kind};

/// The other links must have been full for so long: a burst is over sooner …
const FULL_FOR: Duration = Duration::from_millis(500);
/// … and this is the time between two adoptions, in which the first can grow.
const ADOPT_EVERY: Duration = Duration::from_millis(100);

/// A late link for which nothing waits takes so many times its share of the conversations.
const HUNGRY: f64 = 1.5;
/// What the last long conversation must gain by moving.
const WORTH: f64 = 1.5;
/// It moves after this even if its window does not grow so far: what keeps it small may be the others' losses.
const MOVE_AFTER: Duration = Duration::from_secs(15);
/// A late link that does not look for conversations any more may do so again within this: the end of its measurement
/// gets lost easily, and then it is suspect for a moment.
const GRACE_LASTS: Duration = Duration::from_secs(2);
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

    /// It has taken place, and is not to be repeated yet.
    fn has_ended(&self, now: Instant) -> bool {
        self.begun.is_some() && !self.is_on(now)
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
    /// See [`Adoption::grace`], and until when it is given.
    grace: Duration,
    grace_until: Instant,
}

impl Adoption {
    /// The backlog is gone.
    pub(super) fn on_drained(&mut self) {
        self.full_since = None;
    }

    /// How much longer than usually packets may wait, for the sake of late links that look for conversations.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }
}

impl Outbound {
    /// Lets a late link adopt one more conversation, if it is time to.
    pub(super) fn adopt(&mut self, now: Instant) {
        if !self.queue.has_backlog() {
            return;
        }
        let full_since = *self.adoption.full_since.get_or_insert(now);
        if now < self.adoption.next {
            return;
        }
        self.adoption.next = now + ADOPT_EVERY;
        self.give_grace(now);
        if now.since(full_since) < FULL_FOR {
            return;
        }
        for id in LinkId::among(self.active) {
            if self.carries_backlog(id) {
                self.queue.unbind(1 << id.0);
            } else if self.wants_more(now, id) && (self.queue.long_backlogged() > 1 || self.may_move(now, id))
            {
                return self.queue.bind_one(id);
            } else if let Some(link) = self.links[id.index()].as_deref_mut()
                && link.sender.controller().is_searching()
            {
                link.measurement.begin(now);
            }
        }
    }

    /// Lets packets wait a round trip of the latest link that looks for conversations longer.
    fn give_grace(&mut self, now: Instant) {
        let looking = self.late_links().filter(|id| self.looks(now, *id));
        match looking.map(|id| self.detour(id)).max() {
            Some(detour) => (self.adoption.grace, self.adoption.grace_until) = (detour, now + GRACE_LASTS),
            None if now >= self.adoption.grace_until => self.adoption.grace = Duration::ZERO,
            None => {}
        }
    }

    /// The links that are too late to share conversations.
    fn late_links(&self) -> impl Iterator<Item = LinkId> {
        LinkId::among(self.active).filter(|id| !self.carries_backlog(*id))
    }

    /// How much longer a round trip over the late link is than over the slowest of those that share conversations.
    fn detour(&self, id: LinkId) -> Duration {
        let prompt = self.each().filter(|(id, _)| self.carries_backlog(*id));
        let slowest = prompt.map(|(_, link)| link.sender.rtt().smoothed()).max().unwrap_or_default();
        self.link(id).map_or(Duration::ZERO, |link| link.sender.rtt().min().saturating_sub(slowest))
    }

    /// Whether the late link wants conversations, or may want some once it is measured.
    fn looks(&self, now: Instant, id: LinkId) -> bool {
        let measured =
            |link: &Link| !link.sender.controller().is_searching() || link.measurement.has_ended(now);
        !self.link(id).is_some_and(measured) || self.wants_more(now, id)
    }

    /// Whether the last long conversation has the window for the late link's round trip, or will not get it.
    fn may_move(&self, now: Instant, id: LinkId) -> bool {
        let waited = self.queue.sojourn(now).is_some_and(|sojourn| sojourn >= self.detour(id));
        waited || self.adoption.full_since.is_some_and(|since| now.since(since) >= MOVE_AFTER)
    }

    /// Whether the link, which is a late one, has less than its share of the long conversations.
    fn wants_more(&self, now: Instant, id: LinkId) -> bool {
        let Some(link) = self.link(id) else { return false };
        let (residents, free) = (self.queue.residents(now, id), self.queue.long_backlogged());
        let rate = |link: &Link| link.known_rate().map_or(0.0, |rate| rate.bytes_per_second() as f64);
        let (own, all) = (rate(link), self.active_links().map(rate).sum::<f64>().max(1.0));
        // It shows what it can only when it is used; what it has shown by now is the least.
        let searching = link.sender.controller().is_searching();
        let untried = if searching { 1.0 / f64::from(self.active.count_ones().max(1)) } else { 0.0 };
        let hunger = if self.queue.has_bound(id) { 1.0 } else { HUNGRY };
        let share = untried.max(own / all * hunger);
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
    pub(super) fn pull_own_load(&mut self, trip: Trip, train: &mut Train) {
        let Trip { now, link: id, .. } = trip;
        if self.queue.has_bound(id) {
            self.fill(trip, train, |this, train, room| {
                let packet = this.queue.pop_bound(now, id, room, this.carries(id));
                packet.map(|packet| this.send(trip, train, packet)).is_some()
            });
        } else if self.load.fills(id) {
            self.fill(trip, train, |this, train, room| this.pad_for_test(trip, train, room));
        } else if self.has_own_load(now, id) {
            self.fill(trip, train, |this, train, room| this.pad(trip, train, room));
        }
    }

    /// Sends one datagram of padding, if there is room and it is needed.
    fn pad(&mut self, trip: Trip, train: &mut Train, room: u64) -> bool {
        let Trip { now, link: id, sealing, .. } = trip;
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
        let mut stamp = Stamp::new(trip, 0, &mut self.data_sequence);
        stamp.control(train, link, Kind::Padding, 0, longest as usize).fill(0);
        link.sender.on_sent(now, bytes, None);
        true
    }
}
