//! A TCP of the hosts behind the portals: one that suffers from loss and reordering as Linux's does.
//!
//! CUBIC (RFC 9438) or Reno, both of HyStart's exits from slow start as Linux's `tcp_cubic.c` has them, SACK
//! (RFC 2018) with D-SACK undo (RFC 2883, RFC 3708), RACK-TLP (RFC 8985), proportional rate reduction (RFC 6937),
//! retransmission timeout (RFC 6298, at least 200 ms as in Linux), delayed acknowledgements. Segments are numbered, all
//! of one size; both ends live in one value.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::packet::{SACKS, TcpAck};
use crate::core::units::Instant;

/// Congestion control of the emulated TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// RFC 9438.
    Cubic,
    /// RFC 5681.
    Reno,
}

/// Receive window, segments: 6 MB, the most that Linux gives unasked (`tcp_rmem`).
const RECEIVE_WINDOW: u64 = 4_300;
const INITIAL_WINDOW: f64 = 10.0;
const CUBIC_BETA: f64 = 0.7;
const CUBIC_C: f64 = 0.4;
/// Linux: until the first loss the window grows by at least a twentieth each round trip.
const FIRST_GROWTH: f64 = 0.05;
/// HyStart looks from this window on.
const HYSTART_WINDOW: f64 = 16.0;
/// Round-trip times of a round whose least one counts.
const HYSTART_SAMPLES: u32 = 8;
/// Acknowledgements that come closer than this are one train.
const TRAIN_GAP: Duration = Duration::from_millis(2);
const MIN_RTO: Duration = Duration::from_millis(200);
const MAX_RTO: Duration = Duration::from_secs(60);
/// Linux's delayed acknowledgement.
const DELAYED_ACK: Duration = Duration::from_millis(40);
const DUPLICATE_THRESHOLD: u64 = 3;

/// A segment that was sent and is not acknowledged by all before it too.
#[derive(Clone, Copy)]
struct Segment {
    sent: Instant,
    sends: u32,
    sacked: bool,
    lost: bool,
}

/// The sending end.
pub struct Sender {
    control: Control,
    /// Segments to be sent in all; `None` without end.
    limit: Option<u64>,
    cwnd: f64,
    ssthresh: f64,
    /// First segment that is not acknowledged.
    una: u64,
    segments: VecDeque<Segment>,
    sacked: u64,
    lost: u64,
    srtt: Option<Duration>,
    variation: Duration,
    min_rtt: Duration,
    /// RACK: when the most recently sent of the delivered segments left, and its round-trip time.
    newest: (Instant, Duration),
    reordering: bool,
    /// RACK's reordering window in quarters of the minimal RTT.
    quarters: u32,
    reorder_at: Option<Instant>,
    rto_at: Option<Instant>,
    tail_probe: bool,
    backoff: u32,
    /// Recovery ends when this is acknowledged.
    recovery: Option<u64>,
    reduction: Reduction,
    /// Window and threshold before the reduction, and retransmissions not yet proved needless.
    undo: Option<(f64, f64, i64)>,
    cubic: Cubic,
    round: Round,
    /// Sums for reports.
    pub totals: Totals,
}

/// What a sender did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Segments sent again.
    pub retransmitted: u64,
    /// Reductions of the window for loss.
    pub reductions: u64,
    /// Reductions taken back.
    pub undone: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
}

/// Proportional rate reduction: what was delivered during a recovery, and sent.
#[derive(Default)]
struct Reduction {
    /// The window before.
    prior: f64,
    delivered: u64,
    sent: u64,
}

#[derive(Default)]
struct Cubic {
    /// The window before the last reduction; 0: there was none.
    w_max: f64,
    origin: f64,
    k: f64,
    epoch: Option<Instant>,
    w_est: f64,
}

/// HyStart: a round of slow start, its smallest round-trip time, and its train of acknowledgements.
struct Round {
    end: u64,
    start: Instant,
    last_ack: Instant,
    least: Duration,
    samples: u32,
}

impl Round {
    fn new(now: Instant, end: u64) -> Self {
        Self { end, start: now, last_ack: now, least: Duration::MAX, samples: 0 }
    }

