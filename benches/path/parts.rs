//! Parts of these steps, each for itself.

use std::hint::black_box;
use std::time::Duration;

use netcombiner::core::headers::{Compressor, Decompressor, Encoding, Head};
use netcombiner::core::inbound::{Delivery, Inbound};
use netcombiner::core::session::protection::{Protector, Sealed, Suite};
use netcombiner::core::units::{Instant, LinkId};
use netcombiner::core::wire::{ACK_MAX_WORDS, Ack, ContextId, HEADER_LEN, Header, Kind, Order};

use crate::meter::{Bench, Meter};
use crate::packets::{SuperPacket, TRAIN};

/// Headers written or read at a time.
const HEADERS: u32 = 1_000;
/// Packets that a repair comes behind, in the disorder that is measured.
const BEHIND: u32 = 8;

/// All of them.
pub fn all(bench: &mut Bench) {
    bench.step("part: write a header", || write_headers);
    bench.step("part: read a header", || {
        let bytes = written();
        move |meter: &mut Meter| read_headers(meter, &bytes)
    });
    bench.step("part: write and read an acknowledgement", || acknowledgements);
    bench.step("part: compress headers", compress);
    bench.step("part: restore headers", restore);
    bench.step("part: replay window and turn, in order", || inbound(|i| i));
    // The first of every few comes last.
    let late = |i: u32| match i % BEHIND {
        last if last == BEHIND - 1 => i - last,
        _ => i + 1,
    };
    bench.step("part: replay window and turn, 1 of 8 late", move || inbound(late));
}

fn header(number: u32) -> Header {
    Header {
        kind: Kind::Data,
        flags: 0,
        link: 0,
        epoch: 0,
        timestamp: number & 0xff_ffff,
        in_flight: 1,
        sequence: number,
        data_sequence: number,
        order: Order { bucket: 1, position: number & 0xf_ffff },
    }
}

fn write_headers(meter: &mut Meter) {
    let mut out = [0; HEADER_LEN];
    meter.time(|| {
        (0..HEADERS).for_each(|number| black_box(header(black_box(number))).write(black_box(&mut out)))
    });
    meter.count(HEADERS as usize);
}

fn written() -> Vec<[u8; HEADER_LEN]> {
    let bytes = |number| {
        let mut out = [0; HEADER_LEN];
        header(number).write(&mut out);
        out
    };
    (0..HEADERS).map(bytes).collect()
}

fn read_headers(meter: &mut Meter, written: &[[u8; HEADER_LEN]]) {
    meter.time(|| written.iter().for_each(|bytes| _ = black_box(Header::read(black_box(bytes)))));
    meter.count(HEADERS as usize);
}

fn acknowledgements(meter: &mut Meter) {
    let mut bytes = [0; 8 + 4 * ACK_MAX_WORDS];
    let ack = Ack { largest: 70_000, delay: 3, ce: 0, words: 2, nack: [0; ACK_MAX_WORDS] };
    meter.time(|| {
        for _ in 0..HEADERS {
            let out = &mut bytes[..ack.wire_len()];
            black_box(&ack).write(out);
            _ = black_box(Ack::read(black_box(out)));
        }
    });
    meter.count(HEADERS as usize);
}

/// A compressor with a context that was acknowledged, and the packets of its conversation.
fn compressing() -> (Compressor, Instant, Vec<Vec<u8>>) {
    let mut packets = SuperPacket::tcp(1);
    let (mut compressor, now) = (Compressor::new(true), Instant::ZERO + Duration::from_secs(1));
    for (number, packet) in (1..).zip(&packets.packets()) {
        if let Encoding::Defining(definition) = compressor.encode(now, number, 1, packet) {
            compressor.confirm(definition);
        }
    }
    packets.advance();
    (compressor, now, packets.packets())
}

fn compress() -> impl FnMut(&mut Meter) {
    let (mut compressor, now, packets) = compressing();
    move |meter| {
        let compressed = meter.time(|| {
            let encode = |packet: &Vec<u8>| compressor.encode(now, 1_000, 1, packet);
            packets
                .iter()
                .map(encode)
                .filter(|encoding| matches!(encoding, Encoding::Compressed { .. }))
                .count()
        });
        meter.count(compressed);
    }
}

fn restore() -> impl FnMut(&mut Meter) {
    let (mut compressor, now, packets) = compressing();
    let mut decompressor = Decompressor::default();
    let bodies: Vec<_> = packets
        .iter()
        .filter_map(|packet| match compressor.encode(now, 1_000, 1, packet) {
            encoding @ Encoding::Compressed { context, .. } => {
                let mut body = vec![0; encoding.len(packet.len())];
                encoding.write(packet, &mut body);
                Some((context, body))
            }
            _ => None,
        })
        .collect();
    let first = SuperPacket::tcp(1).packets();
    bodies.iter().for_each(|(context, _): &(ContextId, _)| decompressor.define(*context, 1, &first[0]));
    let mut heads = vec![Head::default(); bodies.len()];
    move |meter| {
        meter.time(|| {
            for ((context, body), head) in bodies.iter().zip(&mut heads) {
                black_box(decompressor.restore(*context, 1_000, body, head).expect("of the context"));
            }
        });
        meter.count(bodies.len());
    }
}

/// Datagrams of one link, numbered in the order of sending, that come in the order of `at`.
fn inbound(at: impl Fn(u32) -> u32) -> impl FnMut(&mut Meter) {
    const ROUND: u32 = TRAIN as u32 / BEHIND * BEHIND;
    let protector = Protector::new(Suite::None, &[7; 32]);
    let (mut inbound, mut now, mut next) = (Inbound::new(2_048), Instant::ZERO, 0);
    inbound.join(0, LinkId(0));
    let mut out = Vec::new();
    move |meter| {
        now += Duration::from_micros(300);
        let datagram = |i| {
            let mut bytes = vec![5; 1_400];
            header(next + at(i)).write(&mut bytes);
            bytes
        };
        let mut datagrams: Vec<_> = (0..ROUND).map(datagram).collect();
        next += ROUND;
        let mut verified = Vec::new();
        let parsed = datagrams.iter_mut().filter_map(|datagram| Sealed::parse(datagram).ok());
        protector.open_all(parsed, |opened| verified.extend(opened));
        let mut heads = vec![Head::default(); verified.len()];
        let mut deliveries = Vec::with_capacity(verified.len());
        meter.time(|| {
            for (verified, head) in verified.iter().zip(&mut heads) {
                let fresh = inbound.accept(now, 0, verified).expect("new");
                inbound.order(now, &fresh, head, &mut deliveries).expect("in full");
            }
            inbound.release(now, &mut deliveries);
        });
        meter.count(deliveries.len());
        out.extend(deliveries.drain(..).filter_map(|delivery| match delivery {
            Delivery::Held(packet) => Some(packet),
            Delivery::Arrived(_) => None,
        }));
        out.drain(..).for_each(|packet| inbound.give_back(packet));
        inbound.take_acks(now).for_each(drop);
    }
}
