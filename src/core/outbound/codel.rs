//! CoDel (RFC 8289): drops or marks when the time that packets wait stays above a target.

use std::time::Duration;

use crate::core::units::Instant;

/// How long packets may wait, and for how long they may do so.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// A standing queue of so much is fine.
    pub target: Duration,
    /// More is fine for so long: a round trip, in which senders react.
    pub interval: Duration,
}

/// The control law of one queue.
#[derive(Default)]
pub struct Codel {
    /// When the waiting time will have been above the target for an interval.
    first_above: Option<Instant>,
    dropping: bool,
    drop_next: Instant,
    count: u32,
    last_count: u32,
}

impl Codel {
    /// A packet that waited for `sojourn` is at the head, and `backlog` bytes with it. True if it should be
    /// dropped or marked; then ask again for the next.
    pub fn on_dequeue(
        &mut self,
        now: Instant,
        sojourn: Duration,
        backlog: u64,
        mtu: u64,
        tolerance: Tolerance,
    ) -> bool {
        let above = self.is_above(now, sojourn, backlog <= mtu, tolerance);
        if self.dropping {
            if !above {
                self.dropping = false;
            } else if now >= self.drop_next {
                self.count += 1;
                self.drop_next = control(self.drop_next, self.count, tolerance.interval);
                return true;
            }
            return false;
        }
        if !above {
            return false;
        }
        self.dropping = true;
        // A queue that was under control a moment ago goes on where it was (RFC 8289 §5.4).
        let delta = self.count - self.last_count;
        let recent = now.since(self.drop_next) < tolerance.interval * 16;
        self.count = if recent && delta > 1 { delta } else { 1 };
        self.last_count = self.count;
        self.drop_next = control(now, self.count, tolerance.interval);
        true
    }

    fn is_above(&mut self, now: Instant, sojourn: Duration, last: bool, tolerance: Tolerance) -> bool {
        if sojourn < tolerance.target || last {
            self.first_above = None;
            return false;
        }
        let since = *self.first_above.get_or_insert(now + tolerance.interval);
        now >= since
    }
}

fn control(from: Instant, count: u32, interval: Duration) -> Instant {
    from + interval.div_f64(f64::from(count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Tolerance =
        Tolerance { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

    fn drops(sojourn_ms: u64, backlog: u64, ms: u64) -> usize {
        let mut codel = Codel::default();
        (0..ms)
            .filter(|&t| {
                let now = Instant::ZERO + Duration::from_millis(1_000 + t);
                codel.on_dequeue(now, Duration::from_millis(sojourn_ms), backlog, 1_500, TOLERANCE)
            })
            .count()
    }

    #[test]
    fn a_short_queue_and_a_last_packet_are_left_alone() {
        assert_eq!(drops(4, 100_000, 5_000), 0);
        assert_eq!(drops(50, 1_500, 5_000), 0);
        assert_eq!(drops(50, 100_000, 99), 0, "a burst of less than an interval");
    }

    #[test]
    fn a_standing_queue_is_dropped_from_with_growing_rate() {
        let (one, two) = (drops(50, 100_000, 1_000), drops(50, 100_000, 2_000));
        assert!((15..60).contains(&one), "{one}");
        assert!(two - one > one, "{one} {two}");
    }
}
