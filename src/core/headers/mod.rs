//! Inner headers, compressed: a packet is sent as what differs from a context that the peer has.
//!
//! A [`Context`] is the headers of one packet of a conversation, verbatim. A full packet that *defines* it
//! carries only its number; once an acknowledgement shows that this packet arrived, later ones are sent as a
//! *delta*. Deltas speak of the context and never of the packet before, so that no loss ever spreads.
//!
//! Compression is lossless by construction: a delta is used only if the context and it give the very bytes
//! of the packet's headers. Whatever is unusual (IP options, fragments, other TCP options than timestamps, a
//! wrong length or IPv4 checksum) fails that one comparison and goes in full.
//!
//! ```text
//!   delta    fields · transport checksum · id · sequence · acknowledgement · window · timestamps
//!   bytes      1            2              2       4             4              2         4
//! ```
//!
//! All but the first are there if the packet is of that protocol and, except for the checksum, if the bit of
//! [`fields`] says so. The checksum is sent and not worked out: it would cost a pass over the payload on both
//! sides, and a packet that was damaged before it came here must stay so. Lengths and the checksum of the IPv4
//! header are worked out.

mod compressor;
mod decompressor;

use std::ops::Deref;

pub use compressor::{Compressor, Definition, Encoding};
pub use decompressor::Decompressor;

/// Longest headers that are compressed: IPv6, and TCP with timestamps.
const MAX_HEAD: usize = 40 + 32;
/// Longest delta.
const MAX_DELTA: usize = 19;

/// Bits of the first byte of a delta: the fields that follow, and two that are in it.
mod fields {
    /// TCP: sequence number, in full.
    pub const SEQUENCE: u8 = 1 << 0;
    /// TCP: acknowledgement number, in full.
    pub const ACKNOWLEDGEMENT: u8 = 1 << 1;
    /// TCP: window.
    pub const WINDOW: u8 = 1 << 2;
    /// TCP: both timestamps (RFC 7323 §3.2), each as a signed difference from the context's.
    pub const STAMPS: u8 = 1 << 3;
    /// IPv4: identification.
    pub const ID: u8 = 1 << 4;
    /// TCP: the push flag is not as in the context.
    pub const PUSH: u8 = 1 << 5;
    /// Where the two ECN bits (RFC 3168 §5) stand: a queue may mark any packet.
    pub const ECN_SHIFT: u32 = 6;
}

/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Flags of TCP (RFC 9293 §3.1).
const FIN_SYN_RST: u8 = 0b111;
const PSH: u8 = 1 << 3;
const URG: u8 = 1 << 5;
/// How hosts lay out the timestamps option when it stands alone (RFC 7323, appendix A): NOP, NOP, kind, length.
const STAMPS_ALONE: [u8; 4] = [1, 1, 8, 10];

/// Bytes with a length of their own.
#[derive(Clone, Copy, Debug)]
struct Short<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Short<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// Adds bytes, for which there must be room.
    fn push(&mut self, bytes: &[u8]) {
        let end = usize::from(self.len) + bytes.len();
        self.bytes[usize::from(self.len)..end].copy_from_slice(bytes);
        self.len = end as u8;
    }
}

impl<const N: usize> Deref for Short<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An inner packet as it arrived: its headers, if they had to be restored, and the rest where it was received.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    head: Short<MAX_HEAD>,
    rest: &'a [u8],
}

impl<'a> From<&'a [u8]> for Arrived<'a> {
    fn from(packet: &'a [u8]) -> Self {
        Self { head: Short::EMPTY, rest: packet }
    }
}

impl Arrived<'_> {
    /// Length of the packet.
    #[allow(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// Writes the packet to the first [`Arrived::len`] bytes of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let (head, rest) = out.split_at_mut(self.head.len());
        head.copy_from_slice(&self.head);
        rest[..self.rest.len()].copy_from_slice(self.rest);
    }

    /// The packet in one piece, put together in `scratch` if need be.
    pub fn whole<'s>(&'s self, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        if self.head.is_empty() {
            return self.rest;
        }
        scratch.clear();
        scratch.extend_from_slice(&self.head);
        scratch.extend_from_slice(self.rest);
        scratch
    }
}

/// Which headers a packet begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    v6: bool,
    transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp {
        stamps: bool,
    },
    Udp,
    /// Any other: only the IP header is compressed.
    Other,
}

