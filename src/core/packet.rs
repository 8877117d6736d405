//! Inner packets in buffers of a bounded pool.

use super::units::Instant;

/// One inner packet in a buffer that goes back to its [`Pool`].
#[derive(Debug)]
pub struct Packet {
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
}

impl Packet {
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

    /// The whole buffer, to be filled; then say how far with [`Packet::set_len`].
    pub fn buffer(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Sets the length of the packet, at most that of the buffer.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
}

/// A bounded set of equal buffers.
pub struct Pool {
    free: Vec<Packet>,
    buffer_size: usize,
    made: usize,
    limit: usize,
}

impl Pool {
    /// A pool of at most `limit` buffers of `buffer_size` bytes, made when first needed.
    pub fn new(buffer_size: usize, limit: usize) -> Self {
        Self { free: Vec::new(), buffer_size, made: 0, limit }
    }

    /// An empty buffer; `None` when all are out.
    pub fn take(&mut self) -> Option<Packet> {
        if let Some(packet) = self.free.pop() {
            return Some(packet);
        }
        (self.made < self.limit).then(|| {
            self.made += 1;
            Packet {
                bytes: vec![0; self.buffer_size].into_boxed_slice(),
                len: 0,
                queued: Instant::ZERO,
                bucket: 0,
                ordered: false,
                realtime: false,
            }
        })
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut packet: Packet) {
        packet.len = 0;
        self.free.push(packet);
    }

    /// Buffers that can still be taken.
    pub fn left(&self) -> usize {
        self.limit - self.out()
    }

    /// Buffers that are out.
    pub fn out(&self) -> usize {
        self.made - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_never_makes_more_than_its_limit_and_reuses_what_came_home() {
        let mut pool = Pool::new(100, 2);
        let (a, b) = (pool.take().expect("first"), pool.take().expect("second"));
        assert!(pool.take().is_none());
        assert_eq!(pool.out(), 2);
        pool.put(a);
        assert!(pool.take().is_some_and(|packet| packet.is_empty()));
        assert!(pool.take().is_none());
        pool.put(b);
        assert_eq!(pool.out(), 1);
    }
}
