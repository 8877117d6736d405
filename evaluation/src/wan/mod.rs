//! The WAN emulator: layer-2 wires between pairs of interfaces, in user space.
//!
//! ```text
//!        local portal's side                            Internet router's side
//!   wan0 ===veth=== a0 [packet socket]  ->  queue, rate, delay  ->  [packet socket] b0 ===veth===
//!                                       <-  delay, rate, queue  <-
//! ```
//!
//! Every frame that one end receives leaves the other, after what the direction's [`Conditions`]
//! say. One thread carries all wires. Conditions change while it runs; counters are read from
//! anywhere. `tc netem` is not needed, and cuts, changes and statistics are ours to the packet.
//!
//! The interfaces at the far sides of the veth pairs must have their offloads off, or frames here
//! would be super-packets without checksums; the lab sees to that.

mod conditions;
mod counters;
mod engine;
mod frame;
mod kernel;
mod pipe;
mod random;

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::Serialize;

pub use conditions::{Conditions, GilbertElliott, Loss, Queue};
pub use counters::Counters;

use crate::netns::Namespace;
use counters::Tally;
use engine::Engine;
use kernel::{InterfaceControl, PacketSocket};

/// The most wires that one emulator carries: its thread keeps a bit for each direction.
pub const MAX_WIRES: usize = 32;

/// The two directions of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From side A, the local portal, to side B, the Internet.
    Up,
    /// From side B to side A.
    Down,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

impl Display for Direction {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// The interfaces of one wire and how it begins.
#[derive(Clone, Debug)]
pub struct WireSpec {
    /// The interface of side A.
    pub a: String,
    /// The interface of side B.
    pub b: String,
    /// The direction from A to B.
    pub up: Conditions,
    /// The direction from B to A.
    pub down: Conditions,
}

/// A running emulator; dropping it ends its thread.
#[derive(Debug)]
pub struct Wan {
    wires: Vec<Wire>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The handle of one wire.
#[derive(Debug)]
pub struct Wire {
    directions: [Arc<DirectionState>; 2],
    shared: Arc<Shared>,
    control: Arc<InterfaceControl>,
    a: String,
}

impl Wan {
    /// Starts an emulator of these wires, whose interfaces are in `namespace` and up. `mtu` is
    /// the largest among them. The same `seed` gives the same losses and jitter.
    pub fn start(namespace: &Namespace, specs: &[WireSpec], mtu: u32, seed: u64) -> Result<Self> {
        anyhow::ensure!(specs.len() <= MAX_WIRES, "an emulator carries {MAX_WIRES} wires at most");
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let shared = Arc::new(Shared {
            bell,
            stop: AtomicBool::new(false),
            real_time: AtomicBool::new(false),
            cpu_nanos: AtomicU64::new(0),
        });
        let control = Arc::new(InterfaceControl::open(namespace)?);
        let mut wires = Vec::new();
        let mut ends = Vec::new();
        for spec in specs {
            let up = Arc::new(DirectionState::new(spec.up.clone()));
            let down = Arc::new(DirectionState::new(spec.down.clone()));
            ends.push([
                (PacketSocket::open(namespace, &spec.a)?, Arc::clone(&up)),
                (PacketSocket::open(namespace, &spec.b)?, Arc::clone(&down)),
            ]);
            wires.push(Wire {
                directions: [up, down],
                shared: Arc::clone(&shared),
                control: Arc::clone(&control),
                a: spec.a.clone(),
            });
        }
        let engine = Engine::new(Arc::clone(&shared), ends, mtu, seed)?;
        let thread = std::thread::Builder::new()
            .name("wan".into())
            .spawn(|| engine.run())
            .context("starting the emulator's thread")?;
        Ok(Self { wires, shared, thread: Some(thread) })
    }

    /// The handle of wire `index`, in the order given at the start.
    ///
    /// # Panics
    /// If there is no such wire.
    pub fn wire(&self, index: usize) -> &Wire {
        &self.wires[index]
    }

    /// All wires.
    pub fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// The processor time that the emulator's thread has used, in seconds. It holds what the
    /// kernel does within its sends: the router's forwarding and the receiver's TCP too.
    pub fn cpu_seconds(&self) -> f64 {
        self.shared.cpu_nanos.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Whether the thread got real-time priority, without which a busy machine delays packets.
    pub fn real_time(&self) -> bool {
        self.shared.real_time.load(Ordering::Relaxed)
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported on standard error already.
            let _ = thread.join();
        }
    }
}

impl Wire {
    /// The present conditions of a direction.
    pub fn conditions(&self, direction: Direction) -> Conditions {
        self.state(direction).read().1
    }

    /// Changes the conditions of one direction, now.
    pub fn change(&self, direction: Direction, change: impl FnOnce(&mut Conditions)) {
        self.state(direction).change(change);
        self.shared.ring();
    }

    /// Changes the conditions of both directions, now.
    pub fn change_both(&self, change: impl Fn(&mut Conditions)) {
        Direction::BOTH.iter().for_each(|&direction| self.change(direction, &change));
    }

    /// Makes the wire a silent black hole in both directions, or a wire again.
    pub fn cut(&self, cut: bool) {
        self.change_both(|conditions| conditions.cut = cut);
    }

    /// Takes the carrier from the interface on side A (the local portal's) or gives it back.
    pub fn carrier(&self, carrier: bool) -> Result<()> {
        self.control.set_up(&self.a, carrier)
    }

    /// The counters of a direction since the start.
    pub fn counters(&self, direction: Direction) -> Counters {
        self.state(direction).tally.read()
    }

    fn state(&self, direction: Direction) -> &DirectionState {
        match direction {
            Direction::Up => &self.directions[0],
            Direction::Down => &self.directions[1],
        }
    }
}

/// What the thread and the handles share.
#[derive(Debug)]
struct Shared {
    bell: EventFd,
    stop: AtomicBool,
    real_time: AtomicBool,
    cpu_nanos: AtomicU64,
}

impl Shared {
    /// Wakes the thread.
    fn ring(&self) {
        // Fails only when the bell has rung 2^64 times unheard.
        let _ = self.bell.write(1);
    }
}

/// One direction as the handles see it.
#[derive(Debug)]
struct DirectionState {
    conditions: Mutex<Conditions>,
    /// Counts changes, so that the thread takes the lock only after one.
    generation: AtomicU64,
    tally: Arc<Tally>,
}

impl DirectionState {
    fn new(conditions: Conditions) -> Self {
        Self { conditions: Mutex::new(conditions), generation: AtomicU64::new(0), tally: Arc::default() }
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) {
        let mut conditions = self.lock();
        change(&mut conditions);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn read(&self) -> (u64, Conditions) {
        let conditions = self.lock();
        (self.generation(), conditions.clone())
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Conditions> {
        // A change that panicked half-way has at worst set some of the fields.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
