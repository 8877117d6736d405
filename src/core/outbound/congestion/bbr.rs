//! A model of the path, in the manner of BBRv3 (draft-ietf-ccwg-bbr), bent to what a tunnel needs.
//!
//! The standing queue belongs in our own FQ-CoDel, where it is controlled, and not in a modem. So what is in
//! flight is capped at `bw · (min_rtt + D) + extra_acked`, and the model follows a path whose rate falls within
//! two round trips: a round that delivered less while the round-trip time was inflated *is* the new rate.
//! Random loss is no signal; loss is one only where it is massive, and ends when less is sent.

use std::time::Duration;

use super::losses::Losses;
use super::{Acked, Controller, Lost, RateSample};
use crate::core::one_way::{Apparent, OneWayDelay};
use crate::core::rtt::{INITIAL_RTT, Rtt};
use crate::core::units::{Instant, Rate};

/// Datagrams in the initial window: more than the 10 of one connection inside (RFC 6928), so that its slow
/// start finds us ahead and not in its way; as many as QUIC servers use.
const INITIAL_WINDOW: u64 = 32;
/// … for every so long a part of the round trip: a satellite's is no reason to begin with a tenth of the rate.
const INITIAL_TIME: Duration = Duration::from_millis(100);
/// Datagrams in the smallest window.
const MINIMUM_WINDOW: u64 = 4;
/// Rounds over which the largest delivery rate counts (BBRv1's filter length).
const FILTER_ROUNDS: usize = 10;
/// Doubles the rate each round: 4·ln 2 (draft §5.6.2).
const STARTUP_GAIN: f64 = 2.77;
const DRAIN_GAIN: f64 = 0.5;
/// The queue of an `Up` phase is drained as fast as it was made.
const DOWN_GAIN: f64 = 0.8;
const UP_GAIN: f64 = 1.25;
/// Pacing a little below the estimate keeps its error from making a queue (draft §5.6.2: 1 %).
const PACING_MARGIN: f64 = 0.99;
/// The same where a queue would hold up conversations that other links carry meanwhile. It must exceed
/// [`STARTUP_GROWTH`].
const CAREFUL_GAIN: f64 = 1.5;
/// Startup ends after so many rounds without growth by [`STARTUP_GROWTH`].
const STARTUP_ROUNDS: u32 = 3;
const STARTUP_GROWTH: f64 = 1.25;
/// `Up` goes on while a round brings so much: a path with five times the rate is filled in eight rounds.
const UP_GROWTH: f64 = 1.05;
/// Rounds between two `Up` phases, and at most this long.
const CRUISE_ROUNDS: u64 = 6;
const CRUISE_TIME: Duration = Duration::from_secs(1);
/// Age at which the minimal round-trip time is measured anew (draft §5.6.1), and for how long.
const MIN_RTT_AGE: Duration = Duration::from_secs(10);
const PROBE_RTT_TIME: Duration = Duration::from_millis(100);
/// A sample that is longer than the minimum by at most this part of it confirms it.
const CONFIRMS: u32 = 16;
/// Least queueing time that may be in flight beyond the minimum: shorter, and jitter would starve the link.
const MIN_HEADROOM: Duration = Duration::from_millis(8);
/// Most bytes that may be in flight beyond the path's own delay, or half of that. At gigabits over short paths they wait in
/// the receiver's socket, which loses what is too much for its buffer; and more than the pool holds could not be sent again.
const MOST_AHEAD: u64 = 3 << 20;
/// Fewest full datagrams of a round whose losses tell something.
const LOSS_SAMPLE: u64 = 20;
/// Longest wait on the way back that is made up for, if the minimal round trip is not longer.
const MAX_RETURN_WAIT: Duration = Duration::from_millis(100);
/// Full datagrams of which the rate is not luck.
const FEW: u64 = 8;
/// Rounds of inflated round-trip time, in spite of less in flight, that make it the new minimum: a handover.
const JUMP_ROUNDS: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Up,
    ProbeRtt { back_at: Instant },
}

