//! Whether a link loses so much that it is of no use.
//!
//! What a link loses is sent again over the others, and what is lost again and again makes the senders inside slow
//! down. So a link that loses a third takes from the bond more than it gives: its repairs are as many as what arrives.

use std::time::Duration;

use crate::core::outbound::sender::Totals;
use crate::core::units::{Instant, loss_share};

/// A link that loses more is of no use: controllers lose sight of its rate, and its repairs' copies take what is left …
pub const MOST_LOSS: f64 = 0.25;
/// … and it is of use again when it loses less than this.
const LITTLE_LOSS: f64 = 0.15;
/// Shortest time over which loss is counted, and in round trips: a controller that searched too far has found
/// its mistake by then.
const WINDOW: Duration = Duration::from_millis(300);
const WINDOW_ROUNDS: u32 = 4;
/// Such windows in a row that condemn a link …
const BAD_WINDOWS: u32 = 2;
/// … and that acquit it: a run of luck is longer where losses come in bursts.
const GOOD_WINDOWS: u32 = 3;
/// Fewest datagrams that tell something. The probes of an unfit link take seconds to be as many.
const SAMPLE: u64 = 50;
/// While packets flow over the others, an unfit link is asked so often how it is.
const ASK_EVERY: Duration = Duration::from_millis(80);
/// Silence that is nothing strange on such a link.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// A link that comes up is tried by so many probes, so far apart: 3 kB, and a third of a second …
const TRIAL_PROBES: u32 = 40;
const TRIAL_SPACING: Duration = Duration::from_millis(8);
/// Bytes on the wire that may leave meanwhile: these probes, as many answers to the peer's, and a ping or two.
const TRIAL_BYTES: u64 = 9_000;
/// … and judged when it is known of so many what became of them, by more loss than of a link in use: of 32, one
/// that loses 10 % fails once in a thousand times, one that loses 40 % passes once in nine.
const TRIAL_SAMPLE: u64 = 32;
const TRIAL_MOST_LOSS: f64 = 0.3;
/// A trial ends after this at the latest, with what is known by then.
const TRIAL_TIME: Duration = Duration::from_secs(2);
/// Packets that are lost while a link is filled may have been too many for its queue, until its controller knows better.
/// So it is tried without them before it is condemned, and must lose little; but not again within this time.
const TRUST_AFTER: Duration = Duration::from_secs(30);

/// What a link is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// To carry packets.
    #[default]
    Fit,
    /// Not known yet: so many probes of its trial are still to be sent.
    OnTrial(u32),
    /// For nothing while others are fit: it lost so many percent.
    Unfit(u8),
}

/// Counts what becomes of a link's datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fitness {
    verdict: Verdict,
    since: Instant,
    base: Totals,
    bad_windows: u32,
    good_windows: u32,
    asked: Instant,
    /// When it was tried last because it lost much.
    doubted: Option<Instant>,
}

impl Fitness {
    /// The link has come up: it is tried, unless it was unfit before, which stays until it is shown otherwise.
    pub(super) fn restart(&mut self, now: Instant, totals: Totals) {
        self.forgive(now, totals);
        self.good_windows = 0;
        if !matches!(self.verdict, Verdict::Unfit(_)) {
            self.verdict = Verdict::OnTrial(TRIAL_PROBES);
        }
    }

    /// What the link lost was not its fault: it is tried anew.
    pub(super) fn retry(&mut self, now: Instant, totals: Totals) {
        self.verdict = Verdict::Fit;
        self.restart(now, totals);
    }

    /// What was lost so far was too long, and said nothing of what is not.
    pub(super) fn forgive(&mut self, now: Instant, totals: Totals) {
        (self.since, self.base, self.bad_windows) = (now, totals, 0);
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Judges the link by its `totals`, if it is time to. True if that changed the verdict.
    pub(super) fn judge(&mut self, now: Instant, min_rtt: Duration, totals: Totals) -> bool {
        let acked = totals.acked - self.base.acked;
        let no_loss = |totals: &Totals| totals.spurious + totals.excused;
        let lost = (totals.lost - self.base.lost).saturating_sub(no_loss(&totals) - no_loss(&self.base));
        let on_trial = matches!(self.verdict, Verdict::OnTrial(_));
        let share = loss_share(acked, lost);
        // What is lost of more than the probes may be an overflow.
        let few = totals.sent_bytes - self.base.sent_bytes <= TRIAL_BYTES;
        let over = on_trial && now.since(self.since) >= TRIAL_TIME;
        let trial = on_trial && (few || over || share < LITTLE_LOSS);
        let window = WINDOW.max(min_rtt * WINDOW_ROUNDS);
        let (sample, time) = if trial { (TRIAL_SAMPLE, Duration::ZERO) } else { (SAMPLE, window) };
        if !over && (acked + lost < sample || now.since(self.since) < time) {
            return false;
        }
        (self.since, self.base) = (now, totals);
        self.bad_windows = if share > MOST_LOSS { self.bad_windows + 1 } else { 0 };
        self.good_windows = if share < LITTLE_LOSS { self.good_windows + 1 } else { 0 };
        let was = self.verdict;
        let trusted = self.doubted.is_none_or(|at| now.since(at) >= TRUST_AFTER);
        let most = if trusted { TRIAL_MOST_LOSS } else { LITTLE_LOSS };
        let condemned = self.bad_windows >= BAD_WINDOWS || trial && share > most;
        let doubtful = condemned && !trial && trusted && !matches!(was, Verdict::Unfit(_));
        if doubtful {
            (self.doubted, self.bad_windows) = (Some(now), 0);
            self.verdict = Verdict::OnTrial(TRIAL_PROBES);
        } else if condemned {
            self.verdict = Verdict::Unfit((share * 100.0).round() as u8);
        } else if trial || on_trial && self.bad_windows == 0 || self.good_windows >= GOOD_WINDOWS {
            self.verdict = Verdict::Fit;
        }
        doubtful || std::mem::discriminant(&was) != std::mem::discriminant(&self.verdict)
    }

    /// When [`Fitness::judge`] is to be asked at the latest.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        matches!(self.verdict, Verdict::OnTrial(_)).then(|| self.since + TRIAL_TIME)
    }

