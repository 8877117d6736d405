//! One direction of a wire: queue, rate, delay, jitter, loss. It knows no socket and no clock.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::conditions::Conditions;
use super::counters::{Drop, Tally};
use super::random::{Fate, Wander};

/// Nanoseconds since the emulator's start.
pub(super) type Nanos = u64;

/// One direction of a wire. `F` is a frame; what it holds does not matter here.
///
/// [`arrive`](Self::arrive) takes each frame that enters, with the time when it did;
/// [`advance`](Self::advance) is called at [`next_due`](Self::next_due) or any time later. Times
/// inside are exact: a late call delivers late, but what follows is not later for it.
pub(super) struct Pipe<F> {
    conditions: Conditions,
    tally: Arc<Tally>,
    /// Frames and the lengths of their IP packets; the first one is being sent.
    queue: VecDeque<(F, u32)>,
    queued_bytes: u64,
    queue_limit: u64,
    /// When the first of the queue will have been sent, or when the last one was.
    sent_at: Nanos,
    wire: BinaryHeap<OnWire<F>>,
    /// Frames lost since the last `advance`.
    lost: Vec<F>,
    entered: u64,
    last_due: Nanos,
    fate: Fate,
    wander: Wander,
}

struct OnWire<F> {
    due: Nanos,
    order: u64,
    length: u32,
    frame: F,
}

impl<F> Pipe<F> {
    pub(super) fn new(conditions: Conditions, seed: u64, tally: Arc<Tally>) -> Self {
        Self {
            queue_limit: conditions.queue_limit(),
            conditions,
            tally,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent_at: 0,
            wire: BinaryHeap::new(),
            lost: Vec::new(),
            entered: 0,
            last_due: 0,
            fate: Fate::new(seed),
            wander: Wander::new(!seed),
        }
    }

    /// Takes new conditions. The frame that is being sent goes on at the new rate.
    pub(super) fn change(&mut self, now: Nanos, conditions: Conditions) {
        let old = self.conditions.rate_bps;
        let new = conditions.rate_bps;
        if !self.queue.is_empty() && new != old {
            let left = self.sent_at.saturating_sub(now);
            let left = if new == 0 { 0.0 } else { left as f64 * old as f64 / new as f64 };
            self.sent_at = now + left as u64;
        }
        self.queue_limit = conditions.queue_limit();
        self.conditions = conditions;
    }

    /// A frame enters. It is given back when it is dropped at once.
    pub(super) fn arrive(&mut self, now: Nanos, frame: F, length: u32) -> Option<F> {
        self.serve(now);
        let drop = if self.conditions.cut {
            Some(Drop::Cut)
        } else if self.conditions.longest.is_some_and(|longest| length > longest) {
            Some(Drop::Length)
        } else if self.queued_bytes + u64::from(length) > self.queue_limit {
            Some(Drop::Queue)
        } else {
            None
        };
        if let Some(why) = drop {
            self.tally.dropped(why);
            return Some(frame);
        }
        if self.queue.is_empty() {
            self.sent_at = now.max(self.sent_at) + self.serialisation(length);
        }
        self.queue.push_back((frame, length));
        self.queued_bytes += u64::from(length);
        self.tally.queued(self.queued_bytes);
        None
    }