/// The default controller.
pub struct Bbr {
    max_datagram: u64,
    careful: bool,
    phase: Phase,
    phase_since: Instant,
    phase_round: u64,
    /// Largest delivery rate of each of the last rounds, bytes per second.
    rates: [u64; FILTER_ROUNDS],
    /// The largest of these.
    bandwidth: u64,
    round: u64,
    /// The round ends when what is sent now has been acknowledged.
    round_ends: u64,
    round_rate: u64,
    round_min_rtt: Duration,
    /// Least queueing time, and least time that the way back took longer than it can, of this round.
    round_min_queued: Duration,
    round_min_return: Duration,
    /// Round-trip times of this round beyond what the headroom allows, and all.
    round_inflated: u32,
    round_samples: u32,
    round_lost: u64,
    round_acked: u64,
    round_app_limited: bool,
    /// Bandwidth and rounds of the test whether startup or `Up` still brings something.
    full_bandwidth: u64,
    full_rounds: u32,
    min_rtt: Option<Duration>,
    min_rtt_at: Instant,
    one_way: OneWayDelay,
    /// How much longer than it can the way back takes: our acknowledgements wait in queues that are not this path's.
    return_wait: Duration,
    /// Smallest round-trip time of this phase.
    phase_min_rtt: Duration,
    inflated_rounds: u32,
    /// How much more than `bw · time` acknowledgements bring at once, now and before.
    extra_acked: [u64; 2],
    extra_round: u64,
    epoch_start: Instant,
    epoch_acked: u64,
    losses: Losses,
    average: Average,
}

/// What gets through of several datagrams. A sample of a short path is of a few, and where some are lost, the largest
/// of ten such samples tells of luck.
#[derive(Debug, Default)]
struct Average {
    acked: u64,
    lost: u64,
    /// Two moments, and these at each: a few datagrams apart, and at most as many ago.
    marks: [(Instant, u64, u64); 2],
}

impl Average {
    /// Gives the rate since the earlier mark, if it is of more than the sample and some were lost.
    fn rate(&mut self, now: Instant, sample: &RateSample, datagram: u64) -> Option<u64> {
        let [earlier, later] = self.marks;
        let here = (now, self.acked, self.lost);
        if sample.app_limited {
            self.marks = [here; 2];
            return None;
        }
        let is_far =
            |(_, acked, lost): (Instant, u64, u64)| self.acked + self.lost - acked - lost >= FEW * datagram;
        let (since, acked, lost) = earlier;
        let (tells, time) = (is_far(earlier) && self.lost > lost, now.since(since));
        if is_far(later) {
            self.marks = [later, here];
        }
        let rate = Rate::of(self.acked - acked, time).filter(|_| tells && time > sample.interval);
        rate.map(Rate::bytes_per_second)
    }
}

impl Bbr {
    /// A model that knows nothing, for datagrams of at most `max_datagram` bytes.
    pub fn new(max_datagram: u64) -> Self {
        Self {
            max_datagram,
            phase: Phase::Startup,
            careful: false,
            phase_since: Instant::ZERO,
            phase_round: 0,
            rates: [0; FILTER_ROUNDS],
            bandwidth: 0,
            round: 0,
            round_ends: 0,
            round_rate: 0,
            round_min_rtt: Duration::MAX,
            round_min_queued: Duration::MAX,
            round_min_return: Duration::MAX,
            round_inflated: 0,
            round_samples: 0,
            round_lost: 0,
            round_acked: 0,
            round_app_limited: true,
            full_bandwidth: 0,
            full_rounds: 0,
            min_rtt: None,
            min_rtt_at: Instant::ZERO,
            one_way: OneWayDelay::default(),
            return_wait: Duration::ZERO,
            phase_min_rtt: Duration::MAX,
            inflated_rounds: 0,
            extra_acked: [0; 2],
            extra_round: 0,
            epoch_start: Instant::ZERO,
            epoch_acked: 0,
            losses: Losses::default(),
            average: Average::default(),
        }
    }

    /// This round delivered so much.
    fn note_rate(&mut self, rate: u64) {
        self.rates[self.round as usize % FILTER_ROUNDS] = rate;
        self.bandwidth = self.rates.iter().copied().max().unwrap_or(0);
    }

    /// The path carries so much, whatever was seen before.
    fn believe(&mut self, now: Instant, rate: u64) {
        self.rates = [0; FILTER_ROUNDS];
        self.note_rate(rate);
        self.enter(now, Phase::Down);
    }

    fn min_rtt(&self) -> Duration {
        self.min_rtt.unwrap_or(INITIAL_RTT)
    }

    /// D: queueing time that may be in flight beyond the minimal round-trip time.
    fn headroom(&self) -> Duration {
        (self.min_rtt() / 4).max(MIN_HEADROOM)
    }

    fn initial_window(&self, rtt: Duration) -> u64 {
        let parts = rtt.as_secs_f64() / INITIAL_TIME.as_secs_f64();
        ((INITIAL_WINDOW * self.max_datagram) as f64 * parts.max(1.0)) as u64
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        Rate::from_bytes_per_second(self.bandwidth).bytes_in(time)
    }

