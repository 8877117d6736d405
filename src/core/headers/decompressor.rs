//! The receiving side: the contexts that the peer defined.

use super::{Context, Head};
use crate::core::discard::Discard;
use crate::core::packet::Inner;
use crate::core::wire::{BUCKETS, CONTEXT_SLOTS, ContextId};

/// As many contexts as there are numbers, so that none is lost but by a new definition. Buckets get theirs when
/// first used.
///
/// Which definition a compressed packet means follows from the data sequence numbers, in whatever order links
/// deliver: the sender uses a context only after its latest definition has arrived, so a packet means the
/// latest definition that was sent before it.
pub struct Decompressor {
    buckets: Box<[Option<Box<Slots>>]>,
}

/// Contexts with the number of the packet that defined each.
type Slots = [Option<(u64, Context)>; CONTEXT_SLOTS];

impl Default for Decompressor {
    fn default() -> Self {
        Self { buckets: std::iter::repeat_with(|| None).take(BUCKETS.into()).collect() }
    }
}

impl Decompressor {
    /// Takes the headers of a full packet, which left under the number `data_sequence`, as a context.
    pub fn define(&mut self, id: ContextId, data_sequence: u64, packet: &[u8]) {
        let Some(context) = Context::of(packet) else { return };
        let slots = self.buckets[usize::from(id.bucket)].get_or_insert_default();
        let slot = &mut slots[usize::from(id.slot)];
        if slot.as_ref().is_none_or(|(defined, _)| *defined < data_sequence) {
            *slot = Some((data_sequence, context));
        }
    }

    /// The packet that `body` stands for, which left under the number `data_sequence`. Its headers are put into `head`.
    pub fn restore<'a>(
        &self,
        id: ContextId,
        data_sequence: u64,
        body: &'a [u8],
        head: &'a mut Head,
    ) -> Result<Inner<'a>, Discard> {
        let slots = self.buckets[usize::from(id.bucket)].as_deref();
        let slot = slots.and_then(|slots| slots[usize::from(id.slot)].as_ref());
        let (_, context) =
            slot.filter(|(defined, _)| *defined < data_sequence).ok_or(Discard::UnknownContext)?;
        let rest = context.apply(body, 0, head).ok_or(Discard::Malformed)?;
        Ok(Inner { head, rest, unsummed: false })
    }
}
