//! One end: a portal, the interface that hosts send into, clocks and randomness.

use std::collections::VecDeque;
use std::time::Duration;

use super::End;
use super::net::{LISTENER, Net};
use super::rng::Rng;
use super::traffic::FULL;
use super::traffic::packet::too_big;
use super::wire::Datagram;
use crate::core::discard::Discards;
use crate::core::outbound::congestion::Algorithm;
use crate::core::outbound::{Event, LinkConfig, Policy, Train};
use crate::core::packet::Packet;
use crate::core::portal::{Arrival, Entropy, Portal, PortalConfig, Sink};
use crate::core::session::protection::Manner;
use crate::core::units::{Instant, LinkId, MAX_LINKS, Rate};

/// Packets that wait in the kernel before the interface (as the runtime asks for).
const TUN_QUEUE: usize = 4_096;
/// Packets that are read from the interface at a time.
const READ_AT_ONCE: usize = 64;
/// Rounds of reading and sending at one instant: only a link without congestion control needs more.
const MAX_ROUNDS: usize = 256;
/// Calls of the timer at one instant that are no sign of a loop yet.
const MAX_SPIN: u32 = 8;
const BUFFER_SIZE: usize = 1_536;

/// How an end is set up.
#[derive(Clone, Debug)]
pub struct HostSetup {
    /// The shared key.
    pub psk: [u8; 32],
    /// Protection.
    pub manner: Manner,
    /// Its CPU has instructions for AES-GCM.
    pub hardware_aes: bool,
    /// Inner headers are sent compressed.
    pub compression: bool,
    /// Congestion control of its links.
    pub algorithm: Algorithm,
    /// Metric of each link; the last holds for those beyond. Empty: as the peer says.
    pub metrics: Vec<u8>,
    /// Longest silence on an idle link.
    pub keep_alive: Option<Duration>,
    /// Its datagrams leave in runs.
    pub gso: bool,
    /// Its links' data are metered.
    pub metered: bool,
    /// Its network card does not know how to cut them apart.
    pub loses_runs: LosesRuns,
    /// Longest datagram of its links.
    pub max_datagram: u16,
    /// How the links are used.
    pub policy: Policy,
}

impl Default for HostSetup {
    fn default() -> Self {
        Self {
            psk: [7; 32],
            manner: Manner::Aead,
            hardware_aes: true,
            compression: true,
            algorithm: Algorithm::Bbr,
            metrics: Vec::new(),
            keep_alive: None,
            gso: true,
            metered: false,
            loses_runs: LosesRuns::Never,
            max_datagram: 1_472,
            policy: Policy::default(),
        }
    }
}

/// What a network card loses of several datagrams that it is to cut apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LosesRuns {
    /// Nothing.
    Never,
    /// All.
    Whole,
    /// The last one.
    TheLast,
}

impl LosesRuns {
    /// Datagrams that leave of so many.
    fn leaves(self, count: usize) -> usize {
        match self {
            Self::Whole if count > 1 => 0,
            Self::TheLast if count > 1 => count - 1,
            _ => count,
        }
    }
}

/// Wall clock and randomness from the seed.
pub struct SimEntropy {
    rng: Rng,
    wall: u64,
}

impl Entropy for SimEntropy {
    fn wall_nanos(&mut self) -> u64 {
        self.wall
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill(&mut bytes);
        bytes
    }
}

/// One end of the bond.
pub struct Host {
    /// The portal itself.
    pub portal: Portal,
    /// What happened, and when in the world's time.
    pub events: Vec<(Instant, Event)>,
    /// Calls of the portal's timer.
    pub timeouts: u64,
    /// Portals that ran here before.
    pub restarts: u32,
    /// Packets that the portal sent back as too long.
    pub bounced: u64,
    /// The conversations that they belonged to, and what may pass, until those are told.
    pub too_big: Vec<(u16, u16)>,
    /// Buffers that the host holds.
    pub spare: Vec<Packet>,
    /// What was received in vain.
    pub discards: Discards,
    /// Packets before the interface.
    pub tun: VecDeque<Vec<u8>>,
    pub(super) setup: HostSetup,
    pub(super) wake: Option<Instant>,
    pub(super) asleep: bool,
    end: End,
    entropy: SimEntropy,
    train: Train,
    bouncing: Vec<Packet>,
    /// Added to the world's time: each portal has its own zero.
    zero: Duration,
    /// Taken from the world's time: a monotonic clock stands still while the machine sleeps.
    slept: Duration,
    /// Added to the world's time to get nanoseconds since 1970.
    wall: u64,
    last_timeout: Instant,
    spin: u32,
    /// Paths whose interface has no carrier, a bit each.
    unplugged: u32,
}

