//! The network between the portals and the queue of what will happen.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use super::End;
use super::rng::Rng;
use super::wire::{Conditions, Datagram, Departed, Wire};
use crate::core::outbound::SocketId;
use crate::core::units::Instant;

/// The one socket of a remote portal that listens.
pub const LISTENER: SocketId = SocketId(100);
/// First of the sockets of a remote portal that opens its links itself.
const REMOTE_SOCKETS: u32 = 200;

/// Something that will happen.
pub enum Event {
    /// A datagram leaves the bottleneck of a path, or with `None` of the one that all share; the end is the sender.
    Departure(Option<usize>, End),
    /// A datagram has passed its path and reaches the bottleneck that all share; the end is the sender.
    Onward(End, Box<Datagram>),
    /// A datagram arrives at an end.
    Arrival {
        /// Where.
        to: End,
        /// The path it took.
        path: usize,
        /// What.
        datagram: Box<Datagram>,
    },
    /// The timer of a conversation.
    Flow(usize),
    /// The next datagram of an attack.
    Attack(usize),
    /// Time to look whether all is well.
    Look,
}

struct Entry {
    at: Instant,
    order: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

/// A path between the portals.
pub struct Path {
    /// By sender: from the local end, from the remote end.
    pub wires: [Wire; 2],
    /// The local portal's address as the remote one sees it: what the NAT made of it.
    pub mapped: SocketAddr,
    /// The remote portal's address.
    pub remote: SocketAddr,
    remote_socket: SocketId,
    rebinds: u16,
}

impl Path {
    /// The socket of an end for this path.
    pub fn socket(&self, end: End, path: usize) -> SocketId {
        if end == End::Local { SocketId(path as u32) } else { self.remote_socket }
    }
}

/// All paths, and the queue of events.
pub struct Net {
    /// The paths.
    pub paths: Vec<Path>,
    /// What all paths have behind them in common, by sender: the remote portal's own link.
    pub shared: Option<[Wire; 2]>,
    /// Datagrams that the portals sent to addresses where nobody is.
    pub strays: u64,
    /// Datagrams that the portals sent to [`Net::STRANGER`].
    pub to_strangers: u64,
    /// Datagrams sent by the portals.
    pub sent: u64,
    /// A fingerprint of all that was sent and when.
    pub digest: u64,
    heap: BinaryHeap<Reverse<Entry>>,
    order: u64,
    coalesce: Duration,
    #[expect(clippy::vec_box, reason = "the boxes themselves are used again")]
    free: Vec<Box<Datagram>>,
}

impl Net {
    /// The address of an attacker.
    pub const STRANGER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 66)), 666);

    /// Paths with these conditions by sender. `listens`: the remote portal has one socket for all.
    pub fn new(
        conditions: &[[Conditions; 2]],
        shared: Option<&[Conditions; 2]>,
        listens: bool,
        coalesce: Duration,
        rng: &Rng,
    ) -> Self {
        let path = |(i, wires): (usize, &[Conditions; 2])| {
            let number = i as u8 + 1;
            let wire =
                |way: usize| Wire::new(wires[way].clone(), rng.fork(1_000 + 2 * i as u64 + way as u64));
            let host = if listens { 1 } else { number };
            Path {
                wires: [wire(0), wire(1)],
                mapped: ([198, 51, 100, number], 40_000).into(),
                remote: ([203, 0, 113, host], 7_000).into(),
                remote_socket: if listens { LISTENER } else { SocketId(REMOTE_SOCKETS + i as u32) },
                rebinds: 0,
            }
        };
        let common = |[up, down]: &[Conditions; 2]| {
            [Wire::new(up.clone(), rng.fork(900)), Wire::new(down.clone(), rng.fork(901))]
        };
        Self {
            paths: conditions.iter().enumerate().map(path).collect(),
            shared: shared.map(common),
            strays: 0,
            to_strangers: 0,
            sent: 0,
            digest: 0,
            heap: BinaryHeap::new(),
            order: 0,
            coalesce,
            free: Vec::new(),
        }
    }

    /// Lets `event` happen at `at`.
    pub fn schedule(&mut self, at: Instant, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order, event }));
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next event.
    pub fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse(entry)| entry.event)
    }

    /// Takes the next event if it is another arrival of the same train.
    pub fn pop_same(
        &mut self,
        now: Instant,
        end: End,
        from: usize,
        source: SocketAddr,
    ) -> Option<Box<Datagram>> {
        let Some(Reverse(Entry { at, event: Event::Arrival { to, path, datagram }, .. })) = self.heap.peek()
        else {
            return None;
        };
        if *at != now || *to != end || *path != from || datagram.source != source {
            return None;
        }
        match self.pop() {
            Some(Event::Arrival { datagram, .. }) => Some(datagram),
            _ => None,
        }
    }

    /// An end sends a datagram from one of its sockets.
    pub fn send(&mut self, now: Instant, from: End, socket: SocketId, target: SocketAddr, bytes: &[u8]) {
        self.sent += 1;
        let path = match from {
            End::Local => self
                .paths
                .get(socket.0 as usize)
                .filter(|path| path.remote == target)
                .map(|_| socket.0 as usize),
            End::Remote => {
                self.paths.iter().position(|path| path.mapped == target && path.remote_socket == socket)
            }
        };
        self.note(now, path.unwrap_or(99), from, bytes.len());
        let Some(index) = path else {
            if target == Self::STRANGER {
                self.to_strangers += 1
            } else {
                self.strays += 1
            }
            return;
        };
        let path = &self.paths[index];
        let source = if from == End::Local { path.mapped } else { path.remote };
        let empty = || Box::new(Datagram { bytes: Vec::new(), source, path: index });
        let mut datagram = self.free.pop().unwrap_or_else(empty);
        datagram.bytes.clear();
        datagram.bytes.extend_from_slice(bytes);
        (datagram.source, datagram.path) = (source, index);
        self.enter(now, Some(index), from, datagram);
    }

    /// The wire of a path, or with `None` the one that all share.
    fn wire(&mut self, path: Option<usize>, from: End) -> Option<&mut Wire> {
        let wires = match path {
            Some(path) => Some(&mut self.paths[path].wires),
            None => self.shared.as_mut(),
        };
        wires.map(|wires| &mut wires[from as usize])
    }

    fn enter(&mut self, now: Instant, path: Option<usize>, from: End, datagram: Box<Datagram>) {
        let Some(wire) = self.wire(path, from) else { return };
        match wire.offer(now, datagram) {
            Ok(Some(at)) => self.schedule(at, Event::Departure(path, from)),
            Ok(None) => {}
            Err(lost) => self.free.push(lost),
        }
    }

    /// Handles [`Event::Onward`].
    pub fn onward(&mut self, now: Instant, from: End, datagram: Box<Datagram>) {
        self.enter(now, None, from, datagram);
    }

    /// Handles [`Event::Departure`].
    pub fn depart(&mut self, now: Instant, path: Option<usize>, from: End) {
        let Some(departed) = self.wire(path, from).and_then(|wire| wire.depart(now)) else { return };
        let Departed { arrivals: [first, second], datagram, next } = departed;
        if let Some(at) = second {
            self.pass(at, path, from, datagram.clone());
        }
        match first {
            Some(at) => self.pass(at, path, from, datagram),
            None => self.free.push(datagram),
        }
        if let Some(at) = next {
            self.schedule(at, Event::Departure(path, from));
        }
    }

    /// A datagram has passed a wire: it arrives, or reaches the next wire.
    fn pass(&mut self, at: Instant, passed: Option<usize>, from: End, datagram: Box<Datagram>) {
        if passed.is_some() && self.shared.is_some() {
            return self.schedule(at, Event::Onward(from, datagram));
        }
        let (to, path) = (from.other(), datagram.path);
        self.schedule(self.rounded(at), Event::Arrival { to, path, datagram });
    }

    /// Takes a datagram back that was read.
    pub fn recycle(&mut self, datagram: Box<Datagram>) {
        self.free.push(datagram);
    }

    /// The NAT before the local portal forgets the path's mapping and makes another.
    pub fn rebind(&mut self, path: usize) {
        let path = &mut self.paths[path];
        path.rebinds += 1;
        path.mapped.set_port(40_000 + path.rebinds);
    }

    /// Begins to count anew.
    pub fn forget(&mut self) {
        (self.strays, self.to_strangers, self.sent) = (0, 0, 0);
        let wires = self.paths.iter_mut().flat_map(|path| &mut path.wires);
        wires.chain(self.shared.iter_mut().flatten()).for_each(Wire::forget);
    }

    /// Interrupts come at most once in a while, and bring what has gathered.
    fn rounded(&self, at: Instant) -> Instant {
        let step = self.coalesce.as_nanos() as u64;
        if step == 0 { at } else { Instant::from_nanos(at.as_nanos().next_multiple_of(step)) }
    }

    fn note(&mut self, now: Instant, path: usize, from: End, len: usize) {
        let mut rng = Rng::new(
            self.digest ^ now.as_nanos().rotate_left(20) ^ (path << 17 | (from as usize) << 16 | len) as u64,
        );
        self.digest = rng.next();
    }
}
