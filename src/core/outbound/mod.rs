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

mod acks;
mod adoption;
mod budget;
mod codel;
pub mod congestion;
mod describe;
mod event;
mod flow;
mod hear;
mod interface_mtu;
mod limit;
mod link;
mod load;
mod pacer;
mod path_mtu;
mod queue;
mod redundancy;
mod report;
mod schedule;
mod segmentation;
mod sender;
mod stamp;
mod train;
mod tune;
mod twins;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::headers::Compressor;
use super::packet::{Departure, Packet, Pool};
use super::recent::Volume;
use super::units::{Instant, LinkId, MAX_LINKS};
use super::wire::HEADER_LEN;
use adoption::Adoption;
use budget::Budget;
use flow::Classifier;
use interface_mtu::InterfaceMtu;
use link::{Change, Link};
use load::Load;
use queue::Queue;
use redundancy::Allowance;
use tune::{POOL_USUAL, QUEUE_SEARCHING};
use twins::Twins;

pub use event::{Event, Heard};
pub use link::{LAST_RESORT, LinkConfig, MOST_LOSS, Meter, STREAM, SocketId, State};
pub use train::{Run, Sealing, Train};

/// Repairs may take this share of the bytes sent, what a link needs that is about to be unfit: each packet that
/// is never repaired costs its conversation seconds. An end to them there must be, for losses that mean a full path. So
/// many bytes may go at once, what a router's queue loses that overflows.
const REPAIR_SHARE: f64 = 0.5;
const REPAIR_BURST: u64 = 2 << 20;
/// The second copies of first repairs may take this share, and so many at once, where they are not needed: they take from
/// what waits, and links may be metered.
const COPY_SHARE: f64 = 0.02;
const COPY_BURST: u64 = 256 << 10;
/// A repair is lost as easily as the packet; on short paths there is time for another, and another.
const MAX_REPAIRS: u8 = 8;
/// A lost packet older than one and a half round trips and this is not sent again: its conversation has given
/// it up, or will have when it arrives.
const REPAIR_AGE: Duration = Duration::from_millis(100);
/// Longest packet that counts as real-time: a telephone's have 60 to 300 bytes, a film's have more.
const REALTIME_LEN: usize = 300;
/// A link that the peer joined and left is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_secs(180);
/// Smallest MTU of the interface: what IPv6 needs (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;

/// What the user chose of how the links are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Links of a higher metric take what the lower ones have no room for, rather than only stand by.
    pub overflow: bool,
    /// Small real-time packets are sent twice.
    pub redundancy: bool,
}

/// The sending half of a portal. See the module for the calling contract.
pub struct Outbound {
    links: [Option<Box<Link>>; MAX_LINKS],
    /// Where a slot's next link goes on counting, so that the peer need not know of the change.
    sequences: [u64; MAX_LINKS],
    /// In which order links left their numbers; zero if none did.
    left: [u64; MAX_LINKS],
    queue: Queue,
    classifier: Classifier,
    compressor: Compressor,
    /// Ordered packets that were lost, to be sent once more before anything else.
    repairs: VecDeque<Packet>,
    /// What failed links had in flight, to be sent before the backlog and as orderly.
    handed_over: VecDeque<Packet>,
    /// Second copies of repairs, each with the link that it is for.
    copies: VecDeque<(LinkId, Packet)>,
    twins: Twins,
    repair_budget: Budget,
    copy_budget: Budget,
    repaired: u64,
    repaired_at: Option<Instant>,
    /// Next position of each order bucket.
    positions: Box<[u32]>,
    data_sequence: u64,
    /// Data packets sent; tells whether a session is in use.
    data_packets: u64,
    too_big: u64,
    /// Packets of the interface that were sent, each once.
    taken: Volume,
    mtu: InterfaceMtu,
    /// Longest packet that is taken: the MTU, unless no link carries even that.
    longest: usize,
    /// Packets that waited when the links began to carry less.
    stranded: Vec<Packet>,
    session: bool,
    footer_len: usize,
    policy: Policy,
    allowance: Allowance,
    adoption: Adoption,
    load: Load,
    /// Links that may carry data now, a bit each.
    active: u16,
    /// Links that share the present backlog, a bit each.
    striped: u16,
    dark_since: Option<Instant>,
    events: Vec<Event>,
}

