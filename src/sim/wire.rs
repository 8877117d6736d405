//! One direction of a link: a bottleneck with a drop-tail queue, then a way that takes time and loses some.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::rng::Rng;
use crate::core::units::{Instant, Rate};

/// IPv4 and UDP headers around each datagram.
pub const OUTER_HEADERS: usize = 28;
/// The queue of a bottleneck unless told otherwise, as time at its rate: a home router's.
const QUEUE_TIME: Duration = Duration::from_millis(100);
/// No queue is smaller than about 40 full datagrams.
const QUEUE_MIN: u64 = 64_000;

/// What a wire is like. All of it may be changed during a run.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Rate of the bottleneck, outer headers included.
    pub rate: Rate,
    /// Bytes its queue holds; `None`: 100 ms of the rate, at least 64 kB.
    pub queue: Option<u64>,
    /// Time from the bottleneck to the other end.
    pub delay: Duration,
    /// At most so much is added to the delay, evenly spread.
    pub jitter: Duration,
    /// Jitter may change the order.
    pub reorders: bool,
    /// What arrives waits for the end of such a slot, as in a radio cell; zero: it does not.
    pub slot: Duration,
    /// What it drops before the bottleneck though there is room.
    pub policer: Option<Policer>,
    /// What is lost behind the bottleneck.
    pub loss: Loss,
    /// Probability that a datagram comes twice.
    pub duplicate: f64,
    /// Nothing passes.
    pub cut: bool,
    /// Longest datagram that passes, bytes.
    pub max_datagram: usize,
}

/// A token bucket that drops what exceeds a contract, instead of letting it wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policer {
    /// What passes in the long run, outer headers included.
    pub rate: Rate,
    /// Bytes that pass at once after a quiet time.
    pub burst: u64,
}

/// Loss of a wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// None.
    None,
    /// Each datagram with this probability.
    Random(f64),
    /// Runs of datagrams (Gilbert): probabilities that a run of losses begins and that it ends.
    Bursts {
        /// That a run begins at a datagram.
        begin: f64,
        /// That it ends at a datagram; its inverse is the mean length.
        end: f64,
    },
}

impl Loss {
    /// Share of datagrams that are lost in the long run.
    pub fn share(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Random(p) => p,
            Self::Bursts { begin, end } => begin / (begin + end),
        }
    }
}

impl Conditions {
    /// A clean wire of so many Mbit/s and milliseconds one way.
    pub fn new(mbit: f64, delay_ms: f64) -> Self {
        Self {
            rate: Rate::from_bytes_per_second((mbit * 125_000.0) as u64),
            queue: None,
            delay: Duration::from_secs_f64(delay_ms / 1e3),
            jitter: Duration::ZERO,
            reorders: false,
            slot: Duration::ZERO,
            policer: None,
            loss: Loss::None,
            duplicate: 0.0,
            cut: false,
            max_datagram: 1472,
        }
    }

    /// With this loss.
    pub fn loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// With up to `ms` of jitter that keeps the order.
    pub fn jitter(self, ms: f64) -> Self {
        Self { jitter: Duration::from_secs_f64(ms / 1e3), reorders: false, ..self }
    }

    /// With up to `ms` of jitter that changes the order.
    pub fn reordering(self, ms: f64) -> Self {
        Self { reorders: true, ..self.jitter(ms) }
    }

    /// With arrivals at the ends of slots of `ms` only.
    pub fn slots(self, ms: f64) -> Self {
        Self { slot: Duration::from_secs_f64(ms / 1e3), ..self }
    }

    /// With a policer of so many Mbit/s that lets `burst` bytes pass at once.
    pub fn policed(self, mbit: f64, burst: u64) -> Self {
        let rate = Rate::from_bytes_per_second((mbit * 125_000.0) as u64);
        Self { policer: Some(Policer { rate, burst }), ..self }
    }

    /// With a queue that holds `ms` of the rate.
    pub fn queue_ms(self, ms: f64) -> Self {
        let queue = self.rate.bytes_in(Duration::from_secs_f64(ms / 1e3));
        Self { queue: Some(queue.max(3_000)), ..self }
    }

    /// With this probability that a datagram comes twice.
    pub fn duplicate(self, duplicate: f64) -> Self {
        Self { duplicate, ..self }
    }

    /// With IP packets of at most so many bytes; longer ones vanish without a word.
    pub fn mtu(self, mtu: usize) -> Self {
        Self { max_datagram: mtu - OUTER_HEADERS, ..self }
    }

