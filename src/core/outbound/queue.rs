//! The shared queue between the interface and all links.

use std::collections::VecDeque;

use crate::core::packet::{Packet, Pool};

/// Packets wait here until a link pulls them. First come, first served.
///
/// The queue owns the pool of buffers: who wants to add packets borrows empty ones first, and gets none
/// while too much waits. That is how a full queue stops the reader of the interface.
pub struct Queue {
    packets: VecDeque<Packet>,
    bytes: u64,
    limit: u64,
    pool: Pool,
    enqueued: u64,
}

impl Queue {
    /// A queue over `pool` that lends buffers while fewer than `limit` bytes wait.
    pub fn new(pool: Pool, limit: u64) -> Self {
        Self { packets: VecDeque::new(), bytes: 0, limit, pool, enqueued: 0 }
    }

    /// Adds empty buffers to `spare` until it holds `count`, or no more may be had.
    pub fn lend(&mut self, spare: &mut Vec<Packet>, count: usize) {
        if self.bytes < self.limit {
            let wanted = count.saturating_sub(spare.len());
            spare.extend(std::iter::from_fn(|| self.pool.take()).take(wanted));
        }
    }

    /// Takes a buffer back that was not needed.
    pub fn give_back(&mut self, packet: Packet) {
        self.pool.put(packet);
    }

    /// Adds a packet to the end.
    pub fn push(&mut self, packet: Packet) {
        self.bytes += packet.len() as u64;
        self.enqueued += 1;
        self.packets.push_back(packet);
    }

    /// Length of the packet that [`Queue::pop`] gives next.
    pub fn next_len(&self) -> Option<usize> {
        self.packets.front().map(Packet::len)
    }

    /// Takes the next packet; give its buffer back.
    pub fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len() as u64;
        Some(packet)
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets waiting.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes from which on no buffers are lent.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets the limit.
    pub fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Packets ever added.
    pub fn enqueued(&self) -> u64 {
        self.enqueued
    }

    /// Buffers that are not at home: lent or waiting.
    pub fn buffers_out(&self) -> usize {
        self.pool.out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_lends_nothing_until_it_drains() {
        let mut queue = Queue::new(Pool::new(100, 8), 250);
        let mut spare = Vec::new();
        queue.lend(&mut spare, 4);
        assert_eq!(spare.len(), 4);
        for mut packet in spare.drain(..) {
            packet.set_len(100);
            queue.push(packet);
        }
        queue.lend(&mut spare, 4);
        assert!(spare.is_empty());
        for left in [300, 200] {
            let packet = queue.pop().expect("waiting");
            queue.give_back(packet);
            assert_eq!(queue.bytes(), left);
        }
        queue.lend(&mut spare, 4);
        assert_eq!((spare.len(), queue.packets(), queue.buffers_out()), (4, 2, 6));
    }
}
