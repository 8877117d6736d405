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

/// Room for the headers of one packet.
pub type Head = Short<MAX_HEAD>;

/// Bytes with a length of their own.
#[derive(Clone, Copy, Debug)]
pub struct Short<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Short<N> {
    /// Adds a field, for which there must be room.
    fn push<const F: usize>(&mut self, field: [u8; F]) {
        write(&mut self.bytes, self.len.into(), field);
        self.len += F as u8;
    }
}

impl<const N: usize> Deref for Short<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
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
}

/// What a packet's headers are told by the difference from.
#[derive(Clone, Copy, Debug)]
struct Context {
    shape: Shape,
    head: Head,
}

impl Context {
    /// The headers of `packet` as a context; `None` if its headers always go in full.
    fn of(packet: &[u8]) -> Option<Self> {
        Shape::of(packet).map(|shape| Self::new(shape, packet))
    }

    fn new(shape: Shape, packet: &[u8]) -> Self {
        let mut head = Short { bytes: [0; MAX_HEAD], len: shape.len() as u8 };
        head.bytes[..shape.len()].copy_from_slice(&packet[..shape.len()]);
        Self { shape, head }
    }

    /// The delta of a packet of the same shape; `None` if there is none that gives its very headers.
    ///
    /// A field that ever differed is in all later deltas: `varied` remembers it. So the deltas of a
    /// conversation's packets have one length, but for the few that bring news.
    fn compress(&self, packet: &[u8], varied: &mut u8) -> Option<Short<MAX_DELTA>> {
        let shape = self.shape;
        let (head, payload) = packet.split_at_checked(shape.len())?;
        let (ip, mut sent, mut inside) = (ip_len(shape.v6), *varied, ecn(shape, head) << fields::ECN_SHIFT);
        let mut delta = Short::default();
        delta.push([0]);
        if let Some(at) = shape.checksum() {
            delta.push(read::<2>(head, at));
        }
        if !shape.v6 {
            self.add::<2>(&mut delta, &mut sent, fields::ID, head, 4);
        }
        if let Transport::Tcp { stamps } = shape.transport {
            self.add::<4>(&mut delta, &mut sent, fields::SEQUENCE, head, ip + 4);
            self.add::<4>(&mut delta, &mut sent, fields::ACKNOWLEDGEMENT, head, ip + 8);
            self.add::<2>(&mut delta, &mut sent, fields::WINDOW, head, ip + 14);
            if stamps {
                let from = |at| stamp(head, at).wrapping_sub(stamp(&self.head, at)) as i16;
                let differences = [from(ip + 24), from(ip + 28)];
                if differences != [0; 2] {
                    sent |= fields::STAMPS;
                }
                if sent & fields::STAMPS != 0 {
                    differences.iter().for_each(|difference| delta.push(difference.to_be_bytes()));
                }
            }
            if (head[ip + 13] ^ self.head[ip + 13]) & PSH != 0 {
                inside |= fields::PUSH;
            }
        }
        delta.bytes[0] = sent | inside;
        let mut restored = Head::default();
        self.apply(&delta, payload.len(), &mut restored)?;
        if *restored != *head {
            return None;
        }
        *varied = sent;
        Some(delta)
    }

    /// Adds a field of `head` to a delta if it differs from the context's, or did before.
    fn add<const F: usize>(
        &self,
        delta: &mut Short<MAX_DELTA>,
        sent: &mut u8,
        bit: u8,
        head: &[u8],
        at: usize,
    ) {
        let field = read::<F>(head, at);
        if field != read(&self.head, at) {
            *sent |= bit;
        }
        if *sent & bit != 0 {
            delta.push(field);
        }
    }

    /// Sets `restored` to the headers that a delta stands for, and gives what of `bytes` lies behind it. `beyond` bytes
    /// of payload follow that are not in `bytes`. `None` if this is no delta of the context.
    fn apply<'a>(&self, bytes: &'a [u8], beyond: usize, restored: &mut Head) -> Option<&'a [u8]> {
        *restored = self.head;
        let (shape, head) = (self.shape, &mut restored.bytes);
        let ip = ip_len(shape.v6);
        let (&first, mut rest) = bytes.split_first()?;
        let sent = first & !(0b11 << fields::ECN_SHIFT);
        if sent & !shape.fields() != 0 {
            return None;
        }
        if let Some(at) = shape.checksum() {
            write(head, at, take::<2>(&mut rest)?);
        }
        if sent & fields::ID != 0 {
            write(head, 4, take::<2>(&mut rest)?);
        }
        if sent & fields::SEQUENCE != 0 {
            write(head, ip + 4, take::<4>(&mut rest)?);
        }
        if sent & fields::ACKNOWLEDGEMENT != 0 {
            write(head, ip + 8, take::<4>(&mut rest)?);
        }
        if sent & fields::WINDOW != 0 {
            write(head, ip + 14, take::<2>(&mut rest)?);
        }
        if sent & fields::STAMPS != 0 {
            for at in [ip + 24, ip + 28] {
                let difference = i16::from_be_bytes(take(&mut rest)?);
                let stamp = stamp(head, at).wrapping_add_signed(difference.into());
                write(head, at, stamp.to_be_bytes());
            }
        }
        if sent & fields::PUSH != 0 {
            head[ip + 13] ^= PSH;
        }
        set_ecn(shape, head, first >> fields::ECN_SHIFT);
        let total = u16::try_from(shape.len() + rest.len() + beyond).ok()?;
        if shape.v6 {
            write(head, 4, (total - 40).to_be_bytes());
        } else {
            write(head, 2, total.to_be_bytes());
            write(head, 10, [0; 2]);
            let checksum = ipv4_checksum(head);
            write(head, 10, checksum.to_be_bytes());
        }
        if shape.transport == Transport::Udp {
            write(head, ip + 4, (total - ip as u16).to_be_bytes());
        }
        Some(rest)
    }
}

const fn ip_len(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

/// The two ECN bits of an IP header.
fn ecn(shape: Shape, head: &[u8]) -> u8 {
    if shape.v6 { head[1] >> 4 & 0b11 } else { head[1] & 0b11 }
}

fn set_ecn(shape: Shape, head: &mut [u8], ecn: u8) {
    let shift = if shape.v6 { 4 } else { 0 };
    head[1] = head[1] & !(0b11 << shift) | ecn << shift;
}

/// The checksum of an IPv4 header without options (RFC 1071), in which its own field is zero.
fn ipv4_checksum(head: &[u8; MAX_HEAD]) -> u16 {
    let words = (0..20).step_by(4).map(|at| u64::from(u32::from_be_bytes(read(head, at))));
    let sum = words.sum::<u64>();
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum >> 16) + (sum & 0xffff)) as u16
}

fn stamp(head: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(read(head, at))
}

/// The field at `at`, which must be within `bytes`.
fn read<const F: usize>(bytes: &[u8], at: usize) -> [u8; F] {
    let mut field = [0; F];
    field.copy_from_slice(&bytes[at..at + F]);
    field
}

/// Sets the field at `at`, which must be within `bytes`.
fn write<const F: usize>(bytes: &mut [u8], at: usize, field: [u8; F]) {
    bytes[at..at + F].copy_from_slice(&field);
}

/// Takes a field off the front of `bytes`; `None` if they are too short.
fn take<const F: usize>(bytes: &mut &[u8]) -> Option<[u8; F]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

#[cfg(test)]
mod tests;
