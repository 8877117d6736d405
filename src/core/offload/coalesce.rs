//! Merging packets of one conversation into super-packets.

use super::{
    ACK, Cut, ECE, ESP, FIN, ICMPV6, PSH, TCP, TCP_CHECKSUM, TCP_HEADER, UDP, UDP_CHECKSUM, UDP_HEADER,
    VirtioHeader, checksum_at,
};
use crate::core::checksum::{fold, pseudo, put, sum};
use crate::core::packet::Inner;

/// Conversations whose packets are collected at once: the queue of the other portal lets them take turns.
const HELD: usize = 16;
/// Most datagrams that Linux cuts one of UDP into (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_DATAGRAMS: usize = 64;
/// Longest super-packet: what an IPv4 packet can say of its length.
const MAX_LEN: usize = 65_535;

/// A packet or super-packet for the interface.
#[derive(Debug)]
pub struct Merged<'a> {
    /// What stands before it.
    pub header: VirtioHeader,
    /// The packet, in one piece if it was made of several.
    pub packet: Inner<'a>,
    /// How many packets it was made of.
    pub count: usize,
}

/// Collects packets for the interface, so that those of one conversation leave as one.
///
/// INVARIANT: what [`super::Segments`] cuts a merged packet into are the packets it was made of, in their order, but for
/// the identification of those that must not be fragmented, which has no meaning (RFC 6864 §4.1). Packets of one
/// conversation leave in the order in which they came.
pub struct Coalescer {
    slots: Vec<Slot>,
    /// Slots in use, from the front.
    used: usize,
    tcp: bool,
    udp: bool,
}

/// A super-packet that grows.
struct Slot {
    bytes: Box<[u8]>,
    len: usize,
    count: usize,
    shape: Shape,
    /// The sequence number that TCP goes on with.
    sequence: u32,
    /// The checksum of the first packet is not summed.
    unsummed: bool,
    /// The checksum of the first packet is right.
    verified: bool,
    /// Nothing may follow.
    closed: bool,
}

/// A packet at a glance that may be merged with others.
#[derive(Clone, Copy, Debug)]
struct Shape {
    cut: Cut,
    /// Where the transport header begins, and where the payload does.
    transport: usize,
    payload: usize,
    /// Bytes of payload, at least 1.
    size: usize,
}

/// What a packet is to those before it.
enum Look {
    /// It may be merged.
    Mergeable(Shape),
    /// A packet of TCP or UDP that must not be merged, but whose conversation may be among the held.
    Single { transport: usize },
    /// Its conversation is never held.
    Portless,
    /// Whose it is cannot be seen.
    Obscure,
}

