//! What crossed the links between two looks.

use serde::Serialize;

use crate::core::snapshot::{Link, Snapshot};

/// Rates of a portal.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    /// Time between the looks, seconds.
    pub(super) interval_seconds: f64,
    /// Packets of the interface sent to the other portal, bits per second with their IP headers.
    pub(super) sent_bps: f64,
    /// The same of those delivered.
    pub(super) received_bps: f64,
    /// Those of the links that both looks saw.
    pub(super) links: Vec<LinkRates>,
}

/// Rates of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct LinkRates {
    pub(super) number: u8,
    pub(super) name: String,
    /// What was sent on the wire, bits per second with IP and UDP or TCP headers.
    pub(super) sent_bps: f64,
    /// The same of what was received.
    pub(super) received_bps: f64,
}

impl Rates {
    /// `None` if `after` is not a later look at the same run of the portal.
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> Option<Rates> {
        let interval_seconds = after.uptime_seconds - before.uptime_seconds;
        if interval_seconds <= 0.0 {
            return None;
        }
        let rates = |link: &Link| {
            let same = |other: &&Link| other.number == link.number && other.name == link.name;
            LinkRates::between(before.links.iter().find(same)?, link, interval_seconds)
        };
        let links: Vec<LinkRates> = after.links.iter().filter_map(rates).collect();
        let (before, after) = (&before.traffic, &after.traffic);
        Some(Rates {
            interval_seconds,
            sent_bps: bps(before.sent_bytes, after.sent_bytes, interval_seconds)?,
            received_bps: bps(before.received_bytes, after.received_bytes, interval_seconds)?,
            links,
        })
    }

    /// Those of one link.
    pub(super) fn of(&self, link: &Link) -> Option<&LinkRates> {
        self.links.iter().find(|rates| rates.number == link.number && rates.name == link.name)
    }
}

impl LinkRates {
    /// `None` if the counters began anew, as those of a link do that joins again.
    fn between(before: &Link, after: &Link, seconds: f64) -> Option<LinkRates> {
        Some(LinkRates {
            number: after.number,
            name: after.name.clone(),
            sent_bps: bps(before.wire_sent_bytes, after.wire_sent_bytes, seconds)?,
            received_bps: bps(before.wire_received_bytes, after.wire_received_bytes, seconds)?,
        })
    }
}

/// `None` if the counter began anew.
fn bps(before: u64, after: u64, seconds: f64) -> Option<f64> {
    after.checked_sub(before).map(|bytes| bytes as f64 * 8.0 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::Traffic;

    fn snapshot(uptime_seconds: f64, links: &[(u8, u64, u64)]) -> Snapshot {
        let link = |&(number, wire_sent_bytes, wire_received_bytes): &(u8, u64, u64)| Link {
            number,
            name: format!("link{number}"),
            wire_sent_bytes,
            wire_received_bytes,
            ..Link::default()
        };
        let traffic = Traffic { sent_bytes: links.iter().map(|link| link.1).sum(), ..Traffic::default() };
        Snapshot { uptime_seconds, traffic, links: links.iter().map(link).collect(), ..Snapshot::default() }
    }

    #[test]
    fn counters_become_rates() {
        let before = snapshot(10.0, &[(1, 1000, 0), (2, 0, 0)]);
        let after = snapshot(12.0, &[(1, 2000, 500), (2, 250, 0)]);
        let rates = Rates::between(&before, &after).expect("later");
        assert_eq!((rates.sent_bps, rates.received_bps), (5000.0, 0.0));
        assert_eq!(rates.of(&after.links[1]).map(|link| link.sent_bps), Some(1000.0));
    }

    #[test]
    fn what_began_anew_has_no_rate() {
        let before = snapshot(10.0, &[(1, 1000, 0), (2, 0, 0)]);
        let rejoined = snapshot(11.0, &[(1, 500, 0), (3, 900, 9)]);
        assert_eq!(Rates::between(&before, &rejoined).expect("later").links, []);
        assert_eq!(Rates::between(&before, &snapshot(0.5, &[(1, 0, 0)])), None);
        assert_eq!(Rates::between(&before, &before), None);
    }
}
