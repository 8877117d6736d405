//! Two portals that hand each other their datagrams, one instant after the other.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::core::outbound::Policy;
use crate::core::outbound::congestion::Algorithm;
use crate::core::session::Epoch;
use crate::core::session::protection::SEAL_LIMIT;
use crate::core::wire::{Header, Kind, flags};

struct Fixed {
    wall: u64,
    seed: u64,
}

impl Entropy for Fixed {
    fn wall_nanos(&mut self) -> u64 {
        self.wall += 1;
        self.wall
    }

    fn random(&mut self) -> [u8; 32] {
        self.seed += 1;
        let mut random = [0; 32];
        random.chunks_mut(8).for_each(|bytes| bytes.copy_from_slice(&self.seed.to_be_bytes()));
        random
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
        gso: true,
        metered: false,
        keep_alive: None,
        rate_limit: None,
        meter: None,
    }
}

/// Receiving socket, source, and datagrams of a train.
type Sent = (SocketId, SocketAddr, Vec<Vec<u8>>);

/// A portal that opens links to one that listens, all of equal delay.
struct Pair {
    portals: [Portal; 2],
    entropies: [Fixed; 2],
    now: Instant,
    links: u8,
    /// Every so many datagrams one is lost; 0: none.
    loses: usize,
    /// Packets that come from either interface before each turn.
    load: usize,
    used: Used,
}

/// What was sealed with each key.
#[derive(Default)]
struct Used {
    /// Kept, so that no two have the same address.
    keys: Vec<Arc<Epoch>>,
    /// Address of the key, and what the nonce is made of.
    nonces: HashSet<(usize, Vec<u8>)>,
    again: u64,
    sent: usize,
}

impl Used {
    fn take(&mut self, key: &Arc<Epoch>, datagram: &[u8]) {
        let header = Header::read(datagram).expect("of a portal");
        self.again += u64::from(header.kind == Kind::Data && header.flags & flags::REINJECTED != 0);
        if !self.keys.iter().any(|known| Arc::ptr_eq(known, key)) {
            self.keys.push(Arc::clone(key));
        }
        let nonce = [&datagram[..4], &datagram[8..16]].concat();
        assert!(self.nonces.insert((Arc::as_ptr(key).addr(), nonce)), "a nonce is used again: {header:?}");
    }
}

/// A packet of a TCP conversation.
fn packet() -> Vec<u8> {
    let mut packet = vec![0; 200];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 200, 0, 0, 0, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
    packet[20..24].copy_from_slice(&[0x1f, 0x90, 0x1f, 0x91]);
    packet[32] = 0x50;
    packet
}

impl Pair {
    fn new(links: u8) -> Self {
        let mut entropies = [0, 100].map(|seed| Fixed { wall: 1_000, seed });
        let portals = [0, 1].map(|i| portal(Instant::ZERO, i, links, &mut entropies[i]));
        let (loses, load, used) = (0, 0, Used::default());
        Self { portals, entropies, now: Instant::ZERO, links, loses, load, used }
    }

    /// A portal dies and is started again.
    fn restart(&mut self, i: usize) {
        self.portals[i] = portal(self.now, i, self.links, &mut self.entropies[i]);
    }

