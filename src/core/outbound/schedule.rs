//! What leaves over which link, and when.
//!
//! - A repair that gets lost itself is waited for only once more on long paths, so where there are several links it goes
//!   over two, if few are lost or the path is long. What was lost twice leaves twice, wherever.
//! - Repairs and sparse conversations go first, and only over a link that brings them there almost as early
//!   as the best: their delay is what people feel. If they are too many for that they follow the pacers, and a later link
//!   helps as with a backlog.
//! - Backlogged conversations are pulled greedily by the best link and its equals. A later one, if the other
//!   portal can bridge its extra delay when it puts conversations back in order, helps as soon as the end of the
//!   backlog would not arrive earlier without it, and until the backlog is gone (the idea of ECF, Lim et al.,
//!   CoNEXT 2017). What the best links can carry alone has their delay.
//! - When nothing else wants the links, young conversations' packets go over a second one, see `twins`.

use std::time::Duration;

use super::Outbound;
use super::link::{Account, LAST_RESORT, Link, State};
use super::stamp::Stamp;
use super::train::{Sealing, Train, Trip};
use crate::core::headers::Encoding;
use crate::core::packet::{Departure, Packet};
use crate::core::units::{Instant, LinkId, Rate};
use crate::core::wire::{HEADER_LEN, Kind, Order, PATH_REPLY_LEN, POSITION_BITS, PROBE_LEN, flags};

/// A link is as good as the best for what is urgent if it brings it there within this.
pub(super) const AS_GOOD: Duration = Duration::from_millis(2);
/// A link that much later than the best carries nothing that must be put in order: it could not be waited for.
pub(super) const MAX_REORDER_DELAY: Duration = Duration::from_millis(90);

/// From such a loss on two repairs one after the other are not enough …
const PERILOUS_LOSS: f64 = 0.06;
/// … on paths of this round trip, where there is no time for more.
const LONG_PATH: Duration = Duration::from_millis(35);

/// A link leaves a backlog to those before it that are as good if they bring it in so long: packets that take turns over
/// several links must be put in order, which costs a fast portal more than it gains.
const MOMENT: Duration = Duration::from_micros(100);

/// A later link brings at least this part of what the faster ones bring, or what comes over them waits for it in vain.
const WORTH_WAITING: u64 = 20;

impl Outbound {
    /// Links that have something to send now, a bit each.
    pub fn ready(&self, now: Instant) -> u16 {
        let repairs = self.session && !self.repairs.is_empty();
        let sparse = self.session && self.queue.has_sparse();
        let backlog = self.session && self.has_backlog();
        let crowd = self.session && self.is_crowded(now);
        let twins = self.session && !backlog && !self.twins.is_empty();
        self.each().fold(0, |mask, (id, link)| {
            let copy = self.session && self.copies.iter().any(|(target, _)| *target == id);
            let ready = link.has_control()
                || link.is_open() && self.load.has_mail(id)
                || copy && self.hurries(now, id)
                || (repairs || sparse) && self.takes_urgent(now, id)
                || crowd && self.takes_crowd(id) && link.sender.credit(now) > 0
                || backlog && self.takes_backlog(now, id) && link.sender.credit(now) > 0
                || self.session && self.has_own_load(now, id) && link.sender.credit(now) > 0
                || twins && self.twins.has_for(id) && self.carries_backlog(id) && link.sender.credit(now) > 0;
            if ready { mask | 1 << id.0 } else { mask }
        })
    }

    /// Fills `train` with what the link has to send now. False if that is nothing.
    ///
    /// `sealing` is `None` while there are no keys; then only handshakes leave. The caller seals the train.
    pub fn pull(&mut self, now: Instant, id: LinkId, sealing: Option<Sealing>, train: &mut Train) -> bool {
        train.clear();
        if !self.link(id).is_some_and(Link::is_open) {
            return false;
        }
        let trip =
            sealing.map(|sealing| Trip { now, link: id, sealing, elsewhere: self.holding() & !(1 << id.0) });
        self.pull_control(now, id, trip, train);
        train.end_controls();
        if let Some(trip) = trip.filter(|_| self.session) {
            if self.carries_urgent(now, id) {
                self.pull_urgent(trip, train);
            }
            self.pull_copies(trip, train);
            self.pull_crowd(trip, train);
            self.pull_backlog(trip, train);
            self.pull_own_load(trip, train);
            if !self.queue.has_backlog() {
                self.pull_twins(trip, train);
            }
        }
        if !self.has_backlog() {
            self.on_drained(now);
        } else if (!self.takes_backlog(now, id) || self.is_narrow(id))
            && !self.has_own_load(now, id)
            && let Some(link) = self.links[id.index()].as_deref_mut()
        {
            // What is left is not for it, or too long while its path is being measured.
            link.sender.on_app_limited(now);
        }
        if let Some(link) = self.links[id.index()].as_deref_mut() {
            (train.socket, train.remote) = (link.socket, link.remote);
            form_runs(link, train);
            if !train.is_empty() {
                link.on_sent(now, train.sum(), train.tally.data);
            }
        }
        self.taken.add_all(now, train.tally.taken);
        !train.is_empty()
    }

