//! Super-packets: many packets of one conversation that cross the border to the kernel in one call.
//!
//! The kernel hands over what its TCP or UDP would have cut just before the device, with a [`VirtioHeader`] that says
//! how; [`Segments`] cuts it. The other way round [`Coalescer`] merges packets into what [`Segments`] would cut into
//! the same packets again.

mod coalesce;
mod segment;

use std::borrow::Cow;

use super::packet::Inner;

pub use coalesce::{Coalescer, Merged};
pub use segment::{Malformed, Segments};

/// Longest super-packet: what an IPv4 packet can say of its length, or the length of an IPv6 packet's header and all
/// that it can say of the rest.
pub const MAX_SUPER_PACKET: usize = 65_535 + 40;

/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;

/// Offsets of the checksum in TCP's (RFC 9293 §3.1) and UDP's (RFC 768) headers.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
/// Length of UDP's header, and of TCP's without options.
const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;

/// Flags of TCP (RFC 9293 §3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// What a super-packet is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// It is a single packet.
    #[default]
    None,
    /// TCP segments over IPv4.
    TcpV4,
    /// TCP segments over IPv6.
    TcpV6,
    /// UDP datagrams over either.
    Udp,
}

/// What stands before each packet on a TUN interface with `IFF_VNET_HDR`: `struct virtio_net_hdr` (virtio 1.2
/// §5.1.6), in the byte order of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// The checksum at `checksum_start + checksum_offset` covers all from `checksum_start` on; the field holds the sum
    /// of the pseudo header only.
    pub needs_checksum: bool,
    /// What is to be cut.
    pub cut: Cut,
    /// TCP's CWR flag may be set, which only the first segment has.
    pub ecn: bool,
    /// Length of all headers; a hint.
    pub header_len: u16,
    /// Bytes of payload of each packet but the last.
    pub segment_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where the checksum stands in it.
    pub checksum_offset: u16,
}

impl VirtioHeader {
    /// Bytes on the interface.
    pub const LEN: usize = 10;

    const NEEDS_CHECKSUM: u8 = 1;
    const GSO_TCPV4: u8 = 1;
    const GSO_TCPV6: u8 = 4;
    const GSO_UDP_L4: u8 = 5;
    const GSO_ECN: u8 = 0x80;

    /// Reads it; `None` for a kind of super-packet that was not asked for.
    pub fn read(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let &[flags, kind, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        let cut = match kind & !Self::GSO_ECN {
            0 => Cut::None,
            Self::GSO_TCPV4 => Cut::TcpV4,
            Self::GSO_TCPV6 => Cut::TcpV6,
            Self::GSO_UDP_L4 => Cut::Udp,
            _ => return None,
        };
        Some(Self {
            needs_checksum: flags & Self::NEEDS_CHECKSUM != 0,
            cut,
            ecn: kind & Self::GSO_ECN != 0,
            header_len: u16::from_ne_bytes([h0, h1]),
            segment_size: u16::from_ne_bytes([g0, g1]),
            checksum_start: u16::from_ne_bytes([s0, s1]),
            checksum_offset: u16::from_ne_bytes([o0, o1]),
        })
    }

    /// The bytes for the interface.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let kind = match self.cut {
            Cut::None => 0,
            Cut::TcpV4 => Self::GSO_TCPV4,
            Cut::TcpV6 => Self::GSO_TCPV6,
            Cut::Udp => Self::GSO_UDP_L4,
        };
        let [h0, h1] = self.header_len.to_ne_bytes();
        let [g0, g1] = self.segment_size.to_ne_bytes();
        let [s0, s1] = self.checksum_start.to_ne_bytes();
        let [o0, o1] = self.checksum_offset.to_ne_bytes();
        let flags = if self.needs_checksum { Self::NEEDS_CHECKSUM } else { 0 };
        let ecn = if self.ecn { Self::GSO_ECN } else { 0 };
        [flags, kind | ecn, h0, h1, g0, g1, s0, s1, o0, o1]
    }
}

/// The packet in one piece, its checksum summed. One without such a field stays as it is.
pub fn completed(packet: Inner<'_>) -> Cow<'_, [u8]> {
    let mut whole = packet.whole();
    if packet.unsummed
        && let Some((transport, offset)) = checksum_at(&whole)
    {
        segment::complete(&mut whole.to_mut()[transport..], offset);
    }
    whole
}

/// Where the header of TCP or UDP begins in a packet without IP options, extension headers and fragmentation, and
/// where its checksum stands in that.
fn checksum_at(packet: &[u8]) -> Option<(usize, usize)> {
    let (transport, protocol) = match *packet.first()? {
        0x45 if packet.len() >= 20 && packet[6] & 0x3f == 0 && packet[7] == 0 => (20, packet[9]),
        first if first >> 4 == 6 && packet.len() >= 40 => (40, packet[6]),
        _ => return None,
    };
    let (header_len, offset) = match protocol {
        TCP => (TCP_HEADER, TCP_CHECKSUM),
        UDP => (UDP_HEADER, UDP_CHECKSUM),
        _ => return None,
    };
    (packet.len() >= transport + header_len).then_some((transport, offset))
}

#[cfg(test)]
mod tests;
