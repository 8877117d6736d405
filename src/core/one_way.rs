//! One-way delay of a link of the peer, up to what all links have in common.
//!
//! Every datagram tells when it left by one clock of the peer's for all links. The time between that and its arrival
//! by our clock is the delay plus what the clocks differ by, which is the same for all links: so the difference of
//! two links is known although the clocks are not set to each other. The timestamps count µs; but what is sent or
//! read in one go bears one time, and the clocks drift apart by some µs a second, so a difference is good to about
//! a millisecond.

use std::time::Duration;

use super::units::Instant;

/// The least delay of the present and of the last window counts: time enough for queues to have been empty once.
const WINDOW: Duration = Duration::from_secs(5);
/// An idle link says something every 25 s; what is older than this is not believed any more.
const LASTS: Duration = Duration::from_secs(60);
/// Longest change of a one-way delay that is taken for one, µs.
const MAX_JUMP: u32 = 4_000_000;
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
    /// The time from `departure` to `arrival`, each by its own clock, in µs modulo 2²⁴.
    pub fn of(departure: u32, arrival: u32) -> Self {
        Self(arrival.wrapping_sub(departure) % CLOCK)
    }

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
    /// A datagram took this long.
    pub fn take(&mut self, now: Instant, apparent: Apparent) {
        let age = now.since(self.since);
        if age >= WINDOW {
            self.before = self.current.take().filter(|_| age < 2 * WINDOW);
            self.since = now;
        }
        self.last = now;
        self.current = Some(apparent.least(self.current));
    }

    /// The least of the last seconds; `None` if nothing came in for long.
    pub fn least(&self, now: Instant) -> Option<Apparent> {
        let current = self.current.filter(|_| now.since(self.last) < LASTS)?;
        Some(current.least(self.before))
    }
}

/// The peer's clock as its timestamps tell, set to ours at the first of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerClock {
    last: Option<(Instant, Apparent)>,
    time: Instant,
}

impl PeerClock {
    /// What comes in now bears this timestamp. From one to the next as much time passes here as did there; what the
    /// way took longer or shorter does not show.
    pub fn read(&mut self, now: Instant, timestamp: u32) -> Instant {
        let apparent = Apparent::of(timestamp, now.micros24());
        let longer = self.last.map_or(0, |(_, last)| apparent.beyond(last));
        // More than any queue: it was set, or is another's.
        let longer = if longer.unsigned_abs() > MAX_JUMP { 0 } else { longer };
        let time = self.at(now).as_nanos().saturating_add_signed(i64::from(longer) * -1_000);
        // What was overtaken on its way is no news.
        if time >= self.time.as_nanos() {
            (self.time, self.last) = (Instant::from_nanos(time), Some((now, apparent)));
        }
        self.time
    }

    /// What it showed when what would come in now left, if the way took as long as last time.
    pub fn at(&self, now: Instant) -> Instant {
        self.last.map_or(now, |(last, _)| self.time + now.since(last))
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
        delay.take(at(arrived), Apparent::of(at(arrived - took).micros24(), at(arrived).micros24()));
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

    #[test]
    fn the_peers_clock_runs_on_while_its_words_wait() {
        let mut clock = PeerClock::default();
        let mut read = |now, timestamp: u64| clock.read(at(now), at(timestamp + 900_000).micros24());
        // They wait for up to 24 ms, and some come when the next has been here.
        let mut words: Vec<_> =
            (0u64..3_000).map(|i| (i * 10 + 9 * u64::from(i % 3 == 1) + 3 * (i % 6), i * 10)).collect();
        words.sort();
        let times: Vec<_> = words.into_iter().map(|(now, sent)| (read(now, sent), sent)).collect();
        assert!(times.windows(2).any(|pair| pair[1].1 < pair[0].1));
        let (first, mut newest) = (times[0].0, 0);
        for (time, sent) in times {
            newest = newest.max(sent);
            assert_eq!(time.since(first), Duration::from_millis(newest), "sent at {sent} ms");
        }
        let last = first + Duration::from_millis(29_990);
        // Set forward by 6 s, then silent for a minute.
        let (set, silent) = (read(30_100, 36_100), read(90_100, 96_100));
        assert!(set.since(last) < Duration::from_millis(200));
        assert_eq!(silent.since(set), Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn any_timestamp_is_read(all in proptest::collection::vec((0u64..1 << 40, 0..CLOCK), 1..20)) {
            let (mut clock, mut before, mut now) = (PeerClock::default(), Instant::ZERO, Instant::ZERO);
            for (later, timestamp) in all {
                now += Duration::from_nanos(later);
                let time = clock.read(now, timestamp);
                prop_assert!(time >= before && time <= clock.at(now));
                before = time;
            }
        }

        #[test]
        fn any_timestamp_is_taken(first in 0..CLOCK, second in 0..CLOCK, now in 0u64..1 << 50) {
            let (mut a, mut b, now) = (OneWayDelay::default(), OneWayDelay::default(), Instant::from_nanos(now));
            a.take(now, Apparent::of(first, now.micros24()));
            b.take(now, Apparent::of(second, now.micros24()));
            if let (Some(a), Some(b)) = (a.least(now), b.least(now)) {
                prop_assert!(((a.beyond(b) + b.beyond(a)) as u32).is_multiple_of(CLOCK));
            }
        }
    }
}
