//! The shared queue between the interface and all links: FQ-CoDel (RFC 8290).
//!
//! Each conversation has a bucket of its own. A bucket that was empty a moment ago is *sparse* and goes
//! first; buckets with a backlog take turns. CoDel drops from, or marks, a bucket whose packets wait too
//! long. Over the limit, the fattest bucket loses packets. A bucket may be bound to one link: then only that takes
//! from it, see `adoption`.

use std::collections::VecDeque;
use std::time::Duration;

use super::acks;
use super::codel::{Codel, Tolerance};
use crate::core::ecn;
use crate::core::packet::{Packet, Pool, SMALL};
use crate::core::places::Places;
use crate::core::recent::{Durations, Percentiles};
use crate::core::units::{Instant, LinkId, MAX_LINKS};
use crate::core::wire::BUCKETS;

/// Bytes of a bucket's first turn, and the least of its later ones: one full packet (RFC 8290 §4.1.1).
const QUANTUM: i64 = 1514;
/// Most bytes of a later turn: a train.
const LONGEST_TURN: u64 = 1 << 16;

/// Conversations whose first packet is too long for a link that are passed over to find one that is not.
const MAX_SKIPPED: usize = 64;
/// A conversation that was silent for so long begins anew: what was known of it is forgotten.
const IDLE: Duration = Duration::from_secs(1);
/// A conversation that has sent so many bytes without being silent is a long one: few pages or pictures are.
const LONG: u64 = 256 << 10;

/// Packets wait here until a link pulls them.
///
/// The queue owns the pool of buffers: who wants to add packets borrows empty ones first.
pub struct Queue {
    buckets: Box<[Bucket]>,
    sparse: VecDeque<u16>,
    backlogged: VecDeque<u16>,
    /// Those with packets among the buckets bound to each link.
    bound: [VecDeque<u16>; MAX_LINKS],
    /// Links that buckets are bound to, with packets or without, a bit each.
    homes: u16,
    packets: usize,
    bytes: u64,
    limit: u64,
    places: Places<Packet>,
    /// Bytes of a turn of a bucket with a backlog.
    turn: i64,
    tolerance: Tolerance,
    /// Of the bound ones.
    bound_tolerance: Tolerance,
    pool: Pool,
    totals: Totals,
    /// How long the packets that left had waited.
    sojourns: Durations,
}

/// Sums for `show`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Packets ever added.
    pub enqueued: u64,
    /// Dropped by CoDel.
    pub dropped: u64,
    /// Marked by CoDel.
    pub marked: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// TCP acknowledgements left out for a later one.
    pub superseded: u64,
}

#[derive(Default)]
struct Bucket {
    packets: VecDeque<Packet>,
    bytes: u64,
    deficit: i64,
    list: List,
    codel: Codel,
    /// The only link that takes from it.
    home: Option<LinkId>,
    /// Bytes taken since it was last silent.
    taken: u64,
    last: Instant,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum List {
    #[default]
    None,
    Sparse,
    Backlogged,
    Bound(LinkId),
}

impl Queue {
    /// A queue over `pool` that holds at most `limit` bytes, be it of packets or of the smallest buffers.
    pub fn new(pool: Pool, limit: u64) -> Self {
        let tolerance = Tolerance { target: Duration::from_millis(20), interval: Duration::from_millis(100) };
        Self {
            buckets: std::iter::repeat_with(Bucket::default).take(BUCKETS.into()).collect(),
            sparse: VecDeque::new(),
            backlogged: VecDeque::new(),
            bound: Default::default(),
            homes: 0,
            packets: 0,
            bytes: 0,
            limit,
            places: Places::default(),
            turn: QUANTUM,
            tolerance,
            bound_tolerance: tolerance,
            pool,
            totals: Totals::default(),
            sojourns: Durations::default(),
        }
    }

    /// Adds empty buffers to `spare` until it holds `count`, or no more may be had.
    pub fn lend(&mut self, spare: &mut Vec<Packet>, count: usize) {
        let wanted = count.saturating_sub(spare.len());
        spare.extend(std::iter::from_fn(|| self.pool.take()).take(wanted));
    }

    /// A second packet of the same bytes, which left like the first; `None` when all buffers are out.
    pub fn copy(&mut self, packet: &Packet) -> Option<Packet> {
        let mut copy = self.pool.take_for(packet.len())?;
        copy.fill(packet.bytes());
        (copy.unsummed, copy.departure) = (packet.unsummed, packet.departure);
        Some(copy)
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, packet: Packet) {
        self.pool.put(packet);
    }

