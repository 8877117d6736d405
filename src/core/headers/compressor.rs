//! The sending side: which conversations have contexts, and which of these the peer is known to have.

use std::time::Duration;

use super::{Context, MAX_DELTA, Shape, Short};
use crate::core::units::Instant;
use crate::core::wire::{BUCKETS, CONTEXT_SLOTS, ContextId};

/// A context that nothing used for so long may give its slot to another: what it compressed has arrived by
/// then, over the slowest link. Also, conversations that share a bucket do not take it from each other.
const IDLE: Duration = Duration::from_secs(1);
/// Without an acknowledgement for so long, doubled each time, a definition was lost.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_PATIENCE: Duration = Duration::from_secs(16);

/// How a packet is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// As it is.
    Full,
    /// As it is, and its headers become a context.
    Defining(Definition),
    /// As its difference from a context that the peer has.
    Compressed {
        /// The context.
        context: ContextId,
        /// What differs.
        delta: Delta,
    },
}

/// What differs from a context, and how many bytes of the packet it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    bytes: Short<MAX_DELTA>,
    head_len: usize,
}

/// A packet that defines a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The context.
    pub context: ContextId,
    /// Data sequence number of the packet.
    pub data_sequence: u64,
}

/// The contexts of all conversations, [`CONTEXT_SLOTS`] for each bucket. Buckets get theirs when first used.
pub struct Compressor {
    enabled: bool,
    buckets: Box<[Option<Box<Slots>>]>,
    totals: Totals,
}

/// Sums for `show`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Packets sent with their headers compressed.
    pub packets: u64,
    /// Bytes that this spared.
    pub saved_bytes: u64,
}

type Slots = [Option<Slot>; CONTEXT_SLOTS];

struct Slot {
    context: Context,
    /// Data sequence number of the packet that defined it last.
    defined: u64,
    /// That packet is known to have arrived.
    confirmed: bool,
    /// Fields that ever differed.
    varied: u8,
    used: Instant,
    define_again: Instant,
    patience: Duration,
}

impl Encoding {
    /// Bytes of a packet of `len` bytes when it is sent like this.
    pub fn len(&self, len: usize) -> usize {
        match self {
            Self::Full | Self::Defining(_) => len,
            Self::Compressed { delta, .. } => delta.bytes.len() + len - delta.head_len,
        }
    }

    /// Writes `packet`, which this was made for, to `out`, which is as long as [`Encoding::len`] says.
    pub fn write(&self, packet: &[u8], out: &mut [u8]) {
        match self {
            Self::Full | Self::Defining(_) => out.copy_from_slice(packet),
            Self::Compressed { delta, .. } => {
                let (head, rest) = out.split_at_mut(delta.bytes.len());
                head.copy_from_slice(&delta.bytes);
                rest.copy_from_slice(&packet[delta.head_len..]);
            }
        }
    }
}

impl Compressor {
    /// Without contexts.
    pub fn new(enabled: bool) -> Self {
        let buckets = std::iter::repeat_with(|| None).take(BUCKETS.into()).collect();
        Self { enabled, buckets, totals: Totals::default() }
    }

    /// From now on packets are compressed, or not.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// The peer knows nothing any more.
    pub fn reset(&mut self) {
        self.buckets.fill_with(|| None);
    }

    /// How to send a packet of the conversation `bucket` that leaves under the number `data_sequence`.
    pub fn encode(&mut self, now: Instant, data_sequence: u64, bucket: u16, packet: &[u8]) -> Encoding {
        if !self.enabled || bucket == 0 {
            return Encoding::Full;
        }
        let Some(shape) = Shape::of(packet) else { return Encoding::Full };
        let slots = self.buckets[usize::from(bucket)].get_or_insert_default();
        for (i, slot) in slots.iter_mut().enumerate() {
            let Some(slot) = slot.as_mut().filter(|slot| slot.context.shape == shape) else { continue };
            let Some(bytes) = slot.context.compress(packet, &mut slot.varied) else { continue };
            slot.used = now;
            let context = ContextId { bucket, slot: i as u8 };
            if slot.confirmed {
                let delta = Delta { bytes, head_len: shape.len() };
                self.totals.packets += 1;
                self.totals.saved_bytes += (delta.head_len - bytes.len()) as u64;
                return Encoding::Compressed { context, delta };
            }
            if now < slot.define_again {
                return Encoding::Full;
            }
            let patience = (slot.patience * 2).min(MAX_PATIENCE);
            *slot = Slot::new(now, Context::new(shape, packet), data_sequence, patience);
            return Encoding::Defining(Definition { context, data_sequence });
        }
        let idle = |slot: &Option<Slot>| slot.as_ref().is_none_or(|slot| now.since(slot.used) >= IDLE);
        let Some(i) = slots.iter().position(idle) else { return Encoding::Full };
        slots[i] = Some(Slot::new(now, Context::new(shape, packet), data_sequence, PATIENCE));
        let context = ContextId { bucket, slot: i as u8 };
        Encoding::Defining(Definition { context, data_sequence })
    }

    /// The packet that defined a context has arrived.
    pub fn confirm(&mut self, definition: Definition) {
        let Definition { context, data_sequence } = definition;
        let slots = self.buckets[usize::from(context.bucket)].as_deref_mut();
        let slot = slots.and_then(|slots| slots[usize::from(context.slot)].as_mut());
        // An earlier definition of the same slot says nothing: the peer may not have this one yet.
        if let Some(slot) = slot.filter(|slot| slot.defined == data_sequence) {
            slot.confirmed = true;
        }
    }

    /// Sums for `show`.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl Slot {
    fn new(now: Instant, context: Context, defined: u64, patience: Duration) -> Self {
        Self {
            context,
            defined,
            confirmed: false,
            varied: 0,
            used: now,
            define_again: now + patience,
            patience,
        }
    }
}
