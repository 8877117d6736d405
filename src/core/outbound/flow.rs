//! Which inner conversation a packet belongs to, and whether its order matters.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::core::wire::BUCKETS;

/// IP protocol numbers (IANA).
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ESP: u8 = 50;
const SCTP: u8 = 132;
/// IPv4, IPv6, GRE and L2TP within IP: what they carry is TCP for the most part.
const TUNNELS: [u8; 4] = [4, 41, 47, 115];
/// UDP ports where QUIC answers most often, and OpenVPN, L2TP and IPsec behind NAT (RFC 3948).
const ORDERED_PORTS: [u16; 5] = [443, 8443, 1194, 1701, 4500];
/// Versions of QUIC with an invariant beginning: 1 (RFC 9000), 2 (RFC 9369).
const QUIC_VERSIONS: [u32; 2] = [1, 0x6b33_43cf];

/// Differentiated services of telephony and signalling: EF, VOICE-ADMIT, CS5 (RFC 4594 §4, RFC 5865).
const REALTIME_CLASSES: [u8; 3] = [46, 44, 40];

/// An IP packet at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Bucket of the conversation, 1 to 4095.
    pub bucket: u16,
    /// True if the conversation suffers from reordering: TCP, QUIC, tunnels.
    pub ordered: bool,
    /// True for what people talk and play with: plain UDP, or marked as such. Its order is no matter, its delay is.
    pub realtime: bool,
    /// True if it is sent again when it was lost: all but what the next packet says anyway.
    pub repaired: bool,
}

/// Sorts packets into buckets by a keyed hash of addresses, protocol and ports.
pub struct Classifier {
    keys: (u64, u64),
    /// Another part of the hash, of the last conversation in each bucket that began as QUIC. Only that beginning can be
    /// told from other UDP, at whatever port.
    quic: Box<[u32]>,
    /// The conversation of the last packet, and its hash: mostly several of one come in a row.
    last: Option<(Conversation, u64)>,
}

impl Classifier {
    /// `seed` is secret and random, so that nobody outside can make conversations collide.
    pub fn new(seed: [u8; 16]) -> Self {
        let seed = u128::from_be_bytes(seed);
        Self { keys: ((seed >> 64) as u64, seed as u64), quic: vec![0; BUCKETS.into()].into(), last: None }
    }

    /// Looks at a packet; `None` if it is neither IPv4 nor IPv6.
    pub fn glance(&mut self, packet: &[u8]) -> Option<Glance> {
        let parsed = Parsed::read(packet)?;
        let hash = match self.last {
            Some((last, hash)) if last == parsed.conversation => hash,
            _ => {
                let hash = self.hash(&parsed.conversation);
                self.last = Some((parsed.conversation, hash));
                hash
            }
        };
        let bucket = 1 + (hash % u64::from(BUCKETS - 1)) as u16;
        let Conversation { protocol, ports, .. } = parsed.conversation;
        let ordered = match protocol {
            TCP => !parsed.pure_ack,
            UDP => {
                let quic = &mut self.quic[usize::from(bucket)];
                let tag = (hash >> 32) as u32;
                if begins_quic(parsed.datagram) {
                    *quic = tag;
                }
                let at = |port| ORDERED_PORTS.contains(&port);
                *quic == tag
                    || ports.is_some_and(|(from, to)| at(from) || at(to))
                    || is_wireguard(parsed.datagram)
            }
            protocol => protocol == ESP || protocol == SCTP || TUNNELS.contains(&protocol),
        };
        let realtime = !ordered && (protocol == UDP || REALTIME_CLASSES.contains(&parsed.class));
        let repaired = !parsed.pure_ack;
        Some(Glance { bucket, ordered, realtime, repaired })
    }

    fn hash(&self, conversation: &Conversation) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        for address in [conversation.source, conversation.destination] {
            match address {
                IpAddr::V4(v4) => hasher.write(&v4.octets()),
                IpAddr::V6(v6) => hasher.write(&v6.octets()),
            }
        }
        hasher.write_u8(conversation.protocol);
        let (from, to) = conversation.ports.unwrap_or((0, 0));
        hasher.write_u16(from);
        hasher.write_u16(to);
        hasher.finish()
    }
}

