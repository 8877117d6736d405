//! Two portals that hand each other their datagrams, one instant after the other.

use std::collections::VecDeque;

use super::*;
use crate::core::outbound::Policy;
use crate::core::outbound::congestion::Algorithm;

struct Fixed {
    wall: u64,
    seed: u8,
}

impl Entropy for Fixed {
    fn wall_nanos(&mut self) -> u64 {
        self.wall += 1;
        self.wall
    }

    fn random(&mut self) -> [u8; 32] {
        self.seed += 1;
        [self.seed; 32]
    }
}

const LISTENER: SocketId = SocketId(9);

fn link_config() -> LinkConfig {
    LinkConfig {
        name: "peer".to_owned(),
        section: 1,
        method: "udp",
        algorithm: Algorithm::NewReno,
        metric: None,
        keep_alive: None,
    }
}

/// Receiving socket, source, and datagrams of a train.
type Sent = (SocketId, SocketAddr, Vec<Vec<u8>>);

/// A portal that opens links to one that listens, all of equal delay.
struct Pair {
    portals: [Portal; 2],
    entropies: [Fixed; 2],
    now: Instant,
}

impl Pair {
    fn new(links: u8) -> Self {
        let mut entropies = [0, 100].map(|seed| Fixed { wall: 1_000, seed });
        let config = PortalConfig {
            psk: [7; 32],
            manner: Manner::Aead,
            hardware_aes: true,
            buffer_size: 2_000,
            compression: true,
            assumed_datagram: 1_472,
            max_mtu: 1_500,
            policy: Policy::default(),
        };
        let portals = [0, 1].map(|i| Portal::new(Instant::ZERO, &config, &mut entropies[i]));
        for number in 0..links {
            let id = portals[0].add_link(Instant::ZERO, link_config()).expect("there is room");
            let target = ([10, 0, 0, 2], 7_000).into();
            portals[0].open(Instant::ZERO, id, SocketId(number.into()), target, 1_472);
        }
        portals[1].listen(LISTENER, link_config(), 1_452);
        Self { portals, entropies, now: Instant::ZERO }
    }

    /// Lets `time` pass; a datagram takes `delay`, a multiple of 10 ms.
    fn run(&mut self, time: Duration, delay: Duration) {
        let until = self.now + time;
        let mut way = VecDeque::new();
        while self.now < until {
            for i in [0, 1] {
                let arrival = self.now + delay;
                way.extend(self.send(i).into_iter().map(|sent| (arrival, 1 - i, sent)));
            }
            self.now += MS * 10;
            while way.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, to, (socket, source, mut datagrams)) = way.pop_front().expect("looked at");
                self.receive(to, socket, source, &mut datagrams);
            }
        }
    }

    fn send(&mut self, i: usize) -> Vec<Sent> {
        let portal = &self.portals[i];
        portal.on_timeout(self.now, &mut self.entropies[i], &mut |_| {});
        let (mut train, mut sent) = (Train::default(), Vec::new());
        for link in (0..16).map(LinkId) {
            while portal.pull(self.now, link, &mut train) {
                let datagrams = train.datagrams().map(<[u8]>::to_vec).collect();
                let own = train.socket().map_or(0, |socket| socket.0 as u16);
                let port = if i == 0 { 4_000 + own } else { 7_000 };
                let there = train.remote().map_or(0, |remote| remote.port());
                let socket = if i == 0 { LISTENER } else { SocketId((there - 4_000).into()) };
                sent.push((socket, ([10, 0, 0, i as u8 + 1], port).into(), datagrams));
            }
        }
        sent
    }

    fn receive(&mut self, i: usize, socket: SocketId, source: SocketAddr, datagrams: &mut [Vec<u8>]) {
        let (discards, entropy) = (Discards::default(), &mut self.entropies[i]);
        let arrival = Arrival { socket, source, discards: &discards };
        let bytes = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
        let effects = self.portals[i].receive(self.now, entropy, &arrival, bytes, &mut |_| {});
        for answer in effects.answers {
            let (back, from) = match i {
                0 => (LISTENER, ([10, 0, 0, 1], 4_000 + socket.0 as u16)),
                _ => (SocketId((source.port() - 4_000).into()), ([10, 0, 0, 2], 7_000)),
            };
            self.receive(1 - i, back, from.into(), &mut [answer]);
        }
    }

    fn link(&self, i: usize, link: usize) -> snapshot::Link {
        self.portals[i].snapshot(self.now).links[link].clone()
    }

    /// The first portal dies and is started again, with its clock set back.
    fn restart_with_an_older_clock(&mut self) {
        let config = PortalConfig {
            psk: [7; 32],
            manner: Manner::Aead,
            hardware_aes: true,
            buffer_size: 2_000,
            compression: true,
            assumed_datagram: 1_472,
            max_mtu: 1_500,
            policy: Policy::default(),
        };
        self.entropies[0] = Fixed { wall: 0, seed: 50 };
        let portal = Portal::new(self.now, &config, &mut self.entropies[0]);
        let id = portal.add_link(self.now, link_config()).expect("there is room");
        portal.open(self.now, id, SocketId(0), ([10, 0, 0, 2], 7_000).into(), 1_472);
        self.portals[0] = portal;
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn links_come_up_measured_and_without_a_discarded_datagram() {
    let mut pair = Pair::new(2);
    pair.run(MS * 200, MS * 10);
    for (i, link) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let link = pair.link(i, link);
        assert_eq!((&link.state[..], link.srtt_ms), ("up", Some(20.0)), "{link:?}");
    }
    for portal in &pair.portals {
        let discards = portal.snapshot(pair.now).discards;
        let mut reasons = discards.keys().filter(|reason| *reason != "stale_handshake");
        assert_eq!(reasons.next(), None, "{discards:?}");
    }
}

#[test]
fn a_link_comes_up_however_long_its_round_trip() {
    let mut pair = Pair::new(1);
    pair.run(MS * 6_000, MS * 400);
    for i in [0, 1] {
        assert_eq!(pair.link(i, 0).state, "up");
    }
}

#[test]
fn a_peer_whose_clock_went_back_is_let_in_although_nobody_missed_it() {
    let mut pair = Pair::new(1);
    pair.run(MS * 60_000, MS * 10);
    pair.restart_with_an_older_clock();
    pair.run(MS * 5_000, MS * 10);
    for i in [0, 1] {
        assert_eq!(pair.link(i, 0).state, "up", "{:?}", pair.portals[i].snapshot(pair.now));
    }
}
