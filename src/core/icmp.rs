//! The error that the sender of a packet gets that is too long for every link.

use super::checksum;
use super::packet::Packet;

/// Bytes of the offending IPv4 packet in the error (RFC 1812 §4.3.2.3 allows up to 576 in all).
const V4_QUOTE: usize = 548;
/// Bytes of the offending IPv6 packet in the error, which must stay within 1280 (RFC 4443 §2.4).
const V6_QUOTE: usize = 1280 - 48;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TTL: u8 = 64;

/// Turns a packet into "fragmentation needed" (RFC 1191) or "packet too big" (RFC 4443 §3.2), as if its
/// destination had sent it: that address is valid on any path back, our own might be refused as martian.
///
/// False if no error may be sent: not for an error or multicast, nor for IPv4 that may be fragmented.
pub fn too_big(packet: &mut Packet, mtu: u16) -> bool {
    match packet.bytes().first().map(|first| first >> 4) {
        Some(4) => too_big_v4(packet, mtu),
        Some(6) => too_big_v6(packet, mtu),
        _ => false,
    }
}

fn too_big_v4(packet: &mut Packet, mtu: u16) -> bool {
    let original = packet.bytes();
    let Some(&header) = original.first_chunk::<20>() else { return false };
    let header_len = usize::from(header[0] & 0xf) * 4;
    let dont_fragment = header[6] & 0x40 != 0;
    let first_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    let error = header[9] == ICMP && !matches!(original.get(header_len), Some(0 | 8));
    if !dont_fragment || !first_fragment || error || header[16] >= 224 || header[12] >= 224 {
        return false;
    }
    let quote = original.len().min(V4_QUOTE);
    let total = 28 + quote;
    let buffer = packet.buffer();
    if buffer.len() < total {
        return false;
    }
    buffer.copy_within(..quote, 28);
    let (ip, icmp) = buffer[..total].split_at_mut(20);
    ip.copy_from_slice(&[
        0x45,
        0xc0,
        (total >> 8) as u8,
        total as u8,
        0,
        0,
        0,
        0,
        TTL,
        ICMP,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    ip[12..16].copy_from_slice(&header[16..20]);
    ip[16..20].copy_from_slice(&header[12..16]);
    checksum::put(ip, 10, 0);
    let [mtu0, mtu1] = mtu.to_be_bytes();
    icmp[..8].copy_from_slice(&[3, 4, 0, 0, 0, 0, mtu0, mtu1]);
    checksum::put(icmp, 2, 0);
    packet.set_len(total);
    true
}

fn too_big_v6(packet: &mut Packet, mtu: u16) -> bool {
    let original = packet.bytes();
    let Some(&header) = original.first_chunk::<40>() else { return false };
    let error = header[6] == ICMPV6 && original.get(40).is_none_or(|kind| *kind < 128);
    if error || header[8] == 0xff || header[8..24] == [0; 16] {
        return false;
    }
    let quote = original.len().min(V6_QUOTE);
    let total = 48 + quote;
    let buffer = packet.buffer();
    if buffer.len() < total {
        return false;
    }
    buffer.copy_within(..quote, 48);
    let (ip, icmp) = buffer[..total].split_at_mut(40);
    let length = (total - 40) as u16;
    ip[..8].copy_from_slice(&[0x60, 0, 0, 0, (length >> 8) as u8, length as u8, ICMPV6, TTL]);
    ip[8..24].copy_from_slice(&header[24..40]);
    ip[24..40].copy_from_slice(&header[8..24]);
    icmp[..4].copy_from_slice(&[2, 0, 0, 0]);
    icmp[4..8].copy_from_slice(&u32::from(mtu).to_be_bytes());
    let pseudo = checksum::pseudo(ip, ICMPV6, length.into());
    checksum::put(icmp, 2, pseudo);
    packet.set_len(total);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(bytes: &[u8]) -> Packet {
        Packet::of(2_048, bytes)
    }

    fn v4(flags: u8, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![0; 1500];
        bytes[..20].copy_from_slice(&[
            0x45, 0, 5, 220, 1, 2, flags, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        bytes
    }

    fn folded(bytes: &[u8], start: u32) -> u16 {
        checksum::fold(start + checksum::sum(bytes))
    }

    #[test]
    fn fragmentation_needed_names_the_mtu_and_quotes_the_packet() {
        let mut p = packet(&v4(0x40, 6));
        assert!(too_big(&mut p, 1400));
        let bytes = p.bytes();
        assert_eq!((bytes.len(), bytes[9], bytes[20], bytes[21]), (576, 1, 3, 4));
        assert_eq!((&bytes[12..16], &bytes[16..20]), (&[10, 0, 0, 2][..], &[10, 0, 0, 1][..]));
        assert_eq!(u16::from_be_bytes([bytes[26], bytes[27]]), 1400);
        assert_eq!(&bytes[28..48], &v4(0x40, 6)[..20]);
        assert_eq!((folded(&bytes[..20], 0), folded(&bytes[20..], 0)), (0xffff, 0xffff));
    }

    #[test]
    fn no_error_for_what_may_be_fragmented_nor_for_errors_and_multicast() {
        assert!(!too_big(&mut packet(&v4(0, 6)), 1400));
        let mut unreachable = v4(0x40, ICMP);
        unreachable[20] = 3;
        assert!(!too_big(&mut packet(&unreachable), 1400));
        assert!(too_big(
            &mut packet(&{
                let mut echo = v4(0x40, ICMP);
                echo[20] = 8;
                echo
            }),
            1400
        ));
        let mut multicast = v4(0x40, 17);
        multicast[16] = 239;
        assert!(!too_big(&mut packet(&multicast), 1400));
    }

    #[test]
    fn packet_too_big_has_a_right_checksum() {
        let mut bytes = vec![0; 1500];
        bytes[0] = 0x60;
        (bytes[6], bytes[8], bytes[23], bytes[24], bytes[39]) = (6, 0x20, 1, 0x20, 2);
        let mut p = packet(&bytes);
        assert!(too_big(&mut p, 1300));
        let b = p.bytes();
        assert_eq!(
            (b.len(), b[6], b[40], u32::from_be_bytes([b[44], b[45], b[46], b[47]])),
            (1280, ICMPV6, 2, 1300)
        );
        assert_eq!((b[39], b[23]), (1, 2));
        let pseudo = checksum::pseudo(b, ICMPV6, b.len() - 40);
        assert_eq!(folded(&b[40..], pseudo), 0xffff);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048), mtu: u16) {
            let mut p = packet(&bytes);
            too_big(&mut p, mtu);
        }
    }
}
