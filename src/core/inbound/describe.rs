//! What the receiving half tells in `show`.

use super::{Inbound, PeerLink};
use crate::core::one_way::Apparent;
use crate::core::snapshot;
use crate::core::units::Instant;

impl Inbound {
    /// Fills the parts of a snapshot that are known here, when `into` has its links.
    pub fn snapshot(&self, now: Instant, into: &mut snapshot::Snapshot) {
        let (totals, holds) = (self.resequencer.totals(), self.resequencer.holds(now));
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        into.resequencer = snapshot::Resequencer {
            waiting_packets: self.resequencer.buffers_out() as u64,
            ordered_packets: totals.ordered,
            held_packets: totals.held,
            late_packets: totals.late,
            given_up_packets: totals.skipped,
            hold_p50_ms: holds.map(|holds| millis(holds.p50)),
            hold_p95_ms: holds.map(|holds| millis(holds.p95)),
            hold_p99_ms: holds.map(|holds| millis(holds.p99)),
            hold_max_ms: holds.map(|holds| millis(holds.max)),
        };
        let delays = || self.peer_links.iter().filter_map(|peer_link| delay(peer_link, now));
        let earliest = delays().map(|(_, delay)| delay).reduce(|a, b| if b.beyond(a) < 0 { b } else { a });
        if let Some(earliest) = earliest.filter(|_| delays().nth(1).is_some()) {
            for (number, delay) in delays() {
                let link = into.links.iter_mut().find(|link| link.number == number);
                if let Some(link) = link {
                    link.delay_difference_ms = Some(f64::from(delay.beyond(earliest)) / 1e3);
                }
            }
        }
    }
}

/// The delay of a link, with the number by which people know it.
fn delay(peer_link: &PeerLink, now: Instant) -> Option<(u8, Apparent)> {
    Some((peer_link.link?.0 + 1, peer_link.delay.least(now)?))
}
