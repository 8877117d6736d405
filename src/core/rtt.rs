//! Round-trip time of one link (RFC 9002 §5).

use std::time::Duration;

use super::units::Instant;

/// Assumed before the first sample (RFC 9002 §6.2.2).
pub const INITIAL_RTT: Duration = Duration::from_millis(333);
/// Granularity of the timers (RFC 9002 §6.1.2).
pub const GRANULARITY: Duration = Duration::from_millis(1);
/// How long a smallest sample is believed: BBRv3 keeps it for 10 s, a path that changed shows within that.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// Longest an acknowledgement waits (as RFC 9000's default `max_ack_delay`) …
pub const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// … and shortest, unless it must go at once: bounds their rate to 1,000 a second.
pub const MIN_ACK_DELAY: Duration = Duration::from_millis(1);

/// How long an acknowledgement waits for more to tell on a path of this round-trip time: both ends know it.
pub fn ack_delay(rtt: Duration) -> Duration {
    (rtt / 8).clamp(MIN_ACK_DELAY, MAX_ACK_DELAY)
}

/// Smoothed round-trip time, its variation and the recent minimum.
#[derive(Clone, Debug, Default)]
pub struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    minimum: Option<(Instant, Duration)>,
}

impl Rtt {
    /// Takes a sample; `ack_delay` is the time the peer held the acknowledgement.
    pub fn sample(&mut self, now: Instant, rtt: Duration, ack_delay: Duration) {
        match self.minimum {
            Some((at, least)) if rtt > least && now.since(at) < MIN_RTT_WINDOW => {}
            _ => self.minimum = Some((now, rtt)),
        }
        let least = self.min();
        // RFC 9002 §5.3: the delay is believed only so far as the sample stays above the minimum.
        let adjusted = if rtt >= least + ack_delay { rtt - ack_delay } else { rtt };
        self.latest = rtt;
        match self.smoothed {
            None => {
                self.smoothed = Some(adjusted);
                self.variation = adjusted / 2;
            }
            Some(smoothed) => {
                let difference = smoothed.abs_diff(adjusted);
                self.variation = (self.variation * 3 + difference) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    /// True once a sample was taken.
    pub fn is_measured(&self) -> bool {
        self.smoothed.is_some()
    }

    /// Smoothed round-trip time, or [`INITIAL_RTT`] before the first sample.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(INITIAL_RTT)
    }

    /// Mean deviation of the samples; half of [`INITIAL_RTT`] before the first.
    pub fn variation(&self) -> Duration {
        if self.is_measured() { self.variation } else { INITIAL_RTT / 2 }
    }

    /// The last sample, not adjusted for the acknowledgement delay.
    pub fn latest(&self) -> Duration {
        if self.is_measured() { self.latest } else { INITIAL_RTT }
    }

    /// The smallest sample of the last ten seconds; [`INITIAL_RTT`] before the first.
    pub fn min(&self) -> Duration {
        self.minimum.map_or(INITIAL_RTT, |(_, least)| least)
    }

    /// Probe timeout without back-off (RFC 9002 §6.2.1).
    pub fn probe_timeout(&self) -> Duration {
        // Until the peer has measured it too, it waits for the longest.
        let wait = if self.is_measured() { ack_delay(self.smoothed()) } else { MAX_ACK_DELAY };
        self.smoothed() + (self.variation() * 4).max(GRANULARITY) + wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_sample_sets_and_later_ones_smooth() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.smoothed(), INITIAL_RTT);
        rtt.sample(Instant::ZERO, ms(40), ms(0));
        assert_eq!((rtt.smoothed(), rtt.variation(), rtt.min()), (ms(40), ms(20), ms(40)));
        rtt.sample(Instant::ZERO, ms(80), ms(0));
        assert_eq!((rtt.smoothed(), rtt.variation()), (ms(45), ms(25)));
    }

    #[test]
    fn ack_delay_never_takes_a_sample_below_the_minimum() {
        let mut rtt = Rtt::default();
        rtt.sample(Instant::ZERO, ms(40), ms(0));
        rtt.sample(Instant::ZERO, ms(48), ms(8));
        assert_eq!(rtt.smoothed(), ms(40));
        rtt.sample(Instant::ZERO, ms(48), ms(20));
        assert_eq!(rtt.smoothed(), ms(41));
    }

    #[test]
    fn the_minimum_is_forgotten_after_its_window() {
        let mut rtt = Rtt::default();
        rtt.sample(Instant::ZERO, ms(10), ms(0));
        rtt.sample(Instant::ZERO + ms(9_000), ms(50), ms(0));
        assert_eq!(rtt.min(), ms(10));
        rtt.sample(Instant::ZERO + ms(10_000), ms(50), ms(0));
        assert_eq!(rtt.min(), ms(50));
    }
}
