//! Writes datagrams into a train.

use super::link::Link;
use super::train::{Train, Trip};
use crate::core::headers::Encoding;
use crate::core::packet::{Departure, Packet};
use crate::core::wire::{HEADER_LEN, Header, Kind, Order, flags};

/// What the headers of one conversation's datagrams in a train have in common.
pub(super) struct Stamp<'a> {
    trip: Trip,
    in_flight: u16,
    data_sequence: &'a mut u64,
}

impl<'a> Stamp<'a> {
    pub(super) fn new(trip: Trip, in_flight: u16, data_sequence: &'a mut u64) -> Self {
        Self { trip, in_flight, data_sequence }
    }

    /// Adds a datagram with a body of `len` bytes, which the caller writes.
    pub(super) fn control<'t>(
        &mut self,
        train: &'t mut Train,
        link: &mut Link,
        kind: Kind,
        flags: u8,
        len: usize,
    ) -> &'t mut [u8] {
        let data_sequence = self.next();
        self.datagram(train, link, (kind, flags), Order::default(), data_sequence, len)
    }

    /// Adds a packet that leaves for the first time. Gives the bytes of the datagram.
    pub(super) fn data(
        &mut self,
        train: &mut Train,
        link: &mut Link,
        order: Order,
        packet: &Packet,
        encoding: &Encoding,
    ) -> usize {
        let data_sequence = self.next();
        let (context, what) = match encoding {
            Encoding::Full => (None, 0),
            Encoding::Defining(definition) => (Some(definition.context), flags::DEFINES),
            Encoding::Compressed { context, .. } => (Some(*context), flags::COMPRESSED),
        };
        let (slot, order) = context.map_or((0, order), |context| context.name(order));
        let (len, flags) = (encoding.len(packet.len()), what | slot | unsummed(packet));
        let body = self.datagram(train, link, (Kind::Data, flags), order, data_sequence, len);
        encoding.write(packet.bytes(), body);
        HEADER_LEN + len + self.trip.sealing.footer_len
    }

    /// Adds a packet that was lost, under the number it had.
    pub(super) fn data_again(&mut self, train: &mut Train, link: &mut Link, packet: &Packet) {
        let Departure { order, data_sequence, .. } = packet.departure;
        let flags = flags::REINJECTED | unsummed(packet);
        let body = self.datagram(train, link, (Kind::Data, flags), order, data_sequence, packet.len());
        body.copy_from_slice(packet.bytes());
    }

    fn next(&mut self) -> u32 {
        let number = *self.data_sequence;
        *self.data_sequence += 1;
        number as u32
    }

    fn datagram<'t>(
        &self,
        train: &'t mut Train,
        link: &mut Link,
        (kind, flags): (Kind, u8),
        order: Order,
        data_sequence: u32,
        len: usize,
    ) -> &'t mut [u8] {
        let total = HEADER_LEN + len + self.trip.sealing.footer_len;
        let header = Header {
            kind,
            flags,
            link: self.trip.link.0,
            epoch: self.trip.sealing.epoch,
            timestamp: self.trip.now.micros24(),
            in_flight: self.in_flight,
            // Only data, probes and padding are acknowledged; the others leave no gaps in the numbers.
            sequence: link.sender.next_sequence() as u32,
            data_sequence,
            order,
        };
        if kind == Kind::Data {
            train.tally.data += total as u64;
        }
        let datagram = train.push(total);
        header.write(datagram);
        &mut datagram[HEADER_LEN..HEADER_LEN + len]
    }
}

fn unsummed(packet: &Packet) -> u8 {
    if packet.unsummed { flags::UNSUMMED } else { 0 }
}