    /// Whether so many buffers are left that packets in flight may keep theirs.
    pub fn can_spare_buffers(&self) -> bool {
        self.pool.is_roomy()
    }

    /// Adds a packet, whose bucket and order were set.
    pub fn push(&mut self, now: Instant, packet: Packet) {
        let mut packet = self.pool.fit(packet);
        packet.queued = now;
        let (id, len) = (packet.bucket, packet.len() as u64);
        let bucket = &mut self.buckets[usize::from(id)];
        if now.since(bucket.last) > IDLE {
            (bucket.home, bucket.taken) = (None, 0);
        }
        bucket.last = now;
        if let Some(last) = bucket.packets.back_mut()
            && acks::supersedes(packet.bytes(), last.bytes())
        {
            // It takes the place in line, too.
            packet.queued = last.queued;
            let old = std::mem::replace(last, packet);
            bucket.bytes = bucket.bytes + len - old.len() as u64;
            self.bytes = self.bytes + len - old.len() as u64;
            self.totals.enqueued += 1;
            self.totals.superseded += 1;
            return self.pool.put(old);
        }
        self.places.lend(&mut bucket.packets);
        bucket.packets.push_back(packet);
        bucket.bytes += len;
        self.packets += 1;
        self.bytes += len;
        self.totals.enqueued += 1;
        if bucket.list == List::None {
            let list = bucket.home.map_or(List::Sparse, List::Bound);
            (bucket.list, bucket.deficit) = (list, QUANTUM);
            self.list(list).push_back(id);
        }
        while self.bytes > self.limit || self.packets as u64 > self.limit / SMALL as u64 {
            self.drop_from_fattest();
        }
    }

    /// The buckets with packets.
    fn waiting(&self) -> impl Iterator<Item = &u16> {
        self.sparse.iter().chain(&self.backlogged).chain(self.bound.iter().flatten())
    }

    fn drop_from_fattest(&mut self) {
        let fattest = self.waiting().max_by_key(|id| self.buckets[usize::from(**id)].bytes).copied();
        if let Some(packet) = fattest.and_then(|id| self.take(id)) {
            self.totals.overflowed += 1;
            self.pool.put(packet);
        }
    }

    /// Takes the first packet of a bucket. The bucket stays in its list.
    fn take(&mut self, id: u16) -> Option<Packet> {
        let bucket = &mut self.buckets[usize::from(id)];
        let packet = bucket.packets.pop_front()?;
        bucket.bytes -= packet.len() as u64;
        self.packets -= 1;
        self.bytes -= packet.len() as u64;
        Some(packet)
    }

    /// Moves the packets of more than `longest` bytes to `out`.
    pub fn remove_longer_than(&mut self, longest: usize, out: &mut Vec<Packet>) {
        for id in self.sparse.iter().chain(&self.backlogged).chain(self.bound.iter().flatten()) {
            let bucket = &mut self.buckets[usize::from(*id)];
            for _ in 0..bucket.packets.len() {
                let Some(packet) = bucket.packets.pop_front() else { break };
                if packet.len() <= longest {
                    bucket.packets.push_back(packet);
                    continue;
                }
                bucket.bytes -= packet.len() as u64;
                self.packets -= 1;
                self.bytes -= packet.len() as u64;
                out.push(packet);
            }
        }
    }

