//! Two portals in one thread, whose links deliver everything after a millisecond of virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use netcombiner::core::discard::Discards;
use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::core::outbound::{LinkConfig, Policy, SocketId, Train};
use netcombiner::core::packet::{Inner, Packet};
use netcombiner::core::portal::{Arrival, Entropy, Interface, Portal, PortalConfig};
use netcombiner::core::session::protection::Manner;
use netcombiner::core::units::{Instant, LinkId};
use netcombiner::core::wire::Kind;

use crate::meter::Meter;

const LISTENER: SocketId = SocketId(99);
const STEP: Duration = Duration::from_millis(1);

struct Fixed(u64);

impl Entropy for Fixed {
    fn wall_nanos(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }

    fn random(&mut self) -> [u8; 32] {
        self.0 += 1;
        let mut random = [0; 32];
        random.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&self.0.to_be_bytes()));
        random
    }
}

/// What is to be measured of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Packets are queued.
    Enqueue,
    /// Trains are filled, and sealed if that is agreed on.
    Pull,
    /// Trains are opened, put in order and handed over.
    Receive,
    /// The acknowledgements of trains are taken.
    Acknowledged,
}

/// The first opens the links, the second listens; packets go from the first to the second.
pub struct Pair {
    portals: [Portal; 2],
    entropies: [Fixed; 2],
    now: Instant,
    links: u8,
    train: Train,
    spare: Vec<Packet>,
}

/// Datagrams on their way: sender, socket and source that they arrive with.
struct Flight(usize, SocketId, SocketAddr, Vec<Vec<u8>>);

impl Pair {
    /// Two portals with so many links, all up.
    pub fn new(links: u8, manner: Manner) -> Self {
        let mut entropies = [Fixed(1_000), Fixed(100_000)];
        let portals = [0, 1].map(|i| portal(i, links, manner, &mut entropies[i]));
        let mut pair = Self {
            portals,
            entropies,
            now: Instant::ZERO,
            links,
            train: Train::default(),
            spare: Vec::new(),
        };
        (0..2_000).for_each(|_| pair.pass(&mut Meter::default(), None));
        let up = pair.portals[0].snapshot(pair.now).links.iter().filter(|link| link.state == "up").count();
        assert_eq!(up, usize::from(links), "links are up");
        pair
    }

    /// Sends the packets, and measures one part of it.
    pub fn round(&mut self, meter: &mut Meter, part: Part, packets: &[Vec<u8>]) {
        self.portals[0].lend(&mut self.spare, packets.len());
        assert!(self.spare.len() >= packets.len(), "the queue runs empty between rounds");
        let filled = self.spare.iter_mut().zip(packets);
        filled.for_each(|(buffer, packet)| {
            buffer.buffer()[..packet.len()].copy_from_slice(packet);
            buffer.set_len(packet.len());
        });
        let (portal, now, spare) = (&self.portals[0], self.now, &mut self.spare);
        let mut enqueue = || portal.enqueue(now, spare.drain(..packets.len()), &mut Vec::new());
        if part == Part::Enqueue {
            meter.time(enqueue);
            meter.count(packets.len());
        } else {
            enqueue();
        }
        let mut rounds = 0;
        while self.portals[0].queued().0 > 0 || rounds < 3 {
            self.pass(meter, Some(part));
            rounds += 1;
            assert!(rounds < 1_000, "the queue runs empty");
        }
    }

    /// Lets a step of time pass; what left before arrives.
    fn pass(&mut self, meter: &mut Meter, part: Option<Part>) {
        let mut way = Vec::new();
        for i in [0, 1] {
            self.portals[i].on_timeout(self.now, &mut self.entropies[i], &mut |_: &[u8]| {});
            way.extend(self.send(i, meter, part));
        }
        self.now += STEP;
        for flight in way {
            self.receive(flight, meter, part);
        }
    }

    fn send(&mut self, i: usize, meter: &mut Meter, part: Option<Part>) -> Vec<Flight> {
        let mut sent = Vec::new();
        for link in (0..self.links).map(LinkId) {
            loop {
                let (portal, now, train) = (&self.portals[i], self.now, &mut self.train);
                let mut pull = || portal.pull(now, link, train);
                let some = if i == 0 && part == Some(Part::Pull) { meter.time(pull) } else { pull() };
                if !some {
                    break;
                }
                let datagrams: Vec<_> = self.train.datagrams().map(<[u8]>::to_vec).collect();
                if part == Some(Part::Pull) {
                    meter.count(data(&datagrams));
                }
                let own = self.train.socket().map_or(0, |socket| socket.0 as u16);
                let there = self.train.remote().map_or(0, |remote| remote.port());
                let (socket, port) = if i == 0 {
                    (LISTENER, 4_000 + own)
                } else {
                    (SocketId(u32::from(there) - 4_000), 7_000)
                };
                sent.push(Flight(i, socket, ([10, 0, 0, i as u8 + 1], port).into(), datagrams));
            }
        }
        sent
    }

    fn receive(&mut self, flight: Flight, meter: &mut Meter, part: Option<Part>) {
        let Flight(from, socket, source, mut datagrams) = flight;
        let (i, discards) = (1 - from, Discards::default());
        let count = data(&datagrams);
        let (portal, entropy, now) = (&self.portals[i], &mut self.entropies[i], self.now);
        let arrival = Arrival { socket, source, discards: &discards };
        let bytes = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
        let receive = || portal.receive(now, entropy, &arrival, bytes, &mut Nowhere);
        let measured = match part {
            Some(Part::Receive) => i == 1 && count > 0,
            Some(Part::Acknowledged) => i == 0,
            _ => false,
        };
        let effects = if measured { meter.time(receive) } else { receive() };
        if part == Some(Part::Acknowledged) || measured {
            meter.count(count);
        }
        for answer in effects.answers {
            let (back, port) = match i {
                0 => (LISTENER, 4_000 + socket.0 as u16),
                _ => (SocketId(u32::from(source.port()) - 4_000), 7_000),
            };
            let flight = Flight(i, back, ([10, 0, 0, i as u8 + 1], port).into(), vec![answer]);
            self.receive(flight, meter, None);
        }
    }
}

/// An interface that looks at no packet.
struct Nowhere;

impl Interface for Nowhere {
    fn take(&mut self, packet: Inner<'_>) {
        std::hint::black_box(packet);
    }
}

/// How many of these carry packets.
fn data(datagrams: &[Vec<u8>]) -> usize {
    datagrams.iter().filter(|datagram| Kind::of(datagram) == Some(Kind::Data)).count()
}

fn portal(i: usize, links: u8, manner: Manner, entropy: &mut Fixed) -> Portal {
    let config = PortalConfig {
        psk: [7; 32],
        manner,
        hardware_aes: true,
        buffer_size: 2_048,
        compression: true,
        assumed_datagram: 1_472,
        max_mtu: 1_500,
        policy: Policy::default(),
    };
    let link = || LinkConfig {
        name: "link".to_owned(),
        section: 1,
        method: "udp",
        algorithm: Algorithm::Bbr,
        metric: None,
        gso: true,
        rate_limit: None,
        meter: None,
        metered: false,
        keep_alive: None,
    };
    let portal = Portal::new(Instant::ZERO, &config, entropy);
    if i == 1 {
        portal.listen(LISTENER, link(), 1_452);
        return portal;
    }
    for number in 0..links {
        let id = portal.add_link(Instant::ZERO, link()).expect("there is room");
        let to = ([10, 0, 0, 2], 7_000).into();
        portal.open(Instant::ZERO, id, SocketId(number.into()), to, 1_472);
    }
    portal
}
