//! What went in comes out, or nothing does.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::core::discard::Discard;
use crate::core::packet::Inner;
use crate::core::units::Instant;
use crate::core::wire::ContextId;

/// A well-formed packet, whatever its transport.
#[derive(Clone, Debug)]
struct Spec {
    v6: bool,
    protocol: u8,
    tos: u8,
    id: u16,
    host: u8,
    port: u8,
    sequence: u32,
    acknowledgement: u32,
    flags: u8,
    window: u16,
    options: Options,
    payload: usize,
    checksum: u16,
}

#[derive(Clone, Copy, Debug)]
enum Options {
    None,
    Stamps(u32, u32),
    /// Any other, so many words of it.
    Other(u8),
}

/// A full packet as Linux sends them.
const FULL: Spec = Spec {
    v6: false,
    protocol: TCP,
    tos: 0,
    id: 7,
    host: 1,
    port: 1,
    sequence: 1_000,
    acknowledgement: 500,
    flags: 0x10,
    window: 500,
    options: Options::Stamps(5_000, 6_000),
    payload: 1_384,
    checksum: 0xbeef,
};

impl Spec {
    fn bytes(&self) -> Vec<u8> {
        let transport = self.transport();
        let total = (ip_len(self.v6) + transport.len()) as u16;
        let mut packet = Vec::new();
        if self.v6 {
            packet.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 9]);
            packet.extend((total - 40).to_be_bytes());
            packet.extend([self.protocol, 64]);
            packet.extend([0xfd; 16]);
            packet.extend([self.host; 16]);
        } else {
            packet.extend([0x45, self.tos]);
            packet.extend(total.to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend([0x40, 0, 64, self.protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, self.host]);
            let mut head = [0; MAX_HEAD];
            head[..20].copy_from_slice(&packet);
            packet[10..12].copy_from_slice(&ipv4_checksum(&head).to_be_bytes());
        }
        packet.extend(transport);
        packet
    }

    fn transport(&self) -> Vec<u8> {
        let ports = [0x13, 0x89, 0x80, self.port];
        let payload = (0..self.payload).map(|i| i as u8);
        match self.protocol {
            TCP => {
                let mut segment = ports.to_vec();
                segment.extend(self.sequence.to_be_bytes());
                segment.extend(self.acknowledgement.to_be_bytes());
                segment.extend([0, self.flags]);
                segment.extend(self.window.to_be_bytes());
                segment.extend(self.checksum.to_be_bytes());
                segment.extend([0; 2]);
                match self.options {
                    Options::None => {}
                    Options::Stamps(value, echo) => {
                        segment.extend(STAMPS_ALONE);
                        segment.extend(value.to_be_bytes());
                        segment.extend(echo.to_be_bytes());
                    }
                    Options::Other(words) => segment.extend(vec![5; 4 * usize::from(words)]),
                }
                segment[12] = (segment.len() as u8 / 4) << 4;
                segment.extend(payload);
                segment
            }
            UDP => {
                let mut datagram = ports.to_vec();
                datagram.extend((self.payload as u16 + 8).to_be_bytes());
                datagram.extend(self.checksum.to_be_bytes());
                datagram.extend(payload);
                datagram
            }
            _ => payload.collect(),
        }
    }
}

fn options() -> impl Strategy<Value = Options> {
    prop_oneof![
        2 => Just(Options::None),
        4 => (any::<u32>(), any::<u32>()).prop_map(|(value, echo)| Options::Stamps(value, echo)),
        4 => (0..70_000u32, 0..70_000u32).prop_map(|(value, echo)| Options::Stamps(value, echo)),
        1 => (1..=10u8).prop_map(Options::Other),
    ]
}

