//! Two whole portals over emulated links in virtual time: minutes of traffic in a second, repeatable from a
//! seed.
//!
//! ```text
//!   hosts ── interface ── local portal ══ path 1: NAT, wire → , wire ← ══ remote portal ── interface ── hosts
//!                                      ══ path 2 …                     ══
//! ```
//!
//! - [`wire`]: one direction of a link (bottleneck, queue, delay, jitter, loss); [`net`]: all of them, the
//!   addresses, and the queue of events.
//! - [`host`]: one end: the portal, the interface before it, its clocks.
//! - [`traffic`]: what the hosts offer, among it a TCP that suffers like a real one.
//! - [`adversary`]: forged and replayed datagrams.
//! - [`scenario`]: a run as a list of sentences.
//!
//! The driver keeps to the contract of [`crate::core::portal`]. In every run it asserts that nothing is
//! delivered twice or changed, that timers do not spin, that queues stay bounded, and at the end
//! ([`World::settle`]) that every buffer came home. Whoever panics has the seed printed.

pub mod adversary;
pub mod host;
pub mod net;
pub mod rng;
pub mod scenario;
pub mod traffic;
pub mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use crate::core::load_test::{Options, Progress};
use crate::core::portal::Sink;
use crate::core::snapshot::Snapshot;
use crate::core::units::{Instant, Rate};
use adversary::{Adversary, Attack};
use host::{Host, HostSetup};
use net::{Event, Net};
use rng::Rng;
use traffic::packet::{Inner, too_big};
use traffic::{Flow, Load, Offered};
use wire::{Conditions, Datagram};

/// How often the invariants are looked at that are not checked at every event.
const LOOK: Duration = Duration::from_millis(100);
/// How often portals are told to forget links that were left.
const FORGET: Duration = Duration::from_secs(30);
/// No queue of a portal holds more bytes: its own bound and one reading of the interface.
const MOST_QUEUED: u64 = (8 << 20) + 64 * 2_048;
/// A load test takes no longer.
const LONGEST_TEST: Duration = Duration::from_secs(120);
/// Timer calls that any second may bring, besides as many as there are datagrams.
const TIMEOUTS_A_SECOND: u64 = 2_500;

/// An end of the bond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum End {
    /// Behind a NAT; opens the links.
    Local = 0,
    /// Has known addresses.
    Remote = 1,
}

impl End {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Local, Self::Remote];

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// How a world begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Conditions of each path, by sender.
    pub paths: Vec<[Conditions; 2]>,
    /// Of what all paths pass behind that as well, if there is such.
    pub shared: Option<[Conditions; 2]>,
    /// The portals.
    pub hosts: [HostSetup; 2],
    /// The remote portal listens with one socket; otherwise both open all links.
    pub listens: bool,
    /// Arrivals are handed over this often at most, all together.
    pub coalesce: Duration,
}

impl Setup {
    /// Paths that are alike in both directions, between portals with the usual settings.
    pub fn new(seed: u64, paths: impl IntoIterator<Item = Conditions>) -> Self {
        Self {
            seed,
            paths: paths.into_iter().map(|path| [path.clone(), path]).collect(),
            shared: None,
            hosts: Default::default(),
            listens: true,
            coalesce: Duration::from_micros(100),
        }
    }
}

/// Two portals and all between and behind them.
pub struct World {
    /// The network.
    pub net: Net,
    /// The ends.
    pub hosts: [Host; 2],
    /// The conversations.
    pub flows: Vec<Flow>,
    /// Who is not to be there.
    pub adversary: Adversary,
    now: Instant,
    marked: Instant,
    seed: u64,
    listens: bool,
    forgot: Instant,
    #[expect(clippy::vec_box, reason = "the boxes come from and return to the net")]
    arrived: Vec<Box<Datagram>>,
}

