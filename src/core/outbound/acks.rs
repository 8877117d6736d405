//! Inner TCP acknowledgements that a later one of the same connection makes needless while both wait.
//!
//! A connection that fills two links of 100 Mbit/s sends 8,000 acknowledgements a second the other way, 5 Mbit/s with
//! all headers around them: more than two uplinks of 2 Mbit/s carry. As long as they wait, only the last one tells
//! anything (the idea of sch_cake's `ack-filter`, and of RFC 3449 §5.2.1). What tells of losses, congestion or the
//! end of a connection is never left out.

use std::ops::Range;

/// Longest packet that is looked at: IPv6 and TCP with all its options.
const MAX_LEN: usize = 100;
const TCP: u8 = 6;
/// TCP header without options.
const TCP_LEN: usize = 20;
const ACK: u8 = 0x10;
/// Flags that tell something besides an acknowledgement: FIN, SYN, RST, PSH, URG.
const TELLING: u8 = 0x2f;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const TIMESTAMPS: u8 = 8;

/// Whether `old` tells nothing that `new`, which comes right behind it, does not tell as well.
pub(super) fn supersedes(new: &[u8], old: &[u8]) -> bool {
    if old.len() > MAX_LEN || new.len() > MAX_LEN {
        return false;
    }
    let (Some(new_tcp), Some(old_tcp)) = (acknowledgement(new), acknowledgement(old)) else { return false };
    let same_hosts = new[0] >> 4 == old[0] >> 4
        && new[addresses(new[0])] == old[addresses(old[0])]
        // ECN and DSCP: what was marked on its way here goes on.
        && traffic_class(new) == traffic_class(old);
    let (new, old) = (&new[new_tcp], &old[old_tcp]);
    let ahead = number(new).wrapping_sub(number(old));
    same_hosts
        && new[..4] == old[..4]
        && new[13] == old[13]
        && new[12] & 0x0f == old[12] & 0x0f
        && (1..1 << 31).contains(&ahead)
        && tells_no_more(&old[TCP_LEN..])
}

/// Where the TCP header stands, options and all, in a packet that is nothing else than an acknowledgement.
fn acknowledgement(packet: &[u8]) -> Option<Range<usize>> {
    let start = match packet.first()? >> 4 {
        4 => {
            // Without options, whole, and as long as it says.
            let plain = packet.len() >= 20
                && packet[0] == 0x45
                && packet[6] & 0x3f == 0
                && packet[7] == 0
                && packet[9] == TCP
                && usize::from(u16::from_be_bytes([packet[2], packet[3]])) == packet.len();
            plain.then_some(20)?
        }
        6 => {
            let plain = packet.len() >= 40
                && packet[6] == TCP
                && 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])) == packet.len();
            plain.then_some(40)?
        }
        _ => return None,
    };
    let tcp = &packet[start..];
    let whole = tcp.len() >= TCP_LEN && usize::from(tcp[12] >> 4) * 4 == tcp.len();
    (whole && tcp[13] & (ACK | TELLING) == ACK).then_some(start..packet.len())
}

fn addresses(version: u8) -> Range<usize> {
    if version >> 4 == 4 { 12..20 } else { 8..40 }
}

fn traffic_class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

fn number(tcp: &[u8]) -> u32 {
    u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]])
}

/// The options are timestamps and padding: no selective acknowledgement, nothing unknown.
fn tells_no_more(options: &[u8]) -> bool {
    let mut rest = options;
    loop {
        rest = match rest {
            [] | [END, ..] => return true,
            [NO_OPERATION, rest @ ..] => rest,
            [TIMESTAMPS, 10, rest @ ..] if rest.len() >= 8 => &rest[8..],
            _ => return false,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    const SACK: [u8; 12] = [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2];

    /// An acknowledgement of a connection between two hosts, over IPv4 or IPv6.
    fn ack(v6: bool, number: u32, flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
        let tcp_len = TCP_LEN + options.len();
        let mut packet = if v6 {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&((tcp_len + payload) as u16).to_be_bytes());
            header[6] = TCP;
            header
        } else {
            let mut header = vec![0; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&((20 + tcp_len + payload) as u16).to_be_bytes());
            header[9] = TCP;
            header
        };
        let mut tcp = vec![0; TCP_LEN];
        tcp[..4].copy_from_slice(&[0, 80, 4, 0]);
        tcp[8..12].copy_from_slice(&number.to_be_bytes());
        (tcp[12], tcp[13]) = ((tcp_len as u8 / 4) << 4, flags);
        packet.extend(tcp);
        packet.extend(options);
        packet.resize(packet.len() + payload, 0);
        packet
    }

    #[test]
    fn a_later_acknowledgement_says_it_all() {
        for v6 in [false, true] {
            for options in [&[][..], &STAMPS] {
                assert!(supersedes(&ack(v6, 7, ACK, options, 0), &ack(v6, 6, ACK, options, 0)));
            }
            let wrapped = ack(v6, 5, ACK, &[], 0);
            assert!(supersedes(&wrapped, &ack(v6, u32::MAX, ACK, &[], 0)));
            assert!(supersedes(&ack(v6, 7, ACK, &SACK, 0), &ack(v6, 6, ACK, &[], 0)));
        }
    }

    #[test]
    fn what_tells_more_stays() {
        for v6 in [false, true] {
            let new = ack(v6, 7, ACK, &STAMPS, 0);
            let stays = [
                ("the same again, a sign of loss", ack(v6, 7, ACK, &STAMPS, 0)),
                ("a later one", ack(v6, 8, ACK, &STAMPS, 0)),
                ("what came beyond a hole", ack(v6, 6, ACK, &SACK, 0)),
                ("the end", ack(v6, 6, ACK | 1, &STAMPS, 0)),
                ("a reset", ack(v6, 6, ACK | 4, &STAMPS, 0)),
                ("an echo of congestion", ack(v6, 6, ACK | 0x40, &STAMPS, 0)),
                ("data", ack(v6, 6, ACK, &STAMPS, 1)),
                ("another family", ack(!v6, 6, ACK, &STAMPS, 0)),
            ];
            for (what, old) in stays {
                assert!(!supersedes(&new, &old), "{what}");
            }
            for (what, at) in [("another host", 15), ("a mark", 1), ("another port", new.len() - 30)] {
                let mut other = ack(v6, 6, ACK, &STAMPS, 0);
                other[at] ^= 0x10;
                assert!(!supersedes(&new, &other), "{what}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(old in proptest::collection::vec(any::<u8>(), 0..120), new in proptest::collection::vec(any::<u8>(), 0..120)) {
            supersedes(&new, &old);
        }

        #[test]
        fn nearly_acknowledgements_do_not_panic(v6: bool, at in 0usize..72, byte: u8, cut in 0usize..72) {
            let mut odd = ack(v6, 6, ACK, &STAMPS, 0);
            let at = at % odd.len();
            odd[at] = byte;
            odd.truncate(odd.len() - cut % odd.len());
            let new = ack(v6, 7, ACK, &STAMPS, 0);
            supersedes(&new, &odd);
            supersedes(&odd, &new);
        }
    }
}
