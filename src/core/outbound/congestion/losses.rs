//! What losses are due to: the rate that is sent at, or the path, which loses a part of whatever is sent.
//!
//! A policer, or a queue of next to nothing, drops what exceeds a rate; so losses end when no more is sent than what got
//! through. A bad radio link goes on losing. Which of them it is, is tried: if the losses go on, so much loss is no sign
//! of anything for a while, and the rate soon grows again.
//!
//! What gets through while more is sent than that shows where links are full. A policer lets bursts pass at the rate of
//! its line, and that is what a model then believes; while less is sent than the model allows, all shows as an
//! application's limit and much loss. Then a policer is suspected if what gets through stays the same.

use std::time::Duration;

use crate::core::units::{Instant, Rate, loss_share};

/// A round that lost more than this, beyond what the path loses anyway, overruns it even if no queue was seen.
const MASSIVE_LOSS: f64 = 0.15;
/// Rounds that are looked at together (as in BBRv1, whose "long-term" rate this resembles) …
const ROUNDS: u32 = 4;
/// … if they have so many full datagrams, as soon as they have, and in so long.
const DATAGRAMS: u64 = 60;
const LONGEST: Duration = Duration::from_secs(1);
/// Two rates are the same if they differ by no more than this part.
const SAME: u64 = 8;
/// A rate below this part of what is believed is worth the trial.
const WORTH: f64 = 0.9;
/// Rounds after which what was sent before a trial is decided.
const SETTLING: u32 = 2;
/// Losses go on if they are more than this part of what they were; less than the other, and they have ended.
const GOES_ON: f64 = 0.6;
const ENDED: f64 = 0.25;
/// After a trial in vain, losses are the path's own for so long.
const REFUTED: Duration = Duration::from_secs(30);
/// After two that ended them at the same rate, there is a policer for so long.
const POLICED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Losses {
    since: Instant,
    rounds: u32,
    acked: u64,
    lost: u64,
    /// What got through in the rounds before these, if much did not.
    before: Option<u64>,
    /// The share that was lost before less was sent, as it is now to see whether that helps.
    trial: Option<f64>,
    /// Rounds that do not count yet.
    settling: u32,
    /// Which share is lost whatever is sent, and until when that is believed.
    own: Option<(f64, Instant)>,
    /// What got through when losses ended last.
    found: Option<u64>,
    policed_until: Instant,
}

impl Losses {
    /// Whether so much loss is a sign that too much was sent.
    pub fn is_massive(&self, now: Instant, acked: u64, lost: u64) -> bool {
        let own = self.own.filter(|&(_, until)| now < until).map_or(0.0, |(share, _)| share);
        loss_share(acked, lost) > own + MASSIVE_LOSS
    }

    /// Whether what exceeds a rate was dropped lately, and nothing of what did not.
    pub fn is_policed(&self, now: Instant) -> bool {
        now < self.policed_until
    }

    /// Less is sent from now on, because of so much loss.
    pub fn try_less(&mut self, now: Instant, acked: u64, lost: u64) {
        self.look_anew(now);
        (self.before, self.trial, self.settling) = (None, Some(loss_share(acked, lost)), SETTLING);
    }

    fn look_anew(&mut self, now: Instant) {
        (self.since, self.rounds, self.acked, self.lost) = (now, 0, 0, 0);
    }

    /// A queue showed how much the path carries.
    pub fn end_trial(&mut self) {
        (self.trial, self.settling) = (None, 0);
    }

    /// A round has ended, in which so many bytes arrived and were lost, while the path was believed to carry
    /// `bandwidth` bytes a second. Gives what is to be believed instead.
    pub fn end_round(
        &mut self,
        now: Instant,
        acked: u64,
        lost: u64,
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
        let (acked, lost, time) = (self.acked, self.lost, now.since(self.since));
        let enough = self.rounds >= ROUNDS && acked + lost >= DATAGRAMS * datagram;
        if !enough && time < LONGEST {
            return None;
        }
        self.look_anew(now);
        let rate = Rate::of(acked, time).map_or(0, Rate::bytes_per_second);
        if let Some(before) = self.trial.take() {
            if enough {
                self.conclude(now, before, loss_share(acked, lost), rate);
            }
            return None;
        }
        let massive = enough && self.is_massive(now, acked, lost);
        let before = std::mem::replace(&mut self.before, massive.then_some(rate));
        if !massive || !is_same(before, rate) || (rate as f64) > WORTH * bandwidth as f64 {
            return None;
        }
        self.try_less(now, acked, lost);
        Some(rate)
    }

