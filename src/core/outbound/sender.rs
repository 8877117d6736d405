//! What one link has sent and what became of it: acknowledgement, round-trip time, loss, delivery rate.
//!
//! Loss detection has the shape of RFC 9002 §6 with RACK's adaptive reordering window (RFC 8985).

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::{Acked, Algorithm, Controller, Lost, RateSample};
use super::pacer::{Pacer, TRAIN_TIME};
use super::path_mtu::{BASE, Suspicion};
use super::segmentation::Segmentation;
use crate::core::headers::Definition;
use crate::core::one_way::{Apparent, PeerClock};
use crate::core::packet::Packet;
use crate::core::rtt::{GRANULARITY, Rtt};
use crate::core::units::{Instant, Rate, expand32};
use crate::core::wire::{ACK_DELAY_UNIT, Ack, Order};

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
/// Most datagrams in a train: what one GSO buffer of 65,507 bytes holds of 1,472-byte datagrams.
const MAX_TRAIN: u64 = 44;
/// Transmissions for which room is kept though they are few now.
const MANY: usize = 4_096;
/// How far sparse conversations may run ahead of the pacer, beyond a train.
const HURRIED: Duration = Duration::from_millis(4);
/// Datagrams beyond the window for what is urgent.
const URGENT: u64 = 8;
/// Fewest datagrams in a train: a lone one would cost a system call each.
const MIN_TRAIN: u64 = 2;

/// One transmission.
struct Sent {
    time: Instant,
    /// On the wire, with the headers around it.
    bytes: u32,
    fate: Fate,
    ordered: bool,
    /// It left in a run with others.
    in_run: bool,
    /// A packet is kept until it is acknowledged, see [`Kept`].
    kept: Option<Kept>,
    /// The header context that this defines.
    defines: Option<Definition>,
    app_limited: bool,
    /// The link's delivery state when this left, for the rate sample.
    delivered: u64,
    delivered_time: Instant,
    first_sent: Instant,
}

/// A packet that may be sent again: an ordered one when it was lost, any when its link failed.
#[derive(Debug)]
pub struct Kept {
    /// The packet.
    pub packet: Packet,
    /// Its place in its conversation.
    pub order: Order,
    /// Its number in the space of all links, low half.
    pub data_sequence: u32,
    /// When it left for the first time.
    pub first_sent: Instant,
    /// How often it was sent again, see `MAX_REPAIRS`.
    pub repairs: u8,
}

impl Kept {
    /// Its conversation suffers from reordering and gaps.
    pub fn is_ordered(&self) -> bool {
        self.order.bucket != 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    Acked,
    Lost,
}

/// What an acknowledgement, or the passing of time, showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams newly acknowledged.
    pub acked: u64,
    /// Datagrams declared lost.
    pub lost: u64,
}

/// Sums for `show`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Datagrams sent that are acknowledged when they arrive.
    pub sent: u64,
    /// Datagrams acknowledged.
    pub acked: u64,
    /// Datagrams declared lost.
    pub lost: u64,
    /// Of these, arrived after all.
    pub spurious: u64,
    /// Of those lost, sent before the link came up, see [`Sender::renew`], or too long maybe, or in a run while it
    /// is found out whether runs arrive.
    pub excused: u64,
}

/// What is sent in spite of congestion control, to see how long a queue the path can have. What becomes of it is no
/// news to the controller.
struct Forced {
    from: Instant,
    /// `None` as long as it goes on.
    until: Option<Instant>,
    rate: Rate,
    window: u64,
}

impl Forced {
    /// Whether what left then was forced.
    fn covers(&self, sent: Instant) -> bool {
        sent >= self.from && self.until.is_none_or(|until| sent < until)
    }
}

