//! A whole portal: the session and the two halves, each behind one lock, and the order of the checks that a
//! datagram meets.
//!
//! The runtime's threads and the simulator share this; they differ only in who calls. Locks are taken one at
//! a time, for a train and not for a packet; crypto runs outside of them.
//!
//! Contract. After any call that gives [`Effects`] or a mask of ready links, the caller
//! 1. sends `answers` to where the datagrams came from,
//! 2. calls [`Portal::pull`] for each ready link until it gives `false`, and sends every train,
//! 3. calls [`Portal::on_timeout`] at [`Portal::next_timeout`].
//!
//! Inner packets for the interface go to a `sink` during the call, in order even if several threads call; it is
//! flushed before another thread's go there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::discard::{Discard, Discards};
use super::icmp;
use super::inbound::{Delivery, Fresh, Inbound};
use super::load_test::{Options, Progress};
use super::load_wire::{LoadReport, Request};
use super::offload::completed;
use super::outbound::{Event, Heard, LinkConfig, Outbound, Policy, Sealing, SocketId, Train};
use super::packet::{Inner, Packet};
use super::recent::Volume;
use super::session::protection::{Manner, Sealed, Suite, Verified};
use super::session::{Handshaken, KeyRing, Session};
use super::snapshot;
use super::units::{Instant, LinkId};
use super::wire::{Ack, HEADER_LEN, HandshakeHead, Kind, Probe, Report, read_path_reply};

/// A new try to begin a session comes after this …
const RETRY: Duration = Duration::from_secs(1);
/// … and after this once the first minute was in vain: a restarted peer is found within three seconds.
const SLOW_RETRY: Duration = Duration::from_secs(2);
/// Tries after which they become slow.
const FAST_TRIES: u32 = 60;
/// With no link up for so long, the peer may have been restarted and lost its keys.
const DARK: Duration = Duration::from_millis(500);
/// Tries without an answer after which an operator hears of it.
const TRIES_TO_TELL: u32 = 3;

/// Packets, or datagrams, that the portal is best given together, at most: what fills three trains. Acknowledgements and
/// the other links' threads wait meanwhile.
pub const BATCH: usize = 132;

/// An IPv4 header is that much shorter than one of IPv6.
const V4_SAVES: u16 = 20;

/// Wall clock and randomness, which the protocol has none of its own.
pub trait Entropy {
    /// Nanoseconds since 1970, however wrong.
    fn wall_nanos(&mut self) -> u64;
    /// Unpredictable bytes.
    fn random(&mut self) -> [u8; 32];
}

/// Where datagrams came in.
pub struct Arrival<'a> {
    /// The socket or connection.
    pub socket: SocketId,
    /// The sender's address.
    pub source: SocketAddr,
    /// Counts what this socket received in vain.
    pub discards: &'a Discards,
}