    /// Takes an acknowledgement. True if slow start should end.
    fn is_over(&mut self, now: Instant, rtt: Duration, min_rtt: Duration) -> bool {
        let train = now.since(self.last_ack) <= TRAIN_GAP && {
            self.last_ack = now;
            now.since(self.start) > min_rtt / 2
        };
        self.least = self.least.min(rtt);
        self.samples += 1;
        let limit = min_rtt + (min_rtt / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
        train || self.samples > HYSTART_SAMPLES && self.least > limit
    }
}

impl Sender {
    /// Nothing sent; `limit` segments to send.
    pub fn new(control: Control, limit: Option<u64>) -> Self {
        Self {
            control,
            limit,
            cwnd: INITIAL_WINDOW,
            ssthresh: f64::INFINITY,
            una: 0,
            segments: VecDeque::new(),
            sacked: 0,
            lost: 0,
            srtt: None,
            variation: Duration::ZERO,
            min_rtt: Duration::MAX,
            newest: (Instant::ZERO, Duration::ZERO),
            reordering: false,
            quarters: 1,
            reorder_at: None,
            rto_at: None,
            tail_probe: false,
            backoff: 0,
            recovery: None,
            reduction: Reduction::default(),
            undo: None,
            cubic: Cubic::default(),
            round: Round::new(Instant::ZERO, 0),
            totals: Totals::default(),
        }
    }

    /// All that was to be sent is acknowledged.
    pub fn is_done(&self) -> bool {
        self.limit == Some(self.una)
    }

    /// Ends the conversation after what was sent.
    pub fn finish(&mut self) {
        let sent = self.una + self.segments.len() as u64;
        self.limit = Some(self.limit.map_or(sent, |limit| limit.min(sent)));
    }

    /// The congestion window, segments.
    pub fn window(&self) -> f64 {
        self.cwnd
    }

    /// Next segment to put on the wire, if the window allows.
    pub fn next_segment(&mut self, now: Instant) -> Option<u32> {
        if self.pipe() >= self.cwnd as u64 {
            return None;
        }
        if self.lost > 0
            && let Some(i) = self.segments.iter().position(|segment| segment.lost)
        {
            self.reduction.sent += 1;
            return Some(self.resend(now, i));
        }
        let next = self.una + self.segments.len() as u64;
        if self.limit.is_some_and(|limit| next >= limit) || self.segments.len() as u64 >= RECEIVE_WINDOW {
            return None;
        }
        self.reduction.sent += 1;
        self.segments.push_back(Segment { sent: now, sends: 1, sacked: false, lost: false });
        if self.rto_at.is_none() || self.segments.len() == 1 {
            self.arm(now);
        }
        Some(next as u32)
    }

    fn resend(&mut self, now: Instant, i: usize) -> u32 {
        let segment = &mut self.segments[i];
        self.lost -= u64::from(std::mem::take(&mut segment.lost));
        (segment.sent, segment.sends) = (now, segment.sends + 1);
        self.totals.retransmitted += 1;
        if let Some((.., needed)) = &mut self.undo {
            *needed += 1;
        }
        (self.una + i as u64) as u32
    }

    fn pipe(&self) -> u64 {
        self.segments.len() as u64 - self.sacked - self.lost
    }

