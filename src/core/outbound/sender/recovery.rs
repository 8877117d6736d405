//! What acknowledgements and timers show: round-trip time, delivery rate, losses.
//!
//! Loss detection has the shape of RFC 9002 §6 with RACK's adaptive reordering window (RFC 8985).

use std::time::Duration;

use super::{Fate, Outcome, Sender};
use crate::core::one_way::Apparent;
use crate::core::outbound::congestion::{Acked, Lost, RateSample};
use crate::core::outbound::path_mtu::BASE;
use crate::core::rtt::GRANULARITY;
use crate::core::units::{Instant, Rate, expand32};
use crate::core::wire::{ACK_DELAY_UNIT, Ack};

/// Later datagrams that must be acknowledged before one is lost, until reordering is seen (RFC 9002 §6.1.1).
const PACKET_THRESHOLD: u64 = 3;
/// Ordered packets that are sent again when a probe timeout passes.
const TAIL: usize = 2;
/// Probe timeouts without an answer that make persistent congestion (RFC 9002 §7.6.1).
const PERSISTENT_THRESHOLD: u32 = 3;
/// A longer sample speaks of a peer that slept with an acknowledgement to send, not of the path.
const MAX_RTT: Duration = Duration::from_secs(10);
/// Doublings of the probe timeout; then it stays, a minute or so.
const MAX_BACKOFF: u32 = 10;
/// Largest reordering window in quarters of the minimal RTT, as in RACK (`RACK.reo_wnd_mult`).
const MAX_REORDER_QUARTERS: u32 = 16;
/// Weight of one datagram in the share of losses.
const LOSS_WEIGHT: f64 = 1.0 / 256.0;
/// Transmissions for which room is kept though they are few now.
const MANY: usize = 4_096;

/// What one acknowledgement showed to be delivered.
#[derive(Default)]
struct Newly {
    count: u64,
    bytes: u64,
    newest_sent: Instant,
    sample: Option<Sample>,
    /// When the peer told so, by its clock.
    told: Instant,
}

#[derive(Clone, Copy)]
struct Sample {
    delivered: u64,
    delivered_time: Instant,
    first_sent: Instant,
    sent: Instant,
    app_limited: bool,
}

impl Sender {
    /// Takes an acknowledgement of the peer, which left it at `timestamp` by its clock.
    pub fn on_ack(&mut self, now: Instant, ack: &Ack, timestamp: u32) -> Outcome {
        let largest = expand32(self.next_sequence, ack.largest);
        if largest >= self.next_sequence {
            return Outcome::default();
        }
        let mut newly = Newly { told: self.peer_clock.read(now, timestamp), ..Newly::default() };
        let delay = Duration::from_nanos(u64::from(ack.delay) * ACK_DELAY_UNIT);
        let rtt = self.acknowledge(now, largest, &mut newly).filter(|rtt| *rtt <= MAX_RTT);
        if let Some(rtt) = rtt {
            self.rtt.sample(now, rtt, delay);
        }
        let lowest = largest.saturating_sub(ack.covered()).max(self.base);
        for sequence in (lowest..largest).rev() {
            if !ack.is_missing(largest - sequence) {
                self.acknowledge(now, sequence, &mut newly);
            }
        }
        self.largest_acked = self.largest_acked.max(Some(largest));
        if newly.count == 0 {
            return Outcome::default();
        }
        self.pto_count = 0;
        self.waiting_since = now;
        self.loss *= (1.0 - LOSS_WEIGHT).powi(newly.count.min(256) as i32);
        let sample = newly.sample.filter(|sample| sample.first_sent >= self.controlled_since);
        let rate = sample.and_then(|sample| self.rate_sample(sample));
        if let Some(sample) = rate.filter(|sample| !sample.app_limited || Some(sample.rate) > self.last_rate)
        {
            self.last_rate = Some(sample.rate);
        }
        let app_limited = self.is_app_limited();
        let path_rtt = rtt.map(|rtt| rtt.saturating_sub(delay));
        let acked = Acked {
            bytes: newly.bytes,
            newest_sent: newly.newest_sent,
            app_limited,
            rate,
            rtt: path_rtt,
            one_way: rtt.map(|rtt| {
                let departure = Instant::from_nanos(now.as_nanos().saturating_sub(rtt.as_nanos() as u64));
                Apparent::of(departure.micros24(), timestamp.wrapping_sub(delay.as_micros() as u32))
            }),
            delivered: self.delivered,
            delivered_when_sent: newly.sample.map_or(0, |sample| sample.delivered),
        };
        if !self.was_forced(newly.newest_sent) {
            self.controller.on_ack(now, &acked, self.in_flight, &self.rtt);
        }
        self.path_rtt = path_rtt;
        let lost = self.detect_losses(now);
        Outcome { acked: newly.count, lost }
    }