    /// The backlog is gone: the links' rates are not seen any more, and the later ones are not needed.
    fn on_drained(&mut self, now: Instant) {
        self.striped = 0;
        self.adoption.on_drained();
        self.on_idle(now);
    }

    /// Nothing waits that any link may take.
    pub(super) fn on_idle(&mut self, now: Instant) {
        for id in LinkId::all() {
            let idle = !self.has_own_load(now, id);
            if let Some(link) = self.links[id.index()].as_deref_mut().filter(|_| idle) {
                link.sender.on_app_limited(now);
            }
        }
    }

    /// Lets later links share the backlog once it is so long that its end would not arrive earlier over the
    /// faster ones alone; they then go on until it is gone.
    pub(super) fn stripe(&mut self) {
        let backlog = self.queue.free_bytes();
        let needed = LinkId::all().filter(|id| backlog > self.faster_brings(*id));
        self.striped |= needed.fold(0, |mask, id| mask | 1 << id.0);
    }

    /// What the links that are faster than this one bring until its first packet would arrive.
    fn faster_brings(&self, id: LinkId) -> u64 {
        let Some((link, extra)) = self.link(id).zip(self.extra_delay(id, half_rtt)) else { return u64::MAX };
        let delay = half_rtt(link);
        let faster =
            |(other, link): &(LinkId, &Link)| self.active & 1 << other.0 != 0 && half_rtt(link) < delay;
        let rates = || self.each().filter(faster).filter_map(|(_, link)| link.sender.prospect());
        let sum: u64 = rates().map(Rate::bytes_per_second).sum();
        // Only a model knows what the link could carry; what a link carried lately may be little for want of use.
        let controller = link.sender.controller();
        let known = controller.bandwidth().filter(|_| !controller.is_searching());
        if known.is_some_and(|rate| rate.bytes_per_second() < sum / WORTH_WAITING) {
            return u64::MAX;
        }
        rates().map(|rate| rate.bytes_in(extra)).sum()
    }

    /// Whether the link takes packets of the present backlog.
    pub(super) fn is_striped(&self, id: LinkId) -> bool {
        self.is_as_good(id, half_rtt) || self.striped & 1 << id.0 != 0 && self.carries_backlog(id)
    }

    /// Whether links before this one that are as good can send within a [`MOMENT`], and bring then all that waits.
    fn is_spared(&self, now: Instant, id: LinkId) -> bool {
        let before = |(other, link): &(LinkId, &Link)| {
            *other < id
                && !self.is_narrow(*other)
                && self.is_as_good(*other, half_rtt)
                && link.sender.credit(now + MOMENT) > 0
        };
        let rates = self.each().filter(before).filter_map(|(_, link)| link.sender.rate());
        let brings: u64 = rates.map(|rate| rate.bytes_in(MOMENT)).sum();
        brings > 0 && self.queue.free_bytes() <= brings
    }