    /// Takes an acknowledgement.
    pub fn on_ack(&mut self, now: Instant, ack: &TcpAck) {
        let limited = self.pipe() + 1 >= self.cwnd as u64;
        let mut newly = 0;
        let mut rtt = None;
        let highest = self.highest_sacked();
        let advances = self.una < u64::from(ack.next);
        while self.una < u64::from(ack.next) {
            let Some(segment) = self.segments.pop_front() else { break };
            self.una += 1;
            self.lost -= u64::from(segment.lost);
            if segment.sacked {
                self.sacked -= 1;
            } else {
                newly += 1;
                self.delivered(now, &segment, &mut rtt, highest.is_some_and(|highest| self.una <= highest));
            }
        }
        for (from, to) in ack.sacks {
            for number in u64::from(from).max(self.una)..u64::from(to) {
                let Some(segment) = self.segments.get_mut((number - self.una) as usize) else { break };
                if !std::mem::replace(&mut segment.sacked, true) {
                    newly += 1;
                    self.sacked += 1;
                    self.lost -= u64::from(std::mem::take(&mut segment.lost));
                    let segment = *segment;
                    let late = highest.is_some_and(|highest| number < highest);
                    self.delivered(now, &segment, &mut rtt, late);
                }
            }
        }
        if let Some(rtt) = rtt {
            self.measure(rtt);
        }
        if ack.duplicate.is_some() {
            self.on_duplicate();
        }
        if newly > 0 {
            (self.backoff, self.tail_probe) = (0, false);
            self.arm(now);
        }
        if self.recovery.is_some_and(|end| self.una >= end) {
            (self.recovery, self.cwnd) = (None, self.ssthresh);
        }
        if newly > 0 && limited && self.recovery.is_none() {
            self.grow(now, newly as f64, rtt);
        }
        let found = self.detect_losses(now);
        if self.recovery.is_some() {
            self.reduce_in_proportion(newly, advances && !found);
        }
        if self.segments.is_empty() {
            (self.rto_at, self.reorder_at) = (None, None);
        }
    }

    fn highest_sacked(&self) -> Option<u64> {
        if self.sacked == 0 {
            return None;
        }
        let back = self.segments.iter().rev().position(|segment| segment.sacked)?;
        Some(self.una + (self.segments.len() - 1 - back) as u64)
    }

    fn delivered(&mut self, now: Instant, segment: &Segment, rtt: &mut Option<Duration>, late: bool) {
        let sample = now.since(segment.sent);
        if segment.sends == 1 {
            *rtt = Some(rtt.map_or(sample, |rtt| rtt.min(sample)));
            self.reordering |= late;
        } else if sample < self.min_rtt - self.min_rtt / 8 {
            // The answer to the original, not to the retransmission (RFC 8985 §6.2 step 2). An eighth is left
            // for the second segment that a delayed acknowledgement waits for.
            return;
        }
        if segment.sent >= self.newest.0 {
            self.newest = (segment.sent, sample);
        }
    }

    fn measure(&mut self, rtt: Duration) {
        self.min_rtt = self.min_rtt.min(rtt);
        match self.srtt {
            None => (self.srtt, self.variation) = (Some(rtt), rtt / 2),
            Some(srtt) => {
                self.variation = (self.variation * 3 + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((srtt * 7 + rtt) / 8);
            }
        }
    }

    /// A retransmission was needless: widen RACK's window, and undo once all of them were.
    fn on_duplicate(&mut self) {
        self.quarters = (self.quarters + 1).min(16);
        self.reordering = true;
        let Some((cwnd, ssthresh, needed)) = &mut self.undo else { return };
        *needed -= 1;
        if *needed <= 0 {
            (self.cwnd, self.ssthresh) = (self.cwnd.max(*cwnd), self.ssthresh.max(*ssthresh));
            (self.undo, self.recovery) = (None, None);
            self.totals.undone += 1;
        }
    }

    fn grow(&mut self, now: Instant, acked: f64, rtt: Option<Duration>) {
        if self.una > self.round.end {
            self.round = Round::new(now, self.una + self.segments.len() as u64);
        }
        let slow_start = self.cwnd < self.ssthresh;
        if let Some(rtt) = rtt.filter(|_| slow_start && self.cwnd >= HYSTART_WINDOW)
            && self.round.is_over(now, rtt, self.min_rtt)
        {
            self.ssthresh = self.cwnd;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = (self.cwnd + acked).min(self.ssthresh.max(self.cwnd));
            return;
        }
        match self.control {
            Control::Reno => self.cwnd += acked / self.cwnd,
            Control::Cubic => {
                let rtt = self.srtt.unwrap_or(MIN_RTO).as_secs_f64();
                let cubic = &mut self.cubic;
                let epoch = *cubic.epoch.get_or_insert_with(|| {
                    cubic.origin = cubic.w_max.max(self.cwnd);
                    cubic.k = ((cubic.origin - self.cwnd) / CUBIC_C).cbrt();
                    cubic.w_est = self.cwnd;
                    now
                });
                let t = now.since(epoch).as_secs_f64() + rtt;
                let target = CUBIC_C * (t - cubic.k).powi(3) + cubic.origin;
                let alpha = 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA);
                cubic.w_est += alpha * acked / self.cwnd;
                let least = if cubic.w_max == 0.0 { 1.0 + FIRST_GROWTH } else { 1.0 };
                let target = target.clamp(least * self.cwnd, 1.5 * self.cwnd);
                self.cwnd = (self.cwnd + acked * (target - self.cwnd) / self.cwnd).max(cubic.w_est);
            }
        }
    }