/// The interface, as the portal sees it. A closure is one that holds nothing back.
pub trait Interface {
    /// Takes the next packet.
    fn take(&mut self, packet: Inner<'_>);

    /// No more come for now: what was held back, to go with others, must go.
    fn flush(&mut self) {}
}

impl<F: FnMut(&[u8])> Interface for F {
    fn take(&mut self, packet: Inner<'_>) {
        self(&completed(packet));
    }
}

/// Where inner packets for the interface go.
pub type Sink<'a> = &'a mut dyn Interface;

/// What is to be done after a call.
#[derive(Default)]
pub struct Effects {
    /// Datagrams to send back to where the arrivals came from.
    pub answers: Vec<Vec<u8>>,
    /// Links that have something to send, a bit each.
    pub ready: u16,
}

/// How a portal is set up.
pub struct PortalConfig {
    /// The shared key.
    pub psk: [u8; 32],
    /// Protection of the session.
    pub manner: Manner,
    /// The CPU has instructions for AES-GCM.
    pub hardware_aes: bool,
    /// Longest inner packet.
    pub buffer_size: usize,
    /// Inner headers are sent compressed. What the peer compressed is understood in any case.
    pub compression: bool,
    /// Length of datagram that the links are assumed to carry until they show it.
    pub assumed_datagram: u16,
    /// Longest that the interface's MTU may become.
    pub max_mtu: u16,
    /// How the links are used.
    pub policy: Policy,
}

/// A whole portal. See the module for the calling contract.
pub struct Portal {
    ring: ArcSwap<Ring>,
    session: Mutex<SessionRoom>,
    inbound: Mutex<Inbound>,
    outbound: Mutex<Outbound>,
    /// Whose turn it is to hand packets to the interface.
    delivery: Mutex<Volume>,
    discards: Discards,
    /// Events wait to be taken.
    news: AtomicBool,
}

/// The keys and the session they belong to.
#[derive(Default)]
struct Ring {
    keys: KeyRing,
    generation: u64,
}

/// The session and when to try what.
struct SessionRoom {
    session: Session,
    generation: u64,
    listeners: HashMap<SocketId, Listener>,
    /// Not before this a new exchange begins.
    next_try: Instant,
    tries: u32,
    /// Data packets sent when the keys were agreed on: keys that were not used are not renewed.
    packets_at_exchange: u64,
    trouble: Option<String>,
}

struct Listener {
    config: LinkConfig,
    /// Longest datagram to a peer with an IPv6 address.
    max_datagram: u16,
    /// Links that came in by it.
    links: Vec<LinkId>,
}

impl Portal {
    /// A portal without links.
    pub fn new(now: Instant, config: &PortalConfig, entropy: &mut dyn Entropy) -> Self {
        let [a, b, c, d, e, f, g, h, seed @ ..] = entropy.random();
        let instance = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let mut bucket_seed = [0; 16];
        bucket_seed.copy_from_slice(&seed[..16]);
        let overhead = (HEADER_LEN + config.manner.footer_len()) as u16;
        let mtu = config.assumed_datagram.saturating_sub(overhead);
        let mut outbound = Outbound::new(
            now,
            config.buffer_size,
            config.manner.footer_len(),
            (mtu, config.max_mtu),
            config.compression,
            bucket_seed,
        );
        outbound.set_policy(config.policy);
        Self {
            ring: ArcSwap::default(),
            session: Mutex::new(SessionRoom {
                session: Session::new(now, &config.psk, config.manner, config.hardware_aes, instance),
                generation: 0,
                listeners: HashMap::new(),
                next_try: now,
                tries: 0,
                packets_at_exchange: 0,
                trouble: None,
            }),
            inbound: Mutex::new(Inbound::new(config.buffer_size)),
            delivery: Mutex::default(),
            outbound: Mutex::new(outbound),
            discards: Discards::default(),
            news: AtomicBool::new(false),
        }
    }

    /// Changes how the links are used.
    pub fn set_policy(&self, policy: Policy) {
        self.outbound().set_policy(policy);
    }

    // The interface.

    /// From the next session on the peer may leave it to our interface to sum checksums.
    pub fn allow_unsummed(&self, allow: bool) {
        self.session().session.allow_unsummed(allow);
    }

    /// Whether the peer takes packets whose checksum is not summed.
    pub fn leaves_unsummed(&self) -> bool {
        self.ring.load().keys.sending.as_ref().is_some_and(|epoch| epoch.takes_unsummed)
    }

    /// Adds empty buffers to `spare` until it holds `count`. Fewer come while the queue is full.
    pub fn lend(&self, spare: &mut Vec<Packet>, count: usize) {
        self.outbound().lend(spare, count);
    }

    /// Queues packets of the interface. Gives the links that can send, and turns each packet that is too
    /// long for them into the ICMP error that its sender should get; those are added to `bounced`.
    pub fn enqueue(
        &self,
        now: Instant,
        packets: impl Iterator<Item = Packet>,
        bounced: &mut Vec<Packet>,
    ) -> u16 {
        let mut outbound = self.outbound();
        let first = bounced.len();
        outbound.enqueue(now, packets, bounced);
        let longest = outbound.longest();
        let mut i = first;
        while i < bounced.len() {
            if icmp::too_big(&mut bounced[i], longest) {
                i += 1;
            } else {
                outbound.give_back(bounced.swap_remove(i));
            }
        }
        self.settle(now, &outbound)
    }

    /// Takes back a buffer.
    pub fn give_back(&self, packets: impl Iterator<Item = Packet>) {
        let mut outbound = self.outbound();
        packets.for_each(|packet| outbound.give_back(packet));
    }

    /// From now on inner headers are sent compressed, or not.
    pub fn set_compression(&self, enabled: bool) {
        self.outbound().set_compression(enabled);
    }

    // Links.