    fn pull_control(&mut self, now: Instant, id: LinkId, trip: Option<Trip>, train: &mut Train) {
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        if let Some(message) = link.handshake.take() {
            train.push_raw(&message);
        }
        let Some(trip) = trip else { return };
        let footer_len = trip.sealing.footer_len;
        let mut stamp = Stamp::new(trip, 0, &mut self.data_sequence);
        // Before the acknowledgement: the peer may learn by it which link that speaks of.
        while let Some(probe) = link.replies.pop_front() {
            let reply = link.probe(probe.id).to_bytes();
            stamp.control(train, link, Kind::ProbeReply, 0, PROBE_LEN).copy_from_slice(&reply);
        }
        if let Some((since, mut ack)) = link.ack.take() {
            ack.wait(now.since(since));
            let body = stamp.control(train, link, Kind::Ack, 0, ack.wire_len());
            ack.write(body);
            link.sender.on_unacknowledged(now, HEADER_LEN + ack.wire_len() + footer_len);
        }
        if let Some(report) = link.report.take() {
            report.write(stamp.control(train, link, Kind::Report, 0, report.wire_len()));
        }
        if let Some(len) = link.path_reply.take() {
            let body = stamp.control(train, link, Kind::PathReply, 0, PATH_REPLY_LEN);
            body.copy_from_slice(&len.to_be_bytes());
        }
        if let Some((kind, body)) = self.load.take_mail(id) {
            stamp.control(train, link, kind, 0, body.len()).copy_from_slice(&body);
        }
        if let Some(len) = link.take_path_probe(now) {
            let padding = usize::from(len).saturating_sub(HEADER_LEN + footer_len);
            stamp.control(train, link, Kind::PathProbe, 0, padding).fill(0);
        }
        if let Some(probe) = link.take_probe(now) {
            let body = stamp.control(train, link, Kind::Probe, flags::ACK_NOW, PROBE_LEN);
            body.copy_from_slice(&probe.to_bytes());
            link.sender.on_sent(now, HEADER_LEN + PROBE_LEN + footer_len, None);
        }
        if std::mem::take(&mut link.close_due) {
            stamp.control(train, link, Kind::Close, 0, 0);
        }
    }

    fn pull_urgent(&mut self, trip: Trip, train: &mut Train) {
        while self.hurries(trip.now, trip.link)
            && let Some(room) = self.room(trip, train, |link| link.sender.urgent_credit())
            && self.put_urgent(trip, train, room)
        {}
    }

    fn pull_copies(&mut self, trip: Trip, train: &mut Train) {
        let Trip { now, link: id, .. } = trip;
        while self.hurries(now, id)
            && let Some(at) = self.copies.iter().position(|(target, _)| *target == id)
        {
            let room = self.room(trip, train, |link| link.sender.urgent_credit());
            let len = self.copies[at].1.len() as u64;
            let Some((_, copy)) = room.filter(|room| len <= *room).and_then(|_| self.copies.remove(at))
            else {
                return;
            };
            self.put_again(trip, train, copy, |account| account.copies_sent += 1);
        }
    }

    /// Repairs and sparse conversations that are too many to go ahead of the pacers of the best links.
    fn pull_crowd(&mut self, trip: Trip, train: &mut Train) {
        let Trip { now, link: id, .. } = trip;
        self.fill(trip, train, |this, train, room| {
            this.is_crowded(now) && this.takes_crowd(id) && this.put_urgent(trip, train, room)
        });
    }

    /// Sends a repair, or else a packet of a sparse conversation, of at most `room` bytes. False if there is none.
    fn put_urgent(&mut self, trip: Trip, train: &mut Train, room: u64) -> bool {
        let Trip { now, link: id, .. } = trip;
        let longest = self.carries(id);
        let fits = |packet: &mut Packet| packet.len() as u64 <= room.min(longest);
        if let Some(packet) = self.repairs.pop_front_if(fits) {
            self.send_again(trip, train, packet);
        } else if let Some(packet) = self.queue.pop_sparse(now, room, longest) {
            let second = self.second_copy(now, id, &packet);
            self.copies.extend(second);
            self.send(trip, train, packet);
        } else {
            return false;
        }
        true
    }

    fn pull_backlog(&mut self, trip: Trip, train: &mut Train) {
        let Trip { now, link: id, .. } = trip;
        // With something in flight, the link's delay stays what it is for a train.
        let busy = self.link(id).is_some_and(|link| link.sender.in_flight() > 0);
        let spared = self.is_spared(now, id);
        let striped = busy.then(|| self.is_striped(id));
        self.fill(trip, train, |this, train, room| {
            let striped = !spared && striped.unwrap_or_else(|| this.is_striped(id));
            // What overflows ends within a train.
            if !striped && !this.takes_overflow(now, id) {
                return false;
            }
            let longest = this.carries(id);
            let fits = |packet: &mut Packet| packet.len() as u64 <= room.min(longest);
            if let Some(packet) = this.handed_over.pop_front_if(fits) {
                this.put_again(trip, train, packet, |account| account.repairs_sent += 1);
                return true;
            }
            let packet = this.queue.pop_backlogged(now, room, longest);
            packet.map(|packet| this.send(trip, train, packet)).is_some()
        });
    }