/// The sending half of a link.
pub struct Sender {
    next_sequence: u64,
    /// Transmissions from `base` on.
    sent: VecDeque<Sent>,
    base: u64,
    in_flight: u64,
    ordered_in_flight: u64,
    largest_acked: Option<u64>,
    /// When the most recently sent of the acknowledged datagrams left (RACK.xmit_ts).
    newest_acked_sent: Instant,
    reorder_seen: bool,
    /// Reordering window in quarters of the minimal RTT.
    reorder_quarters: u32,
    rtt: Rtt,
    /// What the last acknowledgement told of the round-trip time, without the peer's delay.
    path_rtt: Option<Duration>,
    /// Start of the present wait for an acknowledgement.
    waiting_since: Instant,
    pto_count: u32,
    loss_at: Option<Instant>,
    delivered: u64,
    /// When the peer told so, by its clock: acknowledgements may come in lumps.
    delivered_time: Instant,
    peer_clock: PeerClock,
    first_sent: Instant,
    /// While `delivered` has not reached this, samples are marked as limited by the application.
    app_limited_until: u64,
    last_rate: Option<Rate>,
    controller: Box<dyn Controller>,
    forced: Option<Forced>,
    /// Losses of what was sent before are no news of the path's capacity, see [`Sender::renew`].
    controlled_since: Instant,
    pacer: Pacer,
    /// Longest datagram, with the headers around it.
    max_datagram: u64,
    /// IP and UDP headers around each datagram, bytes.
    around: u64,
    totals: Totals,
    loss: f64,
    /// That the path carries less than it did.
    pub suspicion: Suspicion,
    /// It is being found out what length the path carries.
    pub length_in_doubt: bool,
    /// Whether datagrams may leave in runs.
    pub segmentation: Segmentation,
    /// Most that the user allows, with the headers around each datagram.
    pub rate_limit: Option<Rate>,
    /// Packets that were lost, and ones that are not needed any more, for the owner to take.
    pub lost: Vec<Kept>,
    /// See [`Sender::lost`].
    pub done: Vec<Packet>,
    /// Header contexts that the peer has, for the owner to take.
    pub confirmed: Vec<Definition>,
}

impl Sender {
    /// A sender that has sent nothing.
    pub fn new(now: Instant, algorithm: Algorithm, max_datagram: u64) -> Self {
        Self {
            next_sequence: 0,
            sent: VecDeque::new(),
            base: 0,
            in_flight: 0,
            ordered_in_flight: 0,
            largest_acked: None,
            newest_acked_sent: Instant::ZERO,
            reorder_seen: false,
            reorder_quarters: 1,
            rtt: Rtt::default(),
            path_rtt: None,
            waiting_since: now,
            pto_count: 0,
            loss_at: None,
            delivered: 0,
            delivered_time: now,
            peer_clock: PeerClock::default(),
            first_sent: now,
            app_limited_until: 0,
            last_rate: None,
            controller: algorithm.controller(max_datagram),
            forced: None,
            controlled_since: now,
            pacer: Pacer::default(),
            max_datagram,
            around: 0,
            totals: Totals::default(),
            loss: 0.0,
            suspicion: Suspicion::default(),
            length_in_doubt: false,
            segmentation: Segmentation::new(false),
            rate_limit: None,
            lost: Vec::new(),
            done: Vec::new(),
            confirmed: Vec::new(),
        }
    }

    /// Begins to count at `sequence`. Only before anything was sent.
    pub fn continue_from(&mut self, sequence: u64) {
        (self.next_sequence, self.base) = (sequence, sequence);
    }

    /// The number of the next transmission.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes that may be put into a train now; 0 when window or pacer are closed.
    pub fn credit(&self, now: Instant) -> u64 {
        if !self.pacer.is_open(now) {
            return 0;
        }
        let window = self.window().map_or(u64::MAX, |window| window.saturating_sub(self.in_flight));
        window.min(self.train_bytes())
    }

    /// Bytes that may leave now although window or pacer say no: repairs and the packets of sparse
    /// conversations, which are few. The latter only [while they are](Sender::hurries_from).
    pub fn urgent_credit(&self) -> u64 {
        let window = self.window().map_or(u64::MAX, |window| window + URGENT * self.max_datagram);
        window.saturating_sub(self.in_flight)
    }

    /// When sparse conversations may go ahead of the pacer again. Together they may be many, such as the
    /// acknowledgements of downloads that fill a slow uplink; all at once they would be a queue in a modem.
    pub fn hurries_from(&self) -> Instant {
        let train = self.pacing_rate().map_or(Duration::ZERO, |rate| rate.duration_of(self.train_bytes()));
        self.pacer.next() - (train + HURRIED)
    }

    /// Most bytes of one train: [`TRAIN_TIME`] of the rate, within [`MIN_TRAIN`] and [`MAX_TRAIN`] datagrams.
    fn train_bytes(&self) -> u64 {
        let most = MAX_TRAIN * self.max_datagram;
        let rate = self.pacing_rate();
        rate.map_or(most, |rate| rate.bytes_in(TRAIN_TIME).clamp(MIN_TRAIN * self.max_datagram, most))
    }