    /// Marks one transmission as arrived. Gives its round-trip time if that is news.
    fn acknowledge(&mut self, now: Instant, sequence: u64, newly: &mut Newly) -> Option<Duration> {
        let sent = self.sent.get_mut(sequence.checked_sub(self.base)? as usize)?;
        let (time, bytes) = (sent.time, u64::from(sent.bytes));
        let was = std::mem::replace(&mut sent.fate, Fate::Acked);
        match was {
            Fate::Acked => return None,
            Fate::InFlight => {
                self.in_flight -= bytes;
                self.ordered_in_flight -= u64::from(sent.ordered);
                self.done.extend(sent.kept.take());
            }
            Fate::Lost => {
                self.totals.spurious += 1;
                self.loss = (self.loss - LOSS_WEIGHT).max(0.0);
                self.controller.on_spurious_loss(time);
            }
        }
        self.confirmed.extend(sent.defines.take().map(|definition| *definition));
        self.suspicion.on_acked(bytes.saturating_sub(self.around));
        self.segmentation.on_acked(time, sent.in_run, was == Fate::Lost);
        newly.count += 1;
        self.totals.acked += 1;
        newly.bytes += bytes;
        newly.newest_sent = newly.newest_sent.max(time);
        self.delivered += bytes;
        self.delivered_time = newly.told;
        // The sample of the datagram that left last speaks of the shortest interval.
        if newly.sample.is_none_or(|sample| sent.delivered >= sample.delivered) {
            newly.sample = Some(Sample {
                delivered: sent.delivered,
                delivered_time: sent.delivered_time,
                first_sent: sent.first_sent,
                sent: time,
                app_limited: sent.app_limited,
            });
            self.first_sent = self.first_sent.max(time);
        }
        let overtaken = self.largest_acked.is_some_and(|largest| sequence < largest);
        if overtaken {
            self.on_reordered(now, time);
        }
        self.newest_acked_sent = self.newest_acked_sent.max(time);
        Some(now.since(time))
    }

    /// A datagram arrived after later ones: the path reorders by at least that much.
    fn on_reordered(&mut self, now: Instant, sent: Instant) {
        self.reorder_seen = true;
        let late = now.since(sent).saturating_sub(self.rtt.smoothed());
        let quarter = (self.rtt.min() / 4).max(GRANULARITY / 4);
        let needed = (late.as_nanos() / quarter.as_nanos().max(1)) as u32 + 1;
        self.reorder_quarters = self.reorder_quarters.max(needed.min(MAX_REORDER_QUARTERS));
    }

    fn rate_sample(&mut self, sample: Sample) -> Option<RateSample> {
        let send_elapsed = sample.sent.since(sample.first_sent);
        let ack_elapsed = self.delivered_time.since(sample.delivered_time);
        let interval = send_elapsed.max(ack_elapsed);
        // Shorter than a round trip would be a burst, not the path's rate.
        if interval < self.rtt.min() {
            return None;
        }
        let rate = Rate::of(self.delivered - sample.delivered, interval)?;
        Some(RateSample { rate, interval, app_limited: sample.app_limited })
    }