    /// Lets `time` pass; a datagram takes `delay`, a multiple of 10 ms.
    fn run(&mut self, time: Duration, delay: Duration) {
        let until = self.now + time;
        let mut way = VecDeque::new();
        while self.now < until {
            for i in [0, 1] {
                self.offer(i);
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

    fn offer(&mut self, i: usize) {
        let (mut spare, mut bounced) = (Vec::new(), Vec::new());
        self.portals[i].lend(&mut spare, self.load);
        for packet in &mut spare {
            packet.fill(&self::packet());
        }
        self.portals[i].enqueue(self.now, spare.drain(..), &mut bounced);
    }

    fn send(&mut self, i: usize) -> Vec<Sent> {
        let portal = &self.portals[i];
        portal.on_timeout(self.now, &mut self.entropies[i], &mut |_: &[u8]| {});
        let (mut train, mut sent) = (Train::default(), Vec::new());
        for link in (0..16).map(LinkId) {
            while portal.pull(self.now, link, &mut train) {
                let sealed = train.datagrams().filter(|datagram| Kind::of(datagram) != Some(Kind::Handshake));
                let key = portal.ring.load().keys.sending.clone();
                sealed.for_each(|datagram| self.used.take(key.as_ref().expect("sealed"), datagram));
                let mut datagrams: Vec<_> = train.datagrams().map(<[u8]>::to_vec).collect();
                datagrams.retain(|_| {
                    self.used.sent += 1;
                    self.loses == 0 || !self.used.sent.is_multiple_of(self.loses)
                });
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
        let effects = self.portals[i].receive(self.now, entropy, &arrival, bytes, &mut |_: &[u8]| {});
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
        self.entropies[0] = Fixed { wall: 0, seed: 50 };
        self.restart(0);
    }
}

fn config() -> PortalConfig {
    PortalConfig {
        psk: [7; 32],
        manner: Manner::Aead,
        hardware_aes: true,
        buffer_size: 2_000,
        compression: true,
        assumed_datagram: 1_472,
        max_mtu: 1_500,
        policy: Policy::default(),
    }
}

/// The first portal opens the links, the second listens.
fn portal(now: Instant, i: usize, links: u8, entropy: &mut Fixed) -> Portal {
    let portal = Portal::new(now, &config(), entropy);
    if i == 1 {
        portal.listen(LISTENER, link_config(), 1_452);
        return portal;
    }
    for number in 0..links {
        add_link(&portal, now, number);
    }
    portal
}

fn add_link(portal: &Portal, now: Instant, number: u8) {
    let id = portal.add_link(now, link_config()).expect("there is room");
    portal.open(now, id, SocketId(number.into()), ([10, 0, 0, 2], 7_000).into(), 1_472);
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

/// What an interface was given of packets that were summed, and of others.
#[derive(Default)]
struct Given([Vec<Vec<u8>>; 2]);

impl Interface for Given {
    fn take(&mut self, packet: Inner<'_>) {
        self.0[usize::from(packet.unsummed)].push(packet.whole().into_owned());
    }
}

#[test]
fn a_packet_that_is_not_summed_arrives_as_such_compressed_waiting_or_repaired() {
    let mut pair = Pair::new(2);
    pair.portals[1].allow_unsummed(true);
    pair.run(MS * 200, MS * 10);
    assert_eq!(pair.portals.each_ref().map(Portal::leaves_unsummed), [true, false]);
    let mut given = Given::default();
    for round in 0..40 {
        let mut spare = Vec::new();
        pair.portals[0].lend(&mut spare, 10);
        spare.iter_mut().for_each(|packet| {
            packet.buffer()[..200].copy_from_slice(&self::packet());
            packet.set_len(200);
            packet.set_unsummed(round % 2 == 1);
        });
        pair.portals[0].enqueue(pair.now, spare.drain(..), &mut Vec::new());
        for i in [0, 1] {
            for (number, (socket, source, mut datagrams)) in pair.send(i).into_iter().enumerate() {
                // Now and then a train is lost, and what comes behind it waits for its repair.
                if i == 0 && round % 8 == 3 && number == 0 {
                    continue;
                }
                let (discards, entropy) = (Discards::default(), &mut pair.entropies[1 - i]);
                let arrival = Arrival { socket, source, discards: &discards };
                let bytes = datagrams.iter_mut().map(|datagram| &mut datagram[..]);
                pair.portals[1 - i].receive(pair.now, entropy, &arrival, bytes, &mut given);
            }
        }
        pair.now += MS * 10;
        let portal = &pair.portals[1];
        portal.on_timeout(pair.now, &mut pair.entropies[1], &mut given);
    }
    let Given([summed, unsummed]) = given;
    assert!(summed.len() > 150 && unsummed.len() > 150, "{} and {}", summed.len(), unsummed.len());
    assert!(summed.iter().chain(&unsummed).all(|arrived| *arrived == packet()));
    assert!(pair.portals[0].snapshot(pair.now).links.iter().any(|link| link.repairs_sent_packets > 0));
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

#[test]
fn no_nonce_is_used_twice_whatever_happens_to_links_and_portals() {
    let mut pair = Pair::new(3);
    (pair.loses, pair.load) = (20, 5);
    pair.run(MS * 3_000, MS * 20);
    for link in [0, 1, 2, 1].map(LinkId) {
        pair.portals[0].remove_link(pair.now, link);
        pair.run(MS * 100, MS * 20);
        add_link(&pair.portals[0], pair.now, link.0);
        pair.run(MS * 1_000, MS * 20);
    }
    // Keys are renewed, and the old ones stay for what is on the way.
    pair.run(MS * 125_000, MS * 20);
    pair.restart_with_an_older_clock();
    pair.run(MS * 5_000, MS * 20);
    pair.restart(1);
    pair.run(MS * 5_000, MS * 20);
    for i in [0, 1] {
        assert!(pair.portals[i].snapshot(pair.now).links.iter().any(|link| link.state == "up"));
    }
    assert!(pair.used.again > 500, "only {} were sent again", pair.used.again);
    assert!(pair.used.keys.len() >= 8, "only {} keys", pair.used.keys.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_nonce_is_used_twice(steps in proptest::collection::vec((0u8..6, 0u8..3, 5u32..120), 1..12), loses in 0usize..30) {
        let mut pair = Pair::new(3);
        (pair.loses, pair.load) = (loses, 3);
        pair.run(MS * 500, MS * 20);
        for (step, which, tens) in steps {
            let (link, i) = (LinkId(which), usize::from(which % 2));
            match step {
                0 => {
                    pair.portals[0].remove_link(pair.now, link);
                    add_link(&pair.portals[0], pair.now, which);
                }
                1 => _ = pair.portals[0].fail(pair.now, link, "cut".to_owned()),
                2 => {
                    let target = ([10, 0, 0, 2], 7_000).into();
                    pair.portals[0].open(pair.now, link, SocketId(which.into()), target, 1_472);
                }
                3 => pair.restart(i),
                4 => {
                    pair.portals[i].close(pair.now);
                    pair.run(MS * 10, MS * 20);
                    pair.restart(i);
                }
                _ => pair.portals[i].ring.load().keys.sending.iter().for_each(|key| key.on_seal(SEAL_LIMIT as usize / 2)),
            }
            pair.run(MS * 10 * tens, MS * 20);
        }
    }
}

#[test]
fn a_worn_key_is_renewed_and_one_that_is_used_up_seals_nothing() {
    let mut pair = Pair::new(2);
    pair.load = 2;
    pair.run(MS * 500, MS * 20);
    for sealed in [SEAL_LIMIT / 2, SEAL_LIMIT] {
        let handshakes = pair.portals[0].snapshot(pair.now).session.handshakes;
        let ring = pair.portals[0].ring.load_full();
        let key = ring.keys.sending.as_ref().expect("established");
        key.on_seal(sealed as usize);
        let before = pair.used.nonces.len();
        let sealed_with = |pair: &Pair, key: &Arc<Epoch>| {
            pair.used.nonces.iter().filter(|(of, _)| *of == Arc::as_ptr(key).addr()).count()
        };
        let with_it = sealed_with(&pair, key);
        pair.run(MS * 3_000, MS * 20);
        assert!(pair.portals[0].snapshot(pair.now).session.handshakes > handshakes);
        assert!(!Arc::ptr_eq(pair.portals[0].ring.load().keys.sending.as_ref().expect("established"), key));
        if sealed == SEAL_LIMIT {
            assert_eq!(sealed_with(&pair, key), with_it);
        }
        assert!(pair.used.nonces.len() > before + 100);
        assert_eq!(pair.link(0, 0).state, "up");
    }
}

#[test]
fn the_cipher_is_what_suits_both() {
    for (aes, cipher) in [(true, "AES-128-GCM"), (false, "ChaCha20-Poly1305")] {
        let mut pair = Pair::new(1);
        pair.portals[1] = {
            let config = PortalConfig { hardware_aes: aes, ..config() };
            let portal = Portal::new(Instant::ZERO, &config, &mut pair.entropies[1]);
            portal.listen(LISTENER, link_config(), 1_452);
            portal
        };
        pair.run(MS * 200, MS * 10);
        for portal in &pair.portals {
            assert_eq!(portal.snapshot(pair.now).cipher.as_deref(), Some(cipher));
        }
    }
}