    /// What is sent shows no rate of the path, as there is too little of it.
    pub fn is_app_limited(&self) -> bool {
        self.delivered < self.app_limited_until
    }

    /// When the pacer opens, if it is what keeps the link from sending.
    pub fn paced_until(&self, now: Instant) -> Option<Instant> {
        let room = self.window().is_none_or(|window| window > self.in_flight);
        (room && !self.pacer.is_open(now)).then(|| self.pacer.next())
    }

    /// How long the pacer stays closed.
    pub fn paced_for(&self, now: Instant) -> Duration {
        self.pacer.next().since(now)
    }

    /// Records the transmission that [`Sender::next_sequence`] numbered.
    pub fn on_sent(&mut self, now: Instant, bytes: usize, kept: Option<Kept>) {
        if self.in_flight == 0 {
            self.first_sent = now;
            self.delivered_time = self.peer_clock.at(now);
            self.waiting_since = now;
        }
        let ordered = kept.as_ref().is_some_and(Kept::is_ordered);
        let on_wire = bytes as u64 + self.around;
        self.sent.push_back(Sent {
            time: now,
            bytes: on_wire as u32,
            fate: Fate::InFlight,
            ordered,
            in_run: false,
            kept,
            defines: None,
            app_limited: self.is_app_limited(),
            delivered: self.delivered,
            delivered_time: self.delivered_time,
            first_sent: self.first_sent,
        });
        self.next_sequence += 1;
        self.totals.sent += 1;
        self.in_flight += on_wire;
        self.ordered_in_flight += u64::from(ordered);
        let rate = self.pacing_rate();
        self.pacer.on_sent(now, on_wire, rate);
    }

    /// What was sent last defines a header context.
    pub fn on_defined(&mut self, definition: Definition) {
        if let Some(sent) = self.sent.back_mut() {
            sent.defines = Some(definition);
        }
    }

    /// Of the transmissions recorded last, so many before the end, `count` left in one run.
    pub fn on_run(&mut self, before_end: usize, count: usize) {
        let first = self.sent.len().saturating_sub(before_end);
        self.sent.iter_mut().skip(first).take(count).for_each(|sent| sent.in_run = true);
    }

