//! One-way delay of a link of the peer, up to what all links have in common.
//!
//! Every datagram tells when it left by one clock of the peer's for all links. The time between that and its arrival
//! by our clock is the delay plus what the clocks differ by, which is the same for all links: so the difference of
//! two links is known although the clocks are not set to each other. The timestamps count µs; but what is sent or
//! read in one go bears one time, and the clocks drift apart by some µs a second, so a difference is good to about
//! a millisecond.

use std::time::Duration;

use crate::core::units::Instant;

/// The least delay of the present and of the last window counts: time enough for queues to have been empty once.
const WINDOW: Duration = Duration::from_secs(5);
/// An idle link says something every 25 s; what is older than this is not believed any more.
const LASTS: Duration = Duration::from_secs(60);
/// Timestamps have 24 bits.
const CLOCK: u32 = 1 << 24;

/// The least delay of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneWayDelay {
    current: Option<Apparent>,
    before: Option<Apparent>,
    since: Instant,
    last: Instant,
}

/// Arrival by our clock less departure by the peer's: µs modulo 2²⁴, so only a difference of two says something,
/// if it is less than 8 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apparent(u32);

impl Apparent {
    /// How much longer than `other`; negative if it is shorter. µs.
    pub fn beyond(self, other: Self) -> i32 {
        let difference = self.0.wrapping_sub(other.0) % CLOCK;
        if difference < CLOCK / 2 { difference as i32 } else { difference as i32 - CLOCK as i32 }
    }

    fn least(self, other: Option<Self>) -> Self {
        other.filter(|other| other.beyond(self) < 0).unwrap_or(self)
    }
}

impl OneWayDelay {
    /// A datagram with this `timestamp` came in.
    pub fn on_received(&mut self, now: Instant, timestamp: u32) {
        let age = now.since(self.since);
        if age >= WINDOW {
            self.before = self.current.take().filter(|_| age < 2 * WINDOW);
            self.since = now;
        }
        self.last = now;
        let apparent = Apparent(now.micros24().wrapping_sub(timestamp) % CLOCK);
        self.current = Some(apparent.least(self.current));
    }

    /// The least of the last seconds; `None` if nothing came in for long.
    pub fn least(&self, now: Instant) -> Option<Apparent> {
        let current = self.current.filter(|_| now.since(self.last) < LASTS)?;
        Some(current.least(self.before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn receive(delay: &mut OneWayDelay, arrived: u64, took: u64) {
        delay.on_received(at(arrived), at(arrived - took).micros24());
    }

    #[test]
    fn the_least_delay_of_the_last_seconds_counts() {
        let (mut near, mut far) = (OneWayDelay::default(), OneWayDelay::default());
        assert_eq!(near.least(at(0)), None);
        // The timestamps wrap within this time.
        for now in (16_000..22_000).step_by(10) {
            receive(&mut near, now, 20 + now % 30);
            receive(&mut far, now, 70 + now % 50);
        }
        let (a, b) = (near.least(at(22_000)).expect("known"), far.least(at(22_000)).expect("known"));
        assert_eq!((b.beyond(a), a.beyond(b)), (50_000, -50_000));
        for now in (22_000..34_000).step_by(10) {
            receive(&mut far, now, 200);
        }
        assert_eq!(far.least(at(34_000)).map(|b| b.beyond(a)), Some(180_000));
        assert_eq!(near.least(at(90_000)), None);
    }

    #[test]
    fn an_idle_link_is_known_by_its_last_word() {
        let mut idle = OneWayDelay::default();
        receive(&mut idle, 1_000, 10);
        let first = idle.least(at(1_000)).expect("known");
        receive(&mut idle, 26_000, 40);
        assert_eq!(idle.least(at(50_000)).map(|now| now.beyond(first)), Some(30_000));
    }

    proptest! {
        #[test]
        fn any_timestamp_is_taken(first in 0..CLOCK, second in 0..CLOCK, now in 0u64..1 << 50) {
            let (mut a, mut b, now) = (OneWayDelay::default(), OneWayDelay::default(), Instant::from_nanos(now));
            a.on_received(now, first);
            b.on_received(now, second);
            if let (Some(a), Some(b)) = (a.least(now), b.least(now)) {
                prop_assert!(((a.beyond(b) + b.beyond(a)) as u32).is_multiple_of(CLOCK));
            }
        }
    }
}