    /// Whether a sparse conversation waits.
    pub fn has_sparse(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// Bytes of the sparse conversations that wait.
    pub fn sparse_bytes(&self) -> u64 {
        self.sparse.iter().map(|id| self.buckets[usize::from(*id)].bytes).sum()
    }

    /// Whether a backlogged conversation waits.
    pub fn has_backlog(&self) -> bool {
        !self.backlogged.is_empty()
    }

    /// Whether a conversation that is bound to the link waits.
    pub fn has_bound(&self, link: LinkId) -> bool {
        !self.bound[link.index()].is_empty()
    }

    /// The next packet of those conversations that has at most `longest` bytes, if it has at most `room`.
    pub fn pop_bound(&mut self, now: Instant, link: LinkId, room: u64, longest: u64) -> Option<Packet> {
        self.pop(now, room, longest, List::Bound(link))
    }

    /// The only link that takes from the bucket.
    pub fn home(&self, id: u16) -> Option<LinkId> {
        self.buckets[usize::from(id)].home
    }

    /// Links that buckets are bound to, a bit each.
    pub fn homes(&self) -> u16 {
        self.homes
    }

    /// Long conversations that are bound to the link.
    pub fn residents(&self, now: Instant, link: LinkId) -> usize {
        let lives = |bucket: &&Bucket| bucket.home == Some(link) && now.since(bucket.last) <= IDLE;
        self.buckets.iter().filter(lives).count()
    }

    /// Long conversations that wait and are bound to no link.
    pub fn long_backlogged(&self) -> usize {
        self.backlogged.iter().filter(|id| self.is_long(**id)).count()
    }

    /// Binds one of these to a link: that of which most waits, as its sender's window suits a long way best.
    pub fn bind_one(&mut self, link: LinkId) {
        let candidates = self.backlogged.iter().enumerate().filter(|(_, id)| self.is_long(**id));
        let fattest = candidates.max_by_key(|(_, id)| self.buckets[usize::from(**id)].bytes);
        let Some(id) = fattest.map(|(at, _)| at).and_then(|at| self.backlogged.remove(at)) else { return };
        let bucket = &mut self.buckets[usize::from(id)];
        (bucket.home, bucket.list) = (Some(link), List::Bound(link));
        self.homes |= 1 << link.0;
        self.bound[link.index()].push_back(id);
    }

    /// From now on all links take from the conversations that were bound to one of these, a bit each.
    pub fn unbind(&mut self, links: u16) {
        let leaving = links & self.homes;
        if leaving == 0 {
            return;
        }
        self.homes &= !leaving;
        let of = |link: &LinkId| leaving & 1 << link.0 != 0;
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.home.as_ref().is_some_and(of)) {
            bucket.home = None;
        }
        for link in LinkId::among(leaving) {
            for id in std::mem::take(&mut self.bound[link.index()]) {
                self.buckets[usize::from(id)].list = List::Backlogged;
                self.backlogged.push_back(id);
            }
        }
    }

    fn is_long(&self, id: u16) -> bool {
        let bucket = &self.buckets[usize::from(id)];
        bucket.taken >= LONG && !bucket.packets.is_empty()
    }

    /// The next packet of the sparse conversations that has at most `longest` bytes, if it has at most `room`.
    pub fn pop_sparse(&mut self, now: Instant, room: u64, longest: u64) -> Option<Packet> {
        self.pop(now, room, longest, List::Sparse)
    }

    /// The next packet of the backlogged conversations that has at most `longest` bytes, if it has at most `room`.
    pub fn pop_backlogged(&mut self, now: Instant, room: u64, longest: u64) -> Option<Packet> {
        self.pop(now, room, longest, List::Backlogged)
    }

    fn pop(&mut self, now: Instant, room: u64, longest: u64, from: List) -> Option<Packet> {
        let mut at = 0;
        loop {
            let &id = self.list(from).get(at)?;
            let bucket = &self.buckets[usize::from(id)];
            if bucket.packets.front().is_some_and(|head| head.len() as u64 > longest) {
                // It waits for a link that carries it; what is behind it need not.
                at += 1;
                if at > MAX_SKIPPED {
                    return None;
                }
                continue;
            }
            if bucket.deficit <= 0 {
                self.list(from).remove(at);
                self.append(id);
                continue;
            }
            match self.dequeue(now, id, room.min(longest)) {
                Dequeued::Packet(packet) => return Some(packet),
                Dequeued::NoRoom => return None,
                Dequeued::Empty => {
                    self.list(from).remove(at);
                    // A sparse one must wait a turn before it is sparse again, lest it starve the others (§4.2).
                    if from == List::Sparse && !self.backlogged.is_empty() {
                        self.buckets[usize::from(id)].list = List::Backlogged;
                        self.backlogged.push_back(id);
                    } else {
                        let bucket = &mut self.buckets[usize::from(id)];
                        bucket.list = List::None;
                        self.places.take_back(&mut bucket.packets);
                    }
                }
            }
        }
    }

    fn list(&mut self, list: List) -> &mut VecDeque<u16> {
        match list {
            List::Sparse => &mut self.sparse,
            List::Bound(link) => &mut self.bound[link.index()],
            List::None | List::Backlogged => &mut self.backlogged,
        }
    }

    /// Lets a bucket wait for its next turn.
    fn append(&mut self, id: u16) {
        let bucket = &mut self.buckets[usize::from(id)];
        bucket.deficit += self.turn;
        bucket.list = bucket.home.map_or(List::Backlogged, List::Bound);
        let list = bucket.list;
        self.list(list).push_back(id);
    }