    /// Lets `put` send one datagram after another while the link has credit, as it is now; `put` is told how long the
    /// packet may be, and says whether there was one.
    pub(super) fn fill(
        &mut self,
        trip: Trip,
        train: &mut Train,
        mut put: impl FnMut(&mut Self, &mut Train, u64) -> bool,
    ) {
        let Some(sender) = self.link(trip.link).map(|link| &link.sender) else { return };
        let (credit, before) = (sender.credit(trip.now), sender.in_flight());
        let left = |link: &Link| credit.saturating_sub(link.sender.in_flight().saturating_sub(before));
        while let Some(room) = self.room(trip, train, left)
            && put(self, train, room)
        {}
    }

    fn pull_twins(&mut self, trip: Trip, train: &mut Train) {
        let Trip { now, link: id, .. } = trip;
        self.twins.expire(Some(now)).for_each(|packet| self.queue.give_back(packet));
        if !self.twins.has_for(id) || !self.carries_backlog(id) {
            return;
        }
        while let Some(room) = self.room(trip, train, |link| link.sender.credit(now))
            && let Some(packet) = self.twins.take(id, room.min(self.carries(id)))
        {
            let in_flight = self.in_flight_mask(trip, packet.departure.order.bucket);
            let Some(link) = self.links[id.index()].as_deref_mut() else { return };
            let bytes = HEADER_LEN + packet.len() + trip.sealing.footer_len;
            let mut stamp = Stamp::new(trip, in_flight, &mut self.data_sequence);
            stamp.data_again(train, link, &packet);
            link.sender.on_sent(now, bytes, None);
            link.account.copies_sent += 1;
            self.queue.give_back(packet);
        }
    }

    /// Longest packet that credit and train have room for, if it goes in full; `None` if not even a small one.
    fn room(&self, trip: Trip, train: &Train, credit: impl Fn(&Link) -> u64) -> Option<u64> {
        let overhead = (HEADER_LEN + trip.sealing.footer_len) as u64;
        let credit = credit(self.link(trip.link)?).min(train.room() as u64);
        credit.checked_sub(overhead).filter(|room| *room > 0)
    }

    /// Sends a packet for the first time.
    pub(super) fn send(&mut self, trip: Trip, train: &mut Train, mut packet: Packet) {
        let Trip { now, link: id, .. } = trip;
        let in_flight = self.in_flight_mask(trip, packet.bucket);
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        let order = place(&mut self.positions, &packet);
        train.tally.taken.add(packet.len());
        let encoding = self.compressor.encode(now, self.data_sequence, packet.bucket, packet.bytes());
        let data_sequence = self.data_sequence as u32;
        let mut stamp = Stamp::new(trip, in_flight, &mut self.data_sequence);
        let bytes = stamp.data(train, link, order, &packet, &encoding);
        let kept = if packet.repaired && self.queue.can_spare_buffers() {
            packet.departure = Departure { order, data_sequence, first_sent: now, repairs: 0 };
            let (loss, useful) = (link.sender.loss(), link.sender.rtt().smoothed() / 2);
            if packet.ordered
                && self.twins.wants(now, packet.bucket, bytes, loss)
                && let Some(copy) = self.queue.copy(&packet)
            {
                self.twins.add(now, id, useful, copy);
            }
            Some(packet)
        } else {
            self.queue.give_back(packet);
            None
        };
        link.sender.on_sent(now, bytes, kept);
        if let Encoding::Defining(definition) = encoding {
            link.sender.on_defined(definition);
        }
        link.path_mtu.on_data(now);
        self.data_packets += 1;
        self.repair_budget.earn(bytes);
        self.copy_budget.earn(bytes);
    }