impl Host {
    /// A host whose portal is set up and has opened its links.
    pub fn new(now: Instant, end: End, setup: HostSetup, listens: bool, net: &Net, rng: &Rng) -> Self {
        let mut rng = rng.fork(10 + end as u64);
        let zero = Duration::from_nanos(rng.below(1 << 40));
        let wall = 1_800_000_000_000_000_000 + rng.below(1 << 30);
        let mut entropy = SimEntropy { rng, wall };
        let portal = Self::begin(now + zero, end, &setup, listens, net, &mut entropy);
        Self {
            portal,
            events: Vec::new(),
            timeouts: 0,
            restarts: 0,
            bounced: 0,
            too_big: Vec::new(),
            spare: Vec::new(),
            discards: Discards::default(),
            tun: VecDeque::new(),
            setup,
            wake: Some(now),
            asleep: false,
            end,
            entropy,
            train: Train::default(),
            bouncing: Vec::new(),
            zero,
            slept: Duration::ZERO,
            wall,
            last_timeout: Instant::ZERO,
            spin: 0,
            unplugged: 0,
        }
    }

    fn begin(
        local: Instant,
        end: End,
        setup: &HostSetup,
        listens: bool,
        net: &Net,
        entropy: &mut SimEntropy,
    ) -> Portal {
        let config = PortalConfig {
            psk: setup.psk,
            manner: setup.manner,
            hardware_aes: setup.hardware_aes,
            buffer_size: BUFFER_SIZE,
            compression: setup.compression,
            assumed_datagram: setup.max_datagram,
            max_mtu: 1_500,
            policy: setup.policy,
        };
        let portal = Portal::new(local, &config, entropy);
        if end == End::Remote && listens {
            Self::listen(&portal, setup);
            return portal;
        }
        for i in 0..net.paths.len() {
            if let Some(id) = portal.add_link(local, Self::link_config(setup, i)) {
                Self::open(&portal, local, end, setup, net, id);
            }
        }
        portal
    }

    /// The socket that listens is closed, and another one opened, as when the configuration is read again.
    pub fn relisten(&mut self, now: Instant) {
        self.portal.unlisten(self.local(now), LISTENER);
        Self::listen(&self.portal, &self.setup);
    }

    fn listen(portal: &Portal, setup: &HostSetup) {
        // Told for IPv6, whose header is 20 bytes longer; these paths speak IPv4.
        portal.listen(LISTENER, Self::link_config(setup, 0), setup.max_datagram - 20);
    }

    fn link_config(setup: &HostSetup, i: usize) -> LinkConfig {
        LinkConfig {
            name: format!("peer{}", i + 1),
            section: i + 1,
            method: "udp",
            algorithm: setup.algorithm,
            metric: setup.metrics.get(i).or(setup.metrics.last()).copied(),
            keep_alive: setup.keep_alive,
            gso: setup.gso,
            rate_limit: None,
            meter: None,
            metered: setup.metered,
        }
    }

    /// The user gives a link another metric and rate limit. Gives the links that are ready.
    pub fn configure(&mut self, now: Instant, link: usize, metric: u8, rate_limit: Option<Rate>) -> u16 {
        let config = LinkConfig { metric: Some(metric), rate_limit, ..Self::link_config(&self.setup, link) };
        self.portal.configure(self.local(now), &config)
    }

    /// Opens a link over the path of the same number.
    fn open(portal: &Portal, local: Instant, end: End, setup: &HostSetup, net: &Net, id: LinkId) {
        let path = &net.paths[id.index()];
        let target = if end == End::Local { path.remote } else { path.mapped };
        portal.open(local, id, path.socket(end, id.index()), target, setup.max_datagram);
    }

    /// The interface of a path loses its carrier. Gives the links that are ready.
    pub fn unplug(&mut self, now: Instant, path: usize) -> u16 {
        self.unplugged |= 1 << path;
        self.portal.fail(self.local(now), LinkId(path as u8), "carrier lost".to_owned())
    }

    /// It has the carrier again. Gives the links that are ready.
    pub fn plug(&mut self, now: Instant, net: &Net, path: usize) -> u16 {
        let local = self.local(now);
        self.unplugged &= !(1 << path);
        Self::open(&self.portal, local, self.end, &self.setup, net, LinkId(path as u8));
        self.portal.on_timeout(local, &mut self.entropy, &mut |_: &[u8]| {})
    }

    /// The portal dies without a word and another begins in its place.
    pub fn restart(&mut self, now: Instant, listens: bool, net: &Net) {
        self.entropy.wall = self.wall + now.as_nanos();
        let local = self.local(now);
        self.spare.clear();
        self.portal = Self::begin(local, self.end, &self.setup, listens, net, &mut self.entropy);
        self.restarts += 1;
        self.wake = Some(now);
    }

    /// Sets the wall clock forward or back by seconds.
    pub fn shift_wall(&mut self, seconds: i64) {
        self.wall = self.wall.saturating_add_signed(seconds * 1_000_000_000);
    }

    /// The machine slept for so long; its monotonic clock stood still.
    pub fn wake_up(&mut self, now: Instant, slept: Duration) {
        self.slept += slept;
        self.asleep = false;
        self.wake = Some(now);
    }

