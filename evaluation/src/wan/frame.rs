//! Frames from a bounded pool.

use std::time::Duration;

/// The Ethernet header, which the rate of a link does not count.
pub(super) const ETHERNET_HEADER: usize = 14;

/// The memory that the frames of one emulator may take together: 400 Mbit/s for 1.3 s in packets
/// of 1,400 bytes.
const POOL_BYTES: usize = 96 << 20;

/// An Ethernet frame in a buffer that outlives it.
pub(super) struct Frame {
    pub(super) buffer: Box<[u8]>,
    pub(super) length: usize,
    /// When it arrived, as the time since 1970.
    pub(super) arrived: Option<Duration>,
}

impl Frame {
    /// The length of the packet in the frame.
    pub(super) fn packet_length(&self) -> u32 {
        self.length.saturating_sub(ETHERNET_HEADER) as u32
    }
}

/// Buffers of one size. It grows while more are in use at once than ever before, up to its
/// bound, and is without allocation afterwards.
pub(super) struct Pool {
    free: Vec<Frame>,
    size: usize,
    room: usize,
}

impl Pool {
    /// A pool of buffers for packets of up to `mtu` bytes.
    pub(super) fn new(mtu: u32) -> Self {
        // Even sizes suit the allocator; 64 bytes more than needed show a frame that is too long.
        let size = (mtu as usize + ETHERNET_HEADER + 64).next_multiple_of(256);
        Self { free: Vec::new(), size, room: POOL_BYTES / size }
    }

    pub(super) fn take(&mut self) -> Option<Frame> {
        self.free.pop().or_else(|| {
            self.room = self.room.checked_sub(1)?;
            Some(Frame { buffer: vec![0; self.size].into_boxed_slice(), length: 0, arrived: None })
        })
    }

    pub(super) fn give(&mut self, frame: Frame) {
        self.free.push(frame);
    }
}
