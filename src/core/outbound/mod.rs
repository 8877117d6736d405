//! The sending half of a portal: the shared queue, the links that drain it, and what each has sent.
//!
//! Contract. The owner calls, in any order and always with a `now` that does not go backwards:
//! - [`Outbound::enqueue`] with packets of the interface, after [`Outbound::lend`] for empty buffers;
//! - [`Outbound::pull`] for a link until it gives `false`, whenever [`Outbound::ready`] names the link;
//!   every train it fills must be sent, or counts as lost;
//! - the `on_*` methods with what arrived from the peer, already authentic and not a replay;
//! - [`Outbound::on_timeout`] no earlier than [`Outbound::next_timeout`].
//!
//! After each of these [`Outbound::take_events`] tells what an operator cares about.

pub mod congestion;
mod flow;
mod link;
mod pacer;
mod queue;
mod sender;
mod train;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use super::packet::{Packet, Pool};
use super::snapshot;
use super::units::{Instant, LinkId, MAX_LINKS};
use super::wire::{Ack, HEADER_LEN, Header, Kind, Order, POSITION_BITS, PROBE_LEN, Probe, flags};
use congestion::Algorithm;
use flow::{Classifier, Glance};
use link::{Change, Link};
use queue::Queue;

pub use link::{LinkConfig, SocketId, State};
pub use train::{Sealing, Train};

/// The queue holds this much of the links' summed rate, so that a burst finds room and delay stays bounded.
const QUEUE_TIME: Duration = Duration::from_millis(200);
/// Bounds of the queue in bytes, while the rate is not known or very high.
const QUEUE_MIN: u64 = 256 << 10;
const QUEUE_MAX: u64 = 8 << 20;
/// A link that the peer joined and left is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(180);
/// Smallest MTU of the interface: what IPv6 needs (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

/// What happened that an operator cares about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link changed its state.
    Link {
        /// Its number.
        link: LinkId,
        /// Its name.
        name: String,
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// Why, if it is known.
        reason: Option<Cow<'static, str>>,
    },
    /// The peer is reached at another address than before.
    Moved {
        /// Number of the link.
        link: LinkId,
        /// Its name.
        name: String,
        /// The new address.
        remote: SocketAddr,
    },
    /// Keys were agreed on with a portal that has (re)started.
    Joined,
    /// The peer said that it stops.
    PeerClosed,
    /// There is no session, and this is what is known of the reason.
    Trouble(String),
}

/// What came in on one link at one time.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The link.
    pub link: LinkId,
    /// The largest data sequence number among them.
    pub newest: u64,
    /// How many.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The sending half of a portal. See the module for the calling contract.
pub struct Outbound {
    links: [Option<Box<Link>>; MAX_LINKS],
    /// Where a slot's next link goes on counting, so that the peer need not know of the change.
    sequences: [u64; MAX_LINKS],
    queue: Queue,
    classifier: Classifier,
    /// Next position of each order bucket.
    positions: Box<[u32]>,
    data_sequence: u64,
    /// Data packets sent; tells whether a session is in use.
    data_packets: u64,
    too_big: u64,
    session: bool,
    footer_len: usize,
    /// Links that may carry data now, a bit each.
    active: u16,
    dark_since: Option<Instant>,
    events: Vec<Event>,
}

impl Outbound {
    /// Without links. `buffer_size` is the longest inner packet; `seed` is random and secret.
    pub fn new(now: Instant, buffer_size: usize, footer_len: usize, seed: [u8; 16]) -> Self {
        let buffers = (QUEUE_MAX as usize / buffer_size.max(1)).max(256) + 128;
        Self {
            links: Default::default(),
            sequences: [0; MAX_LINKS],
            queue: Queue::new(Pool::new(buffer_size, buffers), QUEUE_MIN),
            classifier: Classifier::new(seed),
            positions: vec![0; super::wire::BUCKETS.into()].into_boxed_slice(),
            data_sequence: 0,
            data_packets: 0,
            too_big: 0,
            session: false,
            footer_len,
            active: 0,
            dark_since: Some(now),
            events: Vec::new(),
        }
    }

    // Packets of the interface.

    /// Adds empty buffers to `spare` until it holds `count`. Fewer come while the queue is full.
    pub fn lend(&mut self, spare: &mut Vec<Packet>, count: usize) {
        self.queue.lend(spare, count);
    }

    /// Takes back a buffer that was not filled.
    pub fn give_back(&mut self, packet: Packet) {
        self.queue.give_back(packet);
    }

