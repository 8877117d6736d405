//! What one link has received and when to say so.

use std::time::Duration;

use crate::core::load_wire::Arrivals;
use crate::core::rtt::{INITIAL_RTT, MIN_ACK_DELAY, ack_delay};
use crate::core::units::{Instant, expand32};
use crate::core::wire::{ACK_DELAY_UNIT, ACK_MAX_WORDS, Ack};

/// Datagrams after which one goes at any rate: more would let a fast sender's window run dry in steps.
const ACK_EVERY: u32 = 128;
/// Acknowledgements in which each number is repeated, so that three in a row may be lost.
const REPEATS: usize = 4;
/// Numbers remembered: as far back as an acknowledgement can speak.
const HISTORY: u64 = 32 * ACK_MAX_WORDS as u64;

/// The receiving half of a link: collects sequence numbers, gives acknowledgements.
pub struct Receiver {
    /// Largest number received plus one.
    next: u64,
    largest_time: Instant,
    seen: [u64; (HISTORY / 64) as usize],
    /// `next` at the last acknowledgements, oldest first: what lies below the first was told often enough.
    told: [u64; REPEATS],
    unacknowledged: u32,
    arrivals: Arrivals,
    due: Option<Instant>,
    delay: Duration,
    /// When the last acknowledgement left, and the shortest time until the next.
    told_at: Instant,
    spacing: Duration,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            next: 0,
            largest_time: Instant::ZERO,
            seen: [0; (HISTORY / 64) as usize],
            told: [0; REPEATS],
            unacknowledged: 0,
            arrivals: Arrivals::default(),
            due: None,
            delay: ack_delay(INITIAL_RTT),
            told_at: Instant::ZERO,
            spacing: Duration::ZERO,
        }
    }
}

impl Receiver {
    /// Whether no datagram of this number came in, as far as that is remembered.
    pub fn is_new(&self, low: u32) -> bool {
        let sequence = expand32(self.next, low);
        let (word, bit) = Self::place(sequence);
        sequence >= self.next || sequence + HISTORY >= self.next && self.seen[word] & bit == 0
    }

    /// Takes the sequence number of an authentic, new datagram. `now_please`: the sender asks for an
    /// acknowledgement at once.
    pub fn on_received(&mut self, now: Instant, low: u32, now_please: bool) {
        let sequence = expand32(self.next, low);
        let in_order = sequence == self.next;
        self.arrivals.all = self.arrivals.all.wrapping_add(1);
        self.arrivals.late = self.arrivals.late.wrapping_add(u32::from(sequence < self.next));
        if sequence >= self.next {
            self.clear(self.next.max(sequence.saturating_sub(HISTORY - 1)), sequence);
            self.next = sequence + 1;
            self.largest_time = now;
        } else if sequence + HISTORY < self.next {
            return;
        }
        let (word, bit) = Self::place(sequence);
        self.seen[word] |= bit;
        self.unacknowledged += 1;
        // A gap, or the filling of one, is news that the sender's loss detection waits for. A run of them
        // is told every MIN_ACK_DELAY.
        let wait = match () {
            () if now_please || self.unacknowledged >= ACK_EVERY => Duration::ZERO,
            () if !in_order => MIN_ACK_DELAY,
            () => self.delay,
        };
        let due = if now_please { now } else { (now + wait).max(self.told_at + self.spacing) };
        self.due = Some(self.due.map_or(due, |at| at.min(due)));
    }

    /// Sets the wait from the link's round-trip time, and the shortest time between two acknowledgements.
    pub fn set_rtt(&mut self, rtt: Duration, spacing: Duration) {
        (self.delay, self.spacing) = (ack_delay(rtt), spacing);
    }

    /// Low half of the largest number received.
    pub fn largest(&self) -> Option<u32> {
        self.next.checked_sub(1).map(|largest| largest as u32)
    }

    /// How many came in, in order and not.
    pub fn arrivals(&self) -> Arrivals {
        self.arrivals
    }

    /// When an acknowledgement is due; `None` if there is nothing to tell.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The acknowledgement, if it is due.
    pub fn take_ack(&mut self, now: Instant) -> Option<Ack> {
        self.due.take_if(|due| *due <= now)?;
        (self.unacknowledged, self.told_at) = (0, now);
        let largest = self.next - 1;
        let covered = (largest - self.told[0].min(largest)).clamp(1, HISTORY - 1).next_multiple_of(32);
        self.told.rotate_left(1);
        self.told[REPEATS - 1] = self.next;
        let mut ack = Ack {
            largest: largest as u32,
            delay: (now.since(self.largest_time).as_nanos() as u64 / ACK_DELAY_UNIT).min(u16::MAX.into())
                as u16,
            ce: 0,
            words: (covered / 32) as u8,
            nack: [0; ACK_MAX_WORDS],
        };
        for below in 1..=covered {
            let seen = largest.checked_sub(below).is_some_and(|sequence| {
                let (word, bit) = Self::place(sequence);
                below < HISTORY && self.seen[word] & bit != 0
            });
            if !seen {
                ack.set_missing(below);
            }
        }
        Some(ack)
    }