impl Shape {
    /// The shape of a packet; `None` if its headers always go in full.
    fn of(packet: &[u8]) -> Option<Self> {
        let (v6, protocol) = match packet.first()? {
            0x45 => {
                let ip: &[u8; 20] = packet.first_chunk()?;
                let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
                (false, Some(ip[9]).filter(|_| !fragment)?)
            }
            first if first >> 4 == 6 => (true, packet.first_chunk::<40>()?[6]),
            _ => return None,
        };
        let rest = &packet[ip_len(v6)..];
        let transport = match protocol {
            TCP => Self::tcp(rest)?,
            UDP => rest.first_chunk::<8>().map(|_| Transport::Udp)?,
            _ => Transport::Other,
        };
        Some(Self { v6, transport })
    }

    fn tcp(segment: &[u8]) -> Option<Transport> {
        let &[data_offset, flags] = segment.get(12..14)?.first_chunk()?;
        if flags & (FIN_SYN_RST | URG) != 0 {
            return None;
        }
        match data_offset >> 4 {
            5 if segment.len() >= 20 => Some(Transport::Tcp { stamps: false }),
            8 if segment.len() >= 32 && segment[20..24] == STAMPS_ALONE => {
                Some(Transport::Tcp { stamps: true })
            }
            _ => None,
        }
    }

    /// Length of the headers.
    fn len(self) -> usize {
        let transport = match self.transport {
            Transport::Tcp { stamps: true } => 32,
            Transport::Tcp { stamps: false } => 20,
            Transport::Udp => 8,
            Transport::Other => 0,
        };
        ip_len(self.v6) + transport
    }

    /// Where the checksum of the transport is.
    fn checksum(self) -> Option<usize> {
        match self.transport {
            Transport::Tcp { .. } => Some(ip_len(self.v6) + 16),
            Transport::Udp => Some(ip_len(self.v6) + 6),
            Transport::Other => None,
        }
    }

    /// The fields that deltas of this shape may have.
    fn fields(self) -> u8 {
        let transport = match self.transport {
            Transport::Tcp { stamps } => {
                let stamps = if stamps { fields::STAMPS } else { 0 };
                fields::SEQUENCE | fields::ACKNOWLEDGEMENT | fields::WINDOW | fields::PUSH | stamps
            }
            _ => 0,
        };
        transport | if self.v6 { 0 } else { fields::ID }
    }

    /// The fields that are sent as they are, in their order: bit, place and length.
    fn verbatim(self) -> [(u8, usize, usize); 4] {
        let tcp = ip_len(self.v6);
        [
            (fields::ID, 4, 2),
            (fields::SEQUENCE, tcp + 4, 4),
            (fields::ACKNOWLEDGEMENT, tcp + 8, 4),
            (fields::WINDOW, tcp + 14, 2),
        ]
    }

    /// Where the timestamps are.
    fn stamps(self) -> [usize; 2] {
        [ip_len(self.v6) + 24, ip_len(self.v6) + 28]
    }
}

/// What a packet's headers are told by the difference from.
#[derive(Clone, Copy, Debug)]
struct Context {
    shape: Shape,
    head: Short<MAX_HEAD>,
}

impl Context {
    /// The headers of `packet` as a context; `None` if its headers always go in full.
    fn of(packet: &[u8]) -> Option<Self> {
        Shape::of(packet).map(|shape| Self::new(shape, packet))
    }

    fn new(shape: Shape, packet: &[u8]) -> Self {
        let mut head = Short::EMPTY;
        head.push(&packet[..shape.len()]);
        Self { shape, head }
    }