/// A long header of QUIC (RFC 9000 §17.2): its form, a version, and two connection IDs of 20 bytes at most. The fixed
/// bit may be any (RFC 9287).
fn begins_quic(datagram: &[u8]) -> bool {
    let Some(&[first, a, b, c, d, id_len]) = datagram.first_chunk() else { return false };
    let other_id_len = datagram.get(6 + usize::from(id_len));
    first >> 7 == 1
        && QUIC_VERSIONS.contains(&u32::from_be_bytes([a, b, c, d]))
        && id_len <= 20
        && other_id_len.is_some_and(|len| *len <= 20)
}

/// Data of WireGuard: type 4, three zeros, receiver, counter, and what is padded and sealed to multiples of 16.
fn is_wireguard(datagram: &[u8]) -> bool {
    datagram.starts_with(&[4, 0, 0, 0]) && datagram.len() >= 32 && datagram.len().is_multiple_of(16)
}

/// The fields that name a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Conversation {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
}

/// What is read of a packet.
struct Parsed<'a> {
    conversation: Conversation,
    /// Differentiated services code point (RFC 2474).
    class: u8,
    /// TCP without data, SYN, FIN or RST: what it says is said again by the next, so its order is no matter.
    pure_ack: bool,
    /// What a UDP header is followed by, if that is known.
    datagram: &'a [u8],
}

impl<'a> Parsed<'a> {
    fn read(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::read_v4(packet),
            6 => Self::read_v6(packet),
            _ => None,
        }
    }

    fn read_v4(packet: &'a [u8]) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        let header_len = usize::from(header[0] & 0xf) * 4;
        if header_len < 20 || header_len > packet.len() {
            return None;
        }
        let address = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).map(IpAddr::from).ok();
        let protocol = header[9];
        // More fragments, or not the first: only one of them has ports, so none is sorted by them.
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let ports = if fragment { None } else { ports(protocol, &packet[header_len..]) };
        let total = usize::from(u16::from_be_bytes([header[2], header[3]])).min(packet.len());
        let transport = packet.get(header_len..total)?;
        Some(Self {
            conversation: Conversation { source: address(12)?, destination: address(16)?, protocol, ports },
            class: header[1] >> 2,
            pure_ack: !fragment && protocol == TCP && is_pure_ack(transport),
            datagram: if fragment { &[] } else { datagram(protocol, transport) },
        })
    }

    fn read_v6(packet: &'a [u8]) -> Option<Self> {
        let header: &[u8; 40] = packet.first_chunk()?;
        let address = |at: usize| <[u8; 16]>::try_from(&header[at..at + 16]).map(IpAddr::from).ok();
        // Extension headers are rare; what has them is sorted by addresses and the first of them.
        let protocol = header[6];
        let (source, destination) = (address(8)?, address(24)?);
        let ports = ports(protocol, &packet[40..]);
        Some(Self {
            conversation: Conversation { source, destination, protocol, ports },
            class: (header[0] << 2 | header[1] >> 6) & 0x3f,
            pure_ack: protocol == TCP && is_pure_ack(&packet[40..]),
            datagram: datagram(protocol, &packet[40..]),
        })
    }
}

fn is_pure_ack(segment: &[u8]) -> bool {
    const FIN_SYN_RST: u8 = 0b111;
    segment.get(12..14).is_some_and(|bytes| {
        let header_len = usize::from(bytes[0] >> 4) * 4;
        bytes[1] & FIN_SYN_RST == 0 && segment.len() <= header_len
    })
}

fn datagram(protocol: u8, transport: &[u8]) -> &[u8] {
    transport.get(8..).filter(|_| protocol == UDP).unwrap_or_default()
}