    /// Lets out about as much as was delivered, so that the window has its new size at the end of the recovery.
    /// `repaired`: the oldest hole was filled and no new one found.
    fn reduce_in_proportion(&mut self, delivered: u64, repaired: bool) {
        let (pipe, reduction) = (self.pipe() as f64, &mut self.reduction);
        reduction.delivered += delivered;
        let sent = reduction.sent as f64;
        let room = if pipe > self.ssthresh {
            (self.ssthresh * reduction.delivered as f64 / reduction.prior).ceil() - sent
        } else {
            let conserved = (reduction.delivered as f64 - sent).max(delivered as f64);
            (conserved + f64::from(u8::from(repaired))).min(self.ssthresh - pipe)
        };
        // The first one is sent again at once.
        self.cwnd = pipe + room.max(if reduction.sent == 0 { 1.0 } else { 0.0 });
    }

    /// RACK: lost is what left so long before something delivered that reordering does not explain it. True if it
    /// found some.
    fn detect_losses(&mut self, now: Instant) -> bool {
        self.reorder_at = None;
        if self.sacked == 0 && self.recovery.is_none() {
            return false;
        }
        let hurry = !self.reordering && (self.recovery.is_some() || self.sacked >= DUPLICATE_THRESHOLD);
        let window = if hurry {
            Duration::ZERO
        } else {
            (self.min_rtt / 4).saturating_mul(self.quarters).min(self.srtt.unwrap_or(MIN_RTO))
        };
        let (newest, rtt) = self.newest;
        let mut found = false;
        for segment in self.segments.iter_mut().filter(|segment| !segment.sacked && !segment.lost) {
            if segment.sent >= newest {
                if segment.sends == 1 {
                    break;
                }
                continue;
            }
            let due = segment.sent + rtt + window;
            if due <= now {
                segment.lost = true;
                self.lost += 1;
                found = true;
            } else {
                self.reorder_at = Some(self.reorder_at.map_or(due, |at| at.min(due)));
            }
        }
        if found && self.recovery.is_none() {
            self.reduce();
        }
        found
    }

    fn reduce(&mut self) {
        self.undo = Some((self.cwnd, self.ssthresh, 0));
        self.recovery = Some(self.una + self.segments.len() as u64);
        self.totals.reductions += 1;
        let beta = match self.control {
            Control::Reno => 0.5,
            Control::Cubic => {
                // Fast convergence (RFC 9438 §4.7).
                let cubic = &mut self.cubic;
                cubic.w_max =
                    if self.cwnd < cubic.w_max { self.cwnd * (1.0 + CUBIC_BETA) / 2.0 } else { self.cwnd };
                cubic.epoch = None;
                CUBIC_BETA
            }
        };
        self.ssthresh = (self.cwnd * beta).max(2.0);
        self.reduction = Reduction { prior: self.cwnd, ..Reduction::default() };
    }

    fn rto(&self) -> Duration {
        let rto = self.srtt.map_or(Duration::from_secs(1), |srtt| srtt + (self.variation * 4).max(MIN_RTO));
        (rto * (1 << self.backoff.min(8))).min(MAX_RTO)
    }

    /// Sets the timer: a tail loss probe first (RFC 8985 §7), then the retransmission timeout.
    fn arm(&mut self, now: Instant) {
        let rto = self.rto();
        let probe = self.srtt.filter(|_| !self.tail_probe && self.backoff == 0 && self.recovery.is_none());
        let wait = probe.map_or(rto, |srtt| (srtt * 2 + DELAYED_ACK).min(rto));
        self.rto_at = Some(now + wait);
    }