    fn send_again(&mut self, trip: Trip, train: &mut Train, packet: Packet) {
        let Trip { now, link: id, .. } = trip;
        // By then the first copy's loss would have been noticed, and a third sent.
        let in_time =
            self.link(id).map_or(Duration::ZERO, |link| half_rtt(link) + link.sender.rtt().smoothed());
        let other = self.each().find(|(other, link)| {
            *other != id
                && half_rtt(link) <= in_time
                && self.carries_backlog(*other)
                && !link.sender.controller().is_loss_based()
                && packet.len() as u64 <= self.carries(*other)
        });
        let other = other.map(|(other, _)| other);
        let needed = packet.departure.repairs > 0 || other.is_some() && self.is_perilous(id);
        if let Some(target) = other.or(needed.then_some(id))
            && let Some(copy) = self.copy(&packet, needed)
        {
            self.copies.push_back((target, copy));
        }
        self.put_again(trip, train, packet, |account| account.repairs_sent += 1);
        self.repaired += 1;
        self.repaired_at = Some(now);
    }

    /// Drops the copies for links that carry none any more.
    pub(super) fn drop_stranded_copies(&mut self) {
        for _ in 0..self.copies.len() {
            match self.copies.pop_front() {
                Some((target, packet))
                    if self.carries_backlog(target) && packet.len() as u64 <= self.carries(target) =>
                {
                    self.copies.push_back((target, packet));
                }
                Some((_, packet)) => self.queue.give_back(packet),
                None => {}
            }
        }
    }

    /// Whether a repair may well be lost over the link, and be waited for once more only.
    fn is_perilous(&self, id: LinkId) -> bool {
        let perilous =
            |link: &Link| link.sender.loss() >= PERILOUS_LOSS && link.sender.rtt().smoothed() >= LONG_PATH;
        self.link(id).is_some_and(perilous)
    }

    /// A second copy of a repair, if the budget and the pool allow it.
    fn copy(&mut self, packet: &Packet, needed: bool) -> Option<Packet> {
        let budget = if needed { &mut self.repair_budget } else { &mut self.copy_budget };
        if budget.spend(packet.len()) { self.queue.copy(packet) } else { None }
    }

    fn put_again(&mut self, trip: Trip, train: &mut Train, mut packet: Packet, count: fn(&mut Account)) {
        let Trip { now, link: id, sealing, .. } = trip;
        let in_flight = self.in_flight_mask(trip, packet.departure.order.bucket);
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        count(&mut link.account);
        let bytes = HEADER_LEN + packet.len() + sealing.footer_len;
        let mut stamp = Stamp::new(trip, in_flight, &mut self.data_sequence);
        stamp.data_again(train, link, &packet);
        packet.departure.repairs += 1;
        link.sender.on_sent(now, bytes, Some(packet));
    }

    /// Whether a repair or a packet of a sparse conversation may go ahead of the link's pacer now.
    fn takes_urgent(&self, now: Instant, id: LinkId) -> bool {
        self.hurries(now, id) && self.carries_urgent(now, id)
    }

    /// Whether not too many of them have gone ahead.
    fn hurries(&self, now: Instant, id: LinkId) -> bool {
        self.link(id).is_some_and(|link| now >= link.sender.hurries_from() && link.sender.urgent_credit() > 0)
    }

    /// Whether repairs and sparse conversations wait because too many have gone ahead.
    fn is_crowded(&self, now: Instant) -> bool {
        let urgent = self.queue.has_sparse() || !self.repairs.is_empty();
        urgent && !self.each().any(|(id, _)| self.takes_urgent(now, id))
    }

    /// Whether the link, in its turn, takes some of them: they would not arrive earlier over the faster ones alone.
    fn takes_crowd(&self, id: LinkId) -> bool {
        let repairs: usize = self.repairs.iter().map(|packet| packet.len()).sum();
        self.carries_backlog(id) && self.queue.sparse_bytes() + repairs as u64 > self.faster_brings(id)
    }

    /// Whether the link takes repairs and sparse conversations: it is as good as the best.
    fn carries_urgent(&self, now: Instant, id: LinkId) -> bool {
        // What is urgent is not held back by the pacer, but what left before is still on its way there.
        self.is_as_good(id, |link| link.sender.paced_for(now) + half_rtt(link))
    }

    /// Whether the link takes backlogged conversations: it is in the stripe set.
    pub(super) fn carries_backlog(&self, id: LinkId) -> bool {
        self.extra_delay(id, half_rtt).is_some_and(|extra| extra <= MAX_REORDER_DELAY)
    }