    /// Declares lost what RFC 9002 §6.1 says, arms the timer for what is not due yet, and forgets what is
    /// decided.
    fn detect_losses(&mut self, now: Instant) -> u64 {
        self.loss_at = None;
        let Some(largest) = self.largest_acked else { return 0 };
        let patience = self.rtt.smoothed().max(self.rtt.latest()) + self.reorder_window();
        let mut lost = Lost { bytes: 0, newest_sent: Instant::ZERO, persistent: false };
        let (mut count, mut oldest) = (0, None);
        let candidates = (largest + 1).saturating_sub(self.base).min(self.sent.len() as u64);
        for (sequence, sent) in (self.base..).zip(self.sent.iter_mut()).take(candidates as usize) {
            if sent.fate != Fate::InFlight || sent.time > self.newest_acked_sent {
                continue;
            }
            let due = sent.time + patience;
            let overtaken = !self.reorder_seen && largest - sequence >= PACKET_THRESHOLD;
            if now < due && !overtaken {
                self.loss_at = Some(self.loss_at.map_or(due, |at| at.min(due)));
                continue;
            }
            sent.fate = Fate::Lost;
            self.in_flight -= u64::from(sent.bytes);
            self.ordered_in_flight -= u64::from(sent.ordered);
            self.lost.extend(sent.kept.take());
            let length = u64::from(sent.bytes).saturating_sub(self.around);
            self.suspicion.on_lost(length);
            let forced = self.forced.as_ref().is_some_and(|forced| forced.covers(sent.time));
            if !forced {
                self.segmentation.on_lost(sent.time, sent.in_run);
            }
            count += 1;
            let long = self.length_in_doubt && length > BASE.into();
            let cut_in_vain = sent.in_run && self.segmentation.is_in_doubt();
            let uncontrolled = forced || sent.time < self.controlled_since;
            let excused = long || cut_in_vain || uncontrolled || sent.time <= self.excused_until;
            self.totals.excused += u64::from(excused);
            if !uncontrolled {
                lost.bytes += u64::from(sent.bytes);
                lost.newest_sent = lost.newest_sent.max(sent.time);
                oldest.get_or_insert(sent.time);
            }
        }
        self.totals.lost += count;
        self.loss = (self.loss + count as f64 * LOSS_WEIGHT).min(1.0);
        if let Some(oldest) = oldest {
            let span = lost.newest_sent.since(oldest);
            lost.persistent = span > self.rtt.probe_timeout() * PERSISTENT_THRESHOLD;
            self.controller.on_loss(now, &lost);
        }
        self.forget(now);
        count
    }

    /// Drops the decided transmissions at the front. Lost ones stay for a while, so that one that arrives
    /// after all is recognised.
    fn forget(&mut self, now: Instant) {
        let keep_lost = self.rtt.probe_timeout() * 2;
        while let Some(front) = self.sent.front() {
            match front.fate {
                Fate::Acked => {}
                Fate::Lost if now.since(front.time) > keep_lost => {}
                _ => break,
            }
            self.sent.pop_front();
            self.base += 1;
        }
        let room = self.sent.capacity();
        if room > MANY && self.sent.len() < room / 8 {
            self.sent.shrink_to(room / 4);
        }
    }

    fn reorder_window(&self) -> Duration {
        (self.rtt.min() * self.reorder_quarters / 4).min(self.rtt.smoothed()).max(GRANULARITY)
    }

    /// When [`Sender::on_timeout`] wants to be called for a loss or a probe timeout.
    pub fn next_timeout(&self) -> Option<Instant> {
        let probe = (self.in_flight > 0).then(|| self.probe_timeout_at());
        [self.loss_at, probe].into_iter().flatten().min()
    }

    /// When the present wait for an acknowledgement becomes a probe timeout.
    fn probe_timeout_at(&self) -> Instant {
        self.waiting_since + self.rtt.probe_timeout() * (1 << self.pto_count)
    }

    /// Handles the timers. True when a probe is due: acknowledgements are overdue.
    pub fn on_timeout(&mut self, now: Instant) -> bool {
        if self.loss_at.is_some_and(|at| now >= at) {
            self.detect_losses(now);
        }
        let overdue = self.is_overdue(now);
        if overdue {
            self.offer_oldest();
        }
        // After a sleep of the machine several are over at once.
        while self.is_overdue(now) {
            if self.pto_count < MAX_BACKOFF {
                self.pto_count += 1;
            } else {
                self.waiting_since = now;
            }
        }
        overdue
    }

    /// An acknowledgement should have come.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.in_flight > 0 && now >= self.probe_timeout_at()
    }

    /// Lets the oldest packets in flight be sent again: nothing later may come to show that they were
    /// lost (a tail loss probe, RFC 8985 §7, but over the best link).
    fn offer_oldest(&mut self) {
        let oldest = self.sent.iter_mut().filter(|sent| sent.fate == Fate::InFlight && sent.kept.is_some());
        self.lost.extend(oldest.take(TAIL).filter_map(|sent| sent.kept.take()));
    }
}
