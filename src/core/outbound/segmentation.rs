//! Whether a link's datagrams may leave in runs that the kernel or the network card cuts apart (UDP GSO).
//!
//! Some drivers and PPPoE lose or mangle what leaves so. That is told from a path that loses anyway by trying: when
//! runs lose suspiciously much, datagrams leave alone for a while; only if then they arrive, and again when that is
//! repeated, runs are not used any more. It is not enough to compare runs with the few that leave alone at any
//! rate: a short queue loses the end of a burst and not a lone probe. Nor is it enough that those which leave alone
//! arrive: where processors are the limit they are fewer in the same time, and a receiver that lost what came too fast
//! for it keeps up with them.

use std::time::Duration;

use crate::core::units::{Instant, loss_share};

/// Outcomes after which a suspicion can arise: of fewer a lossy radio link says now this, now that. Four times as many
/// after each that was wrong, and twice as many that confirm it: losses of another kind cost runs less and less.
const SAMPLE: u64 = 128;
const MOST_ACQUITTALS: u32 = 10;
/// Outcomes that confirm it are so many that runs lose this number again, and twice as many in each further round: a
/// burst of losses that happens to fall among the runs is soon too short for that.
const CONFIRMING: f64 = 8.0;
/// Share of losses that is suspicious: one datagram in each run of a full train, and less is hardly a fault.
const SUSPICIOUS: f64 = 0.02;
/// In further rounds runs must lose at least this part of what they lost in the first …
const AS_MUCH: f64 = 0.5;
/// … and datagrams that leave alone less than this one.
const LESS: f64 = 0.25;
/// … of which no fewer arrive in the same time than this part of what arrives in runs.
const AS_FAST: f64 = 0.75;
/// A longer time between two datagrams is a pause of those who send inside.
const PAUSE: Duration = Duration::from_millis(20);
/// So many times in a row runs must lose and lone datagrams arrive.
const ROUNDS: u32 = 4;
/// Where nearly all is lost few outcomes and rounds are enough: a link that delivers nothing has not many.
const HEAVY: f64 = 0.9;
const FEW: u64 = 16;
const HEAVY_ROUNDS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Runs are used.
    On,
    /// For a while they are not, to see the difference.
    Trial,
    /// They never are.
    Off,
}

/// Counts what becomes of the datagrams of one link that left in runs, and of those that did not.
#[derive(Clone, Copy, Debug)]
pub struct Segmentation {
    state: State,
    /// What left before says nothing of this state.
    since: Instant,
    /// When the last left that is known of, and how long it took to send them all, without pauses.
    last: Instant,
    span: Duration,
    acked: u64,
    lost: u64,
    /// How many of the runs arrived in a second, before the trial.
    speed: f64,
    /// What runs lost that brought on the first trial.
    suspicion: f64,
    rounds: u32,
    /// Suspicions that were wrong.
    acquittals: u32,
}

impl Segmentation {
    /// Runs are used, or not.
    pub fn new(enabled: bool) -> Self {
        Self {
            state: if enabled { State::On } else { State::Off },
            since: Instant::ZERO,
            last: Instant::ZERO,
            span: Duration::ZERO,
            acked: 0,
            lost: 0,
            speed: 0.0,
            suspicion: 0.0,
            rounds: 0,
            acquittals: 0,
        }
    }

    /// Runs may leave now.
    pub fn allows_runs(&self) -> bool {
        self.state == State::On
    }

    /// Runs are in use, but for a trial.
    pub fn is_on(&self) -> bool {
        self.state != State::Off
    }

    /// It is being found out whether runs are why datagrams get lost.
    pub fn is_in_doubt(&self) -> bool {
        self.state == State::Trial || self.rounds > 0 && self.is_on()
    }

    /// Runs are not used any more. False if they were not before.
    pub fn turn_off(&mut self) -> bool {
        std::mem::replace(&mut self.state, State::Off) != State::Off
    }

    /// What left at `sent`, in a run or alone, has arrived; `late`: it was taken for lost before.
    pub fn on_acked(&mut self, sent: Instant, in_run: bool, late: bool) {
        if self.counts(sent, in_run) {
            self.acked += 1;
            self.lost = self.lost.saturating_sub(late.into());
        }
    }

    /// What left at `sent`, in a run or alone, was lost.
    pub fn on_lost(&mut self, sent: Instant, in_run: bool) {
        if self.counts(sent, in_run) {
            self.lost += 1;
        }
    }

    fn counts(&mut self, sent: Instant, in_run: bool) -> bool {
        let counts = sent >= self.since && in_run == (self.state == State::On);
        if counts && sent > self.last {
            self.span += sent.since(self.last).min(PAUSE);
            self.last = sent;
        }
        counts
    }

    /// How many arrive in a second; `None` if all left at once.
    fn speed(&self) -> Option<f64> {
        Some(self.acked as f64 / self.span.as_secs_f64()).filter(|speed| speed.is_finite())
    }

    /// Draws the conclusions. Gives the percentages that runs lost and that lone datagrams lost if these show that
    /// runs must not be used: then they are not, from now on.
    pub fn judge(&mut self, now: Instant) -> Option<(f64, f64)> {
        let count = self.acked + self.lost;
        let share = loss_share(self.acked, self.lost);
        match self.state {
            State::On if count >= FEW && share >= HEAVY || count >= self.window() => {
                let again = self.rounds == 0 || share >= self.suspicion * AS_MUCH;
                if share >= SUSPICIOUS && again {
                    self.suspicion = if self.rounds == 0 { share } else { self.suspicion };
                    self.speed = self.speed().unwrap_or(0.0);
                    self.enter(now, State::Trial);
                } else {
                    self.acquit(now);
                }
            }
            State::Trial if count >= if self.is_heavy() { FEW } else { self.window() } => {
                let slower = self.speed().is_some_and(|speed| speed < self.speed * AS_FAST);
                if share >= self.suspicion * LESS || slower {
                    self.acquit(now);
                    return None;
                }
                self.rounds += 1;
                if self.rounds >= if self.is_heavy() { HEAVY_ROUNDS } else { ROUNDS } {
                    self.turn_off();
                    return Some((self.suspicion * 100.0, share * 100.0));
                }
                self.enter(now, State::On);
            }
            _ => {}
        }
        None
    }

