//! Inner packets in buffers of a bounded pool.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};

use super::units::Instant;
use super::wire::Order;

/// One inner packet in a buffer that goes back to its [`Pool`]. It is moved a dozen times on its way, so it is no more
/// than a pointer itself.
#[derive(Debug)]
pub struct Packet(Box<Content>);

/// What is known of a packet.
#[derive(Debug)]
pub struct Content {
    bytes: Box<[u8]>,
    len: usize,
    /// When it was queued.
    pub(super) queued: Instant,
    /// Its bucket, 1 to 4095; 0 if it is no IP packet.
    pub(super) bucket: u16,
    /// Its conversation suffers from reordering.
    pub(super) ordered: bool,
    /// Small, and its delay is what people feel.
    pub(super) realtime: bool,
    /// To be sent again when it was lost.
    pub(super) repaired: bool,
    /// See [`Content::set_unsummed`].
    pub(super) unsummed: bool,
    /// When it has left and is kept to leave again.
    pub(super) departure: Departure,
}

/// How a packet left that may have to leave again: it was lost, or its link failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Departure {
    /// Its place in its conversation.
    pub order: Order,
    /// Its number in the space of all links, low half.
    pub data_sequence: u32,
    /// When it left for the first time.
    pub first_sent: Instant,
    /// How often it was sent again, see `MAX_REPAIRS`.
    pub repairs: u8,
}

impl Deref for Packet {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}

impl DerefMut for Packet {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.0
    }
}

impl Content {
    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Length of the packet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a buffer that holds no packet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole buffer, to be filled; then say how far with [`Content::set_len`].
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Makes `bytes`, no more than the buffer holds, the packet.
    pub fn fill(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }

    /// Sets the length of the packet, at most that of the buffer.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }

    /// Says whether its TCP or UDP checksum is the sum of the pseudo header only; it is not, until this is called.
    pub fn set_unsummed(&mut self, unsummed: bool) {
        self.unsummed = unsummed;
    }
}

#[cfg(test)]
impl Packet {
    /// A packet of `bytes` in a buffer of this size, of no pool.
    pub(super) fn of(buffer_size: usize, bytes: &[u8]) -> Self {
        let mut packet = Pool::new(buffer_size, buffer_size).take().expect("one");
        packet.fill(bytes);
        packet
    }
}

/// A packet on its way to the interface.
#[derive(Clone, Copy, Debug)]
pub struct Inner<'a> {
    /// All of it, or all its headers that are known, of an even length.
    pub head: &'a [u8],
    /// What follows.
    pub rest: &'a [u8],
    /// Its TCP or UDP checksum is the sum of the pseudo header only.
    pub unsummed: bool,
}

impl<'a> From<&'a [u8]> for Inner<'a> {
    fn from(packet: &'a [u8]) -> Self {
        Self { head: packet, rest: &[], unsummed: false }
    }
}

impl<'a> From<&'a Packet> for Inner<'a> {
    fn from(packet: &'a Packet) -> Self {
        Self { unsummed: packet.unsummed, ..packet.bytes().into() }
    }
}

impl<'a> Inner<'a> {
    /// Length of the packet.
    #[allow(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Writes the packet to the first [`Inner::len`] bytes of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(self.head.len());
        head.copy_from_slice(self.head);
        rest[..self.rest.len()].copy_from_slice(self.rest);
    }

    /// The packet in one piece.
    pub fn whole(&self) -> Cow<'a, [u8]> {
        if self.rest.is_empty() { self.head.into() } else { [self.head, self.rest].concat().into() }
    }
}

/// Small packets wait in buffers of this size: one of 100 bytes need not occupy what one of 1,500 does.
pub const SMALL: usize = 256;

/// Free buffers that are kept for the next burst, in bytes, beside as much as is out.
const STOCK: usize = 2 << 20;

/// Buffers of two sizes, bounded in bytes.
pub struct Pool {
    free: [Vec<Packet>; 2],
    sizes: [usize; 2],
    /// Buffers that are out.
    out: usize,
    /// Bytes of all that are out, and of all that were made.
    bytes_out: usize,
    made: usize,
    limit: usize,
}

impl Pool {
    /// A pool of at most `limit` bytes in buffers of `buffer_size` and smaller ones, made when first needed.
    pub fn new(buffer_size: usize, limit: usize) -> Self {
        let sizes = [SMALL.min(buffer_size), buffer_size];
        Self { free: [Vec::new(), Vec::new()], sizes, out: 0, bytes_out: 0, made: 0, limit }
    }