    fn queue_limit(&self) -> u64 {
        self.queue.unwrap_or_else(|| self.rate.bytes_in(QUEUE_TIME).max(QUEUE_MIN))
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// What was sent.
    pub bytes: Vec<u8>,
    /// Address of the sender as the receiver sees it.
    pub source: SocketAddr,
    /// The path it takes.
    pub path: usize,
}

/// What a wire did, since the last [`Wire::forget`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Datagrams sent into it.
    pub offered: u64,
    /// Bytes sent into it, outer headers included.
    pub offered_bytes: u64,
    /// Datagrams that found the queue full, or that the policer dropped.
    pub overflowed: u64,
    /// Datagrams lost otherwise.
    pub lost: u64,
    /// Most bytes that waited.
    pub peak_queue: u64,
}

/// One direction of a link.
pub struct Wire {
    /// What it is like now.
    pub conditions: Conditions,
    /// What it did.
    pub tally: Tally,
    rng: Rng,
    waiting: VecDeque<Box<Datagram>>,
    waiting_bytes: u64,
    losing: bool,
    last_arrival: Instant,
    /// When the policer's bucket will be full again.
    full_at: Instant,
}

/// What came out of the bottleneck.
pub struct Departed {
    /// When it arrives, once or twice; empty if it is lost.
    pub arrivals: [Option<Instant>; 2],
    /// The datagram.
    pub datagram: Box<Datagram>,
    /// When the next one leaves the bottleneck.
    pub next: Option<Instant>,
}

impl Wire {
    /// An empty wire.
    pub fn new(conditions: Conditions, rng: Rng) -> Self {
        Self {
            conditions,
            tally: Tally::default(),
            rng,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            losing: false,
            last_arrival: Instant::ZERO,
            full_at: Instant::ZERO,
        }
    }

    /// Sends a datagram into it. Gives when [`Wire::depart`] is to be called, if that is not known yet, or
    /// the datagram if it is lost at once.
    pub fn offer(&mut self, now: Instant, datagram: Box<Datagram>) -> Result<Option<Instant>, Box<Datagram>> {
        let size = size_of(&datagram);
        self.tally.offered += 1;
        self.tally.offered_bytes += size;
        if self.conditions.cut || datagram.bytes.len() > self.conditions.max_datagram {
            self.tally.lost += 1;
            return Err(datagram);
        }
        if !self.conforms(now, size) {
            self.tally.overflowed += 1;
            return Err(datagram);
        }
        // The one that is being sent does not count, and there is always room for one.
        if self.waiting.len() > 1 && self.waiting_bytes + size > self.conditions.queue_limit() {
            self.tally.overflowed += 1;
            return Err(datagram);
        }
        self.waiting_bytes += size;
        self.tally.peak_queue = self.tally.peak_queue.max(self.waiting_bytes);
        self.waiting.push_back(datagram);
        Ok((self.waiting.len() == 1).then(|| now + self.conditions.rate.duration_of(size)))
    }

    /// The first of the queue leaves the bottleneck.
    pub fn depart(&mut self, now: Instant) -> Option<Departed> {
        let datagram = self.waiting.pop_front()?;
        self.waiting_bytes -= size_of(&datagram);
        let next =
            self.waiting.front().map(|datagram| now + self.conditions.rate.duration_of(size_of(datagram)));
        let mut arrivals = [None, None];
        if self.conditions.cut || self.loses() {
            self.tally.lost += 1;
        } else {
            arrivals[0] = Some(self.arrival(now));
            if self.rng.chance(self.conditions.duplicate) {
                arrivals[1] = Some(self.arrival(now));
            }
        }
        Some(Departed { arrivals, datagram, next })
    }

    /// Begins to count anew.
    pub fn forget(&mut self) {
        self.tally = Tally::default();
    }

    /// Takes tokens for so many bytes, if the policer has them (the virtual scheduling algorithm of ITU-T I.371).
    fn conforms(&mut self, now: Instant, size: u64) -> bool {
        let Some(Policer { rate, burst }) = self.conditions.policer else { return true };
        let full_at = self.full_at.max(now) + rate.duration_of(size);
        let conforms = full_at.since(now) <= rate.duration_of(burst);
        if conforms {
            self.full_at = full_at;
        }
        conforms
    }