prop_compose! {
    /// Few conversations, so that packets often have much in common.
    fn specs()(
        v6: bool,
        // Hop-by-hop options, ICMP, ESP, a fragment of IPv6 among the others.
        protocol in prop_oneof![4 => Just(TCP), 2 => Just(UDP), 1 => prop::sample::select(vec![0, 1, 44, 50, 58])],
        tos in prop_oneof![3 => Just(0u8), 1 => 0..4u8, 1 => any::<u8>()],
        (id, checksum) in any::<(u16, u16)>(),
        (host, port) in (1..3u8, 1..3u8),
        sequence in prop_oneof![any::<u32>(), 0..5_000u32],
        acknowledgement in prop_oneof![Just(500u32), any::<u32>()],
        flags in prop_oneof![4 => Just(0x10u8), 2 => Just(0x18u8), 1 => any::<u8>()],
        window in prop_oneof![Just(500u16), any::<u16>()],
        options in options(),
        payload in 0..200usize,
    ) -> Spec {
        Spec { v6, protocol, tos, id, host, port, sequence, acknowledgement, flags, window, options, payload, checksum }
    }
}

/// Well-formed packets, and such as are damaged anywhere, cut or lengthened: IPv4 options, fragments, wrong
/// lengths and checksums come by that; and bytes that are no packets.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<Index>(), any::<u8>()), 1..4);
    let damaged = (specs(), damage, 0..300usize).prop_map(|(spec, damage, len)| {
        let mut packet = spec.bytes();
        for (at, byte) in damage {
            // Mostly in the headers.
            let at = at.index(packet.len().min(90));
            packet[at] = byte;
        }
        if len > 0 {
            packet.resize(len, 7);
        }
        packet
    });
    prop_oneof![
        6 => specs().prop_map(|spec| spec.bytes()),
        4 => damaged,
        1 => vec(any::<u8>(), 0..120),
    ]
}

fn whole(arrived: Inner<'_>) -> Vec<u8> {
    let mut written = vec![0; arrived.len()];
    arrived.write(&mut written);
    assert_eq!(*arrived.whole(), written);
    written
}

