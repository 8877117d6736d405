//! Spreads a link's datagrams over time.

use std::time::Duration;

use crate::core::units::{Instant, Rate};

/// Most time whose bytes may leave in one train: longer trains are bursts that fill a router's queue.
pub const TRAIN_TIME: Duration = Duration::from_millis(1);

/// How far a late timer may catch up, so that the rate holds on a machine whose wake-ups are late.
const CATCH_UP: Duration = Duration::from_millis(2);

/// Longest wait that packets sent without asking (repairs, sparse conversations) may bring on, if one datagram
/// does not take longer: a debt from a time when the rate was not known must not silence the link.
const MAX_DEBT: Duration = Duration::from_millis(50);
/// Datagrams of a slow link that may be owed at least: two trains of the shortest.
const MAX_OWED: u32 = 4;
/// … but no longer than this: probes alone may have made a rate of a few hundred bytes a second.
const MAX_WAIT: Duration = Duration::from_secs(1);

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

    /// Whether nothing left although it could, for longer than what is caught up with.
    pub fn idles(&self, now: Instant) -> bool {
        now >= self.next + CATCH_UP
    }

    /// When the next train may leave.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// `bytes` left at `rate`.
    pub fn on_sent(&mut self, now: Instant, bytes: u64, rate: Option<Rate>) {
        if let Some(rate) = rate {
            let duration = rate.duration_of(bytes);
            let latest = now + MAX_DEBT.max((duration * MAX_OWED).min(MAX_WAIT));
            self.next = (self.next.max(now - CATCH_UP) + duration).min(latest.max(self.next));
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

    #[test]
    fn a_burst_of_repairs_does_not_silence_the_link() {
        let rate = Some(Rate::from_bytes_per_second(100_000));
        let (mut pacer, now) = (Pacer::default(), Instant::ZERO + Duration::from_secs(10));
        (0..200).for_each(|_| pacer.on_sent(now, 1_400, rate));
        assert!(pacer.next().since(now) <= Duration::from_millis(56));
        let hardly_known = Some(Rate::from_bytes_per_second(360));
        (0..200).for_each(|_| pacer.on_sent(now, 1_400, hardly_known));
        assert!(pacer.next().since(now) <= Duration::from_secs(1));
    }
}