    /// There is nothing to send. If window and pacer are open, what is sent shows no rate of the path. While the
    /// rate is searched for, the pacer says little of it.
    pub fn on_app_limited(&mut self, now: Instant) {
        let room = self.controller.window().is_none_or(|window| self.in_flight < window);
        if room && (self.pacer.idles(now) || self.controller.is_searching()) {
            // What is sent next is limited too, even if nothing is in flight.
            self.app_limited_until = self.delivered + self.in_flight + 1;
        }
    }

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
                self.done.extend(sent.kept.take().map(|kept| kept.packet));
            }
            Fate::Lost => {
                self.totals.spurious += 1;
                self.loss = (self.loss - LOSS_WEIGHT).max(0.0);
                self.controller.on_spurious_loss(time);
            }
        }
        self.confirmed.extend(sent.defines);
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
            self.totals.excused += u64::from(long || cut_in_vain || uncontrolled);
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

    /// A datagram left that is not acknowledged: it takes its time on the link like any other.
    pub fn on_unacknowledged(&mut self, now: Instant, bytes: usize) {
        self.pacer.on_sent(now, bytes as u64 + self.around, self.pacing_rate());
    }

    /// Hands over the packets in flight, to be sent over another link. What was sent stays in flight: this
    /// link may still deliver it.
    pub fn hand_over(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::InFlight) {
            self.lost.extend(sent.kept.take());
            self.ordered_in_flight -= u64::from(std::mem::take(&mut sent.ordered));
        }
    }

    /// Lets the oldest ordered packets in flight be sent again: nothing later may come to show that they were
    /// lost (a tail loss probe, RFC 8985 §7, but over the best link).
    fn offer_oldest(&mut self) {
        let oldest = self.sent.iter_mut().filter(|sent| sent.fate == Fate::InFlight && sent.ordered);
        self.lost.extend(oldest.take(TAIL).filter_map(|sent| sent.kept.take()));
    }

    /// The peer, which has `heard` sequence numbers up to this one, misses what was sent `patience` ago.
    pub fn is_unheard(&self, now: Instant, heard: u32, patience: Duration) -> bool {
        let heard = expand32(self.next_sequence, heard);
        let in_flight = |(_, sent): &(u64, &Sent)| sent.fate == Fate::InFlight;
        let oldest = (self.base..).zip(&self.sent).find(in_flight);
        oldest.is_some_and(|(sequence, sent)| sequence > heard && now.since(sent.time) >= patience)
    }

    /// Gives up what is in flight: the link is down.
    pub fn abandon(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.fate == Fate::InFlight) {
            sent.fate = Fate::Lost;
            self.totals.lost += 1;
            self.lost.extend(sent.kept.take());
        }
        (self.in_flight, self.ordered_in_flight, self.loss_at, self.pto_count) = (0, 0, None, 0);
    }

    /// Begins anew with congestion control and round-trip time, as after a return of the link; numbers go on.
    pub fn restart(&mut self, now: Instant, algorithm: Algorithm) {
        self.abandon();
        let (totals, next_sequence) = (self.totals, self.next_sequence);
        let (lost, done) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.done));
        *self = Self {
            totals,
            segmentation: self.segmentation,
            rate_limit: self.rate_limit,
            lost,
            done,
            next_sequence,
            base: next_sequence,
            around: self.around,
            ..Self::new(now, algorithm, self.max_datagram)
        };
    }

    /// Begins anew with congestion control alone: the link comes up. What was measured of the path by probes
    /// stays, but those that were lost while it was down say nothing of its capacity.
    pub fn renew(&mut self, now: Instant, algorithm: Algorithm) {
        self.controller = algorithm.controller(self.max_datagram);
        (self.controlled_since, self.first_sent, self.delivered_time) = (now, now, self.peer_clock.at(now));
        (self.pacer, self.app_limited_until) = (Pacer::default(), 0);
    }

    /// From now on sends at `rate` and with so much in flight, whatever the controller says.
    pub fn force(&mut self, now: Instant, rate: Rate, window: u64) {
        self.forced = Some(Forced { from: now, until: None, rate, window });
    }

    /// Obeys the controller again.
    pub fn release(&mut self, now: Instant) {
        if let Some(forced) = &mut self.forced {
            forced.until.get_or_insert(now);
        }
    }

    /// What left then was forced.
    fn was_forced(&self, sent: Instant) -> bool {
        self.forced.as_ref().is_some_and(|forced| forced.covers(sent))
    }

    /// What is forced now.
    fn forcing(&self) -> Option<&Forced> {
        self.forced.as_ref().filter(|forced| forced.until.is_none())
    }

    /// Most bytes that may be in flight now; `None` without limit.
    fn window(&self) -> Option<u64> {
        self.forcing().map(|forced| forced.window).or_else(|| self.controller.window())
    }

    /// Tells the longest datagram of the link, and the IP and UDP headers around each: what a link carries is
    /// counted with them, as half of a small datagram is headers. Bytes.
    pub fn set_max_datagram(&mut self, max_datagram: u64, around: u64) {
        (self.max_datagram, self.around) = (max_datagram + around, around);
    }

    /// Probe timeouts since the last acknowledgement.
    pub fn pto_count(&self) -> u32 {
        self.pto_count
    }

    /// Bytes sent and neither acknowledged nor lost.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// True while an ordered packet is unacknowledged.
    pub fn has_ordered_in_flight(&self) -> bool {
        self.ordered_in_flight > 0
    }

    /// The link's round-trip time.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// What the last acknowledgement told of the round-trip time, without the peer's delay.
    pub fn path_rtt(&self) -> Option<Duration> {
        self.path_rtt
    }

    /// Bytes delivered so far, with the headers around them.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Share of the last few hundred datagrams that were lost.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The last delivery rate that the path showed.
    pub fn delivery_rate(&self) -> Option<Rate> {
        self.last_rate
    }

    /// The rate that the link is believed to have.
    pub fn rate(&self) -> Option<Rate> {
        self.controller.bandwidth().or(self.last_rate).map(|rate| self.limited(rate))
    }

    /// The rate at which datagrams leave; `None`: at any.
    pub fn pacing_rate(&self) -> Option<Rate> {
        self.forcing().map(|forced| self.limited(forced.rate)).or_else(|| self.controlled_rate())
    }

    fn controlled_rate(&self) -> Option<Rate> {
        self.controller.pacing_rate(&self.rtt).map(|rate| self.limited(rate)).or(self.rate_limit)
    }

    fn limited(&self, rate: Rate) -> Rate {
        self.rate_limit.map_or(rate, |limit| rate.min(limit))
    }

    /// The rate that the link will show if it is used: more than what it has shown while that grows.
    pub fn prospect(&self) -> Option<Rate> {
        let growing = if self.controller.is_searching() { self.controlled_rate() } else { None };
        growing.or_else(|| self.rate())
    }

    /// Conversations flow over earlier links meanwhile.
    pub fn set_careful(&mut self, careful: bool) {
        self.controller.set_careful(careful);
    }

    /// The congestion controller.
    pub fn controller(&self) -> &dyn Controller {
        &*self.controller
    }

    /// Sums for `show`.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::packet::Packet;
    use crate::core::wire::ACK_MAX_WORDS;

    const SIZE: usize = 1_000;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn sender() -> Sender {
        Sender::new(at(0), Algorithm::NewReno, SIZE as u64)
    }

    fn send(sender: &mut Sender, now: Instant, count: usize) {
        for _ in 0..count {
            let packet = Packet::of(SIZE, &[]);
            let order = Order { bucket: 1, position: 0 };
            let kept = Kept { packet, order, data_sequence: 0, first_sent: now, repairs: 0 };
            sender.on_sent(now, SIZE, Some(kept));
        }
    }

    fn ack(sender: &mut Sender, now: Instant, largest: u32, missing: &[u64]) -> Outcome {
        let mut ack = Ack { largest, delay: 0, ce: 0, words: 1, nack: [0; ACK_MAX_WORDS] };
        missing.iter().for_each(|&number| ack.set_missing(u64::from(largest) - number));
        // What was never sent is missing too.
        (u64::from(largest) + 1..=32).for_each(|below| ack.set_missing(below));
        sender.on_ack(now, &ack, now.micros24())
    }

    #[test]
    fn an_ack_frees_the_window_and_measures() {
        let mut s = sender();
        send(&mut s, at(0), 4);
        assert_eq!((s.in_flight(), s.has_ordered_in_flight()), (4_000, true));
        assert_eq!(ack(&mut s, at(40), 3, &[]), Outcome { acked: 4, lost: 0 });
        assert_eq!((s.in_flight(), s.has_ordered_in_flight()), (0, false));
        assert_eq!(s.rtt().smoothed(), Duration::from_millis(40));
        assert_eq!(s.delivery_rate(), Rate::of(4_000, Duration::from_millis(40)));
        assert_eq!(s.next_timeout(), None, "nothing in flight, nothing to wait for");
    }

    #[test]
    fn three_later_ones_make_a_loss_and_two_a_timer() {
        let mut s = sender();
        send(&mut s, at(0), 5);
        assert_eq!(ack(&mut s, at(40), 2, &[0]).lost, 0);
        assert!(s.next_timeout().is_some_and(|due| due > at(40) && due <= at(51)));
        assert_eq!(ack(&mut s, at(41), 3, &[0]).lost, 1);
    }

    #[test]
    fn the_time_threshold_finds_a_loss_at_the_tail() {
        let mut s = sender();
        send(&mut s, at(0), 2);
        ack(&mut s, at(40), 1, &[0]);
        let due = s.next_timeout().expect("a loss timer");
        s.on_timeout(due);
        assert_eq!((s.totals().lost, s.in_flight()), (1, 0));
    }

    #[test]
    fn a_late_arrival_undoes_the_cut_and_widens_the_window() {
        let mut s = sender();
        send(&mut s, at(0), 8);
        let before = s.controller().window();
        assert_eq!(ack(&mut s, at(40), 4, &[0]).lost, 1);
        assert!(s.controller().window() < before);
        ack(&mut s, at(44), 5, &[]);
        assert_eq!(s.totals().spurious, 1);
        assert!(s.controller().window() >= before);
        send(&mut s, at(50), 8);
        assert_eq!(ack(&mut s, at(90), 13, &[8]).lost, 0, "three later ones prove nothing any more");
    }

    #[test]
    fn silence_asks_for_probes_with_back_off() {
        let mut s = sender();
        send(&mut s, at(0), 1);
        ack(&mut s, at(40), 0, &[]);
        send(&mut s, at(100), 1);
        let first = s.next_timeout().expect("a probe timer");
        assert!(!s.on_timeout(first - Duration::from_millis(1)));
        assert!(s.on_timeout(first));
        let second = s.next_timeout().expect("a second one");
        assert_eq!(second.since(at(100)), first.since(at(100)) * 2);
        assert_eq!(s.pto_count(), 1);
    }

    #[test]
    fn a_silence_of_hours_and_a_sleep_ask_for_few_timeouts() {
        for step in [Duration::ZERO, Duration::from_secs(600)] {
            let mut s = sender();
            send(&mut s, at(0), 1);
            ack(&mut s, at(40), 0, &[]);
            send(&mut s, at(100), 1);
            let (mut now, mut calls) = (at(100), 0);
            while now < at(3_600_000) {
                now = s.next_timeout().expect("a probe timer").max(now) + step;
                assert!(s.on_timeout(now));
                calls += 1;
            }
            assert!(calls < 60, "{calls}");
        }
    }

    #[test]
    fn the_sleep_of_the_peer_is_no_round_trip_time() {
        let mut s = sender();
        send(&mut s, at(0), 1);
        ack(&mut s, at(40), 0, &[]);
        send(&mut s, at(100), 1);
        assert_eq!(ack(&mut s, at(600_100), 1, &[]).acked, 1);
        assert_eq!(
            (s.rtt().smoothed(), s.rtt().latest()),
            (Duration::from_millis(40), Duration::from_millis(40))
        );
    }

    #[test]
    fn an_ack_of_what_was_never_sent_is_ignored() {
        let mut s = sender();
        send(&mut s, at(0), 1);
        assert_eq!(ack(&mut s, at(40), 7, &[]), Outcome::default());
        assert_eq!(s.in_flight(), 1_000);
    }

    #[test]
    fn a_repeated_ack_is_no_news() {
        let mut s = sender();
        send(&mut s, at(0), 4);
        ack(&mut s, at(40), 3, &[2]);
        assert_eq!(ack(&mut s, at(45), 3, &[2]).acked, 0);
        assert_eq!(s.rtt().smoothed(), Duration::from_millis(40));
    }

    #[test]
    fn a_restart_keeps_the_numbers_and_nothing_else() {
        let mut s = sender();
        send(&mut s, at(0), 4);
        s.restart(at(10), Algorithm::NewReno);
        assert_eq!((s.in_flight(), s.next_sequence(), s.totals().lost), (0, 4, 4));
        assert_eq!(s.lost.len(), 4, "the packets go over another link");
        send(&mut s, at(10), 1);
        assert_eq!(ack(&mut s, at(50), 4, &[]).acked, 1);
    }

    #[test]
    fn a_silent_link_hands_over_its_packets_once_and_may_still_deliver_them() {
        let mut s = sender();
        send(&mut s, at(0), 4);
        s.hand_over();
        s.hand_over();
        assert_eq!((s.lost.len(), s.in_flight(), s.has_ordered_in_flight()), (4, 4_000, false));
        assert_eq!(ack(&mut s, at(400), 3, &[]).acked, 4);
        assert_eq!((s.done.len(), s.in_flight()), (0, 0));
    }

    #[test]
    fn what_was_lost_before_the_link_came_up_does_not_slow_it() {
        let mut s = sender();
        for ms in [0, 1_000, 2_000, 4_000, 8_000] {
            send(&mut s, at(ms), 1);
        }
        s.renew(at(8_040), Algorithm::NewReno);
        let fresh = s.controller().window();
        assert_eq!(ack(&mut s, at(8_040), 4, &[0, 1, 2, 3]), Outcome { acked: 1, lost: 4 });
        assert!(s.controller().window() >= fresh, "{:?}", s.controller().window());
    }

    #[test]
    fn an_outage_is_no_measure_of_the_rate() {
        let mut s = sender();
        send(&mut s, at(0), 4);
        s.renew(at(5_000), Algorithm::Bbr);
        ack(&mut s, at(5_000), 3, &[]);
        assert_eq!((s.delivery_rate(), s.controller().bandwidth()), (None, None));
        send(&mut s, at(5_000), 4);
        ack(&mut s, at(5_040), 7, &[]);
        assert_eq!(s.controller().bandwidth(), Rate::of(4_000, Duration::from_millis(40)));
    }

    #[test]
    fn memory_is_bounded_by_what_is_undecided() {
        let mut s = sender();
        for round in 0..1_000u64 {
            send(&mut s, at(round * 10), 10);
            let top = (round * 10 + 9) as u32;
            ack(&mut s, at(round * 10 + 5), top, &[u64::from(top) - 5]);
        }
        assert!(s.sent.len() < 400, "{}", s.sent.len());
    }
}