    /// Runs are not the reason, or there is nothing to look for.
    fn acquit(&mut self, now: Instant) {
        if self.is_in_doubt() {
            self.acquittals = MOST_ACQUITTALS.min(self.acquittals + 1);
        }
        self.rounds = 0;
        self.enter(now, State::On);
    }

    /// Outcomes after which a state is judged.
    fn window(&self) -> u64 {
        if !self.is_in_doubt() {
            return SAMPLE << (2 * self.acquittals);
        }
        let confirming = ((CONFIRMING / self.suspicion) as u64).max(FEW);
        confirming << (self.acquittals + self.rounds)
    }

    fn is_heavy(&self) -> bool {
        self.suspicion >= HEAVY
    }

    fn enter(&mut self, now: Instant, state: State) {
        // What leaves at this very moment may have left before the change.
        (self.state, self.since) = (state, now + Duration::from_nanos(1));
        (self.last, self.span) = (self.since, Duration::ZERO);
        (self.acked, self.lost) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends datagrams one after the other, each lost as `loses` says of its number and of whether it left in a run.
    /// Gives after how many runs were given up, and how many left in runs.
    fn judged(count: u64, loses: impl Fn(u64, bool) -> bool) -> (Option<u64>, u64) {
        judged_at([1, 1], count, loses)
    }

    /// The same if those that leave alone take so many ms, and those in runs so many.
    fn judged_at(paces: [u64; 2], count: u64, loses: impl Fn(u64, bool) -> bool) -> (Option<u64>, u64) {
        let (mut segmentation, mut in_runs, mut now) = (Segmentation::new(true), 0, Instant::ZERO);
        for i in 0..count {
            let in_run = segmentation.allows_runs();
            now += Duration::from_millis(paces[usize::from(in_run)]);
            in_runs += u64::from(in_run);
            if loses(i, in_run) {
                segmentation.on_lost(now, in_run);
            } else {
                segmentation.on_acked(now, in_run, false);
            }
            if segmentation.judge(now).is_some() {
                assert!(!segmentation.is_on() && !segmentation.allows_runs());
                return (Some(i), in_runs);
            }
        }
        (None, in_runs)
    }

    #[test]
    fn a_path_that_loses_runs_gets_none_any_more() {
        let (off, in_runs) = judged(10_000, |_, in_run| in_run);
        assert!(off.is_some_and(|off| off < 200), "{off:?}");
        assert!(in_runs < 60, "{in_runs}");
    }

    #[test]
    fn one_that_loses_a_datagram_of_each_run_neither() {
        let (off, _) = judged(10_000, |i, in_run| in_run && i % 40 == 0);
        assert!(off.is_some_and(|off| off < 10_000), "{off:?}");
    }

    #[test]
    fn a_clean_path_always_has_runs() {
        assert_eq!(judged(100_000, |_, _| false), (None, 100_000));
        assert_eq!(judged(100_000, |i, _| i % 100 == 0), (None, 100_000));
    }

    #[test]
    fn a_path_that_loses_anyway_has_them_most_of_the_time() {
        let scattered = |i: u64, _: bool| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0xff < 20;
        let (off, in_runs) = judged(100_000, scattered);
        assert_eq!(off, None);
        assert!(in_runs > 80_000, "{in_runs}");
    }

    #[test]
    fn outages_are_no_fault_of_runs() {
        for (every, length) in [(300, 20), (1_000, 20), (1_000, 100), (5_000, 400), (777, 50), (20_000, 60)] {
            assert_eq!(judged(1_000_000, |i, _| i % every < length).0, None, "{length} of {every}");
        }
    }

    #[test]
    fn what_arrives_alone_because_it_is_slow_proves_nothing() {
        let (off, in_runs) = judged_at([3, 2], 100_000, |i, in_run| in_run && i % 20 == 0);
        assert_eq!(off, None);
        assert!(in_runs > 80_000, "{in_runs}");
        // Slower for them that arrive: those in runs take as long, with what is lost.
        let (off, _) = judged_at([3, 2], 10_000, |i, in_run| in_run && i % 2 == 0);
        assert!(off.is_some(), "{off:?}");
    }

    #[test]
    fn pauses_of_those_who_send_do_not_count() {
        let (mut segmentation, mut now) = (Segmentation::new(true), Instant::ZERO);
        let off = (0..10_000).find(|&i| {
            now += Duration::from_millis(if i % 50 == 0 { 5_000 } else { 1 });
            let in_run = segmentation.allows_runs();
            if in_run && i % 20 == 0 {
                segmentation.on_lost(now, in_run);
            } else {
                segmentation.on_acked(now, in_run, false);
            }
            segmentation.judge(now).is_some()
        });
        assert!(off.is_some(), "they are given up");
    }

    #[test]
    fn nothing_happens_where_runs_are_off() {
        let mut segmentation = Segmentation::new(false);
        (0..1_000).for_each(|_| segmentation.on_lost(Instant::ZERO, false));
        assert_eq!(segmentation.judge(Instant::ZERO), None);
        assert!(!segmentation.allows_runs() && !segmentation.is_in_doubt() && !segmentation.turn_off());
    }
}
