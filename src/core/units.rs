//! Time and rates as plain numbers.
//!
//! [`Instant`] counts from an arbitrary zero that the caller chooses. It has no `now()`, so nothing in
//! `core` can read a clock; in the simulator time starts at zero and every run repeats.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point in time, nanoseconds since an arbitrary zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The caller's zero.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if that is in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The low 24 bits of the microseconds since zero, as the wire carries them (wraps after 16.8 s).
    pub const fn micros24(self) -> u32 {
        ((self.0 / 1000) & 0xff_ffff) as u32
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos() as u64))
    }
}

/// A data rate in bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

/// Nanoseconds of a second.
const NANOS: u128 = 1_000_000_000;

/// `a * b / c`, of which `c` is not 0. What fits into 64 bits on the way, as mostly, is many times as fast.
fn mul_div(a: u64, b: u128, c: u128) -> u64 {
    let product = u128::from(a) * b;
    match (u64::try_from(product), u64::try_from(c)) {
        (Ok(product), Ok(c)) => product / c,
        _ => (product / c) as u64,
    }
}

impl Rate {
    /// From bytes per second.
    pub const fn from_bytes_per_second(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The rate of `bytes` in `duration`; `None` for an empty duration.
    pub fn of(bytes: u64, duration: Duration) -> Option<Self> {
        let nanos = duration.as_nanos();
        (nanos > 0).then(|| Self(mul_div(bytes, NANOS, nanos)))
    }

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> f64 {
        self.0 as f64 * 8.0
    }

    /// How long `bytes` take at this rate; an hour at rate zero.
    pub fn duration_of(self, bytes: u64) -> Duration {
        if self.0 == 0 {
            return Duration::from_secs(3600);
        }
        Duration::from_nanos(mul_div(bytes, NANOS, self.0.into()))
    }

    /// Bytes that pass in `duration`.
    pub fn bytes_in(self, duration: Duration) -> u64 {
        mul_div(self.0, duration.as_nanos(), NANOS)
    }

    /// This rate times `factor` (0 or more).
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor) as u64)
    }
}

/// Number of a link in this portal: its slot, 0 to [`MAX_LINKS`] - 1. People see it counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u8);

impl LinkId {
    /// All there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MAX_LINKS as u8).map(Self)
    }

    /// Those whose bit is set.
    pub fn among(mask: u16) -> impl Iterator<Item = Self> {
        Self::all().filter(move |link| mask & 1 << link.0 != 0)
    }

    /// As an index of an array of [`MAX_LINKS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Most links between two portals: the wire gives a link 4 bits and the in-flight mask 16.
pub const MAX_LINKS: usize = 16;

/// Which part of what was sent is lost, if so much arrived and so much did not; 0 of nothing.
pub fn loss_share(acked: u64, lost: u64) -> f64 {
    lost as f64 / (acked + lost).max(1) as f64
}

/// The full number whose low 32 bits are `low` and that lies nearest to `expected` (RFC 9000 A.3).
pub fn expand32(expected: u64, low: u32) -> u64 {
    const WRAP: u64 = 1 << 32;
    let candidate = (expected & !(WRAP - 1)) | u64::from(low);
    if candidate + WRAP / 2 <= expected {
        candidate + WRAP
    } else if candidate > expected + WRAP / 2 && candidate >= WRAP {
        candidate - WRAP
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn expand32_finds_every_number_within_two_billion(expected in 0u64..1 << 60, off in -(1i64 << 31) + 1..(1i64 << 31)) {
            let number = expected.saturating_add_signed(off);
            prop_assert_eq!(expand32(expected, number as u32), number);
        }

        #[test]
        fn rate_and_duration_agree(bytes in 1u64..1 << 30, rate in 1_000u64..1 << 33) {
            let rate = Rate::from_bytes_per_second(rate);
            let back = rate.bytes_in(rate.duration_of(bytes));
            prop_assert!(back <= bytes && bytes - back <= 1 + rate.bytes_per_second() / 1_000_000_000);
        }
    }

    #[test]
    fn an_instant_before_zero_is_zero() {
        assert_eq!(Instant::from_nanos(5) - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(Instant::from_nanos(7)), Duration::ZERO);
    }
}