    /// Queues packets. What is too long for a link is put into `too_big`, for an ICMP error.
    pub fn enqueue(&mut self, packets: impl Iterator<Item = Packet>, too_big: &mut Vec<Packet>) {
        let limit = usize::from(self.mtu());
        for packet in packets {
            if packet.len() > limit {
                self.too_big += 1;
                too_big.push(packet);
            } else {
                self.queue.push(packet);
            }
        }
    }

    /// Longest inner packet that every link carries, 1280 or more.
    pub fn mtu(&self) -> u16 {
        let overhead = (HEADER_LEN + self.footer_len) as u16;
        // Links that are down count: an MTU that changes with every outage would break more than it gives.
        let least =
            self.each().filter(|(_, link)| link.is_open()).map(|(_, link)| link.datagram_limit()).min();
        let any =
            || self.each().filter(|(_, link)| link.socket.is_some()).map(|(_, link)| link.max_datagram).min();
        least.or_else(any).unwrap_or(1452).saturating_sub(overhead).max(MIN_MTU)
    }

    // Links.

    /// Adds a link in the first free slot; `None` if there are [`MAX_LINKS`].
    pub fn add_link(&mut self, now: Instant, config: LinkConfig) -> Option<LinkId> {
        let slot = self.links.iter().position(Option::is_none)?;
        let mut link = Box::new(Link::new(now, config));
        link.sender.continue_from(self.sequences[slot]);
        self.links[slot] = Some(link);
        Some(LinkId(slot as u8))
    }

    /// Removes a link and what it had in flight.
    pub fn remove_link(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links[id.index()].take() {
            self.sequences[id.index()] = link.sender.next_sequence();
        }
        self.refresh(now);
    }

    /// The link's socket is open. Without `remote` it waits for the peer.
    pub fn open(
        &mut self,
        now: Instant,
        id: LinkId,
        socket: SocketId,
        remote: Option<SocketAddr>,
        max_datagram: u16,
    ) {
        let session = self.session;
        self.change(now, id, |link| link.open(now, socket, remote, max_datagram, session));
    }

    /// The link's socket is gone or could not be opened.
    pub fn fail(&mut self, now: Instant, id: LinkId, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        self.change(now, id, |link| link.fail(now, reason));
    }

    /// Whether the link exists.
    pub fn has_link(&self, id: LinkId) -> bool {
        self.links.get(id.index()).is_some_and(Option::is_some)
    }

    /// The link that uses `socket` and has not been joined by a peer's link yet, the one with this remote
    /// address first.
    pub fn unjoined(&self, socket: SocketId, source: SocketAddr) -> Option<LinkId> {
        let unjoined =
            || self.each().filter(move |(_, link)| link.socket == Some(socket) && link.peer_number.is_none());
        let same = unjoined().find(|(_, link)| link.remote == Some(source));
        same.or_else(|| unjoined().next()).map(|(id, _)| id)
    }

    /// Socket of a link, for its datagrams.
    pub fn socket(&self, id: LinkId) -> Option<SocketId> {
        self.link(id)?.socket
    }

    /// Whether any link uses the socket.
    pub fn has_links_on(&self, socket: SocketId) -> bool {
        self.each().any(|(_, link)| link.socket == Some(socket))
    }

    /// Some link has somewhere to send to.
    pub fn can_send(&self) -> bool {
        self.each().any(|(_, link)| link.is_open())
    }

    /// How long no link has been up; `None` if one is.
    pub fn dark_since(&self) -> Option<Instant> {
        self.dark_since
    }

    /// Data packets ever sent.
    pub fn data_packets(&self) -> u64 {
        self.data_packets
    }

    // The session.

    /// A session with a (re)started peer began: all numbers start anew and every link joins again.
    pub fn reset(&mut self, now: Instant) {
        (self.session, self.data_sequence, self.sequences) = (true, 0, [0; MAX_LINKS]);
        self.positions.fill(0);
        for id in (0..MAX_LINKS as u8).map(LinkId) {
            self.change(now, id, |link| link.reset(now));
        }
        self.events.push(Event::Joined);
    }

    /// The peer stops, so the session is void.
    pub fn peer_closed(&mut self, now: Instant) {
        self.session = false;
        for id in (0..MAX_LINKS as u8).map(LinkId) {
            self.change(now, id, |link| link.wait_for_session(now));
        }
        self.events.push(Event::PeerClosed);
    }

    /// Sends `message` on every link that has somewhere to send to. False if none has.
    pub fn handshake(&mut self, message: &[u8]) -> bool {
        let mut any = false;
        for link in self.links.iter_mut().flatten().filter(|link| link.is_open()) {
            link.handshake = Some(message.to_vec());
            any = true;
        }
        any
    }