    /// Whether the link takes packets of the backlog now.
    fn takes_backlog(&self, now: Instant, id: LinkId) -> bool {
        self.is_striped(id) && !self.is_spared(now, id) || self.takes_overflow(now, id)
    }

    /// Whether the link, of a higher metric than those that carry data, takes what these have no room for.
    fn takes_overflow(&self, now: Instant, id: LinkId) -> bool {
        let spare = |link: &&Link| {
            self.active & 1 << id.0 == 0
                && link.state == State::Up
                && link.is_open()
                && link.is_fit()
                && link.metric() < LAST_RESORT
        };
        let Some(link) = self.link(id).filter(spare).filter(|_| self.policy.overflow) else { return false };
        let best = self.active_links().map(half_rtt).min();
        // A queue that stands, where the target is what senders inside need to use a link in full.
        let stands = self.queue.sojourn(now).is_some_and(|sojourn| sojourn >= self.queue.target() / 2);
        stands
            && best.is_some_and(|best| half_rtt(link) <= best + MAX_REORDER_DELAY)
            && self.active_links().all(|link| link.sender.credit(now) == 0)
    }

    /// How much later than over the best link a packet arrives over this one; `None` if it carries no data.
    pub(super) fn extra_delay(&self, id: LinkId, delay: impl Fn(&Link) -> Duration) -> Option<Duration> {
        let active = || self.each().filter(|(id, _)| self.active & 1 << id.0 != 0);
        // One that does not carry everything is no measure for those that have to.
        let wide = active().filter(|(id, _)| !self.is_narrow(*id)).map(|(_, link)| delay(link)).min();
        let best = wide.or_else(|| active().map(|(_, link)| delay(link)).min())?;
        let link = self.link(id).filter(|_| self.active & 1 << id.0 != 0)?;
        Some(delay(link).saturating_sub(best))
    }

    /// Whether the link is as good as the best, by a delay.
    fn is_as_good(&self, id: LinkId, delay: impl Fn(&Link) -> Duration) -> bool {
        self.extra_delay(id, delay).is_some_and(|extra| extra <= AS_GOOD)
    }

    /// The link does not carry full packets, or is not known to yet.
    fn is_narrow(&self, id: LinkId) -> bool {
        self.carries(id) < self.longest as u64
    }

    /// Bit `n`: our link `n` may hold unacknowledged ordered data of the bucket's conversation.
    fn in_flight_mask(&self, trip: Trip, bucket: u16) -> u16 {
        match self.queue.home(bucket) {
            Some(home) => 1 << home.0,
            None => trip.elsewhere | self.holds(trip.link),
        }
    }

    /// Bit `n`: our link `n` may hold unacknowledged ordered data of conversations that no link has adopted.
    fn holding(&self) -> u16 {
        self.each().fold(0, |mask, (id, _)| mask | self.holds(id))
    }

    /// The link's bit of these.
    fn holds(&self, id: LinkId) -> u16 {
        let bit = 1 << id.0;
        // What a link holds that has adopted conversations belongs to those.
        let free = self.queue.homes() & bit == 0;
        let holds = self.link(id).is_some_and(|link| link.sender.has_ordered_in_flight());
        if free && holds { bit } else { 0 }
    }
}

/// Lets the data of the train leave in runs, if they get there by the link, and takes note of it.
fn form_runs(link: &mut Link, train: &mut Train) {
    if !link.sender.segmentation.allows_runs() {
        return;
    }
    train.allow_runs();
    // What does not control the link is all numbered.
    for run in train.runs(0).filter(|run| run.count > 1) {
        link.sender.on_run(train.len() - run.first, run.count);
    }
}

/// Time over the link as far as it is known. With nothing in flight its queue has drained, whatever the last
/// samples said; without that, a link that once filled its own queue would never be tried again.
pub(super) fn half_rtt(link: &Link) -> Duration {
    let rtt = link.sender.rtt();
    let current = if link.sender.in_flight() == 0 { rtt.min() } else { rtt.smoothed() };
    current / 2
}

/// Gives an ordered packet its place; others get none.
fn place(positions: &mut [u32], packet: &Packet) -> Order {
    if !packet.ordered {
        return Order::default();
    }
    let next = &mut positions[usize::from(packet.bucket)];
    let position = *next;
    *next = (position + 1) % (1 << POSITION_BITS);
    Order { bucket: packet.bucket, position }
}