impl World {
    /// A world at time zero.
    pub fn new(setup: Setup) -> Self {
        let rng = Rng::new(setup.seed);
        let mut net = Net::new(&setup.paths, setup.shared.as_ref(), setup.listens, setup.coalesce, &rng);
        let now = Instant::ZERO;
        let [local, remote] = setup.hosts;
        let host = |end, config| Host::new(now, end, config, setup.listens, &net, &rng);
        let hosts = [host(End::Local, local), host(End::Remote, remote)];
        net.schedule(now + LOOK, Event::Look);
        Self {
            net,
            hosts,
            flows: Vec::new(),
            adversary: Adversary::new(rng.fork(20)),
            now,
            marked: now,
            seed: setup.seed,
            listens: setup.listens,
            forgot: now,
            arrived: Vec::new(),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Time since the last [`World::mark`].
    pub fn since_mark(&self) -> Duration {
        self.now.since(self.marked)
    }

    /// How the portal at `end` describes itself.
    pub fn snapshot(&self, end: End) -> Snapshot {
        let host = &self.hosts[end as usize];
        host.portal.snapshot(host.local(self.now))
    }

    // What is done to the world.

    /// Begins a conversation; gives its number.
    pub fn offer(&mut self, from: End, load: Load) -> usize {
        let number = self.flows.len();
        let mut flow = Flow::new(self.now, number as u16, from, load);
        let mut offered = Vec::new();
        flow.start(self.now, &mut offered);
        self.flows.push(flow);
        self.put(offered);
        self.serve(from, 0);
        self.arm(number);
        number
    }

    /// Ends all conversations.
    pub fn hush(&mut self) {
        self.flows.iter_mut().for_each(Flow::stop);
    }

    /// Begins all measurements anew.
    pub fn mark(&mut self) {
        self.marked = self.now;
        self.net.forget();
        self.flows.iter_mut().for_each(Flow::forget);
        self.hosts.iter_mut().for_each(|host| host.timeouts = 0);
    }

    /// Changes the conditions of a path in the direction away from `from`.
    pub fn change(&mut self, path: usize, from: End, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.net.paths[path].wires[from as usize].conditions);
    }

    /// Cuts or mends a path in both directions.
    pub fn cut(&mut self, path: usize, cut: bool) {
        End::BOTH.into_iter().for_each(|from| self.change(path, from, |wire| wire.cut = cut));
    }

    /// The interface of a path at `end`, which opens its links, loses its carrier.
    pub fn unplug(&mut self, end: End, path: usize) {
        self.cut(path, true);
        let ready = self.hosts[end as usize].unplug(self.now, path);
        self.serve(end, ready);
    }

    /// It has the carrier again.
    pub fn plug(&mut self, end: End, path: usize) {
        self.cut(path, false);
        let ready = self.hosts[end as usize].plug(self.now, &self.net, path);
        self.serve(end, ready);
    }

    /// The user gives a link of `end`, which opens its links, another metric and rate limit.
    pub fn configure(&mut self, end: End, link: usize, metric: u8, rate_limit: Option<Rate>) {
        let ready = self.hosts[end as usize].configure(self.now, link, metric, rate_limit);
        self.serve(end, ready);
    }

    /// Kills a portal and begins another.
    pub fn restart(&mut self, end: End) {
        self.hosts[end as usize].restart(self.now, self.listens, &self.net);
    }

    /// The remote portal, which listens, closes its socket and opens another one.
    pub fn relisten(&mut self) {
        self.hosts[End::Remote as usize].relisten(self.now);
    }

    /// The machine at `end` sleeps for so long.
    pub fn suspend(&mut self, end: End, time: Duration) {
        self.hosts[end as usize].asleep = true;
        self.run(time);
        self.hosts[end as usize].wake_up(self.now, time);
    }

    /// Begins an attack.
    pub fn attack(&mut self, attack: Attack) {
        self.adversary.attacks.push(attack);
        self.net.schedule(self.now + attack.every, Event::Attack(self.adversary.attacks.len() - 1));
    }

    /// Lets the portal at `end` begin a load test.
    ///
    /// # Errors
    ///
    /// Why it does not.
    pub fn start_load_test(&mut self, end: End, options: &Options) -> Result<(), String> {
        let host = &mut self.hosts[end as usize];
        host.portal.start_load_test(host.local(self.now), options)?;
        host.wake = Some(self.now);
        Ok(())
    }

    /// The same, and waits until it is over.
    ///
    /// # Errors
    ///
    /// Why it does not begin, or that it does not end within two minutes.
    pub fn load_test(&mut self, end: End, options: &Options) -> Result<Progress, String> {
        self.start_load_test(end, options)?;
        let progress = |world: &Self| world.hosts[end as usize].portal.load_test();
        let over = |world: &Self| progress(world).is_some_and(|progress| !progress.running);
        self.run_until(LONGEST_TEST, over).ok_or("the test does not end")?;
        progress(self).ok_or("there is no result".to_owned())
    }

    // Time.

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let awake = |host: &Host| host.wake.filter(|_| !host.asleep);
            let event = self.net.next();
            let wakes = self.hosts.each_ref().map(awake);
            let Some(at) = [event, wakes[0], wakes[1]].into_iter().flatten().min().filter(|at| *at <= until)
            else {
                break;
            };
            self.now = self.now.max(at);
            if event == Some(at) {
                if let Some(event) = self.net.pop() {
                    self.handle(event);
                }
            } else {
                let end = if wakes[0] == Some(at) { End::Local } else { End::Remote };
                self.deliver(end, |host, now, _, sink| host.on_timeout(now, sink));
            }
        }
        self.now = until;
    }

    /// Lets time pass until `done`, looking every millisecond; gives how long that took, or `None` after
    /// `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now.since(start) >= limit {
                return None;
            }
            self.run(Duration::from_millis(1));
        }
        Some(self.now.since(start))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Departure(path, from) => self.net.depart(self.now, path, from),
            Event::Onward(from, datagram) => self.net.onward(self.now, from, datagram),
            Event::Arrival { to, path, datagram } => {
                let source = datagram.source;
                let mut datagrams = std::mem::take(&mut self.arrived);
                datagrams.push(datagram);
                while let Some(datagram) = self.net.pop_same(self.now, to, path, source) {
                    datagrams.push(datagram);
                }
                self.adversary.overhear(to, &datagrams);
                self.arrived = self.arrive(to, path, datagrams);
            }
            Event::Flow(number) => self.on_flow_timer(number),
            Event::Attack(number) => {
                let Some(&attack) = self.adversary.attacks.get(number) else { return };
                if let Some(datagram) = self.adversary.forge(self.now, &attack, &self.net) {
                    self.arrive(attack.to, attack.path, vec![datagram]);
                }
                self.net.schedule(self.now + attack.every, Event::Attack(number));
            }
            Event::Look => {
                self.look();
                self.net.schedule(self.now + LOOK, Event::Look);
            }
        }
    }

    /// Hands over datagrams that arrived together; gives the empty list back.
    #[expect(clippy::vec_box, reason = "the boxes come from and return to the net")]
    fn arrive(&mut self, to: End, path: usize, mut datagrams: Vec<Box<Datagram>>) -> Vec<Box<Datagram>> {
        if !self.hosts[to as usize].asleep {
            self.deliver(to, |host, now, net, sink| host.receive(now, net, path, &mut datagrams, sink));
        }
        datagrams.drain(..).for_each(|datagram| self.net.recycle(datagram));
        datagrams
    }

    /// Calls the portal at `end` by `call`, hands what it delivers to the hosts, and lets it send.
    fn deliver(&mut self, end: End, call: impl FnOnce(&mut Host, Instant, &mut Net, Sink<'_>) -> u16) {
        let (now, flows) = (self.now, &mut self.flows);
        let (mut offered, mut touched) = (Vec::new(), Vec::new());
        let mut refused = Vec::new();
        let mut sink = |packet: &[u8]| {
            if let Some(told) = too_big(packet) {
                return refused.push(told);
            }
            let inner = Inner::read(packet);
            let inner = inner.unwrap_or_else(|| panic!("a packet of {} bytes was changed", packet.len()));
            let number = usize::from(inner.flow);
            flows[number].on_arrived(now, end, &inner, &mut offered);
            if !touched.contains(&number) {
                touched.push(number);
            }
        };
        let ready = call(&mut self.hosts[end as usize], now, &mut self.net, &mut sink);
        self.hosts[end as usize].too_big.extend(refused);
        let across = offered.iter().any(|(at, _)| *at != end);
        self.put(offered);
        self.serve(end, ready);
        if across {
            self.serve(end.other(), 0);
        }
        touched.into_iter().for_each(|number| self.arm(number));
    }

    fn on_flow_timer(&mut self, number: usize) {
        let flow = &mut self.flows[number];
        if flow.armed != Some(self.now) {
            return;
        }
        flow.armed = None;
        let mut offered = Vec::new();
        flow.on_timeout(self.now, &mut offered);
        let ends = End::BOTH.map(|end| offered.iter().any(|(at, _)| *at == end));
        self.put(offered);
        End::BOTH.into_iter().filter(|end| ends[*end as usize]).for_each(|end| self.serve(end, 0));
        self.arm(number);
    }

    /// Sees to it that the timer of a conversation goes off in time; too early does no harm.
    fn arm(&mut self, number: usize) {
        let flow = &mut self.flows[number];
        let Some(at) = flow.next_timeout().map(|at| at.max(self.now)) else { return };
        if flow.armed.is_none_or(|armed| at < armed) {
            flow.armed = Some(at);
            self.net.schedule(at, Event::Flow(number));
        }
    }

    fn put(&mut self, offered: Vec<Offered>) {
        for (end, packet) in offered {
            let flow = Inner::read(&packet).map(|inner| usize::from(inner.flow));
            if !self.hosts[end as usize].offer(packet)
                && let Some(flow) = flow
            {
                self.flows[flow].on_refused();
            }
        }
    }

    /// Lets the portal at `end` read, send and tell when it wants to be called.
    fn serve(&mut self, end: End, mut ready: u16) {
        let (host, flows, now) = (&mut self.hosts[end as usize], &mut self.flows, self.now);
        if host.asleep {
            return;
        }
        let greedy = flows.iter().filter(|flow| flow.from == end && matches!(flow.load, Load::Bulk { .. }));
        let share = greedy.count().max(1);
        let mut offered = Vec::new();
        loop {
            host.bounced += host.too_big.len() as u64;
            host.too_big.drain(..).for_each(|(flow, mtu)| flows[usize::from(flow)].on_too_big(mtu));
            host.serve(now, &mut self.net, ready, &mut |room, tun: &mut VecDeque<Vec<u8>>| {
                flows.iter_mut().for_each(|flow| flow.refill(now, end, room.div_ceil(share), &mut offered));
                tun.extend(offered.drain(..).map(|(_, packet)| packet));
            });
            if host.too_big.is_empty() {
                break;
            }
            ready = 0;
        }
    }

    // Invariants.

    /// INVARIANTS that are looked at every 100 ms.
    fn look(&mut self) {
        for end in End::BOTH {
            let host = &mut self.hosts[end as usize];
            host.events.extend(host.portal.take_events().into_iter().map(|event| (self.now, event)));
            let snapshot = self.snapshot(end);
            let queue = &snapshot.queue;
            assert!(queue.bytes <= MOST_QUEUED, "{end:?} queues {} bytes", queue.bytes);
            let host = &self.hosts[end as usize];
            assert!(host.portal.buffers_out() as u64 >= queue.packets + host.spare.len() as u64);
            for link in &snapshot.links {
                let most = link.cwnd_bytes.unwrap_or(u64::MAX).saturating_mul(3).saturating_add(1 << 20);
                assert!(link.in_flight_bytes <= most, "{end:?}: {link:?}");
            }
            let busy = self.net.sent * 2;
            let quiet = TIMEOUTS_A_SECOND * (1 + self.since_mark().as_secs());
            assert!(host.timeouts <= quiet + busy, "{end:?}: {} timeouts", host.timeouts);
        }
        if self.now.since(self.forgot) >= FORGET {
            self.forgot = self.now;
            for host in &self.hosts {
                host.portal.forget_links(host.local(self.now));
            }
        }
    }

    /// Ends a run: all load and attack stops, all paths are mended, and what waits drains. Then every buffer
    /// that the portals lent is back, as far as there is a session.
    pub fn settle(&mut self) {
        self.hush();
        self.adversary.attacks.clear();
        (0..self.net.paths.len()).for_each(|path| self.cut(path, false));
        let idle = |world: &Self| {
            End::BOTH.into_iter().all(|end| {
                let host = &world.hosts[end as usize];
                host.tun.is_empty() && host.portal.buffers_out() == host.spare.len()
            })
        };
        if End::BOTH.into_iter().all(|end| self.snapshot(end).session.state == "established") {
            let drained = self.run_until(Duration::from_secs(60), idle);
            let out = self.hosts.each_ref().map(|host| host.portal.buffers_out() - host.spare.len());
            assert!(drained.is_some(), "buffers that did not come home: {out:?}\n{}", self.portrait());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the world of seed {}, after {:.6} s", self.seed, self.now.as_nanos() as f64 / 1e9);
        }
    }
}