/// The body of the datagram, and what it is.
fn encoded(encoding: &Encoding, packet: &[u8]) -> Vec<u8> {
    let mut body = vec![0; encoding.len(packet.len())];
    encoding.write(packet, &mut body);
    body
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

/// Both sides, and numbers for the packets between them.
struct Pair {
    compressor: Compressor,
    decompressor: Decompressor,
    sent: u64,
}

impl Pair {
    fn new() -> Self {
        Self { compressor: Compressor::new(true), decompressor: Decompressor::default(), sent: 0 }
    }

    fn encode(&mut self, ms: u64, packet: &[u8]) -> Encoding {
        self.sent += 1;
        self.compressor.encode(at(ms), self.sent - 1, 1, packet)
    }

    fn arrive(&mut self, sequence: u64, encoding: &Encoding, body: &[u8]) -> Result<Vec<u8>, Discard> {
        match encoding {
            Encoding::Full => Ok(body.to_vec()),
            Encoding::Defining(definition) => {
                self.decompressor.define(definition.context, sequence, body);
                Ok(body.to_vec())
            }
            Encoding::Compressed { context, .. } => {
                self.decompressor.restore(*context, sequence, body, &mut Head::default()).map(whole)
            }
        }
    }

    /// A packet that arrives and is acknowledged at once; gives the bytes it took.
    fn carry(&mut self, ms: u64, packet: &[u8]) -> usize {
        let encoding = self.encode(ms, packet);
        let body = encoded(&encoding, packet);
        assert_eq!(self.arrive(self.sent - 1, &encoding, &body).as_deref(), Ok(packet));
        if let Encoding::Defining(definition) = encoding {
            self.compressor.confirm(definition);
        }
        body.len()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..Default::default() })]

    /// A delta gives the very packet, or there is none.
    #[test]
    fn a_delta_is_lossless(one in packets(), other in packets(), varied in 0..0x20u8) {
        if let Some(context) = Context::of(&one)
            && Shape::of(&other) == Some(context.shape)
        {
            let mut varied = varied & context.shape.fields();
            if let Some(delta) = context.compress(&other, &mut varied) {
                let mut body = delta.to_vec();
                body.extend(&other[context.shape.len()..]);
                let mut head = Head::default();
                let rest = context.apply(&body, 0, &mut head).expect("its own delta");
                prop_assert_eq!(whole(Inner { head: &head, rest, unsummed: false }), other);
            }
        }
    }

    /// What a conversation of TCP or UDP usually changes always fits a delta.
    #[test]
    fn packets_of_one_conversation_are_compressed(one in specs(), other in specs(), step in -30_000..30_000i32) {
        let usual = |flags: u8| flags & PSH | 0x10;
        let one = Spec { flags: usual(one.flags), tos: other.tos & !3, ..one };
        let options = match one.options {
            Options::Stamps(value, echo) => {
                Options::Stamps(value.wrapping_add_signed(step), echo.wrapping_add_signed(-step / 2))
            }
            _ => Options::None,
        };
        let one = Spec { options: if let Options::Other(_) = one.options { Options::None } else { one.options }, ..one };
        let Spec { v6, protocol, host, port, .. } = one;
        let other = Spec { v6, protocol, host, port, options, flags: usual(other.flags), ..other };
        let mut pair = Pair::new();
        let (one, other) = (one.bytes(), other.bytes());
        prop_assert_eq!(pair.carry(0, &one), one.len());
        let saved = other.len() - pair.carry(1, &other);
        let head = Shape::of(&other).expect("usual").len();
        prop_assert!(saved >= head - MAX_DELTA.min(head * 3 / 5), "{} of {}", saved, head);
    }

    /// Packets of several conversations in one bucket, sent in any order over a path that loses, reorders and
    /// acknowledges as it likes: each arrives as it was, or not at all.
    #[test]
    fn no_loss_and_no_reordering_ever_changes_a_packet(
        packets in vec((packets(), 0..400u64, 0..6u8), 1..80),
        order in vec(any::<Index>(), 80),
    ) {
        let mut pair = Pair::new();
        let (mut way, mut acks, mut now) = (Vec::new(), Vec::new(), 0);
        for ((packet, wait, fate), which) in packets.into_iter().zip(order) {
            now += wait;
            let encoding = pair.encode(now, &packet);
            let body = encoded(&encoding, &packet);
            prop_assert!(body.len() <= packet.len());
            if fate != 0 {
                way.push((pair.sent - 1, encoding, body, packet));
            }
            // Some wait on the way while others overtake them.
            while way.len() > usize::from(fate) {
                let (sequence, encoding, body, packet) = way.remove(which.index(way.len()));
                match pair.arrive(sequence, &encoding, &body) {
                    Ok(arrived) => prop_assert_eq!(arrived, packet),
                    Err(reason) => prop_assert_eq!(reason, Discard::UnknownContext),
                }
                if let Encoding::Defining(definition) = encoding {
                    acks.push(definition);
                }
            }
            if fate > 2 && !acks.is_empty() {
                pair.compressor.confirm(acks.swap_remove(which.index(acks.len())));
            }
        }
    }

    #[test]
    fn no_bytes_panic(packets in vec(packets(), 0..8), bodies in vec((0..4u8, vec(any::<u8>(), 0..40)), 0..20)) {
        let mut decompressor = Decompressor::default();
        for (packet, slot) in packets.iter().zip((0..4).cycle()) {
            decompressor.define(ContextId { bucket: 1, slot }, 0, packet);
        }
        for (slot, body) in &bodies {
            let (id, mut head) = (ContextId { bucket: 1, slot: *slot }, Head::default());
            if let Ok(arrived) = decompressor.restore(id, 1, body, &mut head) {
                whole(arrived);
            }
        }
    }
}

#[test]
fn full_packets_take_few_bytes_and_all_the_same() {
    let plain = Spec { options: Options::None, ..FULL };
    let quic = Spec { protocol: UDP, ..FULL };
    let other = Spec { protocol: 50, ..FULL };
    // The headers in full, and compressed.
    for (spec, head, delta) in [
        (FULL.clone(), 52, 13),
        (Spec { v6: true, ..FULL }, 72, 11),
        (plain.clone(), 40, 9),
        (Spec { v6: true, ..plain }, 60, 7),
        (quic.clone(), 28, 5),
        (Spec { v6: true, ..quic }, 48, 3),
        (other.clone(), 20, 3),
        (Spec { v6: true, ..other }, 40, 1),
    ] {
        let mut pair = Pair::new();
        pair.carry(0, &spec.bytes());
        for i in 1..100u32 {
            let options = match spec.options {
                Options::Stamps(value, echo) => Options::Stamps(value + i, echo + i / 2),
                options => options,
            };
            let next = Spec {
                id: spec.id + i as u16,
                sequence: spec.sequence + i * 1_384,
                flags: if i % 10 == 0 { 0x18 } else { 0x10 },
                tos: u8::from(i % 7 == 0) * 3,
                checksum: i as u16,
                options,
                ..spec.clone()
            };
            let bytes = next.bytes();
            assert_eq!(bytes.len() - pair.carry(i.into(), &bytes), head - delta, "{next:?}");
        }
    }
}