    fn loses(&mut self) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random(p) => self.rng.chance(p),
            Loss::Bursts { begin, end } => {
                self.losing = if self.losing { !self.rng.chance(end) } else { self.rng.chance(begin) };
                self.losing
            }
        }
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let at = now + self.conditions.delay + self.conditions.jitter.mul_f64(self.rng.unit());
        let at = if self.conditions.reorders { at } else { at.max(self.last_arrival) };
        self.last_arrival = at;
        match self.conditions.slot.as_nanos() as u64 {
            0 => at,
            slot => Instant::from_nanos(at.as_nanos().next_multiple_of(slot)),
        }
    }
}

fn size_of(datagram: &Datagram) -> u64 {
    (datagram.bytes.len() + OUTER_HEADERS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram() -> Box<Datagram> {
        Box::new(Datagram { bytes: vec![0; 972], source: ([127, 0, 0, 1], 1).into(), path: 0 })
    }

    /// Sends 1,000 bytes a millisecond for `count` milliseconds into `conditions`; gives when they arrive.
    fn run(conditions: Conditions, count: u64) -> (Vec<Instant>, Tally) {
        let mut wire = Wire::new(conditions, Rng::new(1));
        let (mut arrived, mut next) = (Vec::new(), None);
        for i in 0..count + 10_000 {
            let now = Instant::from_nanos(i * 1_000_000);
            while let Some(at) = next.filter(|at| *at <= now) {
                let departed = wire.depart(at).expect("it waits");
                arrived.extend(departed.arrivals.into_iter().flatten());
                next = departed.next;
            }
            if i < count
                && let Ok(Some(at)) = wire.offer(now, datagram())
            {
                next = Some(at);
            }
        }
        (arrived, wire.tally)
    }

    #[test]
    fn a_bottleneck_passes_its_rate_and_its_queue_overflows() {
        // 8 Mbit/s are offered to 4.
        let (arrived, tally) = run(Conditions::new(4.0, 10.0).queue_ms(50.0), 2_000);
        assert_eq!(arrived[0], Instant::from_nanos(12_000_000));
        assert_eq!(arrived[100].since(arrived[0]), Duration::from_millis(200));
        assert_eq!(tally.overflowed + arrived.len() as u64, 2_000);
        assert!((1_000..1_030).contains(&arrived.len()), "{}", arrived.len());
        assert!(tally.peak_queue <= 26_000);
    }

    #[test]
    fn loss_comes_as_often_as_told() {
        for loss in [Loss::Random(0.05), Loss::Bursts { begin: 0.01, end: 0.2 }] {
            let (arrived, tally) = run(Conditions::new(100.0, 10.0).loss(loss), 20_000);
            assert_eq!(arrived.len() as u64 + tally.lost, 20_000);
            let share = tally.lost as f64 / 20_000.0;
            assert!((share / loss.share() - 1.0).abs() < 0.2, "{share} of {loss:?}");
        }
    }

    #[test]
    fn a_policer_passes_a_burst_and_then_its_rate() {
        // 8 Mbit/s are offered for two seconds to a line of 100 that is policed to 4.
        let (arrived, tally) = run(Conditions::new(100.0, 10.0).policed(4.0, 50_000), 2_000);
        assert_eq!(tally.overflowed + arrived.len() as u64, 2_000);
        assert!((1_040..=1_052).contains(&arrived.len()), "{}", arrived.len());
        assert!(arrived[90].since(arrived[0]) < Duration::from_millis(91), "the burst");
        assert!(arrived[1_000].since(arrived[500]) >= Duration::from_millis(995), "the rate");
    }

    #[test]
    fn arrivals_wait_for_the_end_of_a_slot() {
        let (arrived, _) = run(Conditions::new(100.0, 12.0).slots(5.0), 100);
        assert_eq!(arrived[0], Instant::from_nanos(15_000_000));
        assert!(arrived.iter().all(|at| at.as_nanos().is_multiple_of(5_000_000)));
    }

    #[test]
    fn jitter_keeps_the_order_unless_told_otherwise() {
        let ordered = |arrived: &[Instant]| arrived.is_sorted();
        assert!(ordered(&run(Conditions::new(100.0, 10.0).jitter(5.0), 1_000).0));
        assert!(!ordered(&run(Conditions::new(100.0, 10.0).reordering(5.0), 1_000).0));
    }

    #[test]
    fn a_cut_wire_passes_nothing_and_some_come_twice() {
        let cut = Conditions { cut: true, ..Conditions::new(100.0, 10.0) };
        assert!(run(cut, 100).0.is_empty());
        let twice = run(Conditions::new(100.0, 10.0).duplicate(0.5), 1_000).0.len();
        assert!((1_400..1_600).contains(&twice), "{twice}");
    }
}
