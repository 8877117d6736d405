//! What happened to the packets of one direction of a wire.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// The counters of one direction, read at one moment. Bytes are those of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets that reached the other side.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that found the queue full.
    pub dropped_queue: u64,
    /// Packets that the loss model took.
    pub dropped_loss: u64,
    /// Packets that went into the black hole of a cut or missed a carrier.
    pub dropped_cut: u64,
    /// Packets that the emulator itself could not carry; more than 0 spoils a measurement.
    pub dropped_fault: u64,
    /// Bytes in the queue now.
    pub queued_bytes: u64,
    /// The most bytes that were ever in the queue.
    pub queued_bytes_max: u64,
}

impl Counters {
    /// What was counted since an earlier reading; of the queue's bytes, the present and the most ever.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            bytes: self.bytes - earlier.bytes,
            dropped_queue: self.dropped_queue - earlier.dropped_queue,
            dropped_loss: self.dropped_loss - earlier.dropped_loss,
            dropped_cut: self.dropped_cut - earlier.dropped_cut,
            dropped_fault: self.dropped_fault - earlier.dropped_fault,
            queued_bytes: self.queued_bytes,
            queued_bytes_max: self.queued_bytes_max,
        }
    }
}

/// One writer, the emulator's thread; any number of readers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    packets: AtomicU64,
    bytes: AtomicU64,
    dropped_queue: AtomicU64,
    dropped_loss: AtomicU64,
    dropped_cut: AtomicU64,
    dropped_fault: AtomicU64,
    queued_bytes: AtomicU64,
    queued_bytes_max: AtomicU64,
}

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    Queue,
    Loss,
    Cut,
    Fault,
}

impl Tally {
    pub(super) fn carried(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, why: Drop) {
        self.dropped_many(why, 1);
    }

    pub(super) fn dropped_many(&self, why: Drop, packets: u64) {
        let counter = match why {
            Drop::Queue => &self.dropped_queue,
            Drop::Loss => &self.dropped_loss,
            Drop::Cut => &self.dropped_cut,
            Drop::Fault => &self.dropped_fault,
        };
        counter.fetch_add(packets, Ordering::Relaxed);
    }

    pub(super) fn queued(&self, bytes: u64) {
        self.queued_bytes.store(bytes, Ordering::Relaxed);
        self.queued_bytes_max.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            packets: get(&self.packets),
            bytes: get(&self.bytes),
            dropped_queue: get(&self.dropped_queue),
            dropped_loss: get(&self.dropped_loss),
            dropped_cut: get(&self.dropped_cut),
            dropped_fault: get(&self.dropped_fault),
            queued_bytes: get(&self.queued_bytes),
            queued_bytes_max: get(&self.queued_bytes_max),
        }
    }
}