impl Coalescer {
    /// Merges packets of TCP, of UDP, or of both.
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self { slots: Vec::new(), used: 0, tcp, udp }
    }

    /// From now on merges packets of TCP, of UDP, or of both.
    pub fn set(&mut self, tcp: bool, udp: bool) {
        (self.tcp, self.udp) = (tcp, udp);
    }

    /// Takes a packet. What leaves because of that goes to `out`. One that is not summed leaves like that.
    pub fn push(&mut self, packet: Inner<'_>, out: &mut impl FnMut(Merged<'_>)) {
        match look(packet) {
            Look::Mergeable(shape) if self.wants(shape.cut) => self.hold(packet, shape, out),
            Look::Mergeable(Shape { transport, .. }) | Look::Single { transport } => {
                if let Some(at) = self.find(packet.head, transport) {
                    self.release(at, out);
                }
                out(single(packet));
            }
            Look::Portless => out(single(packet)),
            Look::Obscure => {
                self.flush(out);
                out(single(packet));
            }
        }
    }

    /// Lets everything go that was held.
    pub fn flush(&mut self, out: &mut impl FnMut(Merged<'_>)) {
        for slot in &mut self.slots[..self.used] {
            out(slot.finish());
        }
        self.used = 0;
    }

    fn wants(&self, cut: Cut) -> bool {
        if cut == Cut::Udp { self.udp } else { self.tcp }
    }

    fn hold(&mut self, packet: Inner<'_>, shape: Shape, out: &mut impl FnMut(Merged<'_>)) {
        if let Some(at) = self.find(packet.head, shape.transport) {
            let slot = &mut self.slots[at];
            if !slot.append(packet, shape) {
                out(slot.finish());
                slot.begin(packet, shape);
            }
            return;
        }
        if self.used == HELD {
            self.flush(out);
        }
        if self.used == self.slots.len() {
            self.slots.push(Slot::new());
        }
        self.slots[self.used].begin(packet, shape);
        self.used += 1;
    }

    /// The slot of the conversation of the packet with these headers.
    fn find(&self, packet: &[u8], transport: usize) -> Option<usize> {
        self.slots[..self.used].iter().position(|slot| slot.is_of(packet, transport))
    }

    fn release(&mut self, at: usize, out: &mut impl FnMut(Merged<'_>)) {
        out(self.slots[at].finish());
        self.slots[at..self.used].rotate_left(1);
        self.used -= 1;
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            bytes: vec![0; MAX_LEN].into_boxed_slice(),
            len: 0,
            count: 0,
            shape: Shape { cut: Cut::None, transport: 0, payload: 0, size: 0 },
            sequence: 0,
            unsummed: false,
            verified: false,
            closed: false,
        }
    }

    fn begin(&mut self, packet: Inner<'_>, shape: Shape) {
        self.len = 0;
        self.add(packet.head);
        self.add(packet.rest);
        (self.count, self.shape) = (1, shape);
        (self.unsummed, self.verified) = (packet.unsummed, false);
        if shape.cut != Cut::Udp {
            self.sequence = sequence(packet.head, &shape).wrapping_add(shape.size as u32);
        }
        self.closed = is_last(packet.head, &shape);
    }

    fn add(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    /// Whether the packet with these headers, of which that of the transport has ports and begins at `transport`, is of
    /// the conversation.
    fn is_of(&self, packet: &[u8], transport: usize) -> bool {
        let held = &self.bytes[..self.shape.payload];
        let (addresses, protocol) = if packet[0] >> 4 == 4 { (12..20, 9) } else { (8..40, 6) };
        self.shape.transport == transport
            && held[transport..transport + 4] == packet[transport..transport + 4]
            && held[0] >> 4 == packet[0] >> 4
            && held[protocol] == packet[protocol]
            && held[addresses.clone()] == packet[addresses]
    }

    /// Adds the packet, of the same conversation, if it follows those that are held.
    fn append(&mut self, packet: Inner<'_>, shape: Shape) -> bool {
        let head = packet.head;
        if !self.is_followed_by(head, &shape) {
            return false;
        }
        let held = Inner { unsummed: self.unsummed, ..self.bytes[..self.len].into() };
        if !self.verified && !is_intact(held, &self.shape) {
            return false;
        }
        self.verified = true;
        if !is_intact(packet, &shape) {
            return false;
        }
        self.add(&head[shape.payload..]);
        self.add(packet.rest);
        self.count += 1;
        self.sequence = self.sequence.wrapping_add(shape.size as u32);
        self.closed = shape.size < self.shape.size || is_last(head, &shape);
        if shape.cut != Cut::Udp {
            self.bytes[shape.transport + 13] |= head[shape.transport + 13] & (FIN | PSH);
        }
        true
    }

    /// Whether the packet with these headers goes on where those that are held end.
    fn is_followed_by(&self, packet: &[u8], shape: &Shape) -> bool {
        let ours = &self.shape;
        let room = self.len + shape.size <= MAX_LEN && (shape.cut != Cut::Udp || self.count < MAX_DATAGRAMS);
        if self.closed || !room || shape.payload != ours.payload || shape.size > ours.size {
            return false;
        }
        let same_ip = if packet[0] >> 4 == 4 {
            // Type of service, fragmentation, time to live; and the number, if it has a meaning.
            let (held, id) = (&self.bytes[..20], u16::from_be_bytes([packet[4], packet[5]]));
            let expected = u16::from_be_bytes([held[4], held[5]]).wrapping_add(self.count as u16);
            let atomic = packet[6] & 0x40 != 0;
            held[1] == packet[1] && held[6..9] == packet[6..9] && (atomic || id == expected)
        } else {
            // Traffic class, flow label, hop limit.
            self.bytes[..4] == packet[..4] && self.bytes[7] == packet[7]
        };
        if !same_ip || shape.cut == Cut::Udp {
            return same_ip;
        }
        let (held, new) =
            (&self.bytes[shape.transport..shape.payload], &packet[shape.transport..shape.payload]);
        // Acknowledgement, length of the header, flags but for those of the last, window, urgent pointer, options.
        sequence(packet, shape) == self.sequence
            && held[8..13] == new[8..13]
            && held[13] == new[13] & !(FIN | PSH)
            && held[14..16] == new[14..16]
            && held[18..] == new[18..]
    }

    /// The packet as it is to leave.
    fn finish(&mut self) -> Merged<'_> {
        let Shape { cut, transport, payload, size } = self.shape;
        let packet = &mut self.bytes[..self.len];
        if self.count == 1 {
            return single(Inner { unsummed: self.unsummed, ..(&*packet).into() });
        }
        let len = packet.len();
        if packet[0] >> 4 == 4 {
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            put(&mut packet[..transport], 10, 0);
        } else {
            packet[4..6].copy_from_slice(&((len - transport) as u16).to_be_bytes());
        }
        let (protocol, offset) = if cut == Cut::Udp { (UDP, UDP_CHECKSUM) } else { (TCP, TCP_CHECKSUM) };
        let covered = len - transport;
        if cut == Cut::Udp {
            packet[transport + 4..transport + 6].copy_from_slice(&(covered as u16).to_be_bytes());
        }
        // The kernel, or the device behind, sums the rest where it has to be cut; nobody else needs it.
        let partial = fold(pseudo(packet, protocol, covered));
        packet[transport + offset..transport + offset + 2].copy_from_slice(&partial.to_be_bytes());
        let header = VirtioHeader {
            needs_checksum: true,
            cut,
            ecn: false,
            header_len: payload as u16,
            segment_size: size as u16,
            checksum_start: transport as u16,
            checksum_offset: offset as u16,
        };
        Merged { header, packet: (&*packet).into(), count: self.count }
    }
}