impl Outbound {
    /// Without links. `buffer_size` holds the longest inner packet; `mtu` says what the interface begins with
    /// and what it may have at most; `seed` is random and secret.
    pub fn new(
        now: Instant,
        buffer_size: usize,
        footer_len: usize,
        (mtu, most): (u16, u16),
        compression: bool,
        seed: [u8; 16],
    ) -> Self {
        let mtu = InterfaceMtu::new(mtu, most);
        Self {
            links: Default::default(),
            sequences: [0; MAX_LINKS],
            left: [0; MAX_LINKS],
            queue: Queue::new(Pool::new(buffer_size, POOL_USUAL as usize), QUEUE_SEARCHING),
            classifier: Classifier::new(seed),
            compressor: Compressor::new(compression),
            repairs: VecDeque::new(),
            handed_over: VecDeque::new(),
            copies: VecDeque::new(),
            twins: Twins::default(),
            repair_budget: Budget::new(REPAIR_SHARE, REPAIR_BURST),
            copy_budget: Budget::new(COPY_SHARE, COPY_BURST),
            repaired: 0,
            repaired_at: None,
            positions: vec![0; super::wire::BUCKETS.into()].into_boxed_slice(),
            data_sequence: 0,
            data_packets: 0,
            too_big: 0,
            taken: Volume::default(),
            longest: mtu.get().into(),
            mtu,
            stranded: Vec::new(),
            session: false,
            footer_len,
            policy: Policy::default(),
            allowance: Allowance::default(),
            adoption: Adoption::default(),
            load: Load::default(),
            active: 0,
            striped: 0,
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

    /// Queues packets. What is too long for the links is put into `too_big`, for an ICMP error.
    pub fn enqueue(
        &mut self,
        now: Instant,
        packets: impl Iterator<Item = Packet>,
        too_big: &mut Vec<Packet>,
    ) {
        if !self.has_backlog() {
            self.on_idle(now);
        }
        for mut packet in packets {
            if packet.len() > self.longest {
                self.too_big += 1;
                too_big.push(packet);
                continue;
            }
            let glance = self.classifier.glance(packet.bytes());
            packet.bucket = glance.map_or(0, |glance| glance.bucket);
            packet.ordered = glance.is_some_and(|glance| glance.ordered);
            packet.realtime = packet.len() <= REALTIME_LEN && glance.is_some_and(|glance| glance.realtime);
            packet.repaired = glance.is_some_and(|glance| glance.repaired);
            self.queue.push(now, packet);
        }
        self.stripe();
        self.adopt(now);
    }

    /// MTU of the interface, [`MIN_MTU`] or more.
    pub fn mtu(&self) -> u16 {
        self.mtu.get()
    }

    /// Longest inner packet that is taken, bytes. Less than the MTU where the links do not even carry that.
    pub fn longest(&self) -> u16 {
        self.longest as u16
    }

    /// Packets that were taken but that the links do not carry any more, for ICMP errors.
    pub fn take_stranded(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.stranded)
    }

    /// From now on inner headers are compressed, or not.
    pub fn set_compression(&mut self, enabled: bool) {
        self.compressor.set_enabled(enabled);
    }

    // Links.

    /// Adds a link in the first free slot; `None` if there are [`MAX_LINKS`].
    /// Of the free numbers it gets the one that was left first: the peer may not know yet that a link is no more.
    pub fn add_link(&mut self, now: Instant, config: LinkConfig) -> Option<LinkId> {
        let free = (0..MAX_LINKS).filter(|slot| self.links[*slot].is_none());
        let slot = free.min_by_key(|slot| self.left[*slot])?;
        let mut link = Box::new(Link::new(now, config));
        link.sender.continue_from(self.sequences[slot]);
        self.links[slot] = Some(link);
        Some(LinkId(slot as u8))
    }

    /// Gives the links of this name the metric, rate limit, meter and section of `config`.
    pub fn configure(&mut self, now: Instant, config: &LinkConfig) {
        for link in self.links.iter_mut().flatten().filter(|link| link.config.name == config.name) {
            link.configure(config);
        }
        self.refresh(now);
    }

    /// Removes a link and what it had in flight.
    pub fn remove_link(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links[id.index()].as_deref_mut() {
            self.sequences[id.index()] = link.sender.next_sequence();
            self.left[id.index()] = 1 + self.left.iter().max().copied().unwrap_or(0);
            link.sender.abandon();
            self.collect(now, id, true);
            self.links[id.index()] = None;
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
        let longest = self.mtu.most().saturating_add(self.overhead() as u16);
        let max_datagram = if max_datagram == STREAM { STREAM } else { max_datagram.min(longest) };
        self.change(now, id, |link| link.open(now, socket, remote, max_datagram, session));
    }

    /// The link's socket is gone or could not be opened.
    pub fn fail(&mut self, now: Instant, id: LinkId, reason: impl Into<Cow<'static, str>>) {
        let reason = reason.into();
        self.change(now, id, |link| link.fail(now, reason));
    }

    /// The system took the link's datagrams only alone, for `reason`: they leave so from now on.
    pub fn on_runs_refused(&mut self, id: LinkId, reason: String) {
        if let Some(link) = self.links[id.index()].as_deref_mut()
            && link.on_runs_refused(reason)
        {
            self.events.extend(Self::runs_given_up(id, link));
        }
    }

    /// The event that a link does not send in runs any more.
    fn runs_given_up(id: LinkId, link: &Link) -> Option<Event> {
        let reason = link.gso_reason.clone()?;
        Some(Event::RunsGivenUp { link: id, name: link.config.name.clone(), reason })
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

    /// By which socket each link leaves that is up, or was a moment ago, and where to.
    pub fn ways(&self) -> impl Iterator<Item = (LinkId, SocketId, SocketAddr)> {
        let alive = self.each().filter(|(_, link)| matches!(link.state, State::Up | State::Suspect));
        alive.filter_map(|(id, link)| Some((id, link.socket?, link.remote?)))
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
        self.compressor.reset();
        for id in LinkId::all() {
            self.change(now, id, |link| link.reset(now));
        }
        // Their numbers mean nothing to the new peer.
        let repairs = self.repairs.drain(..).chain(self.handed_over.drain(..));
        repairs.for_each(|packet| self.queue.give_back(packet));
        self.copies.drain(..).for_each(|(_, packet)| self.queue.give_back(packet));
        self.twins.expire(None).for_each(|packet| self.queue.give_back(packet));
        self.abandon_load(now);
        self.events.push(Event::Joined);
    }

    /// The peer stops, so the session is void.
    pub fn peer_closed(&mut self, now: Instant) {
        self.session = false;
        for id in LinkId::all() {
            self.change(now, id, |link| link.wait_for_session(now));
        }
        self.abandon_load(now);
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

    /// The peer may not be what it was: ask it on every link that nothing came from lately.
    pub fn doubt(&mut self, now: Instant) {
        self.links.iter_mut().flatten().for_each(|link| link.doubt(now));
    }

    /// This portal stops: say so on every link.
    pub fn close(&mut self) {
        self.links.iter_mut().flatten().for_each(|link| link.close_due = true);
    }

    // Time.

    /// When [`Outbound::on_timeout`] wants to be called; `None` when only input can change anything.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let again = !self.repairs.is_empty() || !self.copies.is_empty();
        let urgent = self.session && (again || self.queue.has_sparse());
        let waiting = urgent || self.session && (self.has_backlog() || !self.twins.is_empty());
        let links = self.each().filter_map(|(id, link)| {
            let used = waiting || self.session && self.has_own_load(now, id);
            let carries = self.active & 1 << id.0 != 0 || self.load.fills(id);
            let paced = link.sender.paced_until(now).filter(|_| used && carries);
            let hurries = Some(link.sender.hurries_from()).filter(|at| urgent && carries && *at > now);
            [link.next_timeout(self.has_stand_in(id)), paced, hurries].into_iter().flatten().min()
        });
        [links.min(), self.twins.next_expiry(), self.mtu.next_timeout(), self.load.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The sockets of links that are about to be suspect for their silence.
    pub fn silent(&self, now: Instant) -> impl Iterator<Item = SocketId> {
        let links = self.each().map(|(_, link)| link).filter(move |link| link.is_silent(now));
        links.filter_map(|link| link.socket)
    }

    /// Handles every timer that is due. Then ask [`Outbound::ready`].
    pub fn on_timeout(&mut self, now: Instant) {
        for id in LinkId::all() {
            let stand_in = self.has_stand_in(id);
            self.change(now, id, |link| link.on_timeout(now, stand_in));
            self.judge(now, id);
        }
        self.twins.expire(Some(now)).for_each(|packet| self.queue.give_back(packet));
        self.tend_load(now);
        if self.mtu.next_timeout().is_some_and(|at| now >= at) {
            self.fit(now);
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

    /// Bytes that wait in the queue, and how many may.
    pub fn queued(&self) -> (u64, u64) {
        (self.queue.bytes(), self.queue.limit())
    }

    /// Something waits that pacing holds back.
    fn has_backlog(&self) -> bool {
        self.queue.has_backlog() || !self.handed_over.is_empty()
    }

    fn is_open(&self, id: LinkId) -> bool {
        self.link(id).is_some_and(Link::is_open)
    }

    fn each(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        (0..).map(LinkId).zip(&self.links).filter_map(|(id, link)| Some((id, link.as_deref()?)))
    }

    /// The links that carry data.
    fn active_links(&self) -> impl Iterator<Item = &Link> {
        self.each().filter(|(id, _)| self.active & 1 << id.0 != 0).map(|(_, link)| link)
    }

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.index())?.as_deref()
    }

    /// Does something to a link and draws the conclusions of a change of its state.
    fn change(&mut self, now: Instant, id: LinkId, change: impl FnOnce(&mut Link) -> Option<Change>) {
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        let of_note = |link: &Link| (link.metric(), link.path_mtu.limit(), link.path_mtu.is_settled());
        let before = of_note(link);
        let changed = change(link);
        // What a link that failed had in flight goes over the others, however much it is.
        let failed = matches!(changed, Some(Change { to: State::Suspect | State::Down, .. }));
        let waiting = self.handed_over.len();
        self.collect(now, id, failed);
        let handed_over = if self.has_stand_in(id) { self.handed_over.len() - waiting } else { 0 };
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        if changed.is_none() && before == of_note(link) {
            return;
        }
        if let Some((from, to)) = link.take_path_news(now) {
            self.events.push(Event::PathMtu { link: id, name: link.config.name.clone(), from, to });
        }
        if let Some(Change { from, to }) = changed {
            let (name, reason) = (link.config.name.clone(), link.reason.clone());
            self.events.push(Event::Link { link: id, name, from, to, reason, handed_over });
        }
        if matches!(changed, Some(Change { to: State::Suspect, .. })) {
            // It may be the peer that died: do not wait until a packet happens to try each of the others.
            self.doubt(now);
        }
        let cut_off = matches!(changed, Some(Change { to: State::Down, .. })) && !self.is_open(id);
        self.refresh(now);
        if cut_off {
            self.announce_failures();
        }
    }

    /// Works out which links carry data: of those that are up and fit (or, if none is, only up; or suspect: the
    /// last link is never given up) the ones of the lowest metric.
    fn refresh(&mut self, now: Instant) {
        let up = self.each().any(|(_, link)| link.state == State::Up);
        let wanted = if up { State::Up } else { State::Suspect };
        let any_fit = self.each().any(|(_, link)| link.state == wanted && link.is_open() && link.is_fit());
        let usable = || {
            let wanted = move |link: &Link| link.state == wanted && (link.is_fit() || !any_fit);
            self.each().filter(move |(_, link)| wanted(link) && link.is_open())
        };
        let lowest = usable().map(|(_, link)| link.metric()).min();
        self.active = usable()
            .filter(|(_, link)| Some(link.metric()) == lowest)
            .fold(0, |mask, (id, _)| mask | 1 << id.0);
        self.queue.unbind(!self.active);
        self.fit(now);
        self.drop_stranded_copies();
        self.dark_since = if up { None } else { self.dark_since.or(Some(now)) };
    }

    /// Lets the interface's MTU follow the links that carry data, and gives up what they do not carry any more.
    fn fit(&mut self, now: Instant) {
        let active = || self.each().filter(|(id, _)| self.active & 1 << id.0 != 0);
        let settled = || active().filter(|(_, link)| link.path_mtu.is_settled());
        let carried = |(id, _): (LinkId, &Link)| self.carries(id);
        let least = settled().map(carried).min();
        let searching = active().any(|(_, link)| !link.path_mtu.is_settled());
        let most = settled().map(carried).max().filter(|_| !searching);
        let before = self.mtu.get();
        let all = self.each().all(|(_, link)| link.path_mtu.is_settled());
        self.mtu.follow(now, least.map(|least| least.min(u16::MAX.into()) as u16), all);
        self.mtu.on_timeout(now);
        let mtu = self.mtu.get();
        if mtu != before {
            self.events.push(Event::Mtu { from: before, to: mtu });
        }
        let longest = most.map_or(usize::MAX, |most| most as usize).min(mtu.into());
        if longest < std::mem::replace(&mut self.longest, longest) {
            self.give_up_longer_than(longest);
        }
    }

    fn give_up_longer_than(&mut self, longest: usize) {
        let first = self.stranded.len();
        self.queue.remove_longer_than(longest, &mut self.stranded);
        for _ in 0..self.repairs.len() {
            match self.repairs.pop_front() {
                Some(packet) if packet.len() > longest => self.stranded.push(packet),
                packet => self.repairs.extend(packet),
            }
        }
        self.too_big += (self.stranded.len() - first) as u64;
    }

    /// Bytes around each inner packet.
    fn overhead(&self) -> usize {
        HEADER_LEN + self.footer_len
    }

    /// Longest inner packet that the link carries, as far as it is known; 0 without a link.
    fn carries(&self, id: LinkId) -> u64 {
        self.link(id)
            .map_or(0, |link| u64::from(link.path_mtu.limit()).saturating_sub(self.overhead() as u64))
    }

    /// Takes from a link's sender what it has lost, to send it again, and what is done.
    fn collect(&mut self, now: Instant, id: LinkId, failed: bool) {
        let slowest = self.slowest_srtt();
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        for definition in link.sender.confirmed.drain(..) {
            self.compressor.confirm(definition);
        }
        for packet in link.sender.done.drain(..) {
            self.queue.give_back(packet);
        }
        for packet in link.sender.lost.drain(..) {
            let Departure { first_sent, repairs, .. } = packet.departure;
            let young = now.since(first_sent) < slowest * 3 / 2 + REPAIR_AGE;
            // A link that failed hands over everything, however often it was sent.
            let wanted = repairs < MAX_REPAIRS && young;
            if !(failed || wanted && self.repair_budget.spend(packet.len())) {
                self.queue.give_back(packet);
                continue;
            }
            link.account.repairs_caused += 1;
            if failed {
                self.handed_over.push_back(packet);
            } else {
                self.repairs.push_back(packet);
            }
        }
    }
}