    /// Before less was sent, that share was lost, and then this, while so much got through.
    fn conclude(&mut self, now: Instant, before: f64, share: f64, rate: u64) {
        if share > GOES_ON * before {
            self.own = Some((share, now + REFUTED));
            (self.found, self.policed_until) = (None, now);
        } else if share < ENDED * before {
            let found = self.found.replace(rate);
            if is_same(found, rate) {
                self.policed_until = now + POLICED;
            }
        }
    }
}

/// Whether what was found before is the same as now: radio falls to this rate and to that one.
fn is_same(before: Option<u64>, rate: u64) -> bool {
    before.is_some_and(|before| rate.abs_diff(before) <= before / SAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u64 = 1_000;

    /// Rounds of 50 ms in which `acked` and `lost` thousands of bytes are; gives what is to be believed, and when.
    fn run(losses: &mut Losses, from: u32, rounds: u32, acked: u64, lost: u64) -> Vec<(u32, u64)> {
        let round = |n: u32| {
            let now = Instant::ZERO + Duration::from_millis(50) * n;
            Some((n, losses.end_round(now, acked * 1_000, lost * 1_000, 10_000_000, DATAGRAM)?))
        };
        (from + 1..=from + rounds).filter_map(round).collect()
    }

    #[test]
    fn the_same_rate_through_much_loss_is_tried_and_kept_if_the_losses_end() {
        let mut losses = Losses::default();
        assert_eq!(run(&mut losses, 0, 8, 50, 20), [(8, 1_000_000)]);
        assert_eq!(run(&mut losses, 8, 2, 50, 20), [], "sent before");
        assert_eq!(run(&mut losses, 10, 12, 50, 0), []);
    }

    #[test]
    fn losses_that_go_on_are_the_path_s_own() {
        let mut losses = Losses::default();
        assert_eq!(run(&mut losses, 0, 14, 50, 20), [(8, 1_000_000)]);
        let at = |round: u32| Instant::ZERO + Duration::from_millis(50) * round;
        assert!(!losses.is_massive(at(15), 60, 40));
        assert!(losses.is_massive(at(15), 50, 50), "more than its own");
        assert!(!losses.is_policed(at(15)));
        assert_eq!(run(&mut losses, 14, 600, 50, 20), []);
        assert!(losses.is_massive(at(614), 80, 20));
        assert_eq!(run(&mut losses, 614, 14, 50, 20), [(618, 1_000_000)], "once in a while");
    }

    #[test]
    fn a_rate_that_ends_losses_twice_is_a_policer_s() {
        for (lost, second, policed) in [(0, 50, true), (3, 50, true), (10, 50, false), (0, 80, false)] {
            let (mut losses, at) =
                (Losses::default(), |round: u32| Instant::ZERO + Duration::from_millis(50) * round);
            for (from, acked) in [(0, 50), (100, second)] {
                losses.try_less(at(from), 70, 30);
                assert_eq!(run(&mut losses, from, 6, acked, lost), []);
            }
            assert_eq!(losses.is_policed(at(110)), policed, "{lost} {second}");
            assert!(!losses.is_policed(at(400)));
            assert!(losses.is_massive(at(110), 80, 20), "nothing is its own");
        }
    }

    #[test]
    fn a_queue_tells_more_than_a_trial() {
        let mut losses = Losses::default();
        losses.try_less(Instant::ZERO, 70, 30);
        losses.end_trial();
        assert_eq!(run(&mut losses, 0, 6, 50, 30), []);
        assert!(losses.is_massive(Instant::ZERO + LONGEST, 50, 30));
    }

    #[test]
    fn few_datagrams_are_looked_at_for_longer() {
        let mut losses = Losses::default();
        assert_eq!(run(&mut losses, 0, 24, 4, 1), [(24, 80_000)]);
        assert_eq!(run(&mut Losses::default(), 0, 200, 1, 1), [], "nor forever");
    }

    #[test]
    fn little_traffic_little_loss_and_other_rates_say_nothing() {
        let mut losses = Losses::default();
        assert_eq!(run(&mut losses, 100, 100, 50, 8), []);
        assert_eq!(run(&mut losses, 200, 100, 500, 100), [], "as believed");
        for n in 0..20 {
            let acked = if n % 2 == 0 { 50 } else { 80 };
            assert_eq!(run(&mut losses, 300 + 4 * n, 4, acked, 30), []);
        }
    }
}