#[test]
fn a_field_that_differed_once_is_always_sent() {
    let mut pair = Pair::new();
    let packet = FULL.bytes();
    pair.carry(0, &packet);
    let same = pair.carry(1, &packet);
    let other = pair.carry(2, &Spec { window: 501, ..FULL }.bytes());
    assert_eq!((same + 2, pair.carry(3, &packet)), (other, other));
}

#[test]
fn nothing_is_compressed_until_a_definition_is_known_to_have_arrived() {
    let (mut pair, packet) = (Pair::new(), FULL.bytes());
    assert!(matches!(pair.encode(0, &packet), Encoding::Defining(_)));
    assert!(matches!(pair.encode(999, &packet), Encoding::Full));
    let Encoding::Defining(second) = pair.encode(1_000, &packet) else { panic!("it was lost") };
    assert!(matches!(pair.encode(2_999, &packet), Encoding::Full), "it is given more time");
    // The first one arrived after all.
    pair.compressor.confirm(Definition { data_sequence: 0, ..second });
    assert!(matches!(pair.encode(2_999, &packet), Encoding::Full));
    pair.compressor.confirm(second);
    assert!(matches!(pair.encode(2_999, &packet), Encoding::Compressed { .. }));
}

#[test]
fn what_was_sent_before_a_definition_does_not_mean_it() {
    let mut pair = Pair::new();
    pair.carry(0, &FULL.bytes());
    let packet = Spec { sequence: 7, ..FULL }.bytes();
    let late = pair.encode(1, &packet);
    let body = encoded(&late, &packet);
    let Encoding::Compressed { context, .. } = late else { panic!("{late:?}") };
    // Another conversation gets the slot, and its packet overtakes.
    pair.decompressor.define(context, 9, &Spec { host: 2, ..FULL }.bytes());
    assert_eq!(pair.arrive(1, &late, &body), Err(Discard::UnknownContext));
    assert!(pair.arrive(10, &late, &body).is_ok_and(|other| other != packet), "that is why");
}

#[test]
fn conversations_in_one_bucket_have_their_own_contexts_and_keep_them() {
    let mut pair = Pair::new();
    let spec = |host| Spec { host, ..FULL }.bytes();
    for ms in 0..100 {
        for host in 1..=5 {
            let spared = pair.carry(ms, &spec(host)) < spec(host).len();
            assert_eq!(spared, ms > 0 && host <= 4, "the fifth finds no room");
        }
    }
    for ms in [1_100, 1_200] {
        (1..=3).for_each(|host| assert!(pair.carry(ms, &spec(host)) < spec(host).len()));
        assert_eq!(pair.carry(ms, &spec(5)) < spec(5).len(), ms == 1_200, "the fourth fell silent");
    }
}

#[test]
fn timestamps_that_ran_away_get_a_new_context() {
    let mut pair = Pair::new();
    let spec = |value| Spec { options: Options::Stamps(value, 0), ..FULL }.bytes();
    let lens = [0, 32_767, 32_768, 32_769, 65_535].map(|value| pair.carry(value.into(), &spec(value)));
    let full = spec(0).len();
    assert_eq!(lens.map(|len| len == full), [true, false, true, false, false]);
}

#[test]
fn it_can_be_switched_off_and_forgets_with_the_session() {
    let (mut pair, packet) = (Pair::new(), FULL.bytes());
    pair.carry(0, &packet);
    pair.compressor.set_enabled(false);
    assert!(matches!(pair.encode(1, &packet), Encoding::Full));
    pair.compressor.set_enabled(true);
    assert!(matches!(pair.encode(2, &packet), Encoding::Compressed { .. }));
    pair.compressor.reset();
    assert!(matches!(pair.encode(3, &packet), Encoding::Defining(_)));
}
