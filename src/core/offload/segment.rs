//! Cutting what the kernel hands over into packets.

use super::{
    CWR, Cut, FIN, PSH, TCP, TCP_CHECKSUM, TCP_HEADER, UDP, UDP_CHECKSUM, UDP_HEADER, VirtioHeader,
    checksum_at,
};
use crate::core::checksum::{fold, pseudo, put, sum};

/// The header contradicts the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The packets that a super-packet is to be cut into, and how many of them were.
///
/// Contract: each call is given the same bytes as [`Segments::new`] was.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    kind: Kind,
    /// Where the transport header begins, and where the payload does.
    transport: usize,
    payload: usize,
    /// Payload of each packet, at least 1.
    size: usize,
    /// End of the super-packet.
    end: usize,
    /// Where the payload of the next packet begins.
    next: usize,
    /// Packets that were cut.
    count: u16,
    /// Sum of the IPv4 header but for the length, the identification and the checksum.
    ip: u32,
    /// Sum of the pseudo header but for the length.
    pseudo: u32,
    /// The checksums of what is cut are not summed.
    unsummed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A packet that is right as it is.
    Whole,
    /// A packet whose checksum has to be completed, at this offset from the transport header.
    Unsummed(usize),
    Tcp,
    Udp,
    Done,
}

impl Segments {
    /// Looks at a packet, or super-packet, and the header that the kernel put before it.
    ///
    /// # Errors
    ///
    /// If the packet is not what the header says.
    pub fn new(header: &VirtioHeader, packet: &[u8]) -> Result<Self, Malformed> {
        let whole = Self {
            kind: Kind::Whole,
            transport: 0,
            payload: 0,
            size: packet.len().max(1),
            end: packet.len(),
            next: 0,
            count: 0,
            ip: 0,
            pseudo: 0,
            unsummed: false,
        };
        if header.cut == Cut::None && !header.needs_checksum {
            return Ok(whole);
        }
        let ip_header = ip_header_len(packet).ok_or(Malformed)?;
        let transport = if header.needs_checksum { usize::from(header.checksum_start) } else { ip_header };
        let offset = usize::from(header.checksum_offset);
        if transport < ip_header || transport > packet.len() {
            return Err(Malformed);
        }
        if header.cut == Cut::None {
            let fits = transport + offset + 2 <= packet.len();
            return fits
                .then_some(Self { kind: Kind::Unsummed(offset), transport, ..whole })
                .ok_or(Malformed);
        }
        let (kind, checksum) = match header.cut {
            Cut::Udp => (Kind::Udp, UDP_CHECKSUM),
            _ => (Kind::Tcp, TCP_CHECKSUM),
        };
        let header_len = transport_header_len(kind, &packet[transport..]).ok_or(Malformed)?;
        let (payload, size) = (transport + header_len, usize::from(header.segment_size));
        let right = size > 0
            && payload < packet.len()
            && is_of_kind(header.cut, packet)
            && (!header.needs_checksum || offset == checksum);
        if !right {
            return Err(Malformed);
        }
        let len = packet.len() - transport;
        let pseudo = if header.needs_checksum {
            // The field holds the pseudo header's sum, with the length of the whole.
            let at = transport + checksum;
            let field = u16::from_be_bytes([packet[at], packet[at + 1]]);
            u32::from(field) + u32::from(!fold((len & 0xffff) as u32 + (len >> 16) as u32))
        } else {
            pseudo(packet, if kind == Kind::Udp { UDP } else { TCP }, 0)
        };
        let ip = if packet[0] >> 4 == 4 { sum_of_ipv4(&packet[..ip_header]) } else { 0 };
        Ok(Self { kind, transport, payload, size, next: payload, ip, pseudo, ..whole })
    }

    /// Leaves the checksums of the packets that are cut for somebody else to sum: the fields hold the sum of the pseudo
    /// header only. Without effect on what needs no cutting, and where [`super::completed`] would not find the field.
    pub fn leave_unsummed(&mut self, packet: &[u8]) {
        let cut = matches!(self.kind, Kind::Tcp | Kind::Udp);
        self.unsummed = cut && checksum_at(packet).is_some_and(|(transport, _)| transport == self.transport);
    }

    /// Whether the packets are left like that.
    pub fn is_unsummed(&self) -> bool {
        self.unsummed
    }

