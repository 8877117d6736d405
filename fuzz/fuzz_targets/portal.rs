//! A portal takes any datagrams and any packets: it answers no stranger and keeps no buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netcombiner::core::discard::Discards;
use netcombiner::core::outbound::{Policy, SocketId};
use netcombiner::core::portal::{Arrival, Entropy, Portal, PortalConfig};
use netcombiner::core::session::protection::Manner;
use netcombiner::core::units::Instant;

struct Fixed;

impl Entropy for Fixed {
    fn wall_nanos(&mut self) -> u64 {
        1
    }

    fn random(&mut self) -> [u8; 32] {
        [1; 32]
    }
}

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let mut datagrams = datagrams;
    let config = PortalConfig {
        psk: [7; 32],
        manner: Manner::Aead,
        hardware_aes: true,
        buffer_size: 2048,
        compression: true,
        assumed_datagram: 1_472,
        max_mtu: 1_500,
        policy: Policy::default(),
    };
    let portal = Portal::new(Instant::ZERO, &config, &mut Fixed);
    let discards = Discards::default();
    let arrival = Arrival { socket: SocketId(0), source: ([192, 0, 2, 1], 1).into(), discards: &discards };
    let received = datagrams.iter_mut().map(Vec::as_mut_slice);
    let sink = &mut |_: &[u8]| unreachable!("nothing is authentic");
    let effects = portal.receive(Instant::ZERO, &mut Fixed, &arrival, received, sink);
    assert!(effects.answers.is_empty());

    let (mut spare, mut bounced) = (Vec::new(), Vec::new());
    portal.lend(&mut spare, datagrams.len());
    for (packet, bytes) in spare.iter_mut().zip(&datagrams) {
        let len = bytes.len().min(packet.buffer().len());
        packet.buffer()[..len].copy_from_slice(&bytes[..len]);
        packet.set_len(len);
    }
    portal.enqueue(Instant::ZERO, spare.drain(..), &mut bounced);
});