    /// From now on at most `limit` bytes. What is out beyond that is not kept when it comes back.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.trim();
    }

    /// Frees what is beyond the limit and the stock.
    fn trim(&mut self) {
        let most = self.limit.min(self.bytes_out * 2 + STOCK);
        for free in self.free.iter_mut().rev() {
            while self.made > most
                && let Some(packet) = free.pop()
            {
                self.made -= packet.bytes.len();
            }
        }
    }

    /// An empty buffer for the longest packet; `None` when all are out.
    pub fn take(&mut self) -> Option<Packet> {
        self.take_for(self.sizes[1])
    }

    /// An empty buffer for `len` bytes, at most the longest packet; `None` when all are out.
    pub fn take_for(&mut self, len: usize) -> Option<Packet> {
        let kind = usize::from(len > self.sizes[0]);
        let packet = self.free[kind].pop().or_else(|| self.make(kind))?;
        self.out += 1;
        self.bytes_out += packet.bytes.len();
        Some(packet)
    }

    /// A new buffer, for which free ones of the other size make room if need be.
    fn make(&mut self, kind: usize) -> Option<Packet> {
        let size = self.sizes[kind];
        while self.made + size > self.limit {
            let other = self.free[1 - kind].pop()?;
            self.made -= other.bytes.len();
        }
        self.made += size;
        Some(Packet(Box::new(Content {
            bytes: vec![0; size].into_boxed_slice(),
            len: 0,
            queued: Instant::ZERO,
            bucket: 0,
            ordered: false,
            realtime: false,
            repaired: false,
            unsummed: false,
            departure: Departure::default(),
        })))
    }

    /// The packet in the smallest buffer that holds it and can be had.
    pub fn fit(&mut self, mut packet: Packet) -> Packet {
        if packet.len > self.sizes[0] || packet.bytes.len() <= self.sizes[0] {
            return packet;
        }
        let Some(mut other) = self.take_for(packet.len) else { return packet };
        other.fill(packet.bytes());
        std::mem::swap(&mut packet.bytes, &mut other.bytes);
        self.put(other);
        packet
    }

    /// Takes a buffer back. It is kept while others are out, or few are free.
    pub fn put(&mut self, mut packet: Packet) {
        let size = packet.bytes.len();
        (packet.len, packet.unsummed) = (0, false);
        self.out -= 1;
        self.bytes_out -= size;
        self.free[usize::from(size > self.sizes[0])].push(packet);
        self.trim();
    }

    /// Whether more than a quarter of what is out can still be taken.
    pub fn is_roomy(&self) -> bool {
        self.limit.saturating_sub(self.bytes_out) > self.bytes_out / 4
    }

    /// Buffers that are out.
    pub fn out(&self) -> usize {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_never_makes_more_than_its_limit_and_reuses_what_came_home() {
        let mut pool = Pool::new(1_000, 2_000);
        let (a, b) = (pool.take().expect("first"), pool.take().expect("second"));
        assert!(pool.take().is_none() && pool.take_for(100).is_none());
        assert_eq!(pool.out(), 2);
        pool.put(a);
        assert!(pool.take().is_some_and(|packet| packet.is_empty()));
        assert!(pool.take().is_none());
        pool.put(b);
        assert_eq!(pool.out(), 1);
    }

    #[test]
    fn small_packets_get_small_buffers_and_free_ones_of_one_size_make_room_for_the_other() {
        let mut pool = Pool::new(1_000, 2_000);
        let mut packet = pool.take().expect("first");
        packet.fill(b"abc");
        packet.bucket = 7;
        let packet = pool.fit(packet);
        assert_eq!((packet.bytes(), packet.bucket, packet.bytes.len()), (&b"abc"[..], 7, SMALL));
        // The large buffer that is free now gives way to more small ones than fit beside it.
        let more: Vec<_> = std::iter::from_fn(|| pool.take_for(SMALL)).collect();
        assert_eq!((more.len(), pool.out()), (2_000 / SMALL - 1, 2_000 / SMALL));
        assert!(pool.take().is_none());
        more.into_iter().for_each(|packet| pool.put(packet));
        assert!(pool.take().is_some() && pool.take().is_none());
    }

    #[test]
    fn a_lower_limit_frees_what_is_not_out_and_what_comes_home() {
        let mut pool = Pool::new(1_000, 4_000);
        let mut packets: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        packets.drain(..2).for_each(|packet| pool.put(packet));
        pool.set_limit(1_000);
        assert_eq!((pool.made, pool.out()), (2_000, 2));
        packets.into_iter().for_each(|packet| pool.put(packet));
        assert_eq!((pool.made, pool.free[1].len()), (1_000, 1));
        assert!(pool.take().is_some() && pool.take().is_none());
    }

    #[test]
    fn after_a_burst_only_a_stock_is_kept() {
        let mut pool = Pool::new(1_000, 4 * STOCK);
        let packets: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        let most = pool.made;
        packets.into_iter().for_each(|packet| pool.put(packet));
        assert!(most > 4 * STOCK - 1_000 && pool.made <= STOCK && pool.made > STOCK - 1_000, "{}", pool.made);
    }

    #[test]
    fn without_room_for_a_small_buffer_a_packet_keeps_its_own() {
        let mut pool = Pool::new(1_000, 1_000);
        let mut packet = pool.take().expect("the only one");
        packet.set_len(3);
        assert_eq!(pool.fit(packet).bytes.len(), 1_000);
    }
}
