//! The emulator's own chance: seeded, so that a run can be repeated.

use super::conditions::{GilbertElliott, Loss};

/// SplitMix64 (Steele, Lea, Flood 2014): enough for loss and jitter, and three lines long.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }
}

/// Decides the fate of one packet after the other.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    random: Random,
    bad: bool,
}

impl Fate {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), bad: false }
    }

    pub(super) fn loses(&mut self, loss: &Loss) -> bool {
        match *loss {
            Loss::None => false,
            Loss::Random(probability) => self.random.chance(probability),
            Loss::Burst(GilbertElliott { good_to_bad, bad_to_good, loss_good, loss_bad }) => {
                let turn = if self.bad { bad_to_good } else { good_to_bad };
                self.bad ^= self.random.chance(turn);
                self.random.chance(if self.bad { loss_bad } else { loss_good })
            }
        }
    }
}

/// Jitter that keeps the order of packets: between random values, reached on straight lines.
#[derive(Clone, Debug)]
pub(super) struct Wander {
    random: Random,
    from: f64,
    to: f64,
    start: u64,
}

impl Wander {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), from: 0.0, to: 0.0, start: 0 }
    }

    /// A value of 0 to `range` (both ns) for the time `now` (ns). Four ranges long, a line falls
    /// by at most a quarter of the time that passes, so no packet overtakes another.
    pub(super) fn at(&mut self, now: u64, range: u64) -> u64 {
        let span = (4 * range).max(1);
        if now >= self.start + 2 * span {
            self.start = now;
            self.from = self.random.fraction();
            self.to = self.random.fraction();
        } else if now >= self.start + span {
            self.start += span;
            self.from = self.to;
            self.to = self.random.fraction();
        }
        let progress = now.saturating_sub(self.start) as f64 / span as f64;
        ((self.from + (self.to - self.from) * progress) * range as f64) as u64
    }

    /// A value of 0 to `range` drawn for one packet alone.
    pub(super) fn independent(&mut self, range: u64) -> u64 {
        (self.random.fraction() * range as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(loss: Loss, packets: u32) -> (f64, f64) {
        let mut fate = Fate::new(7);
        let (mut losses, mut runs, mut before) = (0, 0, false);
        for _ in 0..packets {
            let now = fate.loses(&loss);
            losses += u32::from(now);
            runs += u32::from(now && !before);
            before = now;
        }
        (f64::from(losses) / f64::from(packets), f64::from(losses) / f64::from(runs.max(1)))
    }

    #[test]
    fn random_loss_has_its_rate() {
        assert_eq!(lost(Loss::None, 1_000).0, 0.0);
        assert_eq!(lost(Loss::Random(1.0), 1_000).0, 1.0);
        let (share, run) = lost(Loss::Random(0.02), 1_000_000);
        assert!((share - 0.02).abs() < 0.0006, "{share}");
        assert!((run - 1.0 / 0.98).abs() < 0.01, "{run}");
    }

    #[test]
    fn bursts_have_their_share_and_length() {
        let (share, run) = lost(Loss::Burst(GilbertElliott::with_runs(0.03, 8.0)), 2_000_000);
        assert!((share - 0.03).abs() < 0.002, "{share}");
        assert!((run - 8.0).abs() < 0.3, "{run}");
    }

    #[test]
    fn wandering_jitter_uses_its_range_and_keeps_order() {
        let mut wander = Wander::new(3);
        let range = 10_000_000;
        let (mut least, mut most, mut last) = (u64::MAX, 0, 0);
        for now in (0..60_000_000_000u64).step_by(100_000) {
            let jitter = wander.at(now, range);
            least = least.min(jitter);
            most = most.max(jitter);
            assert!(now + jitter >= last);
            last = now + jitter;
        }
        assert!(least < range / 20 && most > range - range / 20 && most <= range);
    }
}