    /// This portal stops: say so on every link.
    pub fn close(&mut self) {
        self.links.iter_mut().flatten().for_each(|link| link.close_due = true);
    }

    // From the peer.

    /// Ties the peer's number of a link to ours.
    pub fn join(&mut self, id: LinkId, peer_number: u8) {
        for (slot, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            if slot == id.index() {
                link.peer_number = Some(peer_number);
            } else if link.peer_number == Some(peer_number) {
                link.peer_number = None;
            }
        }
    }

    /// Authentic datagrams came in on a link, from `source` to `socket`. The peer's address is learned from
    /// them if one is newer than all before.
    pub fn on_received(&mut self, now: Instant, socket: SocketId, source: SocketAddr, heard: &Heard) {
        let id = heard.link;
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        link.on_received(now, heard.datagrams, heard.bytes);
        if heard.newest < link.newest {
            return;
        }
        link.newest = heard.newest;
        if link.remote == Some(source) && link.socket == Some(socket) {
            return;
        }
        let known = link.remote.replace(source).is_some();
        link.socket = Some(socket);
        if known {
            self.events.push(Event::Moved { link: id, name: link.config.name.clone(), remote: source });
        } else if self.session {
            self.change(now, id, |link| link.join(now));
        }
    }

    /// An acknowledgement of what was sent on the link.
    pub fn on_ack(&mut self, now: Instant, id: LinkId, ack: &Ack) {
        self.change(now, id, |link| link.on_ack(now, ack));
        self.limit_queue();
    }

    /// A probe: it will be answered.
    pub fn on_probe(&mut self, now: Instant, id: LinkId, probe: Probe) {
        self.change(now, id, |link| {
            link.on_probe(now, probe);
            None
        });
    }

    /// An answer to a probe.
    pub fn on_probe_reply(&mut self, now: Instant, id: LinkId, reply: Probe) {
        self.change(now, id, |link| link.on_probe_reply(now, reply));
    }

    /// Hands over an acknowledgement of what was received on the link.
    pub fn send_ack(&mut self, id: LinkId, ack: Ack) {
        if let Some(link) = self.links[id.index()].as_deref_mut() {
            link.ack = Some(ack);
        }
    }

    /// The link's smoothed round-trip time, once measured.
    pub fn srtt(&self, id: LinkId) -> Option<Duration> {
        self.link(id).map(|link| link.sender.rtt()).filter(|rtt| rtt.is_measured()).map(|rtt| rtt.smoothed())
    }

    // Sending.

    /// Links that have something to send now, a bit each.
    pub fn ready(&self, now: Instant) -> u16 {
        let data = !self.queue.is_empty() && self.session;
        self.each().fold(0, |mask, (id, link)| {
            let bit = 1 << id.0;
            let may_carry = data && self.active & bit != 0 && link.sender.credit(now) > 0;
            if link.has_control() || may_carry { mask | bit } else { mask }
        })
    }

    /// Fills `train` with what the link has to send now. False if that is nothing.
    ///
    /// `sealing` is `None` while there are no keys; then only handshakes leave. The caller seals the train.
    pub fn pull(&mut self, now: Instant, id: LinkId, sealing: Option<Sealing>, train: &mut Train) -> bool {
        train.clear();
        if !self.link(id).is_some_and(Link::is_open) {
            return false;
        }
        self.pull_control(now, id, sealing, train);
        if let Some(sealing) = sealing
            && self.active & 1 << id.0 != 0
        {
            self.pull_data(now, id, sealing, train);
        }
        (train.socket, train.remote) = self.link(id).map_or((None, None), |link| (link.socket, link.remote));
        !train.is_empty()
    }

    fn pull_control(&mut self, now: Instant, id: LinkId, sealing: Option<Sealing>, train: &mut Train) {
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        if let Some(message) = link.handshake.take() {
            link.on_sent(now, message.len());
            train.push_raw(&message);
        }
        let Some(sealing) = sealing else { return };
        let mut stamp =
            Stamp { now, link: id.0, in_flight: 0, sealing, data_sequence: &mut self.data_sequence };
        // Before the acknowledgement: the peer may learn by it which link that speaks of.
        while let Some(probe) = link.replies.pop_front() {
            let reply = link.probe(probe.id).to_bytes();
            stamp.write(train, link, Kind::ProbeReply, 0, PROBE_LEN).copy_from_slice(&reply);
        }
        if let Some(ack) = link.ack.take() {
            let body = stamp.write(train, link, Kind::Ack, 0, ack.wire_len());
            ack.write(body);
        }
        if let Some(probe) = link.take_probe(now) {
            let body = stamp.write(train, link, Kind::Probe, flags::ACK_NOW, PROBE_LEN);
            body.copy_from_slice(&probe.to_bytes());
            link.sender.on_sent(now, HEADER_LEN + PROBE_LEN + sealing.footer_len, false);
        }
        if std::mem::take(&mut link.close_due) {
            stamp.write(train, link, Kind::Close, 0, 0);
        }
    }

