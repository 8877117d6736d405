//! What happened in the last seconds, for `show`: a few instructions an entry, no allocation, no clock.

use std::ops::Range;
use std::time::Duration;

use super::units::{Instant, Rate};

/// How far back [`Bytes`] and [`Durations`] look at most.
pub const SPAN: Duration = Duration::from_secs(10);

const SLOTS: usize = SPAN.as_secs() as usize;
const SECOND: u64 = 1_000_000_000;
/// Whole seconds that make [`Bytes::rate`]: short beside [`SPAN`], long beside a round trip.
const RATE_SECONDS: u64 = 2;

/// Sums bytes by the second.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    slots: [u64; SLOTS],
    /// The second that was added to last.
    second: u64,
}

impl Bytes {
    /// Adds `bytes` of now.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        let second = self.second.max(now.as_nanos() / SECOND);
        for skipped in (self.second + 1..=second).take(SLOTS) {
            self.slots[skipped as usize % SLOTS] = 0;
        }
        self.second = second;
        self.slots[second as usize % SLOTS] += bytes;
    }

    /// Bytes of the last 9 to 10 s.
    pub fn sum(&self, now: Instant) -> u64 {
        self.within(now, 0..SLOTS as u64)
    }

    /// Mean rate of the last two whole seconds.
    pub fn rate(&self, now: Instant) -> Rate {
        Rate::from_bytes_per_second(self.within(now, 1..1 + RATE_SECONDS) / RATE_SECONDS)
    }

    /// Bytes of the seconds that are so many before the present one.
    fn within(&self, now: Instant, ago: Range<u64>) -> u64 {
        let seconds = ago.filter_map(|ago| (now.as_nanos() / SECOND).checked_sub(ago));
        let kept = |second: &u64| *second <= self.second && second + SLOTS as u64 > self.second;
        seconds.filter(kept).map(|second| self.slots[second as usize % SLOTS]).sum()
    }
}

/// Packets, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// Of all together.
    pub bytes: u64,
}

impl Sum {
    /// One more, of `len` bytes.
    pub fn add(&mut self, len: usize) {
        self.count += 1;
        self.bytes += len as u64;
    }
}

/// Bytes since the start, and of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    total: u64,
    packets: u64,
    lately: Bytes,
}

impl Volume {
    /// Adds one packet of now.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.add_all(now, Sum { count: 1, bytes });
    }

    /// Adds packets of now.
    pub fn add_all(&mut self, now: Instant, sum: Sum) {
        self.packets += sum.count;
        self.total += sum.bytes;
        self.lately.add(now, sum.bytes);
    }

    /// Bytes since the start.
    pub fn bytes(&self) -> u64 {
        self.total
    }

    /// Packets since the start.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Mean rate of the last two whole seconds.
    pub fn rate(&self, now: Instant) -> Rate {
        self.lately.rate(now)
    }
}

/// Bins of each octave, as a power of two: a percentile is at most an eighth too large.
const SUB_BITS: u32 = 3;
const SUB: usize = 1 << SUB_BITS;
/// Longer times than 2²² µs, 4 s, are counted as that.
const MAX_MICROS: u128 = (1 << 22) - 1;
const BINS: usize = bin(MAX_MICROS as u32) + 1;

/// Percentiles of durations, from a histogram of logarithmic bins.
#[derive(Clone, Debug, Default)]
pub struct Durations {
    /// The present half of [`SPAN`], the one before, and when the present one began.
    current: Histogram,
    before: Histogram,
    since: Instant,
}

/// Percentiles, each at most an eighth larger than the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half are not longer.
    pub p50: Duration,
    /// 95 of 100 are not longer.
    pub p95: Duration,
    /// 99 of 100 are not longer.
    pub p99: Duration,
    /// The longest, exactly.
    pub max: Duration,
}

#[derive(Clone, Debug)]
struct Histogram {
    counts: [u32; BINS],
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BINS], max: Duration::ZERO }
    }
}

impl Durations {
    /// Adds one duration of now.
    pub fn record(&mut self, now: Instant, duration: Duration) {
        let age = now.since(self.since);
        if age >= SPAN / 2 {
            self.before = std::mem::take(&mut self.current);
            if age >= SPAN {
                self.before = Histogram::default();
            }
            self.since = now;
        }
        let micros = duration.as_micros().min(MAX_MICROS) as u32;
        let count = &mut self.current.counts[bin(micros)];
        *count = count.saturating_add(1);
        self.current.max = self.current.max.max(duration);
    }