    fn place(sequence: u64) -> (usize, u64) {
        ((sequence % HISTORY / 64) as usize, 1 << (sequence % 64))
    }

    fn clear(&mut self, from: u64, to: u64) {
        for sequence in from..=to {
            let (word, bit) = Self::place(sequence);
            self.seen[word] &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn a_number_is_new_until_it_came_or_is_forgotten() {
        let mut r = Receiver::default();
        assert!(r.is_new(0) && r.is_new(7));
        for number in (0..3_000).filter(|number| *number != 2_500) {
            r.on_received(at(0), number, false);
        }
        assert!(r.is_new(3_000) && r.is_new(2_500));
        assert!(!r.is_new(2_999) && !r.is_new(2_400) && !r.is_new(10), "too old to tell is not new");
    }

    #[test]
    fn in_order_data_waits_an_eighth_of_the_rtt() {
        let mut receiver = Receiver::default();
        receiver.set_rtt(Duration::from_millis(40), Duration::ZERO);
        receiver.on_received(at(10), 0, false);
        receiver.on_received(at(12), 1, false);
        assert_eq!(receiver.due(), Some(at(15)));
        assert!(receiver.take_ack(at(14)).is_none());
        let ack = receiver.take_ack(at(15)).expect("due");
        assert_eq!((ack.largest, ack.words, ack.delay), (1, 1, 187));
        assert!(!ack.is_missing(1) && ack.is_missing(2));
        assert_eq!(receiver.due(), None);
    }

    #[test]
    fn a_gap_a_request_and_many_hurry() {
        let mut receiver = Receiver::default();
        receiver.on_received(at(1), 0, false);
        receiver.on_received(at(1), 2, false);
        assert_eq!(receiver.due(), Some(at(2)));
        receiver.on_received(at(1), 3, true);
        assert_eq!(receiver.due(), Some(at(1)));
        receiver.take_ack(at(1));
        for low in 4..4 + ACK_EVERY {
            receiver.on_received(at(5), low, false);
        }
        assert_eq!(receiver.due(), Some(at(5)));
    }

    #[test]
    fn every_number_is_told_in_four_acknowledgements() {
        let mut receiver = Receiver::default();
        let mut told = vec![0; 1_000];
        for group in 0..10u32 {
            (group * 100..(group + 1) * 100).for_each(|low| receiver.on_received(at(1), low, true));
            let ack = receiver.take_ack(at(1)).expect("asked for");
            (0..=ack.covered()).filter(|&below| below <= ack.largest.into()).for_each(|below| {
                told[(u64::from(ack.largest) - below) as usize] += 1;
            });
        }
        assert!(told[..700].iter().all(|&times| times >= REPEATS), "{told:?}");
    }

    proptest! {
        /// What an acknowledgement covers, it tells truly.
        #[test]
        fn an_ack_is_true(steps in proptest::collection::vec((0u64..40, 0u64..60, any::<bool>()), 1..300)) {
            let mut receiver = Receiver::default();
            let (mut seen, mut top) = (BTreeSet::new(), 0u64);
            for (forward, back, take) in steps {
                let sequence = (top + forward).saturating_sub(back);
                receiver.on_received(at(1), sequence as u32, true);
                seen.insert(sequence);
                top = top.max(sequence + 1);
                if !take { continue; }
                let ack = receiver.take_ack(at(1)).expect("asked for");
                prop_assert_eq!(u64::from(ack.largest), top - 1);
                for below in 1..=ack.covered() {
                    let told = ack.is_missing(below);
                    prop_assert_eq!(told, (top - 1).checked_sub(below).is_none_or(|n| !seen.contains(&n)));
                }
            }
        }

        #[test]
        fn no_numbers_panic(numbers in proptest::collection::vec(any::<u32>(), 1..100)) {
            let mut receiver = Receiver::default();
            for (i, low) in numbers.into_iter().enumerate() {
                receiver.on_received(at(i as u64), low, i % 3 == 0);
                receiver.take_ack(at(i as u64));
            }
        }
    }
}