    fn pull_data(&mut self, now: Instant, id: LinkId, sealing: Sealing, train: &mut Train) {
        let in_flight = self.in_flight_mask();
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        let mut credit = link.sender.credit(now);
        let mut stamp = Stamp { now, link: id.0, in_flight, sealing, data_sequence: &mut self.data_sequence };
        loop {
            let Some(len) = self.queue.next_len() else {
                link.sender.on_app_limited();
                return;
            };
            let datagram = HEADER_LEN + len + sealing.footer_len;
            if credit < datagram as u64 || !train.has_room(datagram) {
                return;
            }
            let Some(packet) = self.queue.pop() else { return };
            credit -= datagram as u64;
            let glance = self.classifier.glance(packet.bytes());
            let order = place(&mut self.positions, glance);
            stamp.write_data(train, link, order, len).copy_from_slice(packet.bytes());
            link.sender.on_sent(now, datagram, order.bucket != 0);
            self.queue.give_back(packet);
            self.data_packets += 1;
        }
    }

    /// Bit `n`: our link `n` holds unacknowledged ordered data.
    fn in_flight_mask(&self) -> u16 {
        self.each()
            .filter(|(_, link)| link.sender.has_ordered_in_flight())
            .fold(0, |mask, (id, _)| mask | 1 << id.0)
    }

    // Time.

    /// When [`Outbound::on_timeout`] wants to be called; `None` when only input can change anything.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let waiting = !self.queue.is_empty() && self.session;
        let links = self.each().filter_map(|(id, link)| {
            let paced =
                if waiting && self.active & 1 << id.0 != 0 { link.sender.paced_until(now) } else { None };
            [link.next_timeout(self.has_stand_in(id)), paced].into_iter().flatten().min()
        });
        links.min()
    }

    /// Handles every timer that is due. Then ask [`Outbound::ready`].
    pub fn on_timeout(&mut self, now: Instant) {
        for id in (0..MAX_LINKS as u8).map(LinkId) {
            let stand_in = self.has_stand_in(id);
            self.change(now, id, |link| link.on_timeout(now, stand_in));
        }
    }

    /// Links that only the peer opens and that it has left for good. The caller knows which may be dropped.
    pub fn left_behind(&self, now: Instant) -> impl Iterator<Item = LinkId> {
        self.each().filter_map(move |(id, link)| {
            let gone = matches!(link.state, State::Down | State::Init)
                && now.since(link.last_received) > FORGET_AFTER;
            gone.then_some(id)
        })
    }

    /// Another link than `id` is up.
    fn has_stand_in(&self, id: LinkId) -> bool {
        self.each().any(|(other, link)| other != id && link.state == State::Up)
    }

    // For people.

    /// Something happened since the last [`Outbound::take_events`].
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Adds an event from next door.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Buffers that are not at home: lent, or waiting in the queue.
    pub fn buffers_out(&self) -> usize {
        self.queue.buffers_out()
    }

    /// Fills the parts of a snapshot that are known here.
    pub fn snapshot(&self, now: Instant, into: &mut snapshot::Snapshot) {
        into.mtu = self.mtu().into();
        into.data_sequence = self.data_sequence;
        into.queue = snapshot::Queue {
            packets: self.queue.packets() as u64,
            bytes: self.queue.bytes(),
            limit_bytes: self.queue.limit(),
            enqueued_packets: self.queue.enqueued(),
            dropped_packets: self.too_big,
        };
        into.links = self.each().map(|(id, link)| describe(now, id, link)).collect();
    }

    fn each(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        (0..).map(LinkId).zip(&self.links).filter_map(|(id, link)| Some((id, link.as_deref()?)))
    }

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.index())?.as_deref()
    }

    /// Does something to a link and draws the conclusions of a change of its state.
    fn change(&mut self, now: Instant, id: LinkId, change: impl FnOnce(&mut Link) -> Option<Change>) {
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        let metric = link.metric();
        let changed = change(link);
        if changed.is_none() && metric == link.metric() {
            return;
        }
        if let Some(Change { from, to }) = changed {
            let (name, reason) = (link.config.name.clone(), link.reason.clone());
            self.events.push(Event::Link { link: id, name, from, to, reason });
        }
        self.refresh(now);
    }

    /// Works out which links carry data: of those that are up (or, if none is, suspect: the last link is
    /// never given up) the ones of the lowest metric.
    fn refresh(&mut self, now: Instant) {
        let up = self.each().any(|(_, link)| link.state == State::Up);
        let wanted = if up { State::Up } else { State::Suspect };
        let usable = || self.each().filter(move |(_, link)| link.state == wanted && link.is_open());
        let lowest = usable().map(|(_, link)| link.metric()).min();
        self.active = usable()
            .filter(|(_, link)| Some(link.metric()) == lowest)
            .fold(0, |mask, (id, _)| mask | 1 << id.0);
        self.dark_since = if up { None } else { self.dark_since.or(Some(now)) };
    }

    fn limit_queue(&mut self) {
        let rates = self.each().filter_map(|(_, link)| link.sender.delivery_rate());
        let held: u64 = rates.map(|rate| rate.bytes_in(QUEUE_TIME)).sum();
        self.queue.set_limit(held.clamp(QUEUE_MIN, QUEUE_MAX));
    }
}