    /// Brings the direction to the time `now`: `deliver` gets each frame, and the length of its
    /// packet, that reaches the other side, `recycle` each one lost on the way.
    pub(super) fn advance(
        &mut self,
        now: Nanos,
        mut deliver: impl FnMut(F, u32),
        mut recycle: impl FnMut(F),
    ) {
        self.serve(now);
        self.lost.drain(..).for_each(&mut recycle);
        while self.wire.peek().is_some_and(|first| first.due <= now)
            && let Some(OnWire { frame, length, .. }) = self.wire.pop()
        {
            if self.conditions.cut {
                self.tally.dropped(Drop::Cut);
                recycle(frame);
            } else {
                deliver(frame, length);
            }
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(super) fn next_due(&self) -> Option<Nanos> {
        let sent = self.queue.front().map(|_| self.sent_at);
        let due = self.wire.peek().map(|first| first.due);
        match (sent, due) {
            (Some(sent), Some(due)) => Some(sent.min(due)),
            (sent, due) => sent.or(due),
        }
    }

    /// Sends what the rate has sent by now.
    fn serve(&mut self, now: Nanos) {
        while self.sent_at <= now
            && let Some((frame, length)) = self.queue.pop_front()
        {
            self.queued_bytes -= u64::from(length);
            if self.fate.loses(&self.conditions.loss) {
                self.tally.dropped(Drop::Loss);
                self.lost.push(frame);
            } else {
                self.enter_wire(frame, length);
            }
            if let Some(&(_, next)) = self.queue.front() {
                self.sent_at += self.serialisation(next);
            }
            self.tally.queued(self.queued_bytes);
        }
    }

    fn enter_wire(&mut self, frame: F, length: u32) {
        let jitter = self.conditions.jitter.as_nanos() as u64;
        let mut due = self.sent_at + self.conditions.delay.as_nanos() as u64;
        if jitter > 0 && self.conditions.reorder {
            due += self.wander.independent(jitter);
        } else {
            if jitter > 0 {
                due += self.wander.at(self.sent_at, jitter);
            }
            // A delay that shrinks while packets are under way does not reorder either.
            due = due.max(self.last_due);
        }
        self.last_due = due;
        self.wire.push(OnWire { due, order: self.entered, length, frame });
        self.entered += 1;
    }

    fn serialisation(&self, length: u32) -> Nanos {
        match self.conditions.rate_bps {
            0 => 0,
            rate => u64::from(length) * 8 * 1_000_000_000 / rate,
        }
    }
}

// The heap's greatest is the frame that is due first.
impl<F> Ord for OnWire<F> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl<F> PartialOrd for OnWire<F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<F> PartialEq for OnWire<F> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<F> Eq for OnWire<F> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::conditions::{Loss, Queue};
    use super::*;

    const MS: Nanos = 1_000_000;

    fn pipe(change: impl FnOnce(&mut Conditions)) -> Pipe<u32> {
        // 12 Mbit/s: a packet of 1,500 bytes takes 1 ms.
        let mut conditions = Conditions::of_rate(12_000_000);
        change(&mut conditions);
        Pipe::new(conditions, 1, Arc::new(Tally::default()))
    }

    /// Runs the pipe to its end and says what arrived when.
    fn drain(pipe: &mut Pipe<u32>) -> Vec<(Nanos, u32)> {
        let mut arrived = Vec::new();
        while let Some(due) = pipe.next_due() {
            pipe.advance(due, |frame, _| arrived.push((due, frame)), |_| ());
        }
        arrived
    }

    #[test]
    fn packets_follow_each_other_at_the_rate_after_the_delay() {
        let mut pipe = pipe(|c| c.delay = Duration::from_millis(20));
        for frame in 0..3 {
            assert_eq!(pipe.arrive(0, frame, 1_500), None);
        }
        assert_eq!(drain(&mut pipe), [(21 * MS, 0), (22 * MS, 1), (23 * MS, 2)]);
    }

    #[test]
    fn a_late_call_does_not_slow_the_rate() {
        let mut pipe = pipe(|_| ());
        for frame in 0..10 {
            pipe.arrive(0, frame, 1_500);
        }
        let mut arrived = 0;
        pipe.advance(5 * MS + MS / 2, |_, _| arrived += 1, |_| ());
        assert_eq!(arrived, 5);
        assert_eq!(pipe.next_due(), Some(6 * MS));
    }

    #[test]
    fn the_queue_holds_its_time_and_no_more() {
        let mut pipe = pipe(|c| c.queue = Queue::Time(Duration::from_millis(100)));
        let kept = (0..200).filter(|&frame| pipe.arrive(0, frame, 1_500).is_none()).count();
        assert_eq!(kept, 100);
        assert_eq!(pipe.tally.read().dropped_queue, 100);
        assert_eq!(drain(&mut pipe).last(), Some(&(100 * MS, 99)));
    }

    #[test]
    fn a_new_rate_counts_at_once() {
        let mut pipe = pipe(|_| ());
        pipe.arrive(0, 0, 1_500);
        pipe.arrive(0, 1, 1_500);
        pipe.change(MS / 2, Conditions::of_rate(6_000_000));
        assert_eq!(drain(&mut pipe), [(3 * MS / 2, 0), (7 * MS / 2, 1)]);
    }

    #[test]
    fn a_cut_swallows_what_enters_and_what_is_under_way() {
        let conditions = Conditions { delay: Duration::from_millis(20), ..Conditions::of_rate(0) };
        let mut pipe = Pipe::new(conditions.clone(), 1, Arc::new(Tally::default()));
        pipe.arrive(0, 0, 1_500);
        pipe.advance(0, |_, _| (), |_| ());
        pipe.change(MS, Conditions { cut: true, ..conditions.clone() });
        assert_eq!(pipe.arrive(2 * MS, 1, 1_500), Some(1));
        pipe.advance(30 * MS, |_, _| panic!("delivered through a cut"), |_| ());
        assert_eq!(pipe.tally.read().dropped_cut, 2);
        pipe.change(40 * MS, conditions);
        pipe.arrive(40 * MS, 2, 1_500);
        assert_eq!(drain(&mut pipe), [(60 * MS, 2)]);
    }

    #[test]
    fn what_is_too_long_vanishes() {
        let mut pipe = pipe(|c| c.longest = Some(1_400));
        assert_eq!((pipe.arrive(0, 0, 1_401), pipe.arrive(0, 1, 1_400)), (Some(0), None));
        assert_eq!(pipe.tally.read().dropped_length, 1);
    }

    #[test]
    fn jitter_reorders_only_if_it_may() {
        for reorder in [false, true] {
            let mut pipe = pipe(|c| {
                c.jitter = Duration::from_millis(10);
                c.reorder = reorder;
            });
            for frame in 0..60 {
                pipe.arrive(0, frame, 1_500);
            }
            let order: Vec<u32> = drain(&mut pipe).into_iter().map(|(_, frame)| frame).collect();
            assert_eq!(order.len(), 60);
            assert_eq!(order.is_sorted(), !reorder);
        }
    }

    #[test]
    fn a_lost_packet_has_taken_its_time() {
        let mut pipe = pipe(|c| c.loss = Loss::Random(1.0));
        pipe.arrive(0, 0, 1_500);
        let mut recycled = 0;
        pipe.advance(MS - 1, |_, _| (), |_| recycled += 1);
        assert_eq!(recycled, 0);
        pipe.advance(MS, |_, _| (), |_| recycled += 1);
        assert_eq!((recycled, pipe.tally.read().dropped_loss), (1, 1));
    }
}
