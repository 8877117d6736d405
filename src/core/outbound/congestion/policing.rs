//! Finds policers: routers that drop what exceeds a contract instead of letting it wait.
//!
//! A policer lets bursts pass at the rate of the line, and that is what a model then believes. While more is sent than
//! the contract allows, though less than the model, all shows as an application's limit and much loss. That losses are
//! a policer's shows in two ways: what gets through stays the same, and they end when no more is sent than that.

use std::time::Duration;

use super::bbr::MASSIVE_LOSS;
use crate::core::units::{Instant, Rate};

/// Rounds that are looked at together (as in BBRv1, whose "long-term" rate this resembles) …
const ROUNDS: u32 = 4;
/// … if they have so many full datagrams, as soon as they have, and in so long.
const DATAGRAMS: u64 = 40;
const LONGEST: Duration = Duration::from_secs(1);
/// Two rates are the same if they differ by no more than this part.
const SAME: u64 = 8;
/// A rate below this part of what is believed is worth the trial.
const WORTH: f64 = 0.9;
/// Rounds after which what was sent before a trial is decided.
const SETTLING: u32 = 2;
/// After a trial in vain, losses are the path's own for so long.
const REFUTED: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Policing {
    since: Instant,
    rounds: u32,
    acked: u64,
    lost: u64,
    /// What got through in the rounds before these, if much did not.
    before: Option<u64>,
    /// What was believed before the trial that is on.
    tried: Option<u64>,
    /// Rounds that do not count yet.
    settling: u32,
    refuted_until: Instant,
}

impl Policing {
    /// A round has ended, in which so many bytes arrived and were lost, while the path was believed to carry
    /// `bandwidth` bytes a second. Gives what is to be believed instead.
    pub fn end_round(
        &mut self,
        now: Instant,
        (acked, lost): (u64, u64),
        bandwidth: u64,
        datagram: u64,
    ) -> Option<u64> {
        if self.settling > 0 {
            (self.settling, self.since) = (self.settling - 1, now);
            return None;
        }
        self.acked += acked;
        self.lost += lost;
        self.rounds += 1;
        let (sent, time) = (self.acked + self.lost, now.since(self.since));
        let enough = self.rounds >= ROUNDS && sent >= DATAGRAMS * datagram;
        if !enough && time < LONGEST {
            return None;
        }
        let massive = enough && self.lost as f64 > MASSIVE_LOSS * sent as f64;
        let rate = Rate::of(self.acked, time).map_or(0, Rate::bytes_per_second);
        (self.since, self.rounds, self.acked, self.lost) = (now, 0, 0, 0);
        if let Some(believed) = self.tried.take() {
            if massive {
                self.refuted_until = now + REFUTED;
            }
            return massive.then_some(believed);
        }
        let before = std::mem::replace(&mut self.before, massive.then_some(rate));
        let same = before.is_some_and(|before| rate.abs_diff(before) <= before / SAME);
        let worth = (rate as f64) < WORTH * bandwidth as f64;
        if !massive || !same || !worth || now < self.refuted_until {
            return None;
        }
        (self.before, self.tried, self.settling) = (None, Some(bandwidth), SETTLING);
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u64 = 1_000;

    /// Rounds of 50 ms in which `acked` and `lost` thousands of bytes are; gives what is to be believed, and when.
    fn run(policing: &mut Policing, from: u32, rounds: u32, acked: u64, lost: u64) -> Vec<(u32, u64)> {
        let round = |n: u32| {
            let now = Instant::ZERO + Duration::from_millis(50) * n;
            Some((n, policing.end_round(now, (acked * 1_000, lost * 1_000), 10_000_000, DATAGRAM)?))
        };
        (from + 1..=from + rounds).filter_map(round).collect()
    }

    #[test]
    fn the_same_rate_through_much_loss_is_tried_and_kept_if_the_losses_end() {
        let mut policing = Policing::default();
        assert_eq!(run(&mut policing, 0, 8, 50, 20), [(8, 1_000_000)]);
        assert_eq!(run(&mut policing, 8, 2, 50, 20), [], "sent before");
        assert_eq!(run(&mut policing, 10, 12, 50, 0), []);
    }

    #[test]
    fn losses_that_go_on_are_the_path_s_own() {
        let mut policing = Policing::default();
        assert_eq!(run(&mut policing, 0, 14, 50, 20), [(8, 1_000_000), (14, 10_000_000)]);
        assert_eq!(run(&mut policing, 14, 596, 50, 20), []);
        assert_eq!(
            run(&mut policing, 610, 10, 50, 20),
            [(614, 1_000_000), (620, 10_000_000)],
            "once in a while"
        );
    }

    #[test]
    fn few_datagrams_are_looked_at_for_longer() {
        let mut policing = Policing::default();
        assert_eq!(run(&mut policing, 0, 16, 4, 1), [(16, 80_000)]);
    }

    #[test]
    fn little_traffic_little_loss_and_other_rates_say_nothing() {
        let mut policing = Policing::default();
        assert_eq!(run(&mut policing, 100, 100, 50, 8), []);
        assert_eq!(run(&mut policing, 200, 100, 500, 100), [], "as believed");
        for n in 0..20 {
            let acked = if n % 2 == 0 { 50 } else { 80 };
            assert_eq!(run(&mut policing, 300 + 4 * n, 4, acked, 30), []);
        }
    }
}