fn ports(protocol: u8, transport: &[u8]) -> Option<(u16, u16)> {
    if !matches!(protocol, TCP | UDP | SCTP | DCCP) {
        return None;
    }
    let &[a, b, c, d] = transport.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, fragment: u16, ports: [u16; 2]) -> Vec<u8> {
        let mut packet = vec![0; 48];
        packet[0] = 0x45;
        packet[3] = 48;
        packet[32] = 5 << 4;
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet[20..22].copy_from_slice(&ports[0].to_be_bytes());
        packet[22..24].copy_from_slice(&ports[1].to_be_bytes());
        packet
    }

    fn classifier() -> Classifier {
        Classifier::new([7; 16])
    }

    fn glance(packet: &[u8]) -> Glance {
        classifier().glance(packet).expect("an IP packet")
    }

    #[test]
    fn a_conversation_stays_in_its_bucket_and_others_go_elsewhere() {
        let one = glance(&v4(TCP, 0, [5000, 80]));
        assert_eq!(one, glance(&v4(TCP, 0, [5000, 80])));
        assert_ne!(one.bucket, glance(&v4(TCP, 0, [5001, 80])).bucket);
        assert_ne!(one.bucket, glance(&v4(UDP, 0, [5000, 80])).bucket);
        let seeded = Classifier::new([8; 16]).glance(&v4(TCP, 0, [5000, 80]));
        assert_ne!(Some(one), seeded);
    }

    #[test]
    fn order_matters_to_tcp_quic_and_tunnels_only() {
        assert!(glance(&v4(TCP, 0, [1, 2])).ordered);
        assert!(glance(&v4(ESP, 0, [1, 2])).ordered);
        assert!(glance(&v4(UDP, 0, [1, 443])).ordered);
        assert!(!glance(&v4(UDP, 0, [1, 5060])).ordered);
        assert!(!glance(&v4(1, 0, [1, 443])).ordered);
        assert!(glance(&v4(47, 0, [1, 2])).ordered);
        assert!(glance(&v4(UDP, 0, [4500, 4500])).ordered);
    }

    fn udp(ports: [u16; 2], data: &[u8]) -> Vec<u8> {
        let mut packet = v4(UDP, 0, ports);
        packet.truncate(28);
        packet.extend_from_slice(data);
        packet[3] = packet.len() as u8;
        packet
    }

    #[test]
    fn what_began_as_quic_is_quic_at_any_port() {
        let mut classifier = classifier();
        let mut ordered = |ports, data: &[u8]| classifier.glance(&udp(ports, data)).expect("IPv4").ordered;
        let short = [0x41; 40];
        assert!(!ordered([5000, 4433], &short), "nobody has seen its beginning");
        for version in [[0, 0, 0, 1], [0x6b, 0x33, 0x43, 0xcf]] {
            let ports = [5000, u16::from(version[0])];
            assert!(!ordered(ports, &short));
            assert!(ordered(ports, &[&[0xc3][..], &version, &[8; 60]].concat()));
            assert!(ordered(ports, &short) && ordered(ports, &short));
        }
        assert!(!ordered([5000, 4433], &short), "another one");
        for other in [[0x43, 0, 0, 0, 1, 8], [0xc3, 0, 0, 0, 9, 8], [0xc3, 0, 0, 0, 1, 21]] {
            assert!(!ordered([5000, 4434], &[&other[..], &[8; 40]].concat()), "{other:x?}");
        }
        assert!(ordered([5000, 4434], &[&[0x83, 0, 0, 0, 1, 8][..], &[8; 40]].concat()), "greased");
    }

    #[test]
    fn data_of_wireguard_is_ordered_and_its_handshake_is_not() {
        let message = |kind: u8, len: usize| {
            glance(&udp([51820, 51820], &[&[kind, 0, 0, 0], &*vec![7; len - 4]].concat()))
        };
        assert!(message(4, 32).ordered && message(4, 96).ordered);
        assert!(!message(1, 148).ordered && !message(4, 40).ordered);
    }

    #[test]
    fn plain_udp_and_what_is_marked_is_realtime() {
        assert!(glance(&v4(UDP, 0, [1, 5060])).realtime);
        assert!(!glance(&v4(UDP, 0, [1, 443])).realtime);
        let mut ping = v4(1, 0, [1, 2]);
        assert!(!glance(&ping).realtime);
        ping[1] = 46 << 2;
        assert!(glance(&ping).realtime);
        let mut v6 = [0; 48];
        (v6[0], v6[1], v6[6]) = (6 << 4 | 46 >> 2, (46 & 3) << 6, 58);
        assert!(glance(&v6).realtime);
    }

    #[test]
    fn a_pure_ack_has_no_order_and_a_syn_has() {
        let mut packet = v4(TCP, 0, [1, 2]);
        packet.truncate(40);
        packet[3] = 40;
        assert!(!glance(&packet).ordered);
        packet[33] = 2;
        assert!(glance(&packet).ordered);
    }

    #[test]
    fn all_fragments_of_a_packet_share_a_bucket() {
        let first = glance(&v4(UDP, 0x2000, [5000, 80]));
        let later = glance(&v4(UDP, 0x0010, [0xdead, 0xbeef]));
        assert_eq!(first.bucket, later.bucket);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(packet in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(glance) = classifier().glance(&packet) {
                prop_assert!((1..BUCKETS).contains(&glance.bucket));
            }
        }
    }
}
