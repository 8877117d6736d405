//! Puts each conversation back in order.
//!
//! A packet that is ahead of its turn waits until the missing ones before it have come, or are known not to
//! come. That is known by **proof**: every link that held unacknowledged data when the packet was sent has
//! since delivered something sent later, so what is missing was lost there. Then its repair may come, or the repair's;
//! after the time that takes, or when a cap has passed, the hole is given up.

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::packet::{Inner, Packet, Pool};
use crate::core::places::Places;
use crate::core::recent::{Durations, Percentiles};
use crate::core::units::{Instant, MAX_LINKS};
use crate::core::wire::{BUCKETS, Header, POSITION_BITS, flags};

/// A packet waits at least so long, on links of short round trips, where repairs are many …
const LEAST_CAP: Duration = Duration::from_millis(100);
/// … and never longer than this.
const MOST_CAP: Duration = Duration::from_millis(800);
/// Added to the round trips of the repairs: acknowledgements and the queue's turn.
const REPAIR_MARGIN: Duration = Duration::from_millis(15);
/// Most positions that a bucket may be ahead: 100 ms at 1.5 Gbit/s.
const MAX_AHEAD: u32 = 16_384;
/// Bytes of buffers for packets that wait in all buckets: 100 ms of full packets at 470 Mbit/s, or 47 ms at 1 Gbit/s.
const POOL: usize = 8 << 20;
/// Measured reordering of a link is halved after such a time without more.
const REORDER_HALF_LIFE: Duration = Duration::from_secs(2);
const POSITIONS: u32 = 1 << POSITION_BITS;
const CLOCK: u32 = 1 << 24;

/// A packet for the interface.
pub enum Delivery<'a> {
    /// As it came in.
    Arrived(Inner<'a>),
    /// After it waited; give the buffer back.
    Held(Packet),
}

/// Sums for `show`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Packets that have a place in their conversation.
    pub ordered: u64,
    /// Packets that waited.
    pub held: u64,
    /// Packets that came after their turn had been given up.
    pub late: u64,
    /// Positions given up.
    pub skipped: u64,
}

/// See the module.
pub struct Resequencer {
    buckets: Box<[Bucket]>,
    /// Buckets in which something waits.
    holding: Vec<u16>,
    links: [Progress; MAX_LINKS],
    places: Places<Option<Waiting>>,
    pool: Pool,
    totals: Totals,
    /// How long the packets that had to wait did so.
    holds: Durations,
}

#[derive(Default)]
struct Bucket {
    /// The position whose turn it is.
    next: u32,
    /// What waits; the first entry is that of `next`, and missing.
    waiting: VecDeque<Option<Waiting>>,
    /// When it was proved that the first hole will not be filled but by a repair.
    proved: Option<Instant>,
}

struct Waiting {
    packet: Packet,
    arrived: Instant,
    data_sequence: u64,
    timestamp: u32,
    in_flight: u16,
}

/// How far a link of the peer has delivered.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Largest data sequence number of a first transmission.
    newest: Option<u64>,
    /// Latest sending time, µs modulo 2²⁴.
    timestamp: u32,
    /// By how much the link reorders, µs of sending time.
    reorder: u32,
    reorder_at: Instant,
    /// Round-trip time, smoothed and least.
    rtt: Option<(Duration, Duration)>,
    /// How much longer than it can the way to us took lately.
    queued: Duration,
}

impl Progress {
    /// The time that a loss takes to be told and repaired follows the queue that a packet meets now: the round trip, in
    /// which our few datagrams find that queue now and then, is late to tell.
    fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|(smoothed, least)| smoothed.max(least + self.queued))
    }
}

impl Resequencer {
    /// For packets of at most `buffer_size` bytes.
    pub fn new(buffer_size: usize) -> Self {
        Self {
            buckets: std::iter::repeat_with(Bucket::default).take(BUCKETS.into()).collect(),
            holding: Vec::new(),
            links: [Progress::default(); MAX_LINKS],
            places: Places::default(),
            pool: Pool::new(buffer_size, POOL),
            totals: Totals::default(),
            holds: Durations::default(),
        }
    }

    /// A datagram of any kind came in on a link of the peer.
    pub fn on_progress(&mut self, now: Instant, header: &Header, data_sequence: u64) {
        let link = &mut self.links[usize::from(header.link)];
        let behind = link.timestamp.wrapping_sub(header.timestamp) % CLOCK;
        let is_late = link.newest.is_some() && (1..CLOCK / 2).contains(&behind);
        while link.reorder > 0 && now.since(link.reorder_at) > REORDER_HALF_LIFE {
            link.reorder /= 2;
            link.reorder_at += REORDER_HALF_LIFE;
        }
        if is_late {
            if behind >= link.reorder {
                (link.reorder, link.reorder_at) = (behind, now);
            }
        } else {
            link.timestamp = header.timestamp;
        }
        if header.flags & flags::REINJECTED == 0 {
            link.newest = link.newest.max(Some(data_sequence));
        }
    }