    /// The delta of a packet of the same shape; `None` if there is none that gives its very headers.
    ///
    /// A field that ever differed is in all later deltas: `varied` remembers it. So the deltas of a
    /// conversation's packets have one length, but for the few that bring news.
    fn compress(&self, packet: &[u8], varied: &mut u8) -> Option<Short<MAX_DELTA>> {
        let shape = self.shape;
        let head = packet.get(..shape.len())?;
        let mut differing = 0;
        for (bit, at, len) in shape.verbatim().into_iter().filter(|(bit, ..)| shape.fields() & bit != 0) {
            if head[at..at + len] != self.head[at..at + len] {
                differing |= bit;
            }
        }
        let mut stamps = [0; 2];
        if shape.fields() & fields::STAMPS != 0 {
            for (stamp, at) in stamps.iter_mut().zip(shape.stamps()) {
                *stamp = read_u32(head, at).wrapping_sub(read_u32(&self.head, at)) as i16;
            }
            if stamps != [0; 2] {
                differing |= fields::STAMPS;
            }
        }
        let sent = *varied | differing;
        let push = match shape.transport {
            Transport::Tcp { .. } if (head[push_at(shape)] ^ self.head[push_at(shape)]) & PSH != 0 => {
                fields::PUSH
            }
            _ => 0,
        };
        let mut delta = Short::EMPTY;
        delta.push(&[sent | push | ecn(shape, head) << fields::ECN_SHIFT]);
        if let Some(at) = shape.checksum() {
            delta.push(&head[at..at + 2]);
        }
        for (_, at, len) in shape.verbatim().into_iter().filter(|(bit, ..)| sent & bit != 0) {
            delta.push(&head[at..at + len]);
        }
        if sent & fields::STAMPS != 0 {
            stamps.iter().for_each(|stamp| delta.push(&stamp.to_be_bytes()));
        }
        let (restored, _) = self.apply(&delta, packet.len() - head.len())?;
        if *restored != *head {
            return None;
        }
        *varied = sent;
        Some(delta)
    }

    /// The headers that a delta stands for, and what of `bytes` lies behind it. `beyond` bytes of payload
    /// follow that are not in `bytes`. `None` if this is no delta of the context.
    fn apply<'a>(&self, bytes: &'a [u8], beyond: usize) -> Option<(Short<MAX_HEAD>, &'a [u8])> {
        let (shape, mut head) = (self.shape, self.head);
        let (&first, mut rest) = bytes.split_first()?;
        let sent = first & !(0b11 << fields::ECN_SHIFT);
        if sent & !shape.fields() != 0 {
            return None;
        }
        let mut take = |to: &mut [u8]| {
            let (field, behind) = rest.split_at_checked(to.len())?;
            to.copy_from_slice(field);
            rest = behind;
            Some(())
        };
        if let Some(at) = shape.checksum() {
            take(&mut head.bytes[at..at + 2])?;
        }
        for (_, at, len) in shape.verbatim().into_iter().filter(|(bit, ..)| sent & bit != 0) {
            take(&mut head.bytes[at..at + len])?;
        }
        if sent & fields::STAMPS != 0 {
            for at in shape.stamps() {
                let mut difference = [0; 2];
                take(&mut difference)?;
                let difference = i32::from(i16::from_be_bytes(difference));
                let stamp = read_u32(&head, at).wrapping_add_signed(difference);
                head.bytes[at..at + 4].copy_from_slice(&stamp.to_be_bytes());
            }
        }
        if sent & fields::PUSH != 0 {
            head.bytes[push_at(shape)] ^= PSH;
        }
        set_ecn(shape, &mut head.bytes, first >> fields::ECN_SHIFT);
        let total = u16::try_from(head.len() + rest.len() + beyond).ok()?;
        if shape.v6 {
            head.bytes[4..6].copy_from_slice(&(total - 40).to_be_bytes());
        } else {
            head.bytes[2..4].copy_from_slice(&total.to_be_bytes());
            let checksum = ipv4_checksum(&head.bytes);
            head.bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        if shape.transport == Transport::Udp {
            let ip = ip_len(shape.v6);
            head.bytes[ip + 4..ip + 6].copy_from_slice(&(total - ip as u16).to_be_bytes());
        }
        Some((head, rest))
    }
}

const fn ip_len(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

/// Where the flags of TCP are.
const fn push_at(shape: Shape) -> usize {
    ip_len(shape.v6) + 13
}

/// The two ECN bits of an IP header.
fn ecn(shape: Shape, head: &[u8]) -> u8 {
    if shape.v6 { head[1] >> 4 & 0b11 } else { head[1] & 0b11 }
}

fn set_ecn(shape: Shape, head: &mut [u8], ecn: u8) {
    let shift = if shape.v6 { 4 } else { 0 };
    head[1] = head[1] & !(0b11 << shift) | ecn << shift;
}

/// The checksum of an IPv4 header without options (RFC 1071), whatever stands in its place.
fn ipv4_checksum(head: &[u8; MAX_HEAD]) -> u16 {
    let words = head[..20].chunks_exact(2).enumerate().filter(|(i, _)| *i != 5);
    let sum: u32 = words.map(|(_, word)| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests;
