//! Inner packets: real IPv4 and IPv6 bytes that carry what the sink needs to check them.
//!
//! Behind the transport header come 64 bytes (conversation, number, time of sending, and which segment of the
//! emulated TCP it is), then a pattern that depends on the conversation. An acknowledgement of the emulated TCP is
//! one on the wire: a header with options and nothing behind it.

use crate::core::units::Instant;

/// Bytes behind the transport header before the pattern.
const HEAD: usize = 64;
/// Most ranges that an acknowledgement of the emulated TCP reports, a segment that came a second time included: as
/// many as stand beside timestamps (RFC 2018 §3).
pub const SACKS: usize = 3;
/// TCP header with timestamps.
const TCP_LEN: usize = 32;
const ACK: u8 = 0x10;
const PUSH: u8 = 0x08;
/// Port of the side that began the first conversation.
const FIRST_PORT: u16 = 40_000;
/// Ports of the other side, that of QUIC one of many.
const PORT: u16 = 5_001;
const QUIC_PORT: u16 = 4_433;
/// Window of an acknowledgement whose first range is a segment that came a second time.
const DUPLICATE: u16 = 0xfffe;

/// IP protocol of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP or ICMPv6 echo.
    Echo,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// QUIC: only its first packet has a long header (RFC 9000 §17.2).
    Quic,
}

impl Protocol {
    fn number(self, v6: bool) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp | Self::Quic => 17,
            Self::Echo if v6 => 58,
            Self::Echo => 1,
        }
    }

    fn header_len(self) -> usize {
        match self {
            // With timestamps, as hosts send it.
            Self::Tcp => TCP_LEN,
            Self::Udp | Self::Echo => 8,
            Self::Quic => 16,
        }
    }

    /// Port of the side that did not begin.
    fn port(self) -> u16 {
        if self == Self::Quic { QUIC_PORT } else { PORT }
    }
}

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Only that it is there.
    Plain,
    /// The question of a ping, or its answer, with the time of the question.
    Echo {
        /// It is the answer.
        reply: bool,
        /// When the question left.
        asked: Instant,
    },
    /// A segment of the emulated TCP.
    Segment(u32),
    /// An acknowledgement of the emulated TCP.
    Ack(TcpAck),
}

/// An acknowledgement of the emulated TCP. Segments are numbered, not bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpAck {
    /// All segments before this one are there.
    pub next: u32,
    /// A segment that came a second time (RFC 2883).
    pub duplicate: Option<u32>,
    /// Ranges that are there beyond `next`: first segment, and the one behind the last. Empty ones, behind the others,
    /// are none; the last is, if there is a duplicate.
    pub sacks: [(u32, u32); SACKS],
}

impl TcpAck {
    /// The options behind the timestamps.
    fn options(&self) -> Vec<u8> {
        let duplicate = self.duplicate.map(|segment| (segment, segment.wrapping_add(1)));
        let known = self.sacks.into_iter().filter(|(from, to)| from != to);
        let ranges: Vec<_> = duplicate.into_iter().chain(known).take(SACKS).collect();
        if ranges.is_empty() {
            return Vec::new();
        }
        let mut bytes = vec![1, 1, 5, 2 + 8 * ranges.len() as u8];
        let ends = ranges.iter().flat_map(|(from, to)| [from, to]);
        bytes.extend(ends.flat_map(|end| end.to_be_bytes()));
        bytes
    }

    /// Reads the TCP header of an acknowledgement.
    fn read(tcp: &[u8]) -> Option<Self> {
        let ranges = tcp.get(TCP_LEN + 4..).unwrap_or_default().chunks_exact(8).map(|range| {
            let (from, to) = range.split_at(4);
            Some((u32::from_be_bytes(*from.first_chunk()?), u32::from_be_bytes(*to.first_chunk()?)))
        });
        let mut ranges = ranges.collect::<Option<Vec<_>>>()?.into_iter();
        let duplicated = tcp.get(14..16)? == DUPLICATE.to_be_bytes();
        let duplicate = if duplicated { Some(ranges.next()?.0) } else { None };
        let mut sacks = [(0, 0); SACKS];
        sacks.iter_mut().zip(ranges).for_each(|(sack, range)| *sack = range);
        Some(Self { next: u32::from_be_bytes(*tcp.get(8..)?.first_chunk()?), duplicate, sacks })
    }
}

/// An inner packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Number of the conversation.
    pub flow: u16,
    /// It travels towards the side that began the conversation.
    pub back: bool,
    /// IPv6.
    pub v6: bool,
    /// Its protocol.
    pub protocol: Protocol,
    /// Number of this transmission in its conversation and direction.
    pub number: u64,
    /// When it was handed to the interface.
    pub sent: Instant,
    /// What it says.
    pub body: Body,
    /// Length in all.
    pub size: usize,
}