    fn dequeue(&mut self, now: Instant, id: u16, room: u64) -> Dequeued {
        loop {
            let bucket = &mut self.buckets[usize::from(id)];
            let tolerance = if bucket.home.is_some() { self.bound_tolerance } else { self.tolerance };
            let Some(head) = bucket.packets.front() else { return Dequeued::Empty };
            if head.len() as u64 > room {
                return Dequeued::NoRoom;
            }
            let waited = now.since(head.queued);
            let signal = bucket.codel.on_dequeue(now, waited, bucket.bytes, QUANTUM as u64, tolerance);
            let Some(mut packet) = self.take(id) else { return Dequeued::Empty };
            if signal {
                if ecn::mark(&mut packet) {
                    self.totals.marked += 1;
                } else {
                    self.totals.dropped += 1;
                    self.pool.put(packet);
                    continue;
                }
            }
            let bucket = &mut self.buckets[usize::from(id)];
            bucket.deficit -= packet.len() as i64;
            bucket.taken += packet.len() as u64;
            self.sojourns.record(now, waited);
            return Dequeued::Packet(packet);
        }
    }

    /// How long the packet has waited whose turn it is among the backlogged conversations.
    pub fn sojourn(&self, now: Instant) -> Option<Duration> {
        let first = self.backlogged.iter().find_map(|id| self.buckets[usize::from(*id)].packets.front());
        first.map(|packet| now.since(packet.queued))
    }

    /// How long packets may wait.
    pub fn target(&self) -> Duration {
        self.tolerance.target
    }

    /// Packets waiting.
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// Bytes waiting that any link may take.
    pub fn free_bytes(&self) -> u64 {
        let bound = self.bound.iter().flatten().map(|id| self.buckets[usize::from(*id)].bytes);
        self.bytes - bound.sum::<u64>()
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Most bytes that may wait.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets the limits of what waits, and of all buffers.
    pub fn set_limits(&mut self, limit: u64, buffers: usize) {
        self.limit = limit;
        self.pool.set_limit(buffers);
    }

    /// Sets the bytes of a turn of a conversation with a backlog, within one full packet and a train. What belongs
    /// together costs less on its way than what alternates.
    pub fn set_turn(&mut self, bytes: u64) {
        self.turn = bytes.clamp(QUANTUM as u64, LONGEST_TURN) as i64;
    }

    /// Sets how long packets may wait, and those of bound conversations.
    pub fn set_tolerance(&mut self, tolerance: Tolerance, bound: Tolerance) {
        (self.tolerance, self.bound_tolerance) = (tolerance, bound);
    }

    /// How long the packets waited that left in the last seconds, for `show`.
    pub fn sojourns(&self, now: Instant) -> Option<Percentiles> {
        self.sojourns.percentiles(now)
    }

    /// Sums for `show`.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Buffers that are not at home: lent, waiting or kept.
    pub fn buffers_out(&self) -> usize {
        self.pool.out()
    }
}

enum Dequeued {
    Packet(Packet),
    NoRoom,
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(limit: u64) -> Queue {
        Queue::new(Pool::new(2_000, 20_000_000), limit)
    }

    fn push(queue: &mut Queue, now: Instant, bucket: u16, len: usize) {
        let mut packet = queue.pool.take().expect("enough buffers");
        packet.buffer()[0] = 0x45;
        packet.set_len(len);
        packet.bucket = bucket;
        queue.push(now, packet);
    }

    fn drain(queue: &mut Queue, now: Instant) -> Vec<u16> {
        let mut order = Vec::new();
        while let Some(packet) =
            queue.pop_sparse(now, 2_000, 2_000).or_else(|| queue.pop_backlogged(now, 2_000, 2_000))
        {
            order.push(packet.bucket);
            queue.give_back(packet);
        }
        order
    }

    #[test]
    fn a_sparse_conversation_overtakes_a_backlog() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        (0..10).for_each(|_| push(&mut q, now, 1, 1_500));
        let first = q.pop_sparse(now, 2_000, 2_000).expect("new, so sparse").bucket;
        assert_eq!(first, 1);
        assert!(q.pop_sparse(now, 2_000, 2_000).is_some_and(|packet| packet.bucket == 1));
        assert!(q.pop_sparse(now, 2_000, 2_000).is_none(), "its quantum is spent");
        push(&mut q, now, 2, 100);
        assert!(q.pop_sparse(now, 2_000, 2_000).is_some_and(|packet| packet.bucket == 2));
        assert!(q.pop_sparse(now, 2_000, 2_000).is_none());
        assert!(q.has_backlog());
    }

    #[test]
    fn backlogs_take_turns_by_bytes() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        (0..100).for_each(|_| push(&mut q, now, 1, 1_500));
        (0..300).for_each(|_| push(&mut q, now, 2, 500));
        let order = drain(&mut q, now);
        let early = order[..200].iter().filter(|bucket| **bucket == 1).count();
        assert!((45..56).contains(&early), "{early} of 200 are long, three short ones weigh the same");
        assert_eq!((order.len(), q.bytes(), q.packets(), q.buffers_out()), (400, 0, 0, 0));
    }