    fn enter(&mut self, now: Instant, phase: Phase) {
        (self.phase, self.phase_since, self.phase_round) = (phase, now, self.round);
        self.phase_min_rtt = Duration::MAX;
        if phase == Phase::Up {
            (self.full_bandwidth, self.full_rounds) = (self.bandwidth, 0);
        }
    }

    /// Time until all that may be in flight without a queue is acknowledged.
    fn cycle(&self) -> Duration {
        self.min_rtt() + self.return_wait
    }

    fn take_rtt(&mut self, now: Instant, rtt: Duration, one_way: Option<Apparent>) {
        self.round_min_rtt = self.round_min_rtt.min(rtt);
        self.phase_min_rtt = self.phase_min_rtt.min(rtt);
        if let Some(least) = self.min_rtt {
            let queued = self.queued(now, rtt.saturating_sub(least), one_way);
            self.round_inflated += u32::from(queued > self.headroom());
            self.round_min_queued = self.round_min_queued.min(queued);
            self.round_min_return = self.round_min_return.min(rtt.saturating_sub(least + queued));
        }
        self.round_samples += 1;
        match self.min_rtt {
            Some(least) if rtt > least + least / CONFIRMS => {}
            // What is so near the minimum shows that it still holds; a pause to measure it would cost more.
            Some(least) => (self.min_rtt, self.min_rtt_at) = (Some(least.min(rtt)), now),
            None => (self.min_rtt, self.min_rtt_at) = (Some(rtt), now),
        }
    }

    /// Which part of the time `beyond` the minimal round trip was spent on the way to the peer. What was spent on the
    /// way back says nothing of this path: a slow uplink that is full of acknowledgements is no reason to call its
    /// downlink slow.
    fn queued(&mut self, now: Instant, beyond: Duration, one_way: Option<Apparent>) -> Duration {
        let Some(one_way) = one_way else { return beyond };
        self.one_way.take(now, one_way);
        let least = self.one_way.least(now).unwrap_or(one_way);
        beyond.min(Duration::from_micros(one_way.beyond(least).max(0) as u64))
    }

    fn take_rate(&mut self, now: Instant, acked: &Acked) {
        let Some(sample) = acked.rate else { return };
        let average = self.average.rate(now, &sample, self.max_datagram);
        let rate = sample.rate.bytes_per_second();
        let rate = average.filter(|_| self.phase != Phase::Startup).map_or(rate, |average| rate.min(average));
        if !sample.app_limited {
            self.round_app_limited = false;
            self.round_rate = self.round_rate.max(rate);
        }
        if !sample.app_limited || rate > self.bandwidth {
            self.note_rate(rate.max(self.rates[self.round as usize % FILTER_ROUNDS]));
        }
    }

    /// How far acknowledgements come in lumps (draft §5.5.9).
    fn take_aggregation(&mut self, now: Instant, bytes: u64) {
        let expected = self.bytes_in(now.since(self.epoch_start));
        if self.epoch_acked <= expected {
            (self.epoch_start, self.epoch_acked) = (now, 0);
        }
        self.epoch_acked += bytes;
        let extra = self.epoch_acked - self.bytes_in(now.since(self.epoch_start)).min(self.epoch_acked);
        // No lump is longer than what the headroom's own time brings; more would be a queue by another name.
        let extra = extra.min(self.bytes_in(self.min_rtt().max(MIN_HEADROOM)));
        self.extra_acked[0] = self.extra_acked[0].max(extra);
        if self.round >= self.extra_round + FILTER_ROUNDS as u64 {
            self.extra_acked = [0, self.extra_acked[0]];
            self.extra_round = self.round;
        }
    }

