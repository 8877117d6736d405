//! The emulator's thread: all wires, one loop.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::time::{ClockId, clock_gettime};

use super::counters::{Drop, Tally};
use super::frame::{Frame, Pool};
use super::kernel::{BATCH, PacketSocket, Sent, be_punctual, receive_batch};
use super::pipe::{Nanos, Pipe};
use super::{DirectionState, Shared};

/// The thread wakes at most once in this time, so that many frames share a wake-up. It bounds the
/// lateness of deliveries under load; a lone packet does not meet it.
const MODERATION: Duration = Duration::from_micros(100);

/// A virtual machine's timers wake a thread 50 to 100 µs late (measured). After a rest, the thread
/// therefore wakes so much early and spins; a busy one makes deliveries as they become due.
const EARLY: Duration = Duration::from_micros(90);

/// How long a thread has rested that can afford to spin: at most 9 % of the time.
const RESTED: Duration = Duration::from_millis(1);

/// The kernel says when a frame arrived. Beyond this age it has stepped its clock.
const OLDEST: Duration = Duration::from_millis(100);

/// How often the thread tells the processor time it used, and what its sockets missed.
const TELL_EVERY: Nanos = 50_000_000;

/// How much one socket may bring in one turn, before others have theirs.
const BATCHES_PER_TURN: usize = 4;

pub(super) struct Engine {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    pool: Pool,
    incoming: [Frame; BATCH],
    start: Instant,
}

/// One direction of a wire with its two sockets.
struct Lane {
    /// Index of the socket in `Engine::lanes` order that frames leave through: the wire's other
    /// lane receives there.
    exit: usize,
    entry: PacketSocket,
    pipe: Pipe<Frame>,
    state: Arc<DirectionState>,
    generation: u64,
    outgoing: Vec<Frame>,
}

impl Engine {
    /// `wires` are the sockets of the two sides of each wire and its two directions' state,
    /// A to B first.
    pub(super) fn new(
        shared: Arc<Shared>,
        wires: Vec<[(PacketSocket, Arc<DirectionState>); 2]>,
        mtu: u32,
        seed: u64,
    ) -> Result<Self> {
        let mut pool = Pool::new(mtu);
        let incoming = receive_batch(&mut pool)?;
        let mut lanes = Vec::new();
        for (entry, state) in wires.into_iter().flatten() {
            let index = lanes.len();
            let (generation, conditions) = state.read();
            lanes.push(Lane {
                exit: index ^ 1,
                entry,
                pipe: Pipe::new(conditions, seed.wrapping_add(index as u64), Arc::clone(&state.tally)),
                state,
                generation,
                outgoing: Vec::with_capacity(BATCH),
            });
        }
        Ok(Self { shared, lanes, pool, incoming, start: Instant::now() })
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        self.shared.real_time.store(be_punctual(), Ordering::Relaxed);
        let mut told = 0;
        let mut woken = self.start;
        loop {
            let readable = self.wait(woken);
            if self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            woken = Instant::now();
            let now = woken.duration_since(self.start).as_nanos() as Nanos;
            self.take_changes(now);
            for lane in 0..self.lanes.len() {
                if readable & (1 << lane) != 0 {
                    self.receive(lane);
                }
            }
            for lane in 0..self.lanes.len() {
                self.deliver(lane, now);
            }
            if now >= told + TELL_EVERY || self.next_due().is_none() {
                told = now;
                self.tell_cpu_time();
                self.tell_missed();
            }
            if let Some(rest) = MODERATION.checked_sub(woken.elapsed()) {
                std::thread::sleep(rest);
            }
        }
    }

    /// Sleeps until a frame comes, one is due, or a handle calls; returns the lanes to receive
    /// from as bits.
    fn wait(&self, last: Instant) -> u64 {
        let due = self.next_due().map(|due| self.start + Duration::from_nanos(due));
        let Some(due) = due else {
            return self.poll(None);
        };
        let left = || due.saturating_duration_since(Instant::now());
        if due.saturating_duration_since(last) < RESTED {
            return self.poll(Some(left()));
        }
        let readable = self.poll(Some(left().saturating_sub(EARLY)));
        while readable == 0 && left() < EARLY && !left().is_zero() {
            std::hint::spin_loop();
        }
        readable
    }

