//! A packet's way through a portal, in the order of `ARCHITECTURE.md`: packets of 1,400 bytes in trains of 44.

use netcombiner::core::offload::{Coalescer, Segments};
use netcombiner::core::packet::Inner;
use netcombiner::core::session::protection::{Manner, Protector, Sealed, Suite};
use netcombiner::core::wire::{HEADER_LEN, Header, Kind, Order};

use crate::meter::{Bench, Meter};
use crate::packets::{SuperPacket, TRAIN, mixed};
use crate::pair::{Pair, Part};

/// Bytes of a full datagram.
const DATAGRAM: usize = 1_424;
const SUITES: [(&str, Suite); 3] =
    [("mac", Suite::Blake2s), ("AES-GCM", Suite::Aes128Gcm), ("ChaCha20", Suite::ChaCha20Poly1305)];

/// From the interface to the network.
pub fn out(bench: &mut Bench) {
    for (name, unsummed) in [("", false), (", unsummed", true)] {
        bench.step(&format!("out: cut, TCP{name}"), || cut(SuperPacket::tcp(1), unsummed));
        bench.step(&format!("out: cut, UDP{name}"), || cut(SuperPacket::udp(1), unsummed));
    }
    bench.step("out: queue, 1 conversation", || rounds(1, 1, Part::Enqueue));
    bench.step("out: queue, 40 conversations", || rounds(40, 1, Part::Enqueue));
    bench.step("out: schedule and copy, 1 link", || rounds(1, 1, Part::Pull));
    bench.step("out: schedule and copy, 2 links", || rounds(1, 2, Part::Pull));
    bench.step("out: schedule and copy, 4 links", || rounds(1, 4, Part::Pull));
    bench.step("out: schedule and copy, 4 links, 40 conversations", || rounds(40, 4, Part::Pull));
    for (name, suite) in SUITES {
        bench.step(&format!("out: seal, {name}"), || seal(suite));
    }
    bench.step("out: acknowledged, 1 link", || rounds(1, 1, Part::Acknowledged));
    bench.step("out: acknowledged, 4 links", || rounds(1, 4, Part::Acknowledged));
}

/// From the network to the interface.
pub fn back(bench: &mut Bench) {
    for (name, suite) in SUITES {
        bench.step(&format!("in: open, {name}"), || open(suite));
    }
    bench.step("in: check, order and hand over, 1 link", || rounds(1, 1, Part::Receive));
    bench.step("in: check, order and hand over, 4 links", || rounds(1, 4, Part::Receive));
    for (name, unsummed) in [("", false), (", unsummed", true)] {
        bench.step(&format!("in: merge, TCP{name}"), || merge(SuperPacket::tcp(1), unsummed));
        bench.step(&format!("in: merge, UDP{name}"), || merge(SuperPacket::udp(1), unsummed));
    }
}

fn cut(packet: SuperPacket, unsummed: bool) -> impl FnMut(&mut Meter) {
    let mut out = vec![vec![0; 2_048]; TRAIN];
    move |meter| {
        let count = meter.time(|| {
            let mut segments = Segments::new(&packet.header, &packet.bytes).expect("well-formed");
            if unsummed {
                segments.leave_unsummed(&packet.bytes);
            }
            out.iter_mut().map_while(|out| segments.next(&packet.bytes, out)).count()
        });
        meter.count(count);
    }
}

fn merge(packet: SuperPacket, unsummed: bool) -> impl FnMut(&mut Meter) {
    let packets = if unsummed { packet.unsummed_packets() } else { packet.packets() };
    let mut coalescer = Coalescer::new(true, true);
    move |meter| {
        let count = meter.time(|| {
            let mut count = 0;
            for packet in &packets {
                let packet = Inner { unsummed, ..packet[..].into() };
                coalescer.push(packet, &mut |merged| count += merged.count);
            }
            coalescer.flush(&mut |merged| count += merged.count);
            count
        });
        meter.count(count);
    }
}

/// Trains without protection between two portals: what is left is the portal itself.
fn rounds(conversations: u16, links: u8, part: Part) -> impl FnMut(&mut Meter) {
    let mut pair = Pair::new(links, Manner::None);
    let mut conversations: Vec<_> = (0..conversations).map(SuperPacket::tcp).collect();
    move |meter| pair.round(meter, part, &mixed(&mut conversations))
}

fn train() -> Vec<Vec<u8>> {
    let datagram = |sequence| {
        let header = Header {
            kind: Kind::Data,
            flags: 0,
            link: 1,
            epoch: 2,
            timestamp: 3,
            in_flight: 1,
            sequence,
            data_sequence: sequence,
            order: Order { bucket: 1, position: sequence },
        };
        let mut bytes = vec![5; DATAGRAM];
        header.write(&mut bytes[..HEADER_LEN]);
        bytes
    };
    (0..TRAIN as u32).map(datagram).collect()
}

fn seal(suite: Suite) -> impl FnMut(&mut Meter) {
    let (protector, mut train) = (Protector::new(suite, &[7; 32]), train());
    move |meter| {
        meter.time(|| protector.seal_all(train.iter_mut().map(|datagram| &mut datagram[..])));
        meter.count(TRAIN);
    }
}

fn open(suite: Suite) -> impl FnMut(&mut Meter) {
    let (protector, mut sealed) = (Protector::new(suite, &[7; 32]), train());
    protector.seal_all(sealed.iter_mut().map(|datagram| &mut datagram[..]));
    move |meter| {
        let mut train = sealed.clone();
        meter.time(|| {
            let parsed = train.iter_mut().filter_map(|datagram| Sealed::parse(datagram).ok());
            protector.open_all(parsed, |opened| assert!(opened.is_ok(), "authentic"));
        });
        meter.count(TRAIN);
    }
}