    /// Adds a link; `None` if there are too many. Then [`Portal::open`] it, or [`Portal::fail`].
    pub fn add_link(&self, now: Instant, config: LinkConfig) -> Option<LinkId> {
        self.outbound().add_link(now, config)
    }

    /// Gives the links of this name, and those that will come in by its socket, the metric, rate limit, meter and
    /// section of `config`. Gives the links that have something to send.
    pub fn configure(&self, now: Instant, config: &LinkConfig) -> u16 {
        let mut room = self.session();
        for listener in room.listeners.values_mut().filter(|listener| listener.config.name == config.name) {
            listener.config = config.clone();
        }
        drop(room);
        let mut outbound = self.outbound();
        outbound.configure(now, config);
        self.settle(now, &outbound)
    }

    /// Removes a link.
    pub fn remove_link(&self, now: Instant, link: LinkId) {
        self.outbound().remove_link(now, link);
        self.inbound().leave(link);
    }

    /// The link's socket is open. Then call [`Portal::on_timeout`]: an exchange may be due.
    pub fn open(&self, now: Instant, link: LinkId, socket: SocketId, remote: SocketAddr, max_datagram: u16) {
        self.outbound().open(now, link, socket, Some(remote), max_datagram);
    }

    /// The link's socket is gone, or could not be opened. Gives the links that have something to send.
    pub fn fail(&self, now: Instant, link: LinkId, reason: String) -> u16 {
        let mut outbound = self.outbound();
        outbound.fail(now, link, reason);
        self.settle(now, &outbound)
    }

    /// Nothing that was sent on the link lately could leave. Gives the links that have something to send.
    pub fn on_send_errors(&self, now: Instant, link: LinkId, reason: String) -> u16 {
        let mut outbound = self.outbound();
        outbound.on_send_errors(now, link, reason);
        self.settle(now, &outbound)
    }

    /// The system takes the link's datagrams alone and not in runs.
    pub fn on_runs_refused(&self, now: Instant, link: LinkId, reason: String) {
        let mut outbound = self.outbound();
        outbound.on_runs_refused(link, reason);
        self.settle(now, &outbound);
    }

    /// A socket at which the peer may open links; each becomes one with `config`. `max_datagram` is the longest
    /// datagram to a peer with an IPv6 address.
    pub fn listen(&self, socket: SocketId, config: LinkConfig, max_datagram: u16) {
        self.session().listeners.insert(socket, Listener { config, max_datagram, links: Vec::new() });
    }

    /// The socket is gone, and with it the links that came in by it.
    pub fn unlisten(&self, now: Instant, socket: SocketId) {
        let listener = self.session().listeners.remove(&socket);
        for link in listener.into_iter().flat_map(|listener| listener.links) {
            self.remove_link(now, link);
        }
    }

    /// Whether any link uses the socket.
    pub fn has_links_on(&self, socket: SocketId) -> bool {
        self.outbound().has_links_on(socket)
    }

    // From the network.

    /// Takes datagrams that came in together, and decrypts them where they are. What is not right is counted,
    /// never an error.
    pub fn receive<'a>(
        &self,
        now: Instant,
        entropy: &mut dyn Entropy,
        arrival: &Arrival<'_>,
        datagrams: impl Iterator<Item = &'a mut [u8]>,
        sink: Sink<'_>,
    ) -> Effects {
        let mut effects = Effects::default();
        let expected = datagrams.size_hint().1.map_or(BATCH, |most| most.min(BATCH));
        let (mut sealed, mut verified) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
        for datagram in datagrams {
            if Kind::of(datagram) == Some(Kind::Handshake) {
                self.open_sealed(now, arrival, &mut sealed, &mut verified);
                match self.on_handshake(now, entropy, arrival, datagram) {
                    Ok(answer) => effects.answers.extend(answer),
                    Err(reason) => self.discard(arrival, reason),
                }
                continue;
            }
            match Sealed::parse(datagram) {
                Ok(next) => {
                    if sealed.last().is_some_and(|last: &Sealed<'_>| last.epoch() != next.epoch()) {
                        self.open_sealed(now, arrival, &mut sealed, &mut verified);
                    }
                    sealed.push(next);
                }
                Err(reason) => self.discard(arrival, reason),
            }
        }
        self.open_sealed(now, arrival, &mut sealed, &mut verified);
        effects.ready = self.accept(now, arrival, &verified, sink);
        effects
    }

