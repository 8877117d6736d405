//! A whole portal: the session and the two halves, each behind one lock.
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

mod exchange;
mod receive;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use self::exchange::SessionRoom;
use super::discard::{Discard, Discards};
use super::icmp;
use super::inbound::Inbound;
use super::load_test::{Options, Progress};
use super::offload::completed;
use super::outbound::{Event, LinkConfig, Outbound, Policy, Sealing, SocketId, Train};
use super::packet::{Inner, Packet};
use super::recent::Volume;
use super::session::protection::Manner;
use super::session::{KeyRing, Session};
use super::snapshot;
use super::units::{Instant, LinkId};
use super::wire::HEADER_LEN;

/// Packets, or datagrams, that the portal is best given together, at most: what fills three trains. Acknowledgements and
/// the other links' threads wait meanwhile.
pub const BATCH: usize = 132;

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
        let session = Session::new(now, &config.psk, config.manner, config.hardware_aes, instance);
        Self {
            ring: ArcSwap::default(),
            session: Mutex::new(SessionRoom::new(now, session)),
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

    /// By which socket each link leaves that is up, or was a moment ago, and where to.
    pub fn ways(&self) -> Vec<(LinkId, SocketId, SocketAddr)> {
        self.outbound().ways().collect()
    }

    /// Whether any link uses the socket.
    pub fn has_links_on(&self, socket: SocketId) -> bool {
        self.outbound().has_links_on(socket)
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
        self.session().describe(now, &mut snapshot);
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

#[cfg(test)]
mod tests;
