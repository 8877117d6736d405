//! What is merged is cut into the same packets again, and the border to the kernel takes any bytes.

use proptest::prelude::*;

use super::*;
use crate::core::checksum::{fold, pseudo, put, sum};

/// An end's conversation, and what its packets look like.
#[derive(Clone, Debug)]
struct Flow {
    v6: bool,
    tcp: bool,
    port: u16,
    options: Vec<u8>,
    may_fragment: bool,
    sequence: u32,
    id: u16,
}

/// The next packet of one of the flows.
#[derive(Clone, Debug)]
struct Step {
    flow: usize,
    size: usize,
    oddity: Oddity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    None,
    Push,
    Fin,
    Syn,
    Cwr,
    Ece,
    Congestion,
    OtherTtl,
    OtherAck,
    OtherWindow,
    Gap,
    Fragment,
    BadChecksum,
    BadIpChecksum,
    NoChecksum,
    Ping,
}

impl Flow {
    fn packet(&mut self, size: usize, oddity: Oddity) -> Vec<u8> {
        if oddity == Oddity::Gap {
            self.sequence = self.sequence.wrapping_add(1_000);
            self.id = self.id.wrapping_add(7);
        }
        let ip = if self.v6 { 40 } else { 20 };
        let header = if self.tcp { TCP_HEADER + self.options.len() } else { UDP_HEADER };
        let mut packet = vec![0; ip + header];
        packet.extend((0..size).map(|i| (i as u32 ^ self.sequence >> 3) as u8));
        let len = packet.len();
        let congested = oddity == Oddity::Congestion;
        let ttl = if oddity == Oddity::OtherTtl { 63 } else { 64 };
        let ping = oddity == Oddity::Ping;
        let protocol = match (ping, self.v6) {
            (true, true) => ICMPV6,
            (true, false) => 1,
            _ if self.tcp => TCP,
            _ => UDP,
        };
        if self.v6 {
            packet[0] = 0x60;
            packet[1] = if congested { 0x30 } else { 0x20 };
            packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            (packet[6], packet[7]) = (protocol, ttl);
            (packet[8], packet[23], packet[24], packet[39]) = (0xfd, 1, 0xfd, 2);
        } else {
            packet[0] = 0x45;
            packet[1] = if congested { 3 } else { 2 };
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[4..6].copy_from_slice(&self.id.to_be_bytes());
            packet[6] = match (oddity, self.may_fragment) {
                (Oddity::Fragment, _) => 0x20,
                (_, true) => 0,
                _ => 0x40,
            };
            (packet[8], packet[9]) = (ttl, protocol);
            packet[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
            put(&mut packet[..20], 10, 0);
            packet[10] ^= u8::from(oddity == Oddity::BadIpChecksum);
        }
        self.id = self.id.wrapping_add(1);
        let pseudo = pseudo(&packet, protocol, len - ip);
        let transport = &mut packet[ip..];
        transport[..2].copy_from_slice(&self.port.to_be_bytes());
        if self.tcp {
            transport[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            transport[11] = u8::from(oddity == Oddity::OtherAck);
            transport[12] = ((header / 4) << 4) as u8;
            transport[13] = ACK
                | match oddity {
                    Oddity::Push => PSH,
                    Oddity::Fin => FIN,
                    Oddity::Syn => 2,
                    Oddity::Cwr => CWR,
                    Oddity::Ece => ECE,
                    _ => 0,
                };
            transport[15] = u8::from(oddity == Oddity::OtherWindow);
            transport[TCP_HEADER..header].copy_from_slice(&self.options);
            put(transport, TCP_CHECKSUM, pseudo);
            self.sequence = self.sequence.wrapping_add(size as u32);
        } else {
            transport[4..6].copy_from_slice(&((header + size) as u16).to_be_bytes());
            put(transport, UDP_CHECKSUM, pseudo);
            if oddity == Oddity::NoChecksum {
                transport[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
            }
        }
        if oddity == Oddity::BadChecksum {
            let last = packet.len() - 1;
            packet[last] ^= 1;
        }
        packet
    }
}

fn flow() -> impl Strategy<Value = Flow> {
    let options = prop_oneof![Just(vec![]), Just(vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])];
    let flow = (any::<bool>(), any::<bool>(), 0..3_u16, options, any::<bool>(), any::<u32>(), any::<u16>());
    flow.prop_map(|(v6, tcp, port, options, may_fragment, sequence, id)| Flow {
        v6,
        tcp,
        port,
        options,
        may_fragment,
        sequence,
        id,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let oddities = [
        Oddity::Push,
        Oddity::Fin,
        Oddity::Syn,
        Oddity::Cwr,
        Oddity::Ece,
        Oddity::Congestion,
        Oddity::OtherTtl,
        Oddity::OtherAck,
        Oddity::OtherWindow,
        Oddity::Gap,
        Oddity::Fragment,
        Oddity::BadChecksum,
        Oddity::BadIpChecksum,
        Oddity::NoChecksum,
        Oddity::Ping,
    ];
    let oddity = prop_oneof![30 => Just(Oddity::None), 3 => proptest::sample::select(oddities.to_vec())];
    let size = prop_oneof![12 => Just(1_400_usize), 2 => Just(100), 1 => Just(0), 1 => 1..1_500_usize];
    (0..4_usize, size, oddity).prop_map(|(flow, size, oddity)| Step { flow, size, oddity })
}

/// What the kernel makes of what it is given.
fn cut(header: &VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    pieces(Segments::new(header, packet).expect("well-formed"), packet)
}

/// The packets that it was made of, their checksums left to somebody else.
fn cut_unsummed(merged: &Merged<'_>) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(&merged.header, merged.packet.head).expect("well-formed");
    segments.leave_unsummed(merged.packet.head);
    assert_eq!(segments.is_unsummed(), merged.count > 1);
    pieces(segments, merged.packet.head)
}

/// A packet as it comes in: the headers of every second full one stand apart.
fn given(packet: &[u8], unsummed: bool) -> Inner<'_> {
    let ip = if packet.first().is_some_and(|first| first >> 4 == 4) { 20 } else { 40 };
    let head = match packet.get(if ip == 20 { 9 } else { 6 }) {
        Some(&TCP) if packet.len() > ip + TCP_HEADER => ip + usize::from(packet[ip + 12] >> 4) * 4,
        Some(&UDP) => ip + UDP_HEADER,
        _ => ip,
    };
    let apart = packet.len() > head && packet.last().is_some_and(|last| last % 2 == 0);
    let (head, rest) = packet.split_at(if apart { head } else { packet.len() });
    Inner { head, rest, unsummed }
}

fn pieces(mut segments: Segments, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut out = vec![0; MAX_SUPER_PACKET];
    std::iter::from_fn(|| segments.next(packet, &mut out).map(|len| out[..len].to_vec())).collect()
}

/// Without the number that has no meaning in packets that must not be fragmented.
fn comparable(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 && packet[6] & 0x40 != 0 {
        let right = sum(&packet[..20]) == 0xffff;
        packet[4..6].fill(0);
        packet[10..12].fill(u8::from(right));
    }
    packet
}

/// Runs packets through a coalescer, in batches of so many; gives what came out, cut, and in how many writes.
fn through(packets: &[Vec<u8>], batch: usize) -> (Vec<Vec<u8>>, usize) {
    let mut coalescer = Coalescer::new(true, true);
    let (mut got, mut writes) = (Vec::new(), 0);
    let mut out = |merged: Merged<'_>| {
        let whole = cut(&merged.header, &merged.packet.whole());
        assert_eq!(whole.len(), merged.count);
        got.extend(whole);
        writes += 1;
    };
    for batch in packets.chunks(batch) {
        batch.iter().for_each(|packet| coalescer.push(given(packet, false), &mut out));
        coalescer.flush(&mut out);
    }
    (got, writes)
}

/// Addresses, protocol and ports, as far as they are there: packets that have them in common keep their order.
fn conversation(packet: &[u8]) -> Vec<u8> {
    let (addresses, protocol, ip) = if packet[0] >> 4 == 4 { (12..20, 9, 20) } else { (8..40, 6, 40) };
    [&packet[addresses], &[packet[protocol]], &packet[ip..ip + 4]].concat()
}

proptest! {
    #[test]
    fn what_was_merged_is_cut_into_the_same_packets(
        flows in proptest::collection::vec(flow(), 4),
        steps in proptest::collection::vec(step(), 1..200),
        batch in 1..100_usize,
    ) {
        let mut flows = flows;
        let sent: Vec<_> =
            steps.iter().map(|step| flows[step.flow].packet(step.size, step.oddity)).collect();
        let (got, _) = through(&sent, batch);
        prop_assert_eq!(got.len(), sent.len());
        let mut names: Vec<_> = sent.iter().map(|packet| conversation(packet)).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let of = |packets: &[Vec<u8>]| -> Vec<_> {
                let own = packets.iter().filter(|packet| conversation(packet) == name);
                own.cloned().map(comparable).collect()
            };
            prop_assert_eq!(of(&got), of(&sent));
        }
    }

    /// Whether a portal sums them, the other one does, or the kernel behind that: the packets are the same.
    #[test]
    fn checksums_may_be_left_to_the_receiver(
        (v6, tcp, options) in any::<(bool, bool, bool)>(),
        count in 2..40_usize,
        last in 1..=1_000_usize,
        damaged in proptest::option::of(0..40_usize),
        headed: bool,
    ) {
        let options = if tcp && options { vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { Vec::new() };
        let mut flow = Flow { options, ..plain(v6, tcp) };
        let mut sent: Vec<_> = (1..count).map(|_| flow.packet(1_000, Oddity::None)).collect();
        sent.push(flow.packet(last, Oddity::None));
        let mut coalescer = Coalescer::new(true, true);
        sent.iter().for_each(|packet| coalescer.push(given(packet, false), &mut |_| {}));
        let mut left = Vec::new();
        coalescer.flush(&mut |merged| left.extend(cut_unsummed(&merged)));
        prop_assert_eq!(left.len(), count);
        if let Some(packet) = damaged.and_then(|at| left.get_mut(at)) {
            // The field, on the way: what is wrong must not become right.
            let field = if v6 { 40 } else { 20 } + if tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
            packet[field] ^= 1;
        }
        let mut got = Vec::new();
        if headed {
            let mut out = |merged: Merged<'_>| got.extend(cut(&merged.header, &merged.packet.whole()));
            left.iter().for_each(|packet| coalescer.push(given(packet, true), &mut out));
            coalescer.flush(&mut out);
        } else {
            got.extend(left.iter().map(|packet| completed(given(packet, true)).into_owned()));
        }
        let intact = |packet: &Vec<u8>| {
            let ip = if v6 { 40 } else { 20 };
            let protocol = if tcp { TCP } else { UDP };
            fold(pseudo(packet, protocol, packet.len() - ip) + sum(&packet[ip..])) == 0xffff
        };
        for (number, (got, sent)) in got.into_iter().zip(sent).enumerate() {
            if damaged == Some(number) {
                prop_assert!(!intact(&got));
            } else {
                prop_assert_eq!(comparable(got), comparable(sent));
            }
        }
    }

    #[test]
    fn any_bytes_from_the_kernel_do_no_harm(
        header: [u8; VirtioHeader::LEN],
        packet in proptest::collection::vec(any::<u8>(), 0..300),
        room in 0..400_usize,
    ) {
        if let Some(header) = VirtioHeader::read(&header)
            && let Ok(mut segments) = Segments::new(&header, &packet)
        {
            let mut out = vec![0; room];
            while let Some(len) = segments.next(&packet, &mut out) {
                prop_assert!(len <= room);
            }
        }
    }

    #[test]
    fn any_packets_from_the_tunnel_do_no_harm(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
        version in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
    ) {
        let mut coalescer = Coalescer::new(true, true);
        let mut count = 0;
        let mut out = |merged: Merged<'_>| count += merged.count;
        for (number, mut packet) in packets.iter().cloned().enumerate() {
            packet.iter_mut().take(1).for_each(|first| *first = version);
            coalescer.push(given(&packet, number % 2 == 1), &mut out);
            completed(given(&packet, true));
        }
        coalescer.flush(&mut out);
        prop_assert_eq!(count, packets.len());
    }

    #[test]
    fn a_header_reads_back(bytes: [u8; VirtioHeader::LEN]) {
        if let Some(header) = VirtioHeader::read(&bytes) {
            prop_assert_eq!(VirtioHeader::read(&header.to_bytes()), Some(header));
        }
    }
}

#[test]
fn what_was_not_asked_for_is_refused() {
    // UDP fragmentation offload, long gone from the kernel.
    assert_eq!(VirtioHeader::read(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]), None);
}

fn plain(v6: bool, tcp: bool) -> Flow {
    Flow {
        v6,
        tcp,
        port: 7,
        options: Vec::new(),
        may_fragment: false,
        sequence: u32::MAX - 5_000,
        id: 65_530,
    }
}

#[test]
fn a_full_super_packet_of_each_kind_takes_one_write() {
    for (v6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut flow = plain(v6, tcp);
        let sent: Vec<_> = (0..44).map(|_| flow.packet(1_400, Oddity::None)).collect();
        let (got, writes) = through(&sent, 100);
        assert_eq!(writes, 1, "IPv6: {v6}, TCP: {tcp}");
        assert_eq!(got.len(), 44);
    }
}

#[test]
fn conversations_that_take_turns_are_merged_all_the_same() {
    let mut flows = [plain(false, true), plain(true, true), plain(false, false)];
    let sent: Vec<_> = (0..60).map(|i| flows[i % 3].packet(1_000, Oddity::None)).collect();
    assert_eq!(through(&sent, 100).1, 3);
}

#[test]
fn more_conversations_than_are_held_lose_nothing() {
    let mut flows: Vec<_> = (0..40).map(|port| Flow { port, ..plain(false, true) }).collect();
    let sent: Vec<_> = (0..120).map(|i| flows[i % 40].packet(1_000, Oddity::None)).collect();
    assert_eq!(through(&sent, 120).0.len(), 120);
}

#[test]
fn a_short_packet_and_a_push_end_a_super_packet() {
    let mut flow = plain(false, true);
    let steps = [(900, Oddity::None), (800, Oddity::None), (900, Oddity::Push), (900, Oddity::None)];
    let sent = steps.map(|(size, oddity)| flow.packet(size, oddity));
    assert_eq!(through(&sent, 10).1, 3);
}

#[test]
fn flags_stand_in_the_segments_they_belong_to() {
    let mut flow = plain(false, true);
    let mut packet = flow.packet(3_000, Oddity::None);
    packet[33] = ACK | CWR | PSH | FIN;
    let header = VirtioHeader {
        needs_checksum: true,
        cut: Cut::TcpV4,
        ecn: true,
        segment_size: 1_000,
        checksum_start: 20,
        checksum_offset: 16,
        ..VirtioHeader::default()
    };
    let partial = fold(pseudo(&packet, TCP, packet.len() - 20));
    packet[36..38].copy_from_slice(&partial.to_be_bytes());
    let cut = cut(&header, &packet);
    assert_eq!(cut.iter().map(|segment| segment[33]).collect::<Vec<_>>(), [ACK | CWR, ACK, ACK | PSH | FIN]);
    for segment in cut {
        assert_eq!(fold(pseudo(&segment, TCP, segment.len() - 20) + sum(&segment[20..])), 0xffff);
        assert_eq!(sum(&segment[..20]), 0xffff);
    }
}

#[test]
fn a_super_packet_without_a_begun_checksum_is_summed_anew() {
    for (v6, kind) in [(false, Cut::TcpV4), (true, Cut::TcpV6)] {
        let packet = plain(v6, true).packet(2_500, Oddity::None);
        let header = VirtioHeader { cut: kind, segment_size: 1_000, ..VirtioHeader::default() };
        let ip = if v6 { 40 } else { 20 };
        for segment in cut(&header, &packet) {
            assert_eq!(fold(pseudo(&segment, TCP, segment.len() - ip) + sum(&segment[ip..])), 0xffff);
        }
    }
}

#[test]
fn a_begun_checksum_is_completed_and_never_zero() {
    let whole = plain(true, false).packet(500, Oddity::None);
    let header = VirtioHeader {
        needs_checksum: true,
        checksum_start: 40,
        checksum_offset: 6,
        ..VirtioHeader::default()
    };
    let begun = |mut packet: Vec<u8>| {
        let partial = fold(pseudo(&packet, UDP, packet.len() - 40));
        packet[46..48].copy_from_slice(&partial.to_be_bytes());
        packet
    };
    assert_eq!(cut(&header, &begun(whole.clone())), std::slice::from_ref(&whole));
    // A payload that makes all words add up to all ones.
    let mut zero = whole;
    zero[48..50].fill(0);
    let rest = fold(pseudo(&zero, UDP, zero.len() - 40) + sum(&zero[40..46]) + sum(&zero[48..]));
    zero[48..50].copy_from_slice(&(!rest).to_be_bytes());
    assert_eq!(cut(&header, &begun(zero))[0][46..48], [0xff, 0xff]);
}

#[test]
fn a_header_that_contradicts_its_packet_is_refused() {
    let packet = plain(false, true).packet(3_000, Oddity::None);
    let good = VirtioHeader {
        needs_checksum: true,
        cut: Cut::TcpV4,
        segment_size: 1_000,
        checksum_start: 20,
        checksum_offset: 16,
        ..VirtioHeader::default()
    };
    assert!(Segments::new(&good, &packet).is_ok());
    let bad = [
        VirtioHeader { cut: Cut::TcpV6, ..good },
        VirtioHeader { cut: Cut::Udp, checksum_offset: 6, ..good },
        VirtioHeader { segment_size: 0, ..good },
        VirtioHeader { checksum_start: 12, ..good },
        VirtioHeader { checksum_start: 5_000, ..good },
        VirtioHeader { checksum_offset: 6, ..good },
        VirtioHeader { cut: Cut::None, checksum_start: 3_039, ..good },
    ];
    for header in bad {
        assert_eq!(Segments::new(&header, &packet).err(), Some(Malformed), "{header:?}");
    }
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    assert!(Segments::new(&good, &fragment).is_err());
    assert!(Segments::new(&good, &packet[..30]).is_err());
}

#[test]
fn a_segment_too_long_for_the_buffer_is_cut_off() {
    let packet = plain(false, true).packet(3_000, Oddity::None);
    let header = VirtioHeader { cut: Cut::TcpV4, segment_size: 1_400, ..VirtioHeader::default() };
    let mut segments = Segments::new(&header, &packet).expect("well-formed");
    let mut out = [0; 1_000];
    let lengths: Vec<_> = std::iter::from_fn(|| segments.next(&packet, &mut out)).collect();
    assert_eq!(lengths, [1_000, 1_000, 240]);
}
