//! Explicit congestion notification in inner packets (RFC 3168).

use super::packet::Packet;

const CE: u8 = 0b11;

/// Marks a packet of a conversation that understands it. False if it does not.
pub fn mark(packet: &mut Packet) -> bool {
    let len = packet.len();
    let bytes = &mut packet.buffer()[..len];
    match bytes.first().map(|first| first >> 4) {
        Some(4) if len >= 20 => mark_v4(bytes),
        Some(6) if len >= 40 => mark_v6(bytes),
        _ => false,
    }
}

fn mark_v4(bytes: &mut [u8]) -> bool {
    let old = bytes[1];
    if old & CE == 0 {
        return false;
    }
    let new = old | CE;
    bytes[1] = new;
    // RFC 1624: HC' = ~(~HC + ~m + m'), for the word that the field stands in.
    let checksum = u16::from_be_bytes([bytes[10], bytes[11]]);
    let (before, after) = (u16::from_be_bytes([bytes[0], old]), u16::from_be_bytes([bytes[0], new]));
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    true
}

fn mark_v6(bytes: &mut [u8]) -> bool {
    // The field is bits 4 and 5 of the second byte.
    if bytes[1] >> 4 & CE == 0 {
        return false;
    }
    bytes[1] |= CE << 4;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(bytes: &[u8]) -> Packet {
        Packet::of(100, bytes)
    }

    fn sum(header: &[u8]) -> u32 {
        let mut total: u32 =
            header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while total >> 16 != 0 {
            total = (total & 0xffff) + (total >> 16);
        }
        total
    }

    proptest! {
        #[test]
        fn the_checksum_stays_right(mut header: [u8; 20]) {
            header[0] = 0x45;
            (header[10], header[11]) = (0, 0);
            let checksum = !(sum(&header) as u16);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            let capable = header[1] & CE != 0;
            let mut p = packet(&header);
            prop_assert_eq!(mark(&mut p), capable);
            prop_assert_eq!(sum(p.bytes()), 0xffff);
            prop_assert!(!capable || p.bytes()[1] & CE == CE);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            mark(&mut packet(&bytes));
        }
    }

    #[test]
    fn ipv6_is_marked_in_its_traffic_class() {
        let mut bytes = [0; 40];
        (bytes[0], bytes[1]) = (0x60, 0x20);
        let mut p = packet(&bytes);
        assert!(mark(&mut p));
        assert_eq!(p.bytes()[1], 0x30);
    }
}