    /// Percentiles of the last 5 to 10 s; `None` if nothing was added in that time.
    pub fn percentiles(&self, now: Instant) -> Option<Percentiles> {
        let age = now.since(self.since);
        let known = [(&self.current, SPAN), (&self.before, SPAN / 2)];
        let recent = || known.iter().filter(|(_, lasts)| age < *lasts).map(|(histogram, _)| *histogram);
        let total: u64 = recent().flat_map(|histogram| histogram.counts).map(u64::from).sum();
        let max = recent().map(|histogram| histogram.max).max()?;
        let at = |percent: u64| {
            let rank = (total * percent).div_ceil(100);
            let mut counted = 0;
            let bin = (0..BINS).find(|bin| {
                counted += recent().map(|histogram| u64::from(histogram.counts[*bin])).sum::<u64>();
                counted >= rank
            });
            Duration::from_micros(bin.map_or(u64::MAX, upper)).min(max)
        };
        (total > 0).then(|| Percentiles { p50: at(50), p95: at(95), p99: at(99), max })
    }
}

/// The bin of a number: each number below [`SUB`] has its own, then each octave has [`SUB`].
const fn bin(micros: u32) -> usize {
    if micros < SUB as u32 {
        return micros as usize;
    }
    let octave = micros.ilog2() - SUB_BITS;
    (octave as usize + 1) * SUB + (micros >> octave) as usize % SUB
}

/// The smallest number that is larger than all of a bin, µs.
fn upper(bin: usize) -> u64 {
    let (octave, sub) = (bin / SUB, bin % SUB);
    match octave.checked_sub(1) {
        None => sub as u64 + 1,
        Some(shift) => ((SUB + sub + 1) as u64) << shift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn bytes_are_forgotten_after_ten_seconds() {
        let mut bytes = Bytes::default();
        (0..100).for_each(|tenth| bytes.add(at(5_000 + 100 * tenth), 1_000));
        assert_eq!(bytes.sum(at(14_900)), 100_000);
        assert_eq!(bytes.rate(at(14_900)).bytes_per_second(), 10_000);
        assert_eq!(bytes.sum(at(20_000)), 40_000);
        assert_eq!((bytes.sum(at(25_000)), bytes.rate(at(17_000)).bytes_per_second()), (0, 0));
        bytes.add(at(100_000), 7);
        assert_eq!(bytes.sum(at(100_000)), 7);
    }

    #[test]
    fn percentiles_are_of_the_last_seconds() {
        let mut durations = Durations::default();
        assert_eq!(durations.percentiles(at(0)), None);
        (1..=100).for_each(|ms| durations.record(at(20_000), Duration::from_millis(ms)));
        let percentiles = durations.percentiles(at(24_000)).expect("some");
        let near = |duration: Duration, ms: u64| {
            let ratio = duration.as_secs_f64() * 1e3 / ms as f64;
            assert!((1.0..=1.125).contains(&ratio), "{duration:?} for {ms} ms");
        };
        near(percentiles.p50, 50);
        near(percentiles.p95, 95);
        near(percentiles.p99, 99);
        assert_eq!(percentiles.max, Duration::from_millis(100));
        durations.record(at(26_000), Duration::from_millis(1));
        assert_eq!(durations.percentiles(at(26_000)).map(|all| all.max), Some(Duration::from_millis(100)));
        durations.record(at(31_500), Duration::from_millis(2));
        assert_eq!(durations.percentiles(at(31_500)).map(|all| all.max), Some(Duration::from_millis(2)));
        assert_eq!(durations.percentiles(at(41_500)), None);
    }

    #[test]
    fn very_long_times_are_no_overflow() {
        let mut durations = Durations::default();
        durations.record(at(0), Duration::MAX);
        assert_eq!(durations.percentiles(at(0)).map(|all| all.max), Some(Duration::MAX));
    }

    proptest! {
        #[test]
        fn a_bin_holds_what_belongs_to_it(micros in 0..=MAX_MICROS as u32) {
            let upper = upper(bin(micros));
            prop_assert!(bin(micros) < BINS && upper > micros.into());
            prop_assert!(upper <= u64::from(micros) + u64::from(micros) / SUB as u64 + 1);
        }

        #[test]
        fn sums_are_those_of_the_last_ten_seconds(gaps in proptest::collection::vec(0u64..4_000, 1..50)) {
            let (mut bytes, mut now, mut all) = (Bytes::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                bytes.add(at(now), gap + 1);
                all.push((now / 1_000, gap + 1));
            }
            let sum: u64 = all.iter().filter(|(second, _)| second + 10 > now / 1_000).map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(bytes.sum(at(now)), sum);
        }
    }
}