    /// When [`Sender::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.rto_at, self.reorder_at].into_iter().flatten().min()
    }

    /// Handles the timers. Gives a segment to send at once, if a probe is due.
    pub fn on_timeout(&mut self, now: Instant) -> Option<u32> {
        if self.reorder_at.is_some_and(|at| now >= at) && self.detect_losses(now) && self.recovery.is_some() {
            self.reduce_in_proportion(0, false);
        }
        if self.rto_at.is_none_or(|at| now < at) || self.segments.is_empty() {
            return None;
        }
        if !self.tail_probe && self.backoff == 0 && self.recovery.is_none() && self.srtt.is_some() {
            self.tail_probe = true;
            self.rto_at = Some(now + self.rto());
            let last = self.segments.iter().rposition(|segment| !segment.sacked)?;
            return Some(self.resend(now, last));
        }
        self.totals.timeouts += 1;
        if self.backoff == 0 && self.recovery.is_none() {
            self.reduce();
        }
        // After a timeout the window grows as in slow start, so this is no recovery.
        self.recovery = None;
        self.cwnd = 1.0;
        self.backoff += 1;
        for segment in self.segments.iter_mut().filter(|segment| !segment.sacked && !segment.lost) {
            segment.lost = true;
            self.lost += 1;
        }
        self.rto_at = Some(now + self.rto());
        None
    }
}

/// The receiving end.
#[derive(Default)]
pub struct Receiver {
    next: u64,
    /// Ranges beyond `next`: first, and the one behind the last.
    ranges: BTreeMap<u64, u64>,
    /// First segments of the ranges reported, the newest first.
    recent: VecDeque<u64>,
    unacknowledged: u32,
    ack_at: Option<Instant>,
}

impl Receiver {
    /// All segments before this one were handed to the application.
    pub fn delivered(&self) -> u64 {
        self.next
    }

    /// Takes a segment. Gives the acknowledgement to send at once, if any.
    pub fn on_segment(&mut self, now: Instant, number: u32) -> Option<TcpAck> {
        let number = u64::from(number);
        let known = self.ranges.range(..=number).next_back().is_some_and(|(_, &to)| number < to);
        if number < self.next || known {
            return Some(self.ack(Some(number as u32)));
        }
        let in_order = number == self.next;
        if in_order {
            self.next += 1;
            if let Some(to) = self.ranges.remove(&self.next) {
                self.next = to;
            }
        } else {
            self.insert(number);
        }
        self.unacknowledged += 1;
        if !in_order || !self.ranges.is_empty() || self.unacknowledged >= 2 {
            return Some(self.ack(None));
        }
        self.ack_at = Some(now + DELAYED_ACK);
        None
    }

