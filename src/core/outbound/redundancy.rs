//! `Redundancy = realtime`: small real-time packets are sent twice, over the two links that bring them first.
//! The anti-replay window of the peer lets one of them pass.

use std::time::Duration;

use super::schedule::half_rtt;
use super::{MAX_REPAIRS, Outbound, Policy};
use crate::core::packet::{Departure, Packet};
use crate::core::units::{Instant, LinkId, Rate};
use crate::core::wire::Order;

/// Copies may take this share of the links' rate …
const SHARE: f64 = 0.1;
/// … or so much where little is known of it yet: a telephone call, 50 packets of 200 bytes a second with all
/// headers around them. Bytes a second.
const LEAST: Rate = Rate::from_bytes_per_second(16_000);
/// Longest time whose copies may leave at once.
const BURST: Duration = Duration::from_millis(200);

/// What copies may take, filled as time passes.
#[derive(Default)]
pub(super) struct Allowance {
    bytes: u64,
    filled: Instant,
}

impl Allowance {
    /// Takes `bytes` if links of `rate` in all allow that now.
    fn take(&mut self, now: Instant, bytes: u64, rate: Rate) -> bool {
        let rate = rate.scaled(SHARE).max(LEAST);
        let since = now.since(self.filled);
        self.bytes = (self.bytes + rate.bytes_in(since.min(BURST))).min(rate.bytes_in(BURST));
        self.filled = now;
        let enough = self.bytes >= bytes;
        if enough {
            self.bytes -= bytes;
        }
        enough
    }
}

impl Outbound {
    /// Sets what the user chose.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// A second copy of a packet that is about to leave over `id` for the first time, and the link for it.
    pub(super) fn second_copy(
        &mut self,
        now: Instant,
        id: LinkId,
        packet: &Packet,
    ) -> Option<(LinkId, Packet)> {
        if !self.policy.redundancy || !packet.realtime {
            return None;
        }
        let others = self.each().filter(|(other, _)| *other != id && self.carries_backlog(*other));
        let (second, _) = others.min_by_key(|(_, link)| link.sender.paced_for(now) + half_rtt(link))?;
        let rate = self.active_rate();
        if !self.allowance.take(now, packet.len() as u64, rate) {
            return None;
        }
        let mut copy = self.queue.copy(packet)?;
        let data_sequence = self.data_sequence as u32;
        // Its original is repaired, not the copy.
        copy.departure =
            Departure { order: Order::default(), data_sequence, first_sent: now, repairs: MAX_REPAIRS };
        Some((second, copy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_take_their_share_and_no_more() {
        let (mut allowance, rate) = (Allowance::default(), Rate::from_bytes_per_second(1_000_000));
        let taken = (0..10_000u64).filter(|millis| {
            let now = Instant::ZERO + Duration::from_millis(5_000 + millis);
            allowance.take(now, 200, rate)
        });
        let share = taken.count() as f64 * 200.0 / 10_000_000.0;
        assert!((0.098..0.103).contains(&share), "{share}");
    }
}