    /// Opens datagrams that name one key, and moves those that are authentic to `verified`.
    fn open_sealed<'a>(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        sealed: &mut Vec<Sealed<'a>>,
        verified: &mut Vec<(Verified<'a>, u64)>,
    ) {
        let Some(number) = sealed.first().map(Sealed::epoch) else { return };
        let ring = self.ring.load();
        let Some(epoch) = ring.keys.receiving(number) else {
            return sealed.drain(..).for_each(|_| self.discard(arrival, Discard::UnknownKey));
        };
        let first = verified.len();
        epoch.open.open_all(sealed.drain(..), |opened| match opened {
            Ok(authentic) => verified.push((authentic, ring.generation)),
            Err(reason) => self.discard(arrival, reason),
        });
        if ring.keys.unconfirmed == Some(number) && verified.len() > first {
            self.confirm(now, number);
            let generation = self.ring.load().generation;
            verified[first..].iter_mut().for_each(|(_, of)| *of = generation);
        }
    }

    /// What is verified passes the replay window, then does what it came for.
    fn accept(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        verified: &[(Verified<'_>, u64)],
        sink: Sink<'_>,
    ) -> u16 {
        let mut news = Vec::with_capacity(verified.len());
        let mut deliveries = Vec::with_capacity(verified.len());
        let mut heard: Vec<Heard> = Vec::new();
        let mut acks: Vec<(LinkId, Ack)> = Vec::new();
        {
            let mut inbound = self.inbound();
            for (authentic, generation) in verified {
                let len = authentic.wire_len();
                match inbound.accept(now, *generation, authentic) {
                    Ok(fresh) => match (fresh.header.kind, fresh.link) {
                        (Kind::Data, Some(link)) => {
                            if let Err(reason) = inbound.order(now, &fresh, &mut deliveries) {
                                self.discard(arrival, reason);
                            }
                            note(&mut heard, link, &fresh, len);
                        }
                        _ => news.push((fresh, len)),
                    },
                    Err(reason) => self.discard(arrival, reason),
                }
            }
            if news.is_empty() {
                acks.extend(inbound.take_acks(now));
            }
            inbound.release(now, &mut deliveries);
            self.deliver(now, inbound, deliveries, sink);
        }
        if !news.is_empty() {
            for (fresh, len) in &news {
                match self.on_control(now, arrival, fresh) {
                    Ok(link) => note(&mut heard, link, fresh, *len),
                    Err(reason) => self.discard(arrival, reason),
                }
            }
            acks.extend(self.inbound().take_acks(now));
        }
        let mut outbound = self.outbound();
        for heard in &heard {
            outbound.on_received(now, arrival.socket, arrival.source, heard);
        }
        acks.into_iter().for_each(|(link, ack)| outbound.send_ack(now, link, ack));
        let ready = self.settle(now, &outbound);
        self.bounce(outbound, sink);
        ready
    }

    /// Hands packets to the interface. Its lock is taken before that of the receiving half is given up, so
    /// that no other thread's packets come in between.
    fn deliver(
        &self,
        now: Instant,
        inbound: MutexGuard<'_, Inbound>,
        deliveries: Vec<Delivery<'_>>,
        sink: Sink<'_>,
    ) {
        if deliveries.is_empty() {
            return;
        }
        let mut delivered = self.delivery();
        drop(inbound);
        let mut held = Vec::new();
        let mut hand = |packet: Inner<'_>| {
            delivered.add(now, packet.len() as u64);
            sink.take(packet);
        };
        for delivery in deliveries {
            match delivery {
                Delivery::Arrived(packet) => hand(packet.inner()),
                Delivery::Held(packet) => {
                    hand((&packet).into());
                    held.push(packet);
                }
            }
        }
        sink.flush();
        drop(delivered);
        if !held.is_empty() {
            let mut inbound = self.inbound();
            held.into_iter().for_each(|packet| inbound.give_back(packet));
        }
    }

    /// Tells the senders of packets that were taken and that the links do not carry any more.
    fn bounce(&self, mut outbound: MutexGuard<'_, Outbound>, sink: Sink<'_>) {
        let mut stranded = outbound.take_stranded();
        if stranded.is_empty() {
            return;
        }
        let longest = outbound.longest();
        drop(outbound);
        for packet in &mut stranded {
            if icmp::too_big(packet, longest) {
                sink.take((&*packet).into());
            }
        }
        sink.flush();
        self.give_back(stranded.into_iter());
    }

    /// A fresh datagram that is no data. Gives the link that it belongs to.
    fn on_control(&self, now: Instant, arrival: &Arrival<'_>, fresh: &Fresh<'_>) -> Result<LinkId, Discard> {
        match fresh.header.kind {
            Kind::Ack => {
                let joined = || self.inbound().link_of(fresh.header.link);
                let link = fresh.link.or_else(joined).ok_or(Discard::UnknownLink)?;
                let ack = Ack::read(fresh.body).ok_or(Discard::Malformed)?;
                let (rtt, spacing) = {
                    let mut outbound = self.outbound();
                    outbound.on_ack(now, link, &ack, fresh.header.timestamp);
                    (outbound.rtt(link), outbound.ack_spacing(link))
                };
                if let Some(rtt) = rtt {
                    self.inbound().set_rtt(link, rtt, spacing);
                }
                Ok(link)
            }
            Kind::Probe => {
                let probe = Probe::read(fresh.body).ok_or(Discard::Malformed)?;
                let link = self.join(now, arrival, fresh, &probe)?;
                self.outbound().on_probe(now, link, probe);
                Ok(link)
            }
            Kind::ProbeReply => {
                let reply = Probe::read(fresh.body).ok_or(Discard::Malformed)?;
                let link = self.join(now, arrival, fresh, &reply)?;
                self.outbound().on_probe_reply(now, link, reply);
                Ok(link)
            }
            Kind::Report => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let report = Report::read(fresh.body).ok_or(Discard::Malformed)?;
                self.outbound().on_report(now, link, &report, fresh.queued);
                Ok(link)
            }
            Kind::PathProbe => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                self.outbound().on_path_probe(link, fresh.body.len());
                Ok(link)
            }
            Kind::PathReply => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let len = read_path_reply(fresh.body).ok_or(Discard::Malformed)?;
                self.outbound().on_path_reply(now, link, len);
                Ok(link)
            }
            Kind::Padding => fresh.link.ok_or(Discard::UnknownLink),
            Kind::LoadRequest => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let request = Request::read(fresh.body).ok_or(Discard::Malformed)?;
                let arrivals = self.inbound().arrivals();
                self.outbound().on_load_request(now, link, &request, &arrivals);
                Ok(link)
            }
            Kind::LoadReport => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let report = LoadReport::read(fresh.body).ok_or(Discard::Malformed)?;
                let arrivals = self.inbound().arrivals();
                self.outbound().on_load_report(now, &report, &arrivals);
                Ok(link)
            }
            Kind::Close => {
                let mut room = self.session();
                room.session.close(now);
                room.next_try = now + RETRY;
                self.publish(&room);
                drop(room);
                self.outbound().peer_closed(now);
                fresh.link.ok_or(Discard::UnknownLink)
            }
            Kind::Data | Kind::Handshake => Err(Discard::UnknownLink),
        }
    }

    /// Finds our link for a probe or its reply, and makes it one where a listener waits for it.
    fn join(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        fresh: &Fresh<'_>,
        probe: &Probe,
    ) -> Result<LinkId, Discard> {
        let number = fresh.header.link;
        // The peer names our link, and that is what we know or what we did not know yet.
        let named = probe.to.map(LinkId).filter(|&link| fresh.link.is_none_or(|known| known == link));
        let named = named.filter(|&link| self.outbound().has_link(link));
        let known = named.or(fresh.link.filter(|_| probe.to.is_none()));
        let link = match known {
            Some(link) => link,
            None if fresh.header.kind == Kind::Probe => self.find_or_accept(now, arrival)?,
            None => return Err(Discard::UnknownLink),
        };
        if fresh.link != Some(link) {
            self.inbound().join(number, link);
            self.outbound().join(link, number);
        }
        Ok(link)
    }

    fn find_or_accept(&self, now: Instant, arrival: &Arrival<'_>) -> Result<LinkId, Discard> {
        let mut room = self.session();
        let mut outbound = self.outbound();
        if let Some(link) = outbound.unjoined(arrival.socket, arrival.source) {
            return Ok(link);
        }
        let listener = room.listeners.get_mut(&arrival.socket).ok_or(Discard::UnknownLink)?;
        let mut config = listener.config.clone();
        if !listener.links.is_empty() {
            config.name = format!("{}.{}", config.name, listener.links.len() + 1);
        }
        let link = outbound.add_link(now, config).ok_or(Discard::UnknownLink)?;
        listener.links.push(link);
        let shorter_header = if arrival.source.is_ipv4() { V4_SAVES } else { 0 };
        let max_datagram = listener.max_datagram.saturating_add(shorter_header);
        outbound.open(now, link, arrival.socket, Some(arrival.source), max_datagram);
        Ok(link)
    }

    // The session.

    fn on_handshake(
        &self,
        now: Instant,
        entropy: &mut dyn Entropy,
        arrival: &Arrival<'_>,
        datagram: &[u8],
    ) -> Result<Option<Vec<u8>>, Discard> {
        let alive = self.outbound().dark_since().is_none();
        let mut room = self.session();
        match room.session.on_handshake(now, entropy.random(), alive, datagram) {
            Ok(Handshaken::Answer(answer)) => {
                self.publish(&room);
                Ok(Some(answer))
            }
            Ok(Handshaken::Established { new_peer }) => {
                self.established(now, &mut room, new_peer);
                Ok(None)
            }
            Err(reason) => {
                let first = HandshakeHead::read(datagram).is_some_and(|head| !head.response);
                if reason == Discard::StaleHandshake && first {
                    // It bears our key: a recording, or a peer that was restarted with its clock set back.
                    self.outbound().doubt(now);
                }
                let source = arrival.source;
                let told = match reason {
                    Discard::Forged if !room.session.is_established() => Some(format!(
                        "a handshake from {source} does not fit the Key: compare Key in both portals' files"
                    )),
                    Discard::OtherProtection => Some(format!(
                        "the portal at {source} uses another Protection than {}: set the same in both files",
                        room.session.manner().name()
                    )),
                    _ => None,
                };
                if let Some(event) = told.and_then(|told| room.trouble(told)) {
                    self.outbound().tell(event);
                }
                Err(reason)
            }
        }
    }

    fn confirm(&self, now: Instant, number: u8) {
        let mut room = self.session();
        if let Some(new_peer) = room.session.confirm(now, number) {
            self.established(now, &mut room, new_peer);
        }
    }

    fn established(&self, now: Instant, room: &mut SessionRoom, new_peer: bool) {
        if new_peer {
            room.generation += 1;
            self.inbound().reset(room.generation);
        }
        let mut outbound = self.outbound();
        if new_peer {
            outbound.reset(now);
        }
        (room.tries, room.trouble, room.next_try) = (0, None, now + RETRY);
        room.packets_at_exchange = outbound.data_packets();
        // After the numbers began anew: a train under new keys must not bear old ones.
        self.publish(room);
    }

    /// Shows the data path the keys that are in use now.
    fn publish(&self, room: &SessionRoom) {
        self.ring.store(Arc::new(Ring { keys: room.session.ring(), generation: room.generation }));
    }

    /// Begins an exchange if one is due.
    fn tend_session(&self, now: Instant, entropy: &mut dyn Entropy) {
        let mut room = self.session();
        let mut outbound = self.outbound();
        if room.try_at(&outbound).is_none_or(|at| now < at) {
            return;
        }
        let message = room.session.initiate(entropy.wall_nanos(), entropy.random());
        if !outbound.handshake(&message) {
            room.next_try = now + RETRY;
            return;
        }
        room.tries += 1;
        room.next_try = now + if room.tries < FAST_TRIES { RETRY } else { SLOW_RETRY };
        if room.tries == TRIES_TO_TELL {
            let told =
                "no answer from the other portal: it is not running, not reachable, or its Key differs";
            if let Some(event) = room.trouble(told.to_owned()) {
                outbound.tell(event);
            }
        }
    }

    /// Says goodbye: pull every link once more after this.
    pub fn close(&self, now: Instant) -> u16 {
        let mut outbound = self.outbound();
        outbound.close();
        self.settle(now, &outbound)
    }

    // Time and sending.

    /// When [`Portal::on_timeout`] wants to be called.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let session = self.session();
        let outbound = self.outbound();
        let room = session.try_at(&outbound);
        let out = outbound.next_timeout(now);
        drop((outbound, session));
        [room, out, self.inbound().next_timeout(now)].into_iter().flatten().min()
    }

    /// The sockets of links that have been silent for too long. What waits there unread should be received before
    /// [`Portal::on_timeout`] draws conclusions.
    pub fn silent(&self, now: Instant) -> Vec<SocketId> {
        self.outbound().silent(now).collect()
    }

    /// Handles every timer that is due; gives the links that have something to send.
    pub fn on_timeout(&self, now: Instant, entropy: &mut dyn Entropy, sink: Sink<'_>) -> u16 {
        self.tend_session(now, entropy);
        let mut inbound = self.inbound();
        let acks: Vec<_> = inbound.take_acks(now).collect();
        let heard = inbound.take_report(now);
        let mut deliveries = Vec::new();
        inbound.release(now, &mut deliveries);
        self.deliver(now, inbound, deliveries, sink);
        let mut outbound = self.outbound();
        outbound.on_timeout(now);
        if let Some(heard) = heard {
            outbound.send_report(heard);
        }
        acks.into_iter().for_each(|(link, ack)| outbound.send_ack(now, link, ack));
        let ready = self.settle(now, &outbound);
        self.bounce(outbound, sink);
        ready
    }

    /// Forgets the links that the peer opened and left long ago. To be called now and then.
    pub fn forget_links(&self, now: Instant) {
        let mut room = self.session();
        let gone: Vec<_> = self.outbound().left_behind(now).collect();
        for listener in room.listeners.values_mut() {
            for link in listener.links.extract_if(.., |link| gone.contains(link)) {
                self.remove_link(now, link);
            }
        }
    }

    /// Fills `train` with sealed datagrams that the link has to send now. False if there are none.
    pub fn pull(&self, now: Instant, link: LinkId, train: &mut Train) -> bool {
        let mut outbound = self.outbound();
        // INVARIANT: the key is looked up under the lock under which numbers begin anew and new keys are shown, so
        // that an old key never seals under numbers that it has sealed under.
        let ring = self.ring.load();
        let sending = ring.keys.sending.as_ref().filter(|epoch| !epoch.is_used_up());
        let sealing =
            sending.map(|epoch| Sealing { epoch: epoch.send_number, footer_len: epoch.seal.footer_len() });
        if !outbound.pull(now, link, sealing, train) {
            return false;
        }
        drop(outbound);
        if let Some(epoch) = sending {
            epoch.on_seal(train.len());
            train.seal(&epoch.seal);
        }
        true
    }

    /// Links that have something to send, a bit each.
    pub fn ready(&self, now: Instant) -> u16 {
        self.settle(now, &self.outbound())
    }

    /// Socket of a link.
    pub fn socket(&self, link: LinkId) -> Option<SocketId> {
        self.outbound().socket(link)
    }

    // Load tests.

    /// Begins a load test of the links. Then call [`Portal::on_timeout`].
    ///
    /// # Errors
    ///
    /// Why that cannot be, in words.
    pub fn start_load_test(&self, now: Instant, options: &Options) -> Result<(), String> {
        let mut outbound = self.outbound();
        let started = outbound.start_load_test(now, options);
        self.settle(now, &outbound);
        started
    }

    /// Ends it before it is complete, if there is one. Gives the links that have something to send.
    pub fn stop_load_test(&self, now: Instant) -> u16 {
        let mut outbound = self.outbound();
        outbound.stop_load_test(now);
        self.settle(now, &outbound)
    }

    /// How far it is, or what the last one brought; `None` if there was none.
    pub fn load_test(&self) -> Option<Progress> {
        self.outbound().load_test()
    }

    /// This portal makes a load test, or takes part in one of the other.
    pub fn is_load_tested(&self) -> bool {
        self.outbound().is_load_tested()
    }

    /// Tells for what share of the time, 0 to 1, the busiest thread ran or waited for a processor lately.
    pub fn note_busy(&self, share: f64) {
        self.outbound().note_busy(share);
    }

    // For people.

    /// Something happened that [`Portal::take_events`] tells of. Costs nothing to ask.
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// What happened since the last call that an operator cares about.
    pub fn take_events(&self) -> Vec<Event> {
        self.news.store(false, Ordering::Relaxed);
        self.outbound().take_events()
    }

    /// MTU that the interface is to have.
    pub fn mtu(&self) -> u16 {
        self.outbound().mtu()
    }

    /// Bytes that wait in the queue, and how many may.
    pub fn queued(&self) -> (u64, u64) {
        self.outbound().queued()
    }

    /// Buffers that are not at home: lent, waiting, in flight.
    pub fn buffers_out(&self) -> usize {
        let waiting = self.inbound().buffers_out();
        waiting + self.outbound().buffers_out()
    }

    /// How the portal is.
    pub fn snapshot(&self, now: Instant) -> snapshot::Snapshot {
        let mut snapshot = snapshot::Snapshot { discards: self.discards.snapshot(), ..Default::default() };
        let room = self.session();
        snapshot.protection = room.session.manner().name().to_owned();
        snapshot.cipher = room.session.suite().and_then(Suite::cipher).map(str::to_owned);
        snapshot.session = snapshot::Session {
            state: match (room.session.is_established(), room.tries) {
                (true, _) => "established",
                (false, 0) => "none",
                (false, _) => "handshake",
            }
            .to_owned(),
            since_seconds: now.since(room.session.since()).as_secs_f64(),
            handshakes: room.session.handshakes(),
            trouble: room.trouble.clone(),
        };
        drop(room);
        self.outbound().snapshot(now, &mut snapshot);
        self.inbound().snapshot(now, &mut snapshot);
        self.describe_delivered(now, &mut snapshot.traffic);
        snapshot
    }

    /// Holds no other lock: who delivers takes this one while it holds that of the receiving half.
    fn describe_delivered(&self, now: Instant, into: &mut snapshot::Traffic) {
        let delivered = self.delivery();
        into.received_packets = delivered.packets();
        into.received_bytes = delivered.bytes();
        into.receive_rate_bps = delivered.rate(now).bits_per_second();
    }

    /// The last step of a call: who has something to send, and is there news?
    fn settle(&self, now: Instant, outbound: &Outbound) -> u16 {
        if outbound.has_events() {
            self.news.store(true, Ordering::Relaxed);
        }
        outbound.ready(now)
    }

    /// Counts a datagram that is not used. For those that the caller could not even hand over.
    pub fn discard(&self, arrival: &Arrival<'_>, reason: Discard) {
        self.discards.count(reason);
        arrival.discards.count(reason);
    }

    // A lock is poisoned only by a panic, which is a bug; the state behind it is still sound enough to stop
    // cleanly. Order where two are held: session, inbound, outbound.

    fn session(&self) -> MutexGuard<'_, SessionRoom> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbound(&self) -> MutexGuard<'_, Inbound> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivery(&self) -> MutexGuard<'_, Volume> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbound(&self) -> MutexGuard<'_, Outbound> {
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionRoom {
    /// When the next exchange is to begin; `None` if none is wanted.
    fn try_at(&self, outbound: &Outbound) -> Option<Instant> {
        if !outbound.can_send() {
            return None;
        }
        if !self.session.is_established() {
            return Some(self.next_try);
        }
        let rekey = self.session.rekey_at().filter(|_| outbound.data_packets() > self.packets_at_exchange);
        let worn = self.session.is_worn().then_some(self.next_try);
        let dark = outbound.dark_since().map(|since| since + DARK);
        [rekey, worn, dark].into_iter().flatten().min().map(|at| at.max(self.next_try))
    }

    /// Remembers why there is no session. Gives an event if that is news.
    fn trouble(&mut self, trouble: String) -> Option<Event> {
        let news = self.trouble.as_ref() != Some(&trouble);
        self.trouble = Some(trouble.clone());
        news.then_some(Event::Trouble(trouble))
    }
}

/// Adds a datagram to what was heard of its link. Mostly there is one link.
fn note(heard: &mut Vec<Heard>, link: LinkId, fresh: &Fresh<'_>, len: usize) {
    let bytes = len as u64;
    let data_bytes = if fresh.header.kind == Kind::Data { bytes } else { 0 };
    let known = heard.iter_mut().find(|known| known.link == link);
    let Some(known) = known else {
        return heard.push(Heard { link, newest: fresh.data_sequence, datagrams: 1, bytes, data_bytes });
    };
    known.newest = known.newest.max(fresh.data_sequence);
    known.datagrams += 1;
    known.bytes += bytes;
    known.data_bytes += data_bytes;
}

#[cfg(test)]
mod tests;