    #[test]
    fn longer_turns_are_as_fair_and_do_not_hold_sparse_ones_up() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        q.set_turn(6_000);
        (0..100).for_each(|_| push(&mut q, now, 1, 1_500));
        (0..100).for_each(|_| push(&mut q, now, 2, 1_500));
        let mut early = Vec::new();
        for _ in 0..40 {
            let packet = q.pop_sparse(now, 2_000, 2_000).or_else(|| q.pop_backlogged(now, 2_000, 2_000));
            let packet = packet.expect("it waits");
            early.push(packet.bucket);
            q.give_back(packet);
        }
        let changes = early.windows(2).filter(|two| two[0] != two[1]).count();
        let first = early.iter().filter(|bucket| **bucket == 1).count();
        assert!((16..=24).contains(&first) && changes <= 12, "{first} of 40 are the first's: {early:?}");
        push(&mut q, now, 3, 100);
        assert!(q.pop_sparse(now, 2_000, 2_000).is_some_and(|packet| packet.bucket == 3));
    }

    #[test]
    fn the_fattest_pays_for_a_full_queue() {
        let (mut q, now) = (queue(100_000), Instant::ZERO);
        push(&mut q, now, 2, 100);
        (0..200).for_each(|_| push(&mut q, now, 1, 1_000));
        assert!(q.bytes() <= 100_000);
        assert_eq!(q.totals().overflowed, 101);
        assert!(drain(&mut q, now).contains(&2));
    }

    #[test]
    fn a_packet_without_room_stays() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        push(&mut q, now, 1, 1_000);
        assert!(q.pop_sparse(now, 999, 2_000).is_none());
        assert!(q.pop_sparse(now, 1_000, 2_000).is_some());
    }

    #[test]
    fn what_is_too_long_for_a_link_holds_nothing_up() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        (0..4).for_each(|_| push(&mut q, now, 1, 1_500));
        assert!(q.pop_sparse(now, 2_000, 1_200).is_none());
        push(&mut q, now, 2, 1_000);
        push(&mut q, now, 2, 1_000);
        assert!(q.pop_sparse(now, 2_000, 1_200).is_some_and(|packet| packet.bucket == 2));
        assert!(
            q.pop_sparse(now, 2_000, 1_500).is_some_and(|packet| packet.bucket == 1),
            "its turn is not lost"
        );
    }

    #[test]
    fn the_long_conversation_of_which_most_waits_is_bound() {
        let (mut q, now) = (queue(4 << 20), Instant::ZERO);
        for (bucket, count) in [(1, 300), (2, 400), (3, 300), (4, 200)] {
            (0..count).for_each(|_| push(&mut q, now, bucket, 1_000));
        }
        for _ in 0..4 * 180 {
            let packet = q.pop_sparse(now, 2_000, 2_000).or_else(|| q.pop_backlogged(now, 2_000, 2_000));
            q.give_back(packet.expect("it waits"));
        }
        q.bind_one(LinkId(1));
        assert_eq!(q.homes(), 0, "none is long yet");
        for _ in 0..3 * 95 {
            let packet = q.pop_backlogged(now, 2_000, 2_000);
            q.give_back(packet.expect("it waits"));
        }
        q.bind_one(LinkId(1));
        assert_eq!((q.home(2), q.homes()), (Some(LinkId(1)), 0b10));
    }

    #[test]
    fn conversations_without_packets_keep_no_memory() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        for bucket in 1..1_000 {
            (0..40).for_each(|_| push(&mut q, now, bucket, 1_000));
            // Another one holds packets while this one empties.
            push(&mut q, now, 1_000 + bucket, 1_000);
            drain(&mut q, now);
        }
        let kept: usize = q.buckets.iter().map(|bucket| bucket.packets.capacity()).sum();
        assert_eq!((kept, q.packets()), (0, 0));
    }

    #[test]
    fn packets_that_are_too_long_are_removed() {
        let (mut q, now) = (queue(1 << 20), Instant::ZERO);
        for len in [1_500, 1_000, 1_200] {
            push(&mut q, now, 1, len);
            push(&mut q, now, 2, len);
        }
        let mut removed = Vec::new();
        q.remove_longer_than(1_200, &mut removed);
        assert_eq!((removed.len(), q.packets(), q.bytes()), (2, 4, 4_400));
        removed.into_iter().for_each(|packet| q.give_back(packet));
        assert_eq!(drain(&mut q, now).len(), 4);
    }
}