fn single(packet: Inner<'_>) -> Merged<'_> {
    let field = if packet.unsummed { checksum_at(packet.head) } else { None };
    let header = field.map_or(VirtioHeader::default(), |(transport, offset)| VirtioHeader {
        needs_checksum: true,
        checksum_start: transport as u16,
        checksum_offset: offset as u16,
        ..VirtioHeader::default()
    });
    Merged { header, packet, count: 1 }
}

/// TCP's sequence number.
fn sequence(packet: &[u8], shape: &Shape) -> u32 {
    let at = shape.transport;
    u32::from_be_bytes([packet[at + 4], packet[at + 5], packet[at + 6], packet[at + 7]])
}

/// Only the last segment of a super-packet can have the flags that this one has.
fn is_last(packet: &[u8], shape: &Shape) -> bool {
    shape.cut != Cut::Udp && packet[shape.transport + 13] & (FIN | PSH) != 0
}

/// The checksums of the IPv4 header and of the transport are right, or the latter as right as one not summed can be.
fn is_intact(packet: Inner<'_>, shape: &Shape) -> bool {
    let (protocol, offset) = if shape.cut == Cut::Udp { (UDP, UDP_CHECKSUM) } else { (TCP, TCP_CHECKSUM) };
    let (head, covered) = (packet.head, &packet.head[shape.transport..]);
    let ip = head[0] >> 4 == 6 || sum(&head[..shape.transport]) == 0xffff;
    let pseudo = pseudo(head, protocol, covered.len() + packet.rest.len());
    let transport = if packet.unsummed {
        covered[offset..offset + 2] == fold(pseudo).to_be_bytes()
    } else {
        // Headers that stand apart have an even length.
        fold(pseudo + sum(covered) + sum(packet.rest)) == 0xffff
    };
    ip && transport
}

fn look(packet: Inner<'_>) -> Look {
    let (len, packet) = (packet.len(), packet.head);
    let (transport, protocol) = match packet.first() {
        _ if len > MAX_LEN => return Look::Obscure,
        // No options, no fragment, nothing behind its end.
        Some(0x45) if packet.len() >= 20 => {
            let whole = packet[6] & 0xbf == 0 && packet[7] == 0;
            if !whole || usize::from(u16::from_be_bytes([packet[2], packet[3]])) != len {
                return Look::Obscure;
            }
            (20, packet[9])
        }
        Some(first) if first >> 4 == 6 && packet.len() >= 40 => {
            if usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40 != len {
                return Look::Obscure;
            }
            (40, packet[6])
        }
        _ => return Look::Obscure,
    };
    let header = &packet[transport..];
    let (cut, header_len, plain) = match protocol {
        TCP if header.len() >= TCP_HEADER => {
            // Other flags mark a beginning or an end, or must be in the first segment only, as CWR.
            let plain = header[13] & !(PSH | FIN | ECE) == ACK;
            let header_len = usize::from(header[12] >> 4) * 4;
            let cut = if transport == 20 { Cut::TcpV4 } else { Cut::TcpV6 };
            (cut, header_len, plain && header_len >= TCP_HEADER)
        }
        UDP if header.len() >= UDP_HEADER => {
            let datagram = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let summed = header[UDP_CHECKSUM..UDP_CHECKSUM + 2] != [0, 0];
            (Cut::Udp, UDP_HEADER, summed && datagram + transport == len)
        }
        TCP | UDP => return Look::Obscure,
        // With IPv6, others may stand before TCP or UDP.
        ICMPV6 | ESP => return Look::Portless,
        _ if transport == 20 => return Look::Portless,
        _ => return Look::Obscure,
    };
    let payload = transport + header_len;
    if plain && payload < len && payload <= packet.len() {
        Look::Mergeable(Shape { cut, transport, payload, size: len - payload })
    } else {
        Look::Single { transport }
    }
}
