//! What the sending half tells in `show`.

use std::time::Duration;

use super::Outbound;
use super::congestion::Algorithm;
use super::link::{Link, State};
use crate::core::snapshot;
use crate::core::units::{Instant, LinkId};

impl Outbound {
    /// Fills the parts of a snapshot that are known here.
    pub fn snapshot(&self, now: Instant, into: &mut snapshot::Snapshot) {
        into.mtu = self.mtu().into();
        into.data_sequence = self.data_sequence;
        into.traffic = snapshot::Traffic {
            sent_packets: self.taken.packets(),
            sent_bytes: self.taken.bytes(),
            send_rate_bps: self.taken.rate(now).bits_per_second(),
            ..snapshot::Traffic::default()
        };
        into.queue = self.describe_queue(now);
        let compressed = self.compressor.totals();
        into.compression =
            snapshot::Compression { packets: compressed.packets, saved_bytes: compressed.saved_bytes };
        let sent = self.each().map(|(_, link)| link.account.sent.sum(now)).sum();
        let received = self.each().map(|(_, link)| link.account.received.sum(now)).sum();
        let describe = |(id, link): (LinkId, &Link)| {
            let limit = self.limit(now, id);
            snapshot::Link {
                carries: self.active & 1 << id.0 != 0,
                limit: limit.as_ref().map(|limit| limit.name().to_owned()),
                reason: limit.map(|limit| limit.to_string()),
                sent_share: share(link.account.sent.sum(now), sent),
                received_share: share(link.account.received.sum(now), received),
                ..describe_link(now, id, link)
            }
        };
        into.links = self.each().map(describe).collect();
    }

    fn describe_queue(&self, now: Instant) -> snapshot::Queue {
        let (totals, sojourn) = (self.queue.totals(), self.queue.sojourns(now));
        snapshot::Queue {
            packets: self.queue.packets() as u64,
            bytes: self.queue.bytes(),
            limit_bytes: self.queue.limit(),
            sojourn_p50_ms: sojourn.map(|sojourn| millis(sojourn.p50)),
            sojourn_p95_ms: sojourn.map(|sojourn| millis(sojourn.p95)),
            sojourn_max_ms: sojourn.map(|sojourn| millis(sojourn.max)),
            enqueued_packets: totals.enqueued,
            dropped_packets: self.too_big + totals.dropped + totals.overflowed,
            delay_dropped_packets: totals.dropped,
            overflowed_packets: totals.overflowed,
            too_big_packets: self.too_big,
            marked_packets: totals.marked,
            superseded_acks: totals.superseded,
        }
    }
}

fn describe_link(now: Instant, id: LinkId, link: &Link) -> snapshot::Link {
    let rtt = link.sender.rtt();
    let measured = rtt.is_measured();
    let spent = |state: State| {
        let present = if state == link.state { now.since(link.since) } else { Duration::ZERO };
        (state.name().to_owned(), (link.account.spent_in(state) + present).as_secs_f64())
    };
    snapshot::Link {
        number: id.0 + 1,
        name: link.config.name.clone(),
        section: link.config.section,
        method: link.config.method.to_owned(),
        remote: link.remote,
        state: link.state.name().to_owned(),
        since_seconds: now.since(link.since).as_secs_f64(),
        state_seconds: State::ALL.into_iter().map(spent).collect(),
        metric: link.metric().into(),
        metered: link.config.metered,
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
        bandwidth_bps: link.sender.rate().map(|rate| rate.bits_per_second()),
        delivery_rate_bps: link.sender.delivery_rate().map(|rate| rate.bits_per_second()),
        pacing_rate_bps: link.sender.pacing_rate().map(|rate| rate.bits_per_second()),
        rate_limit_bps: link.config.rate_limit.map(|rate| rate.bits_per_second()),
        send_rate_bps: link.account.wire_sent.rate(now).bits_per_second(),
        receive_rate_bps: link.account.wire_received.rate(now).bits_per_second(),
        wire_sent_bytes: link.account.wire_sent.bytes(),
        wire_received_bytes: link.account.wire_received.bytes(),
        loss_share: (link.sender.totals().sent > 0).then(|| link.sender.loss()),
        sent_packets: link.sent_packets,
        sent_bytes: link.sent_bytes,
        received_packets: link.received_packets,
        received_bytes: link.received_bytes,
        lost_packets: link.sender.totals().lost,
        spurious_losses: link.sender.totals().spurious,
        repairs_sent_packets: link.account.repairs_sent,
        repairs_caused_packets: link.account.repairs_caused,
        copies_sent_packets: link.account.copies_sent,
        gso: (link.config.method == "udp").then(|| link.sender.segmentation.is_on()),
        gso_reason: link.gso_reason.clone(),
        ..snapshot::Link::default()
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
