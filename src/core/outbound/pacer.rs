//! Spreads a link's datagrams over time.

use std::time::Duration;

use crate::core::units::{Instant, Rate};

/// Most time whose bytes may leave in one train: longer trains are bursts that fill a router's queue.
pub const TRAIN_TIME: Duration = Duration::from_millis(1);

/// How far a late timer may catch up, so that the rate holds on a machine whose wake-ups are late.
const CATCH_UP: Duration = Duration::from_millis(2);

/// Keeps the time before which nothing may leave.
#[derive(Default)]
pub struct Pacer {
    next: Instant,
}

impl Pacer {
    /// Whether a train may leave now.
    pub fn is_open(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// When the next train may leave.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// `bytes` left at `rate`.
    pub fn on_sent(&mut self, now: Instant, bytes: u64, rate: Option<Rate>) {
        if let Some(rate) = rate {
            self.next = self.next.max(now - CATCH_UP) + rate.duration_of(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_with_late_wake_ups_and_idle_time_gives_no_burst() {
        let rate = Some(Rate::from_bytes_per_second(1_000_000));
        let (mut pacer, mut now, mut sent) =
            (Pacer::default(), Instant::ZERO + Duration::from_secs(10), 0u64);
        let start = now;
        while now.since(start) < Duration::from_secs(1) {
            if pacer.is_open(now) {
                pacer.on_sent(now, 1_000, rate);
                sent += 1_000;
            }
            now = now.max(pacer.next()) + Duration::from_micros(300);
        }
        // 300 µs late at every wake-up; the first burst is the catch-up of 2 ms.
        assert!((998_000..=1_004_000).contains(&sent), "{sent}");
        now += Duration::from_secs(5);
        let mut burst = 0;
        while pacer.is_open(now) {
            pacer.on_sent(now, 1_000, rate);
            burst += 1_000;
        }
        assert!(burst <= 3_000, "{burst}");
    }
}
