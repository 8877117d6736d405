//! What follows from how the links are: the queue's bounds, and how careful the later ones are.

use std::time::Duration;

use super::codel::Tolerance;
use super::link::Link;
use super::sender::Sender;
use super::{Outbound, schedule};
use crate::core::rtt::Rtt;
use crate::core::units::{Instant, Rate};

/// The queue holds this much of the links' summed rate, so that a burst finds room and delay stays bounded.
const QUEUE_TIME: Duration = Duration::from_millis(200);
/// Bounds of the queue in bytes, while the rate is not known or very high. It exceeds the usual one only for two round
/// trips of long links: a filled hole releases what a sender sent meanwhile at once.
const QUEUE_MIN: u64 = 256 << 10;
const QUEUE_USUAL: u64 = 4 << 20;
const QUEUE_MAX: u64 = 16 << 20;
/// Long conversations that fill it together give way one after the other, and need less than one: the square root of
/// their number less (Appenzeller et al., "Sizing router buffers", SIGCOMM 2004), but not less than this, nor than a
/// round trip of long links, as later ones help only if enough waits. What waits in less memory is also more likely to
/// be in the processor's cache.
const QUEUE_SHARED: u64 = 1 << 20;
/// A turn of a conversation with a backlog is what the links bring in so long: much less than people feel, and of a
/// fast link long enough for a train.
const TURN_TIME: Duration = Duration::from_micros(100);
/// While the rate is still being found out, the queue holds what a sender's slow start is ahead of ours …
pub(super) const QUEUE_SEARCHING: u64 = 2 << 20;
/// … and it may stand for so long: a drop would end that sender's slow start too early, for many seconds.
const SEARCHING_TARGET: Duration = Duration::from_millis(300);
/// A link that is later than another by more than this, and shares conversations with it, finds out its rate with care.
const CAREFUL_BEYOND: Duration = Duration::from_millis(10);
/// Bounds of all buffers in bytes: a full queue, and what is in flight, two round trips of long links. Made when needed.
pub(super) const POOL_USUAL: u64 = 10 << 20;
const POOL_MAX: u64 = 32 << 20;
/// Links lose packets as long after the last repair.
const REPAIRING: Duration = Duration::from_secs(1);
/// Least CoDel interval (RFC 8289 §3.2) and target. The target is above the RFC's 5 ms, because a bucket's
/// own delay hurts no other conversation here, and a link must not run dry between two bursts of the interface.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const MIN_TARGET: Duration = Duration::from_millis(15);
/// Longest CoDel target for the sake of a link that is away.
const MAX_TARGET: Duration = Duration::from_millis(150);

impl Outbound {
    /// Tells the later links that conversations flow over earlier ones.
    pub(super) fn tell_careful(&mut self) {
        let delay = |link: &Link| link.sender.rtt().min() / 2;
        let found = self.active_links().filter(|link| !link.sender.controller().is_searching());
        let earliest = found.map(delay).min();
        for link in self.links.iter_mut().filter_map(Option::as_deref_mut) {
            let extra = earliest.map_or(Duration::ZERO, |earliest| delay(link).saturating_sub(earliest));
            link.sender.set_careful(extra > CAREFUL_BEYOND && extra <= schedule::MAX_REORDER_DELAY);
        }
    }

    /// Lets the queue's bounds follow the links.
    pub(super) fn tune_queue(&mut self, now: Instant) {
        // By what the paths are, not by how busy: a processor at its end makes round trips long, too.
        let longest = self.measured_rtts().map(Rtt::min).max().unwrap_or_default();
        let rates = self.each().filter_map(|(_, link)| link.sender.rate());
        let (held, two_trips) = rates.fold((0, 0), |(held, two_trips), rate| {
            (held + rate.bytes_in(QUEUE_TIME), two_trips + rate.bytes_in(longest * 2))
        });
        let prompt = self.each().filter(|(id, _)| self.carries_backlog(*id)).map(|(_, link)| &link.sender);
        let searches = |sender: &Sender| sender.controller().is_searching();
        let (searching, slowest) = prompt.fold((false, Duration::ZERO), |(searching, slowest), sender| {
            let rtt = if sender.rtt().is_measured() { sender.rtt().smoothed() } else { Duration::ZERO };
            (searching || searches(sender), slowest.max(rtt))
        });
        let least = if searching { QUEUE_SEARCHING } else { QUEUE_MIN };
        let most = two_trips.clamp(QUEUE_USUAL, QUEUE_MAX);
        let buffers = (most + two_trips).clamp(POOL_USUAL, POOL_MAX) as usize;
        let long = self.queue.long_backlogged().max(1) as f64;
        let shared = ((most as f64 / long.sqrt()) as u64).max(QUEUE_SHARED).max(two_trips / 2);
        self.queue.set_limits(held.min(shared).clamp(least, most), buffers);
        self.queue.set_turn(self.active_rate().bytes_in(TURN_TIME));
        // A sender's acknowledgements stand still while a hole waits for its repair.
        let repairing = self.repaired_at.is_some_and(|at| now.since(at) < REPAIRING);
        let tolerance = |srtt: Duration, windows: f64| {
            let target = srtt.mul_f64(windows).min(MAX_TARGET.max(srtt / 2)).max(MIN_TARGET);
            let interval = (srtt * 3 / 2 + target).max(MIN_INTERVAL);
            let stall = if repairing { srtt * 3 / 2 } else { Duration::ZERO };
            Tolerance { target: target + stall, interval: interval + stall }
        };
        let bound = tolerance(self.slowest_srtt(), 0.5);
        let grace = self.adoption.grace();
        let patient =
            |usual: Tolerance| Tolerance { target: usual.target + grace, interval: usual.interval + grace };
        if searching {
            let tolerance = Tolerance { target: SEARCHING_TARGET, interval: SEARCHING_TARGET };
            return self.queue.set_tolerance(patient(tolerance), bound);
        }
        // A sender that halves its rate or so must not leave the links idle: cubic's 0.7 needs 0.43 round trips
        // of all links, those among them that will be back in a moment.
        let absent = self.each().filter_map(|(_, link)| link.absent_rate(now));
        let absent: u64 = absent.map(Rate::bytes_per_second).sum();
        let present = self.active_rate().bytes_per_second().max(1);
        let windows = 0.5 + (1.5 * absent as f64 / present as f64).min(100.0);
        self.queue.set_tolerance(patient(tolerance(slowest, windows)), bound);
    }

    /// What the links that carry data are believed to carry in all.
    pub(super) fn active_rate(&self) -> Rate {
        let rates = self.active_links().filter_map(|link| link.sender.rate()).map(Rate::bytes_per_second);
        Rate::from_bytes_per_second(rates.sum())
    }

    /// The longest round-trip time of a link that carries data.
    pub(super) fn slowest_srtt(&self) -> Duration {
        self.measured_rtts().map(Rtt::smoothed).max().unwrap_or_default()
    }

    fn measured_rtts(&self) -> impl Iterator<Item = &Rtt> {
        self.active_links().map(|link| link.sender.rtt()).filter(|rtt| rtt.is_measured())
    }
}