    /// Waits for frames or the bell, at most so long.
    fn poll(&self, timeout: Option<Duration>) -> u64 {
        let timeout = timeout.map(TimeSpec::from_duration);
        let readable = PollFlags::POLLIN;
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(self.lanes.len() + 1);
        polled.extend(self.lanes.iter().map(|lane| PollFd::new(lane.entry.as_fd(), readable)));
        polled.push(PollFd::new(self.shared.bell.as_fd(), readable));
        // An interrupted wait looks like an early one: nothing is readable.
        if ppoll(&mut polled, timeout, None).is_err() {
            return 0;
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        if polled.last().is_some_and(ready) {
            // Its count does not matter.
            let _ = self.shared.bell.read();
        }
        let lanes = polled.iter().take(self.lanes.len()).enumerate();
        lanes.filter(|(_, fd)| ready(fd)).fold(0, |bits, (lane, _)| bits | 1 << lane)
    }

    fn next_due(&self) -> Option<Nanos> {
        self.lanes.iter().filter_map(|lane| lane.pipe.next_due()).min()
    }

    fn take_changes(&mut self, now: Nanos) {
        for lane in &mut self.lanes {
            if lane.state.generation() != lane.generation {
                let (generation, conditions) = lane.state.read();
                lane.generation = generation;
                lane.pipe.change(now, conditions);
            }
        }
    }

    fn receive(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        for _ in 0..BATCHES_PER_TURN {
            let count = lane.entry.receive(&mut self.incoming);
            let now = self.start.elapsed();
            let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            for slot in &mut self.incoming[..count] {
                let whole = slot.length < slot.buffer.len();
                match self.pool.take().filter(|_| whole) {
                    Some(fresh) => {
                        let frame = std::mem::replace(slot, fresh);
                        let length = frame.packet_length();
                        let age = since_1970.saturating_sub(frame.arrived.unwrap_or(since_1970));
                        let arrived = now.saturating_sub(age.min(OLDEST)).as_nanos() as Nanos;
                        if let Some(frame) = lane.pipe.arrive(arrived, frame, length) {
                            self.pool.give(frame);
                        }
                    }
                    None => lane.state.tally.dropped(Drop::Fault),
                }
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn deliver(&mut self, lane: usize, now: Nanos) {
        let Lane { pipe, outgoing, exit, .. } = &mut self.lanes[lane];
        let exit = *exit;
        pipe.advance(now, |frame, _| outgoing.push(frame), |frame| self.pool.give(frame));
        if outgoing.is_empty() {
            return;
        }
        let mut outgoing = std::mem::take(outgoing);
        send_all(&self.lanes[exit].entry, &outgoing, &self.lanes[lane].state.tally);
        outgoing.drain(..).for_each(|frame| self.pool.give(frame));
        self.lanes[lane].outgoing = outgoing;
    }

    fn tell_missed(&self) {
        for lane in &self.lanes {
            lane.state.tally.dropped_many(Drop::Fault, lane.entry.take_missed());
        }
    }

    fn tell_cpu_time(&self) {
        if let Ok(used) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            self.shared.cpu_nanos.store(used.num_nanoseconds() as u64, Ordering::Relaxed);
        }
    }
}

fn send_all(exit: &PacketSocket, mut frames: &[Frame], tally: &Tally) {
    while let Some(batch) = frames.get(..frames.len().min(BATCH)).filter(|batch| !batch.is_empty()) {
        let done = match exit.send(batch) {
            Sent::Frames(count) => {
                let bytes = batch[..count].iter().map(|frame| u64::from(frame.packet_length()));
                tally.carried(count as u64, bytes.sum());
                count
            }
            Sent::NoCarrier => {
                tally.dropped(Drop::Cut);
                1
            }
            Sent::Failed => {
                tally.dropped(Drop::Fault);
                1
            }
        };
        frames = &frames[done..];
    }
}