    /// The portal's time.
    pub fn local(&self, now: Instant) -> Instant {
        now + self.zero - self.slept
    }

    /// Puts a packet before the interface; false if there is no room.
    pub fn offer(&mut self, packet: Vec<u8>) -> bool {
        let room = self.tun.len() < TUN_QUEUE && !self.asleep;
        if room {
            self.tun.push_back(packet);
        }
        room
    }

    /// Packets that a greedy host would add now: it keeps an eighth of the queue filled, which is 25 ms.
    pub fn appetite(&self) -> usize {
        let (bytes, limit) = self.portal.queued();
        let room = ((limit / 8).saturating_sub(bytes) / FULL as u64) as usize;
        room.min(READ_AT_ONCE).saturating_sub(self.tun.len())
    }

    /// Datagrams arrived together. Gives what is to be delivered to `deliver` and answers what is to be
    /// answered; then call [`Host::serve`] with the links that are ready.
    pub fn receive(
        &mut self,
        now: Instant,
        net: &mut Net,
        path: usize,
        datagrams: &mut [Box<Datagram>],
        deliver: Sink<'_>,
    ) -> u16 {
        if self.unplugged & 1 << path != 0 {
            return 0;
        }
        let local = self.local(now);
        self.entropy.wall = self.wall + now.as_nanos();
        let Some(source) = datagrams.first().map(|datagram| datagram.source) else { return 0 };
        let socket = net.paths[path].socket(self.end, path);
        let arrival = Arrival { socket, source, discards: &self.discards };
        let bytes = datagrams.iter_mut().map(|datagram| &mut datagram.bytes[..]);
        let effects = self.portal.receive(local, &mut self.entropy, &arrival, bytes, deliver);
        for answer in &effects.answers {
            net.send(now, self.end, socket, source, answer);
        }
        effects.ready
    }

    /// Calls the portal's timer. Panics if the portal asks for that again and again.
    pub fn on_timeout(&mut self, now: Instant, deliver: Sink<'_>) -> u16 {
        self.timeouts += 1;
        self.spin = if self.last_timeout == now { self.spin + 1 } else { 0 };
        self.last_timeout = now;
        assert!(self.spin < MAX_SPIN, "next_timeout of {:?} spins at {now:?}", self.end);
        self.entropy.wall = self.wall + now.as_nanos();
        self.portal.on_timeout(self.local(now), &mut self.entropy, deliver)
    }

    /// Reads the interface and sends for all links that are ready, until neither goes on. `refill` is asked
    /// for packets of greedy hosts. Then asks for the next timeout.
    pub fn serve(
        &mut self,
        now: Instant,
        net: &mut Net,
        mut ready: u16,
        refill: &mut dyn FnMut(usize, &mut VecDeque<Vec<u8>>),
    ) {
        let local = self.local(now);
        for _ in 0..MAX_ROUNDS {
            let appetite = self.appetite();
            if appetite > 0 {
                refill(appetite, &mut self.tun);
            }
            ready |= self.read(local);
            let mut sent = false;
            for id in (0..MAX_LINKS as u8).filter(|id| ready & 1 << id != 0).map(LinkId) {
                sent |= self.send(now, local, net, id);
            }
            ready = 0;
            if !sent || self.tun.is_empty() {
                break;
            }
        }
        self.wake = self.portal.next_timeout(local).map(|at| self.world(now, at));
    }

    /// Moves packets from the interface to the portal.
    fn read(&mut self, local: Instant) -> u16 {
        if self.tun.is_empty() {
            return 0;
        }
        self.portal.lend(&mut self.spare, self.tun.len().min(READ_AT_ONCE));
        let count = self.spare.len().min(self.tun.len());
        let tun = &mut self.tun;
        let packets = self.spare.drain(..count).map(|mut packet| {
            if let Some(bytes) = tun.pop_front() {
                packet.fill(&bytes);
            }
            packet
        });
        let ready = self.portal.enqueue(local, packets, &mut self.bouncing);
        self.too_big.extend(self.bouncing.iter().filter_map(|packet| too_big(packet.bytes())));
        self.portal.give_back(self.bouncing.drain(..));
        ready
    }

    fn send(&mut self, now: Instant, local: Instant, net: &mut Net, id: LinkId) -> bool {
        let mut sent = false;
        while self.portal.pull(local, id, &mut self.train) {
            sent = true;
            if let Some((socket, target)) = self.train.socket().zip(self.train.remote()) {
                for run in self.train.runs(0) {
                    let whole =
                        run.bytes.chunks(run.segment.max(1)).take(self.setup.loses_runs.leaves(run.count));
                    whole.for_each(|bytes| net.send(now, self.end, socket, target, bytes));
                }
            }
        }
        sent
    }

    /// The world's time of a portal's time that is not in the past.
    fn world(&self, now: Instant, local: Instant) -> Instant {
        now + local.since(self.local(now))
    }
}