/// The conversation whose packet was too long, and what may pass, if `packet` is the ICMP error that says so.
pub fn too_big(packet: &[u8]) -> Option<(u16, u16)> {
    let v6 = packet.first()? >> 4 == 6;
    let (kind, mtu_at, quote) = if v6 { ([2, 0], 46, 48) } else { ([3, 4], 26, 28) };
    let protocol = if v6 { packet.get(6) } else { packet.get(9) };
    let icmp = packet.get(ip_len(v6)..)?;
    if protocol != Some(&Protocol::Echo.number(v6)) || !icmp.starts_with(&kind) {
        return None;
    }
    let quoted = packet.get(quote..)?;
    let tcp = quoted.get(if v6 { 6 } else { 9 }) == Some(&Protocol::Tcp.number(v6));
    let head = ip_len(v6) + if tcp { Protocol::Tcp } else { Protocol::Udp }.header_len();
    let flow = quoted.get(head..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))?;
    Some((flow, u16::from_be_bytes(*packet.get(mtu_at..)?.first_chunk()?)))
}

impl Inner {
    /// Shortest packet, but for acknowledgements.
    pub fn least(v6: bool, protocol: Protocol) -> usize {
        ip_len(v6) + protocol.header_len() + HEAD
    }

    /// The packet as bytes. Of an acknowledgement `size` says nothing, of `sent` only whole milliseconds remain.
    pub fn to_bytes(&self) -> Vec<u8> {
        if let Body::Ack(ack) = &self.body {
            return self.bare(ack);
        }
        let size = self.size.max(Self::least(self.v6, self.protocol));
        let mut bytes = vec![0; size];
        let ip = ip_len(self.v6);
        let head = ip + self.protocol.header_len();
        self.write_ip(&mut bytes[..ip], size);
        self.write_transport(&mut bytes[ip..head], size - ip);
        self.write_head(&mut bytes[head..head + HEAD]);
        fill(&mut bytes[head + HEAD..], self.flow);
        self.write_checksum(&mut bytes);
        bytes
    }

    /// An acknowledgement as bytes.
    fn bare(&self, ack: &TcpAck) -> Vec<u8> {
        let (ip, options) = (ip_len(self.v6), ack.options());
        let mut bytes = vec![0; ip + TCP_LEN];
        bytes.extend(options);
        let size = bytes.len();
        self.write_ip(&mut bytes[..ip], size);
        self.write_transport(&mut bytes[ip..], size - ip);
        self.write_checksum(&mut bytes);
        bytes
    }