    /// A round trip has passed.
    fn end_round(&mut self, now: Instant) {
        let inflated = self.round_min_queued != Duration::MAX && self.round_min_queued > self.headroom();
        if self.round_min_return != Duration::MAX {
            self.return_wait = self.round_min_return.min(self.min_rtt().max(MAX_RETURN_WAIT));
        }
        let sent = self.round_lost + self.round_acked;
        let massive = sent > LOSS_SAMPLE * self.max_datagram
            && self.losses.is_massive(now, self.round_acked, self.round_lost);
        let honest = !self.round_app_limited && self.round_rate > 0;
        let searching = matches!(self.phase, Phase::Startup);
        if searching {
            self.end_startup_round(now, 2 * self.round_inflated > self.round_samples || massive);
        } else {
            if honest && (inflated || massive) && (self.round_rate as f64) < 0.9 * self.bandwidth as f64 {
                // There was a queue, so what came through is what the path gives; or no room for one, perhaps.
                if inflated {
                    self.losses.end_trial();
                } else {
                    self.losses.try_less(now, self.round_acked, self.round_lost);
                }
                self.believe(now, self.round_rate);
            }
            let (acked, lost) = (self.round_acked, self.round_lost);
            let policed = self.losses.end_round(now, acked, lost, self.bandwidth, self.max_datagram);
            if let Some(rate) = policed {
                self.believe(now, rate);
            }
        }
        self.inflated_rounds = if inflated { self.inflated_rounds + 1 } else { 0 };
        if self.inflated_rounds >= JUMP_ROUNDS && !searching {
            // Less in flight did not help: the path has become longer.
            (self.min_rtt, self.min_rtt_at) = (Some(self.round_min_rtt), now);
            (self.one_way, self.return_wait) = (OneWayDelay::default(), Duration::ZERO);
            self.inflated_rounds = 0;
        }
        self.round += 1;
        // Idle rounds tell nothing, so they forget nothing.
        self.note_rate(if honest { 0 } else { self.bandwidth });
        (self.round_rate, self.round_min_rtt, self.round_app_limited) = (0, Duration::MAX, true);
        (self.round_min_queued, self.round_min_return) = (Duration::MAX, Duration::MAX);
        (self.round_lost, self.round_acked, self.round_inflated, self.round_samples) = (0, 0, 0, 0);
    }

    fn end_startup_round(&mut self, now: Instant, overrun: bool) {
        let bandwidth = self.bandwidth;
        if bandwidth as f64 >= STARTUP_GROWTH * self.full_bandwidth as f64 {
            (self.full_bandwidth, self.full_rounds) = (bandwidth, 0);
        } else if !self.round_app_limited {
            self.full_rounds += 1;
        }
        // A probe that was late overran nothing.
        let overrun = overrun && self.round_acked + self.round_lost > MINIMUM_WINDOW * self.max_datagram;
        if overrun || self.full_rounds >= STARTUP_ROUNDS {
            self.enter(now, Phase::Drain);
        }
    }

    /// Whether it is time to look for more.
    fn has_cruised(&self, now: Instant, rounds: u64) -> bool {
        // A policer drops what is sent to find out more; short rounds would have it do so all the time.
        rounds >= CRUISE_ROUNDS && !self.losses.is_policed(now) || now.since(self.phase_since) >= CRUISE_TIME
    }

    fn next_phase(&mut self, now: Instant, in_flight: u64, round_started: bool) {
        let target = self.bytes_in(self.cycle());
        let rounds = self.round - self.phase_round;
        match self.phase {
            Phase::Startup => {}
            Phase::Drain | Phase::Down if in_flight <= target || rounds >= 3 => {
                self.enter(now, Phase::Cruise)
            }
            Phase::Drain | Phase::Down => {}
            Phase::Cruise if self.has_cruised(now, rounds) => self.enter(now, Phase::Up),
            Phase::Cruise => {}
            Phase::Up if round_started && rounds >= 1 => {
                let grown = self.bandwidth as f64 >= UP_GROWTH * self.full_bandwidth as f64;
                self.full_bandwidth = self.full_bandwidth.max(self.bandwidth);
                self.full_rounds = if grown { 0 } else { self.full_rounds + 1 };
                // The first round's samples speak of what was sent before it.
                if self.full_rounds >= 2 {
                    self.enter(now, Phase::Down);
                }
            }
            Phase::Up => {}
            Phase::ProbeRtt { back_at } => {
                if now >= back_at && rounds >= 2 {
                    // With next to nothing in flight this is the path's own, even if it is more than before.
                    (self.min_rtt, self.min_rtt_at) = (Some(self.phase_min_rtt), now);
                    self.enter(now, Phase::Cruise);
                }
            }
        }
        let searching = matches!(self.phase, Phase::Startup | Phase::ProbeRtt { .. });
        if !searching && now.since(self.min_rtt_at) > MIN_RTT_AGE {
            self.enter(now, Phase::ProbeRtt { back_at: now + PROBE_RTT_TIME });
        }
    }
}