    /// Writes the next packet to the front of `out` and gives its length; `None` after the last. What does not fit
    /// into `out` is cut off, as `read` does.
    pub fn next(&mut self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        match self.kind {
            Kind::Done => None,
            Kind::Whole => {
                self.kind = Kind::Done;
                Some(copy(out, &[packet]))
            }
            Kind::Unsummed(offset) => {
                self.kind = Kind::Done;
                let len = copy(out, &[packet]);
                if len == packet.len() {
                    complete(&mut out[self.transport..len], offset);
                }
                Some(len)
            }
            Kind::Tcp | Kind::Udp => Some(self.cut(packet, out)),
        }
    }

    fn cut(&mut self, packet: &[u8], out: &mut [u8]) -> usize {
        let (begin, end) = (self.next, self.end.min(self.next + self.size));
        let len = copy(out, &[&packet[..self.payload], &packet[begin..end]]);
        if len == self.payload + (end - begin) {
            self.adapt(&mut out[..len], begin == self.payload, end == self.end);
        }
        (self.next, self.count) = (end, self.count.wrapping_add(1));
        if end == self.end {
            self.kind = Kind::Done;
        }
        len
    }

    /// Makes the headers of `out` those of the packet whose payload is in it.
    fn adapt(&self, out: &mut [u8], first: bool, last: bool) {
        let len = out.len();
        if out[0] >> 4 == 4 {
            let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(self.count);
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            out[4..6].copy_from_slice(&id.to_be_bytes());
            let checksum = !fold(self.ip + u32::from(len as u16) + u32::from(id));
            out[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            out[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        }
        let transport = &mut out[self.transport..];
        let len = transport.len();
        if self.kind == Kind::Udp {
            transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            self.put_checksum(transport, UDP_CHECKSUM);
            return;
        }
        let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
        let ahead = (self.next - self.payload) as u32;
        transport[4..8].copy_from_slice(&sequence.wrapping_add(ahead).to_be_bytes());
        if !first {
            transport[13] &= !CWR;
        }
        if !last {
            transport[13] &= !(FIN | PSH);
        }
        self.put_checksum(transport, TCP_CHECKSUM);
    }

    fn put_checksum(&self, transport: &mut [u8], at: usize) {
        let start = self.pseudo + transport.len() as u32;
        if self.unsummed {
            transport[at..at + 2].copy_from_slice(&fold(start).to_be_bytes());
            return;
        }
        put(transport, at, start);
        // A UDP checksum of zero would mean that there is none (RFC 768).
        if self.kind == Kind::Udp && transport[at..at + 2] == [0, 0] {
            transport[at..at + 2].fill(0xff);
        }
    }
}

/// Length of the IP header without IPv6 extensions, if the packet is one and has it whole.
fn ip_header_len(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let len = match first >> 4 {
        4 => usize::from(first & 0xf) * 4,
        6 => 40,
        _ => return None,
    };
    (len >= 20 && len <= packet.len()).then_some(len)
}

/// Sum of an IPv4 header without what is another in each packet that is cut: length, identification and checksum.
fn sum_of_ipv4(header: &[u8]) -> u32 {
    sum(&header[..2]) + sum(&header[6..10]) + sum(&header[12..])
}

/// Whether the packet is of the version and, where that is easily seen, of the protocol; and no fragment.
fn is_of_kind(cut: Cut, packet: &[u8]) -> bool {
    let protocol = if cut == Cut::Udp { UDP } else { TCP };
    match packet[0] >> 4 {
        4 => cut != Cut::TcpV6 && packet[9] == protocol && packet[6] & 0x3f == 0 && packet[7] == 0,
        // Extension headers may stand between.
        _ => cut != Cut::TcpV4,
    }
}

fn transport_header_len(kind: Kind, transport: &[u8]) -> Option<usize> {
    let len = if kind == Kind::Udp { UDP_HEADER } else { usize::from(*transport.get(12)? >> 4) * 4 };
    let least = if kind == Kind::Udp { UDP_HEADER } else { TCP_HEADER };
    (len >= least && len <= transport.len()).then_some(len)
}

/// Sums from the transport header on; the field at `offset` holds the sum of the pseudo header.
pub(super) fn complete(transport: &mut [u8], offset: usize) {
    let total = fold(sum(transport));
    // UDP's zero would mean that there is none; for TCP both mean the same (RFC 1624 §3).
    let checksum = if total == 0xffff { 0xffff } else { !total };
    transport[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Copies the parts one after the other as far as there is room; gives how far.
fn copy(out: &mut [u8], parts: &[&[u8]]) -> usize {
    let mut len = 0;
    for part in parts {
        let room = part.len().min(out.len() - len);
        out[len..len + room].copy_from_slice(&part[..room]);
        len += room;
    }
    len
}