    /// Whether it is time to probe an unfit link.
    pub(super) fn wants_probe(&mut self, now: Instant) -> bool {
        let due = matches!(self.verdict, Verdict::Unfit(_)) && now.since(self.asked) >= ASK_EVERY;
        if due {
            self.asked = now;
        }
        due
    }

    /// A probe is sent. Gives when the next one of the trial is due.
    pub(super) fn on_probe(&mut self, now: Instant) -> Option<Instant> {
        let Verdict::OnTrial(left) = &mut self.verdict else { return None };
        *left = left.saturating_sub(1);
        (*left > 0).then(|| now + TRIAL_SPACING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges a link that sends 100 datagrams every 100 ms and loses so many percent of them.
    fn judged(percents: &[u64]) -> Vec<Verdict> {
        let (mut fitness, mut totals) = (Fitness::default(), Totals::default());
        let judge = |(i, percent): (u64, &u64)| {
            totals.sent_bytes += 140_000;
            totals.acked += 100 - percent;
            totals.lost += percent;
            let now = Instant::ZERO + Duration::from_millis(100 * i);
            fitness.judge(now, Duration::from_millis(40), totals);
            fitness.verdict()
        };
        (1..).zip(percents).map(judge).collect()
    }

    #[test]
    fn heavy_loss_that_lasts_condemns_and_a_burst_does_not() {
        assert_eq!(judged(&[30; 9]).last(), Some(&Verdict::OnTrial(TRIAL_PROBES)), "it may be an overflow");
        assert_eq!(judged(&[30; 18]).last(), Some(&Verdict::Unfit(30)));
        assert_eq!(judged(&[0, 0, 0, 60, 60, 60, 0, 0, 0, 0, 0]).last(), Some(&Verdict::Fit));
        assert_eq!(judged(&[10; 20]).last(), Some(&Verdict::Fit));
    }

    #[test]
    fn a_link_that_got_better_is_of_use_again() {
        let percents = [[30; 18].as_slice(), &[10; 12], &[2; 12]].concat();
        let judged = judged(&percents);
        assert_eq!((judged[17], judged[41]), (Verdict::Unfit(30), Verdict::Fit));
    }

    #[test]
    fn a_link_that_was_filled_too_fast_is_tried_once_and_not_again_soon() {
        let (mut fitness, mut totals) = (Fitness::default(), Totals::default());
        let mut overflows = |fitness: &mut Fitness, second: u64| {
            for tenth in 0..10 {
                totals.sent_bytes += 140_000;
                (totals.acked, totals.lost) = (totals.acked + 60, totals.lost + 40);
                let now = Instant::ZERO + Duration::from_millis(1_000 * second + 100 * tenth);
                if fitness.judge(now, Duration::ZERO, totals) {
                    return totals;
                }
            }
            totals
        };
        for second in [10, 50] {
            let before = overflows(&mut fitness, second);
            assert_eq!(fitness.verdict(), Verdict::OnTrial(TRIAL_PROBES));
            let tried = Totals { sent_bytes: before.sent_bytes + 3_000, acked: before.acked + 39, ..before };
            assert!(fitness.judge(Instant::ZERO + Duration::from_secs(second + 2), Duration::ZERO, tried));
            assert_eq!(fitness.verdict(), Verdict::Fit);
        }
        overflows(&mut fitness, 60);
        overflows(&mut fitness, 61);
        assert_eq!(fitness.verdict(), Verdict::Unfit(40));
    }

    #[test]
    fn a_trial_ends_with_a_verdict_that_outlives_the_next_outage() {
        let (mut fitness, now) = (Fitness::default(), Instant::ZERO);
        fitness.restart(now, Totals::default());
        let probes = 1 + std::iter::from_fn(|| fitness.on_probe(now)).count();
        assert_eq!(probes, TRIAL_PROBES as usize);
        assert!(!fitness.judge(now, WINDOW, Totals { acked: 31, ..Totals::default() }));
        assert!(fitness.judge(now, WINDOW, Totals { acked: 22, lost: 10, ..Totals::default() }));
        assert_eq!(fitness.verdict(), Verdict::Unfit(31));
        fitness.restart(now, Totals::default());
        assert_eq!(fitness.verdict(), Verdict::Unfit(31));
        assert_eq!(fitness.on_probe(now), None);
    }

    #[test]
    fn what_arrives_late_or_left_before_was_not_lost() {
        let mut fitness = Fitness::default();
        for i in 1..20 {
            let (acked, lost, spurious, excused) = (100 * i, 40 * i, 20 * i, 20 * i);
            let totals = Totals { acked, lost, spurious, excused, ..Totals::default() };
            let now = Instant::ZERO + Duration::from_millis(400 * i);
            assert!(!fitness.judge(now, Duration::ZERO, totals));
        }
    }
}