impl Controller for Bbr {
    fn on_ack(&mut self, now: Instant, acked: &Acked, in_flight: u64, _: &Rtt) {
        if let Some(rtt) = acked.rtt {
            self.take_rtt(now, rtt, acked.one_way);
        }
        self.round_acked += acked.bytes;
        self.average.acked += acked.bytes;
        self.take_rate(now, acked);
        self.take_aggregation(now, acked.bytes);
        let round_started = acked.delivered_when_sent >= self.round_ends;
        if round_started {
            self.round_ends = acked.delivered;
            self.end_round(now);
        }
        self.next_phase(now, in_flight, round_started);
    }

    fn on_loss(&mut self, _: Instant, lost: &Lost) {
        self.round_lost += lost.bytes;
        self.average.lost += lost.bytes;
    }

    fn on_spurious_loss(&mut self, _: Instant) {
        self.round_lost = self.round_lost.saturating_sub(self.max_datagram);
    }

    fn window(&self) -> Option<u64> {
        let least = MINIMUM_WINDOW * self.max_datagram;
        let initial = self.initial_window(self.min_rtt.unwrap_or_default());
        if self.bandwidth == 0 || self.min_rtt.is_none() {
            return Some(initial);
        }
        let target = self.bytes_in(self.cycle());
        let extra = self.extra_acked[0].max(self.extra_acked[1]);
        let window = match self.phase {
            Phase::Startup if self.careful => ((target as f64 * CAREFUL_GAIN) as u64 + extra).max(initial),
            Phase::Startup => (2 * target + extra).max(initial),
            Phase::ProbeRtt { .. } => self.bytes_in(self.min_rtt()) / 2,
            _ => {
                let ahead = self.bytes_in(self.headroom()) + extra;
                target + ahead.min(MOST_AHEAD.max(target / 2)) + 2 * self.max_datagram
            }
        };
        Some(window.max(least))
    }

    fn pacing_rate(&self, rtt: &Rtt) -> Option<Rate> {
        let gain = match self.phase {
            Phase::Startup if self.careful => CAREFUL_GAIN,
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::Down => DOWN_GAIN,
            Phase::Up => UP_GAIN,
            Phase::Cruise | Phase::ProbeRtt { .. } => 1.0,
        };
        let rate = Rate::from_bytes_per_second(self.bandwidth).scaled(gain * PACING_MARGIN);
        if self.phase != Phase::Startup {
            return Some(rate);
        }
        // Probes and first packets of a conversation show no rate worth the name.
        let initial = Rate::of(self.initial_window(rtt.smoothed()), rtt.smoothed())?;
        Some(rate.max(initial))
    }

    fn bandwidth(&self) -> Option<Rate> {
        Some(Rate::from_bytes_per_second(self.bandwidth)).filter(|rate| rate.bytes_per_second() > 0)
    }

    fn is_searching(&self) -> bool {
        self.phase == Phase::Startup
    }

    fn overfills(&self) -> bool {
        self.is_searching() || self.phase == Phase::Up
    }

    fn set_careful(&mut self, careful: bool) {
        self.careful = careful;
    }

    fn name(&self) -> &'static str {
        "bbr"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_few_datagrams_counts_only_where_none_are_lost() {
        let sample = |app_limited| RateSample {
            rate: Rate::from_bytes_per_second(1_000_000),
            interval: Duration::from_millis(10),
            app_limited,
        };
        // Four of 1,000 bytes each 10 ms, of which so many are lost.
        let averages = |lost: u64, app_limited| {
            let mut average = Average::default();
            (1..=8).fold(None, |_, n: u32| {
                (average.acked, average.lost) = (average.acked + 4_000 - lost, average.lost + lost);
                average.rate(Instant::ZERO + Duration::from_millis(10) * n, &sample(app_limited), 1_000)
            })
        };
        assert_eq!(averages(0, false), None);
        assert_eq!(averages(1_000, false), Some(300_000));
        assert_eq!(averages(1_000, true), None);
    }

    #[test]
    fn at_gigabits_no_more_is_in_flight_than_a_socket_holds() {
        let window = |bandwidth, ms| {
            let (phase, min_rtt) = (Phase::Cruise, Some(Duration::from_millis(ms)));
            let extra_acked = [bandwidth / 100, 0];
            Bbr { bandwidth, phase, min_rtt, extra_acked, ..Bbr::new(1_500) }.window()
        };
        assert_eq!(window(12_500_000, 8), Some(100_000 + 100_000 + 125_000 + 3_000), "100 Mbit/s");
        assert_eq!(window(1_250_000_000, 1), Some(1_250_000 + MOST_AHEAD + 3_000));
        assert_eq!(window(1_250_000_000, 100), Some(125_000_000 + 43_750_000 + 3_000), "long");
    }
}
