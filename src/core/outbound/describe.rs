//! A link as `show` sees it.

use std::time::Duration;

use super::congestion::Algorithm;
use super::link::Link;
use crate::core::snapshot;
use crate::core::units::{Instant, LinkId};

/// The link's part of a snapshot.
pub(super) fn link(now: Instant, id: LinkId, link: &Link) -> snapshot::Link {
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let rtt = link.sender.rtt();
    let measured = rtt.is_measured();
    snapshot::Link {
        number: id.0 + 1,
        name: link.config.name.clone(),
        section: link.config.section,
        method: link.config.method.to_owned(),
        remote: link.remote,
        state: link.state.name().to_owned(),
        since_seconds: now.since(link.since).as_secs_f64(),
        reason: link.reason.as_deref().map(str::to_owned),
        metric: link.metric().into(),
        congestion_control: match (link.config.method, link.config.algorithm) {
            ("tcp", Algorithm::Unlimited) => "kernel".to_owned(),
            _ => link.sender.controller().name().to_owned(),
        },
        path_mtu_bytes: link.path_mtu.ip_packet().map(u32::from),
        path_mtu_state: link.path_mtu.state().to_owned(),
        srtt_ms: measured.then(|| millis(rtt.smoothed())),
        min_rtt_ms: measured.then(|| millis(rtt.min())),
        cwnd_bytes: link.sender.controller().window(),
        in_flight_bytes: link.sender.in_flight(),
        delivery_rate_bps: link.sender.delivery_rate().map(|rate| rate.bits_per_second()),
        pacing_rate_bps: link.sender.controller().pacing_rate(rtt).map(|rate| rate.bits_per_second()),
        sent_packets: link.sent_packets,
        sent_bytes: link.sent_bytes,
        received_packets: link.received_packets,
        received_bytes: link.received_bytes,
        lost_packets: link.sender.totals().lost,
        spurious_losses: link.sender.totals().spurious,
        gso: (link.config.method == "udp").then(|| link.sender.segmentation.is_on()),
        gso_reason: link.gso_reason.clone(),
        ..snapshot::Link::default()
    }
}