    /// Tells the round-trip time of a link of the peer, smoothed and least.
    pub fn set_rtt(&mut self, link: u8, smoothed: Duration, least: Duration) {
        self.links[usize::from(link)].rtt = Some((smoothed, least));
    }

    /// What came in on a link of the peer took so much longer than it can.
    pub fn set_queued(&mut self, link: u8, queued: Duration) {
        let link = &mut self.links[usize::from(link)];
        link.queued = queued.max(link.queued - link.queued / 64);
    }

    /// Takes a packet, no longer than a buffer, with its place and adds to `out` what can be delivered now.
    pub fn insert<'a>(
        &mut self,
        now: Instant,
        header: &Header,
        data_sequence: u64,
        arrived: Inner<'a>,
        out: &mut Vec<Delivery<'a>>,
    ) {
        let id = header.order.bucket;
        let bucket = &mut self.buckets[usize::from(id)];
        let ahead = header.order.position.wrapping_sub(bucket.next) % POSITIONS;
        self.totals.ordered += u64::from(id != 0);
        if id == 0 || ahead >= POSITIONS / 2 {
            self.totals.late += u64::from(id != 0);
            return out.push(Delivery::Arrived(arrived));
        }
        if ahead == 0 {
            out.push(Delivery::Arrived(arrived));
            bucket.next = (bucket.next + 1) % POSITIONS;
            if bucket.waiting.pop_front().is_some() {
                self.flush(now, id, out);
            }
            return;
        }
        let packet = if ahead < MAX_AHEAD { self.pool.take_for(arrived.len()) } else { None };
        let Some(mut packet) = packet else {
            // No room to wait: what is missing is given up.
            self.give_up(now, id, ahead, out);
            out.push(Delivery::Arrived(arrived));
            let bucket = &mut self.buckets[usize::from(id)];
            bucket.next = (bucket.next + 1) % POSITIONS;
            bucket.waiting.pop_front();
            return self.flush(now, id, out);
        };
        arrived.write(packet.buffer());
        packet.set_len(arrived.len());
        packet.unsummed = arrived.unsummed;
        let waiting = Waiting {
            packet,
            arrived: now,
            data_sequence,
            timestamp: header.timestamp,
            in_flight: header.in_flight,
        };
        if bucket.waiting.is_empty() {
            self.holding.push(id);
            self.places.lend(&mut bucket.waiting);
        }
        let slots = ahead as usize + 1;
        if bucket.waiting.len() < slots {
            bucket.waiting.resize_with(slots, || None);
        }
        bucket.waiting[ahead as usize] = Some(waiting);
        self.totals.held += 1;
    }

    /// Gives up the holes that are proved or too old, and adds to `out` what they held up.
    pub fn release(&mut self, now: Instant, out: &mut Vec<Delivery<'_>>) {
        let mut i = 0;
        while i < self.holding.len() {
            let id = self.holding[i];
            while let Some((deadline, hole)) = self.deadline(now, id)
                && now >= deadline
            {
                self.give_up(now, id, hole, out);
                self.flush(now, id, out);
            }
            // A bucket in which nothing waits any more left the list.
            i += usize::from(self.holding.get(i) == Some(&id));
        }
    }

    /// When [`Resequencer::release`] has something to give up even if nothing arrives.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        (0..self.holding.len()).filter_map(|i| self.deadline(now, self.holding[i])).map(|(at, _)| at).min()
    }

    /// When a bucket's first hole is given up, and its length.
    fn deadline(&mut self, now: Instant, id: u16) -> Option<(Instant, u32)> {
        let bucket = &self.buckets[usize::from(id)];
        let hole = bucket.waiting.iter().position(Option::is_some)?;
        let first = bucket.waiting[hole].as_ref()?;
        let proved = bucket.proved.or_else(|| self.is_proof(first).then_some(now));
        let (cap, repair) = self.patience(first.in_flight);
        let capped = first.arrived + cap;
        let deadline = proved.map_or(capped, |at| capped.min(at + repair));
        self.buckets[usize::from(id)].proved = proved;
        Some((deadline, hole as u32))
    }

    /// Every link that held data when this left has delivered something later.
    fn is_proof(&self, first: &Waiting) -> bool {
        let holding = (0..MAX_LINKS).filter(|link| first.in_flight & 1 << link != 0);
        holding.map(|link| &self.links[link]).all(|link| {
            let later = link.timestamp.wrapping_sub(first.timestamp) % CLOCK;
            link.newest.is_some_and(|newest| newest >= first.data_sequence)
                && later < CLOCK / 2
                && later >= link.reorder
        })
    }

    /// The cap, and how long a repair may take once it is needed, for what may be on the way over these links.
    fn patience(&self, in_flight: u16) -> (Duration, Duration) {
        let known = || self.links.iter().enumerate().filter_map(|(number, link)| Some((number, link.rtt()?)));
        let fastest = known().map(|(_, rtt)| rtt).min().unwrap_or_default();
        let holding = known().filter(|(number, _)| in_flight & 1 << number != 0);
        let slowest = holding.map(|(_, rtt)| rtt).max().unwrap_or(fastest);
        // The loss is told on the link that it happened on, and that of the repair on the fastest.
        let repair = ((slowest + fastest) * 3 / 2 + REPAIR_MARGIN).max(LEAST_CAP);
        ((repair + (slowest - fastest) / 2).min(MOST_CAP), repair)
    }

    /// Skips the first `count` positions; what waits among them is delivered.
    fn give_up(&mut self, now: Instant, id: u16, count: u32, out: &mut Vec<Delivery<'_>>) {
        let bucket = &mut self.buckets[usize::from(id)];
        for _ in 0..count {
            match bucket.waiting.pop_front().flatten() {
                Some(waiting) => {
                    self.holds.record(now, now.since(waiting.arrived));
                    out.push(Delivery::Held(waiting.packet));
                }
                None => self.totals.skipped += 1,
            }
        }
        bucket.next = (bucket.next + count) % POSITIONS;
        bucket.proved = None;
    }

    /// Delivers what has its turn.
    fn flush(&mut self, now: Instant, id: u16, out: &mut Vec<Delivery<'_>>) {
        let bucket = &mut self.buckets[usize::from(id)];
        while let Some(waiting) = bucket.waiting.pop_front_if(|first| first.is_some()).flatten() {
            self.holds.record(now, now.since(waiting.arrived));
            out.push(Delivery::Held(waiting.packet));
            bucket.next = (bucket.next + 1) % POSITIONS;
        }
        bucket.proved = None;
        if bucket.waiting.is_empty() {
            self.holding.retain(|holding| *holding != id);
            self.places.take_back(&mut bucket.waiting);
        }
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, packet: Packet) {
        self.pool.put(packet);
    }

    /// Buffers that are not at home.
    pub fn buffers_out(&self) -> usize {
        self.pool.out()
    }

    /// How long the packets waited that were delivered in the last seconds, of those that had to.
    pub fn holds(&self, now: Instant) -> Option<Percentiles> {
        self.holds.percentiles(now)
    }

    /// Sums for `show`.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::{Kind, Order};
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(1_000 + ms)
    }

    /// A packet of bucket 1 that left on `link` at `sent` ms while the links of `mask` held data; its only
    /// byte tells its position.
    fn header(link: u8, position: u32, sent: u64, mask: u16, flags: u8) -> Header {
        Header {
            kind: Kind::Data,
            flags,
            link,
            epoch: 0,
            timestamp: at(sent).micros24(),
            in_flight: mask,
            sequence: 0,
            data_sequence: position,
            order: Order { bucket: 1, position },
        }
    }

    const NONE: [u8; 0] = [];

    struct Rig(Resequencer, Vec<u8>);

    impl Rig {
        fn new() -> Self {
            let mut resequencer = Resequencer::new(100);
            resequencer.set_rtt(0, Duration::from_millis(40), Duration::from_millis(40));
            resequencer.set_rtt(1, Duration::from_millis(120), Duration::from_millis(120));
            Self(resequencer, Vec::new())
        }

        fn arrive(&mut self, now: u64, header: Header) -> Vec<u8> {
            let body = [header.order.position as u8];
            let mut out = Vec::new();
            self.0.on_progress(at(now), &header, header.data_sequence.into());
            self.0.insert(at(now), &header, header.data_sequence.into(), Inner::from(&body[..]), &mut out);
            self.0.release(at(now), &mut out);
            self.take(out)
        }

        fn wait(&mut self, now: u64) -> Vec<u8> {
            let mut out = Vec::new();
            self.0.release(at(now), &mut out);
            self.take(out)
        }

        fn take(&mut self, out: Vec<Delivery<'_>>) -> Vec<u8> {
            let mut positions = Vec::new();
            for delivery in out {
                match delivery {
                    Delivery::Arrived(arrived) => positions.push(arrived.head[0]),
                    Delivery::Held(packet) => {
                        positions.push(packet.bytes()[0]);
                        self.0.give_back(packet);
                    }
                }
            }
            self.1.extend(&positions);
            positions
        }
    }

    #[test]
    fn in_order_passes_at_once() {
        let mut rig = Rig::new();
        assert_eq!(rig.arrive(0, header(0, 0, 0, 1, 0)), [0]);
        assert_eq!(rig.arrive(1, header(0, 1, 1, 1, 0)), [1]);
        assert_eq!(rig.0.next_timeout(at(1)), None);
    }

    #[test]
    fn a_slower_link_is_waited_for() {
        let mut rig = Rig::new();
        rig.arrive(0, header(1, 0, 0, 0, 0));
        assert_eq!(rig.arrive(20, header(0, 2, 2, 0b10, 0)), NONE);
        assert_eq!(rig.arrive(50, header(1, 1, 1, 0b10, 0)), [1, 2]);
        assert_eq!((rig.0.buffers_out(), rig.0.totals().skipped), (0, 0));
    }

    #[test]
    fn a_proved_loss_waits_for_its_repair_only() {
        let mut rig = Rig::new();
        rig.arrive(0, header(1, 0, 0, 0, 0));
        // 1 was lost on link 1, which then delivers 3: 1 is not coming by itself.
        assert_eq!(rig.arrive(20, header(0, 2, 2, 0b10, 0)), NONE);
        assert_eq!(rig.arrive(23, header(1, 3, 3, 0b11, 0)), NONE);
        assert_eq!(rig.0.next_timeout(at(23)), Some(at(23 + 255)), "one and a half of both round trips");
        assert_eq!(rig.arrive(60, header(0, 1, 58, 0b11, flags::REINJECTED)), [1, 2, 3]);
    }

    #[test]
    fn without_a_repair_the_hole_is_given_up_and_a_late_packet_still_delivered() {
        let mut rig = Rig::new();
        rig.arrive(0, header(0, 0, 0, 0, 0));
        assert_eq!(rig.arrive(20, header(0, 2, 2, 1, 0)), NONE);
        assert_eq!(rig.wait(154), NONE);
        assert_eq!(rig.wait(155), [2]);
        assert_eq!(rig.arrive(156, header(0, 1, 90, 1, flags::REINJECTED)), [1]);
        assert_eq!((rig.0.totals().skipped, rig.0.totals().late), (1, 1));
    }

    #[test]
    fn a_link_that_fell_silent_is_waited_for_until_the_cap() {
        let mut rig = Rig::new();
        rig.arrive(0, header(0, 0, 0, 0, 0));
        assert_eq!(rig.arrive(20, header(0, 2, 2, 0b10, 0)), NONE);
        assert_eq!(rig.wait(314), NONE);
        assert_eq!(rig.wait(315), [2]);
    }

    #[test]
    fn a_link_that_reorders_is_given_its_time() {
        let mut rig = Rig::new();
        rig.arrive(10, header(0, 1, 8, 1, 0));
        assert_eq!(rig.arrive(11, header(0, 0, 2, 1, 0)), [0, 1], "link 0 reorders by 6 ms");
        assert_eq!(rig.arrive(20, header(0, 3, 20, 0b11, 0)), NONE);
        rig.0.on_progress(at(21), &header(1, 9, 60, 0b11, 0), 9);
        assert_eq!(rig.arrive(24, header(0, 4, 24, 1, 0)), NONE);
        assert_eq!(rig.0.next_timeout(at(24)), Some(at(20 + 295)), "4 ms later is no proof yet");
        assert_eq!(rig.arrive(27, header(0, 5, 27, 1, 0)), NONE);
        assert_eq!(rig.0.next_timeout(at(27)), Some(at(27 + 255)));
    }

    #[test]
    fn far_ahead_gives_up_at_once_and_nothing_is_lost() {
        let mut rig = Rig::new();
        rig.arrive(0, header(0, 0, 0, 1, 0));
        rig.arrive(0, header(0, 2, 0, 0b10, 0));
        assert_eq!(rig.arrive(1, header(0, MAX_AHEAD + 5, 1, 1, 0)).len(), 2);
        assert_eq!(rig.0.buffers_out(), 0);
    }

    proptest! {
        /// Whatever arrives, every packet is delivered exactly once, and all buffers come home.
        #[test]
        fn every_packet_is_delivered_once(
            shuffle in proptest::collection::vec((0u32..60, 0u8..3, 0u64..5), 1..300),
        ) {
            let mut rig = Rig::new();
            let (mut now, mut sent) = (0, std::collections::HashSet::new());
            for (position, link, wait) in shuffle {
                now += wait;
                if sent.insert(position) {
                    rig.arrive(now, header(link, position, now, 0b111, 0));
                }
            }
            rig.wait(now + 1_000);
            let mut delivered = rig.1.clone();
            delivered.sort_unstable();
            let mut expected: Vec<u8> = sent.into_iter().map(|position| position as u8).collect();
            expected.sort_unstable();
            prop_assert_eq!(delivered, expected);
            prop_assert_eq!(rig.0.buffers_out(), 0);
            prop_assert_eq!(rig.0.next_timeout(at(now + 1_000)), None);
        }
    }
}
