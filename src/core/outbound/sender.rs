//! What one link has sent and what became of it, and what it may send.

mod recovery;

use std::collections::VecDeque;
use std::time::Duration;

use super::congestion::{Algorithm, Controller};
use super::pacer::{Pacer, TRAIN_TIME};
use super::path_mtu::Suspicion;
use super::segmentation::Segmentation;
use crate::core::headers::Definition;
use crate::core::one_way::PeerClock;
use crate::core::packet::Packet;
use crate::core::rtt::Rtt;
use crate::core::units::{Instant, Rate, expand32};

/// Most datagrams in a train: what one GSO buffer of 65,507 bytes holds of 1,472-byte datagrams.
const MAX_TRAIN: u64 = 44;
/// How far repairs and sparse conversations may run ahead of the pacer, beyond a train.
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
    /// The packet, which is kept until it is acknowledged.
    kept: Option<Packet>,
    /// The header context that this defines.
    defines: Option<Box<Definition>>,
    app_limited: bool,
    /// The link's delivery state when this left, for the rate sample.
    delivered: u64,
    delivered_time: Instant,
    first_sent: Instant,
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
    /// Their bytes on the wire.
    pub sent_bytes: u64,
    /// Datagrams acknowledged.
    pub acked: u64,
    /// Datagrams declared lost.
    pub lost: u64,
    /// Of these, arrived after all.
    pub spurious: u64,
    /// Of those lost, sent before the link came up, see [`Sender::renew`], or was tried, see [`Sender::excuse`], or too
    /// long maybe, or in a run while it is found out whether runs arrive.
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
    /// What was sent before does not count against the link, see [`Sender::excuse`].
    excused_until: Instant,
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
    pub lost: Vec<Packet>,
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
            excused_until: now,
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
    /// conversations, [while they are few](Sender::hurries_from).
    pub fn urgent_credit(&self) -> u64 {
        let window = self.window().map_or(u64::MAX, |window| window + URGENT * self.max_datagram);
        window.saturating_sub(self.in_flight)
    }

    /// When repairs and sparse conversations may go ahead of the pacer again. Together they may be many, such as the
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
    pub fn on_sent(&mut self, now: Instant, bytes: usize, kept: Option<Packet>) {
        if self.in_flight == 0 {
            self.first_sent = now;
            self.delivered_time = self.peer_clock.at(now);
            self.waiting_since = now;
        }
        let ordered = kept.as_ref().is_some_and(|packet| packet.departure.order.bucket != 0);
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
        self.totals.sent_bytes += on_wire;
        self.in_flight += on_wire;
        self.ordered_in_flight += u64::from(ordered);
        let rate = self.pacing_rate();
        self.pacer.on_sent(now, on_wire, rate);
    }

    /// What was sent last defines a header context.
    pub fn on_defined(&mut self, definition: Definition) {
        if let Some(sent) = self.sent.back_mut() {
            sent.defines = Some(Box::new(definition));
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

    /// What was sent until now may have been too much for a queue: its loss tells nothing of what the path is like.
    pub fn excuse(&mut self, now: Instant) {
        self.excused_until = now;
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

#[cfg(test)]
mod tests;