    /// Reads the TCP header of an acknowledgement.
    fn read_bare(tcp: &[u8], v6: bool, size: usize) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
        let ports = word(0)?;
        let (from, to) = ((ports >> 16) as u16, ports as u16);
        let back = from < FIRST_PORT;
        let sent = Instant::from_nanos(u64::from(word(24)?) * 1_000_000);
        Some(Self {
            flow: if back { to } else { from }.wrapping_sub(FIRST_PORT),
            back,
            v6,
            protocol: Protocol::Tcp,
            number: word(4)?.into(),
            sent,
            body: Body::Ack(TcpAck::read(tcp)?),
            size,
        })
    }

    /// Reads a packet of [`Inner::to_bytes`]; `None` if a single bit differs from what was written.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let v6 = match bytes.first()? >> 4 {
            4 => false,
            6 => true,
            _ => return None,
        };
        let ip = ip_len(v6);
        let protocol = match *bytes.get(if v6 { 6 } else { 9 })? {
            6 => Protocol::Tcp,
            17 if bytes.get(ip..ip + 4)?.chunks(2).any(|port| port == QUIC_PORT.to_be_bytes()) => {
                Protocol::Quic
            }
            17 => Protocol::Udp,
            1 | 58 => Protocol::Echo,
            _ => return None,
        };
        if protocol == Protocol::Tcp && bytes.len() < Self::least(v6, protocol) {
            let inner = Self::read_bare(bytes.get(ip..)?, v6, bytes.len())?;
            return (inner.to_bytes() == bytes).then_some(inner);
        }
        let head = ip + protocol.header_len();
        let h: &[u8; HEAD] = bytes.get(head..)?.first_chunk()?;
        let number = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let long = |at: usize| u64::from(number(at)) | u64::from(number(at + 4)) << 32;
        let body = match h[3] {
            0 => Body::Plain,
            1 | 2 => Body::Echo { reply: h[3] == 2, asked: Instant::from_nanos(long(24)) },
            3 => Body::Segment(number(20)),
            _ => return None,
        };
        let flow = u16::from_le_bytes([h[0], h[1]]);
        let inner = Self {
            flow,
            back: h[2] == 1,
            v6,
            protocol,
            number: long(4),
            sent: Instant::from_nanos(long(12)),
            body,
            size: bytes.len(),
        };
        (inner.to_bytes() == bytes).then_some(inner)
    }

    fn write_ip(&self, ip: &mut [u8], size: usize) {
        let (from, to) = if self.back { (2, 1) } else { (1, 2) };
        let protocol = self.protocol.number(self.v6);
        if self.v6 {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&((size - 40) as u16).to_be_bytes());
            (ip[6], ip[7]) = (protocol, 64);
            (ip[8], ip[24]) = (0xfd, 0xfd);
            (ip[23], ip[39]) = (from, to);
        } else {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(size as u16).to_be_bytes());
            ip[4..6].copy_from_slice(&(self.number as u16).to_be_bytes());
            // Don't fragment, as Linux's hosts do.
            (ip[6], ip[8], ip[9]) = (0x40, 64, protocol);
            ip[12..16].copy_from_slice(&[10, 0, 0, from]);
            ip[16..20].copy_from_slice(&[10, 0, 0, to]);
            let sum = !fold(sum(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }

    fn write_transport(&self, transport: &mut [u8], len: usize) {
        let (ours, theirs) = (FIRST_PORT.wrapping_add(self.flow), self.protocol.port());
        let (from, to) = if self.back { (theirs, ours) } else { (ours, theirs) };
        match self.protocol {
            Protocol::Echo => {
                transport[0] = match (self.v6, self.back) {
                    (false, false) => 8,
                    (false, true) => 0,
                    (true, false) => 128,
                    (true, true) => 129,
                };
                transport[4..6].copy_from_slice(&ours.to_be_bytes());
                transport[6..8].copy_from_slice(&(self.number as u16).to_be_bytes());
            }
            Protocol::Udp | Protocol::Quic => {
                transport[..2].copy_from_slice(&from.to_be_bytes());
                transport[2..4].copy_from_slice(&to.to_be_bytes());
                transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
                if self.protocol == Protocol::Quic {
                    // Version 1, and connection IDs of no bytes; later a short header, which says nothing.
                    let header = if self.number == 0 { [0xc3, 0, 0, 0, 1, 0, 0, 0] } else { [0x41; 8] };
                    transport[8..16].copy_from_slice(&header);
                }
            }
            Protocol::Tcp => {
                transport[..2].copy_from_slice(&from.to_be_bytes());
                transport[2..4].copy_from_slice(&to.to_be_bytes());
                let (sequence, acknowledged, window, options) = match self.body {
                    Body::Segment(segment) => (segment.wrapping_mul(len as u32), 0, u16::MAX, 0),
                    Body::Ack(ack) => {
                        let window = ack.duplicate.map_or(u16::MAX, |_| DUPLICATE);
                        (self.number as u32, ack.next, window, len - TCP_LEN)
                    }
                    _ => (self.number as u32, 0, u16::MAX, 0),
                };
                transport[4..8].copy_from_slice(&sequence.to_be_bytes());
                transport[8..12].copy_from_slice(&acknowledged.to_be_bytes());
                // Now and then data is pushed.
                let pushed = self.number.is_multiple_of(16) && !matches!(self.body, Body::Ack(_));
                transport[12] = (((TCP_LEN + options) / 4) as u8) << 4;
                transport[13] = if pushed { ACK | PUSH } else { ACK };
                transport[14..16].copy_from_slice(&window.to_be_bytes());
                // Milliseconds; the echo is as old as a round trip (RFC 7323 §3.2).
                let stamp = (self.sent.as_nanos() / 1_000_000) as u32;
                transport[20..24].copy_from_slice(&[1, 1, 8, 10]);
                transport[24..28].copy_from_slice(&stamp.to_be_bytes());
                transport[28..32].copy_from_slice(&stamp.saturating_sub(40).to_be_bytes());
            }
        }
    }

    fn write_head(&self, h: &mut [u8]) {
        h[..2].copy_from_slice(&self.flow.to_le_bytes());
        h[2] = self.back.into();
        h[4..12].copy_from_slice(&self.number.to_le_bytes());
        h[12..20].copy_from_slice(&self.sent.as_nanos().to_le_bytes());
        match self.body {
            Body::Plain => h[3] = 0,
            Body::Echo { reply, asked } => {
                h[3] = 1 + u8::from(reply);
                h[24..32].copy_from_slice(&asked.as_nanos().to_le_bytes());
            }
            Body::Segment(segment) => {
                h[3] = 3;
                h[20..24].copy_from_slice(&segment.to_le_bytes());
            }
            // It has nothing behind its header.
            Body::Ack(_) => {}
        }
    }

    fn write_checksum(&self, bytes: &mut [u8]) {
        let at = ip_len(self.v6)
            + match self.protocol {
                Protocol::Echo => 2,
                Protocol::Udp | Protocol::Quic => 6,
                Protocol::Tcp => 16,
            };
        let checksum = match (checksum_of(bytes, self.v6, self.protocol), self.protocol) {
            // RFC 768: zero means that there is none.
            (0, Protocol::Udp | Protocol::Quic) => 0xffff,
            (checksum, _) => checksum,
        };
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

const fn ip_len(v6: bool) -> usize {
    if v6 { 40 } else { 20 }
}

/// Checksum of the transport, which is to stand where there is zero now.
fn checksum_of(bytes: &[u8], v6: bool, protocol: Protocol) -> u16 {
    let ip = ip_len(v6);
    let pseudo = match (v6, protocol) {
        (false, Protocol::Echo) => 0,
        (false, _) => sum(&bytes[12..20]),
        (true, _) => sum(&bytes[8..40]),
    };
    let extra = if !v6 && protocol == Protocol::Echo {
        0
    } else {
        u64::from(protocol.number(v6)) + (bytes.len() - ip) as u64
    };
    !fold(pseudo + extra + sum(&bytes[ip..]))
}

/// Sum of the 16-bit words (RFC 1071), not folded.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let mut last = [0; 4];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let word = |word: &[u8]| match *word {
        [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
        _ => 0,
    };
    words.map(word).sum::<u64>() + word(&last)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A run of bytes without a short period, longer than any packet plus the largest offset.
static PATTERN: [u8; 12_288] = {
    let mut bytes = [0; 12_288];
    let (mut i, mut x) = (0, 0x2545_f491u32);
    while i < bytes.len() {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        bytes[i] = x as u8;
        i += 1;
    }
    bytes
};

fn pattern(len: usize, flow: u16) -> &'static [u8] {
    let start = usize::from(flow % 256) * 8;
    &PATTERN[start..start + len.min(PATTERN.len() - start)]
}

fn fill(bytes: &mut [u8], flow: u16) {
    let pattern = pattern(bytes.len(), flow);
    bytes[..pattern.len()].copy_from_slice(pattern);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inner(v6: bool, protocol: u8, size: usize, number: u64) -> Inner {
        let (protocol, body) = match protocol {
            0 => (Protocol::Echo, Body::Echo { reply: true, asked: Instant::from_nanos(number) }),
            1 => (Protocol::Udp, Body::Plain),
            4 => (Protocol::Quic, Body::Plain),
            2 => (Protocol::Tcp, Body::Segment(number as u32)),
            _ => {
                let duplicate = Some(3).filter(|_| number.is_multiple_of(3));
                let last = if number % 3 == 1 { (15, 17) } else { (0, 0) };
                let ack = TcpAck { next: 7, duplicate, sacks: [(9, 11), (13, 14), last] };
                let ack = if number % 3 == 2 { TcpAck { next: 7, ..TcpAck::default() } } else { ack };
                (Protocol::Tcp, Body::Ack(ack))
            }
        };
        let (sent, number, size) = match body {
            Body::Ack(ack) => {
                let size = ip_len(v6) + TCP_LEN + ack.options().len();
                (Instant::from_nanos(77_000_000), number & 0xffff_ffff, size)
            }
            _ => (Instant::from_nanos(77), number, size),
        };
        Inner { flow: 3, back: number & 1 == 0, v6, protocol, number, sent, body, size }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(v6: bool, protocol in 0u8..5, size in 200usize..1500, number in 0u64..1 << 40) {
            let inner = inner(v6, protocol, size, number);
            prop_assert_eq!(Inner::read(&inner.to_bytes()), Some(inner));
        }

        #[test]
        fn a_changed_bit_is_noticed(
            v6: bool,
            protocol in 0u8..4,
            number in 0u64..100,
            bit: proptest::sample::Index,
        ) {
            let mut bytes = inner(v6, protocol, 300, number).to_bytes();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Inner::read(&bytes), None);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Inner::read(&bytes);
        }
    }

    #[test]
    fn the_headers_are_true() {
        let bytes = inner(false, 1, 200, 5).to_bytes();
        assert_eq!(fold(sum(&bytes[..20])), 0xffff);
        assert_eq!((bytes[9], &bytes[24..26]), (17, &180u16.to_be_bytes()[..]));
    }
}