    /// When [`Receiver::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.ack_at
    }

    /// The delayed acknowledgement, if it is due.
    pub fn on_timeout(&mut self, now: Instant) -> Option<TcpAck> {
        self.ack_at.filter(|at| now >= *at).map(|_| self.ack(None))
    }

    fn insert(&mut self, number: u64) {
        let mut from = number;
        let to = self.ranges.remove(&(number + 1)).unwrap_or(number + 1);
        if let Some((&before, end)) = self.ranges.range_mut(..number).next_back()
            && *end == number
        {
            *end = to;
            from = before;
        } else {
            self.ranges.insert(number, to);
        }
        self.recent.retain(|&known| known != from);
        self.recent.push_front(from);
        self.recent.truncate(4 * SACKS);
    }

    fn ack(&mut self, duplicate: Option<u32>) -> TcpAck {
        (self.unacknowledged, self.ack_at) = (0, None);
        let ranges = &self.ranges;
        self.recent.retain(|from| ranges.contains_key(from));
        let mut sacks = [(0, 0); SACKS];
        let room = SACKS - usize::from(duplicate.is_some());
        let known =
            self.recent.iter().filter_map(|from| Some((*from as u32, *ranges.get(from)? as u32))).take(room);
        sacks.iter_mut().zip(known).for_each(|(sack, range)| *sack = range);
        TcpAck { next: self.next as u32, duplicate, sacks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::rng::Rng;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    /// Carries `limit` segments over a wire of 1,000 segments a second and 20 ms each way. `fate` says of each
    /// transmission how much later it arrives, or that it is lost. Gives the seconds taken and the sender.
    fn run(control: Control, limit: u64, mut fate: impl FnMut(Instant) -> Option<Duration>) -> (f64, Sender) {
        let (mut sender, mut receiver) = (Sender::new(control, Some(limit)), Receiver::default());
        let mut now = Instant::ZERO;
        let mut free = now;
        let mut way = BinaryHeap::new();
        let mut back = VecDeque::new();
        let (mut sends, mut waiting) = (0, VecDeque::<Instant>::new());
        while !sender.is_done() {
            while let Some(segment) = sender.next_segment(now) {
                waiting.retain(|at| *at > now);
                sends += 1;
                if waiting.len() >= 60 {
                    continue;
                }
                free = free.max(now) + Duration::from_millis(1);
                waiting.push_back(free);
                if let Some(late) = fate(now) {
                    way.push(Reverse((free + Duration::from_millis(20) + late, sends, segment)));
                }
            }
            let times = [
                way.peek().map(|Reverse((at, ..))| *at),
                back.front().map(|(at, _)| *at),
                sender.next_timeout(),
                receiver.next_timeout(),
            ];
            now = times.into_iter().flatten().min().expect("something happens next").max(now);
            assert!(now < Instant::ZERO + Duration::from_secs(3_000), "it never ends");
            let mut acks = Vec::new();
            while way.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Reverse((.., segment)) = way.pop().expect("looked at");
                acks.extend(receiver.on_segment(now, segment));
            }
            acks.extend(receiver.on_timeout(now));
            back.extend(acks.into_iter().map(|ack| (now + Duration::from_millis(20), ack)));
            while back.front().is_some_and(|(at, _)| *at <= now) {
                sender.on_ack(now, &back.pop_front().expect("looked at").1);
            }
            if let Some(segment) = sender.on_timeout(now) {
                way.push(Reverse((now + Duration::from_millis(21), u64::MAX, segment)));
            }
        }
        assert_eq!(receiver.delivered(), limit);
        (now.as_nanos() as f64 / 1e9, sender)
    }

    #[test]
    fn a_clean_path_is_filled_by_both() {
        for control in [Control::Cubic, Control::Reno] {
            let (seconds, sender) = run(control, 20_000, |_| Some(Duration::ZERO));
            assert!(seconds < 22.0, "{control:?}: {seconds} s, {:?}", sender.totals);
            assert_eq!(sender.totals.timeouts, 0);
        }
    }

    #[test]
    fn loss_slows_it_as_the_square_root_law_says() {
        let mut rng = Rng::new(1);
        let (seconds, sender) = run(Control::Reno, 20_000, |_| (!rng.chance(0.01)).then_some(Duration::ZERO));
        // Mathis: 1.22 / (0.041 s * sqrt(0.01)) = 298 segments/s.
        let rate = 20_000.0 / seconds;
        assert!((200.0..420.0).contains(&rate), "{rate} segments/s, {:?}", sender.totals);
        assert!(sender.totals.retransmitted < 400, "{:?}", sender.totals);
    }

    #[test]
    fn heavy_reordering_hurts_and_is_learned() {
        let mut rng = Rng::new(1);
        let (seconds, sender) =
            run(Control::Cubic, 20_000, |_| Some(Duration::from_secs_f64(0.030 * rng.unit())));
        assert!(seconds < 40.0, "{seconds} s, {:?}", sender.totals);
        assert!(sender.totals.retransmitted < 2_000, "{:?}", sender.totals);
    }

    #[test]
    fn it_comes_back_from_a_silence() {
        let silent = Instant::from_nanos(5_000_000_000)..Instant::from_nanos(5_500_000_000);
        let (seconds, sender) =
            run(Control::Cubic, 20_000, |now| (!silent.contains(&now)).then_some(Duration::ZERO));
        assert!(seconds < 23.0, "{seconds} s, {:?}", sender.totals);
        assert!((1..5).contains(&sender.totals.timeouts), "{:?}", sender.totals);
    }
}