/// Gives an ordered packet its place; others get none.
fn place(positions: &mut [u32], glance: Option<Glance>) -> Order {
    let Some(Glance { bucket, ordered: true }) = glance else { return Order::default() };
    let next = &mut positions[usize::from(bucket)];
    let position = *next;
    *next = (position + 1) % (1 << POSITION_BITS);
    Order { bucket, position }
}

/// What the headers of one train have in common.
struct Stamp<'a> {
    now: Instant,
    link: u8,
    in_flight: u16,
    sealing: Sealing,
    data_sequence: &'a mut u64,
}

impl Stamp<'_> {
    /// Adds a datagram with a body of `len` bytes, which the caller writes.
    fn write<'t>(
        &mut self,
        train: &'t mut Train,
        link: &mut Link,
        kind: Kind,
        flags: u8,
        len: usize,
    ) -> &'t mut [u8] {
        self.datagram(train, link, kind, flags, Order::default(), len)
    }

    fn write_data<'t>(
        &mut self,
        train: &'t mut Train,
        link: &mut Link,
        order: Order,
        len: usize,
    ) -> &'t mut [u8] {
        self.datagram(train, link, Kind::Data, 0, order, len)
    }

    fn datagram<'t>(
        &mut self,
        train: &'t mut Train,
        link: &mut Link,
        kind: Kind,
        flags: u8,
        order: Order,
        len: usize,
    ) -> &'t mut [u8] {
        let total = HEADER_LEN + len + self.sealing.footer_len;
        let header = Header {
            kind,
            flags,
            link: self.link,
            epoch: self.sealing.epoch,
            timestamp: self.now.micros24(),
            in_flight: self.in_flight,
            // Only data and probes are acknowledged; the others leave no gaps in the numbers.
            sequence: link.sender.next_sequence() as u32,
            data_sequence: *self.data_sequence as u32,
            order,
        };
        *self.data_sequence += 1;
        link.on_sent(self.now, total);
        let datagram = train.push(total);
        header.write(datagram);
        &mut datagram[HEADER_LEN..HEADER_LEN + len]
    }
}

fn describe(now: Instant, id: LinkId, link: &Link) -> snapshot::Link {
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let rtt = link.sender.rtt();
    let measured = rtt.is_measured();
    snapshot::Link {
        number: id.0 + 1,
        name: link.config.name.clone(),
        section: link.config.section,
        method: link.config.method.to_owned(),
        remote: link.remote,
        state: link.state.name().to_owned(),
        since_seconds: now.since(link.since).as_secs_f64(),
        reason: link.reason.as_deref().map(str::to_owned),
        metric: link.metric().into(),
        congestion_control: match (link.config.method, link.config.algorithm) {
            ("tcp", Algorithm::Unlimited) => "kernel".to_owned(),
            _ => link.sender.controller().name().to_owned(),
        },
        srtt_ms: measured.then(|| millis(rtt.smoothed())),
        min_rtt_ms: measured.then(|| millis(rtt.min())),
        cwnd_bytes: link.sender.controller().window(),
        in_flight_bytes: link.sender.in_flight(),
        delivery_rate_bps: link.sender.delivery_rate().map(|rate| rate.bits_per_second()),
        pacing_rate_bps: link.sender.controller().pacing_rate(rtt).map(|rate| rate.bits_per_second()),
        sent_packets: link.sent_packets,
        sent_bytes: link.sent_bytes,
        received_packets: link.received_packets,
        received_bytes: link.received_bytes,
        lost_packets: link.sender.totals().lost,
        spurious_losses: link.sender.totals().spurious,
        ..snapshot::Link::default()
    }
}
