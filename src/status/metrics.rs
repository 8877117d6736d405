//! A snapshot for Prometheus: text format 0.0.4, base units, a series for each link.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/practices/naming/>.
//! Counters begin anew with the daemon, and those of a link when it joins again, which Prometheus expects of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::core::snapshot::{Link, Snapshot};

/// The media type of what [`render`] gives.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything a portal counts and measures. What was not measured yet is left out.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = Text { text: String::new(), interface: &snapshot.interface, family: "", head: None };
    let none = |value: &Option<String>| value.clone().unwrap_or_default();
    text.family("netcombiner_info", GAUGE, "Version and protection of the portal.");
    let (version, protection, cipher) = (&snapshot.version, &snapshot.protection, none(&snapshot.cipher));
    text.sample(&[("version", version), ("protection", protection), ("cipher", &cipher)], 1.0);
    for metric in PORTAL {
        text.family(metric.name, metric.kind, metric.help);
        text.optional(&[], (metric.value)(snapshot));
    }
    text.family(
        "netcombiner_queue_dropped_packets_total",
        COUNTER,
        "Packets from the interface not sent, by reason.",
    );
    let queue = &snapshot.queue;
    let dropped = [
        ("delay", queue.delay_dropped_packets),
        ("overflow", queue.overflowed_packets),
        ("too_big", queue.too_big_packets),
        ("superseded_ack", queue.superseded_acks),
    ];
    for (reason, count) in dropped {
        text.sample(&[("reason", reason)], count as f64);
    }
    text.family(
        "netcombiner_discarded_packets_total",
        COUNTER,
        "Datagrams that were no new part of the conversation, by reason.",
    );
    text.samples("reason", &[], count_by(&snapshot.discards));
    links(&mut text, &snapshot.links);
    text.text
}

fn links(text: &mut Text, links: &[Link]) {
    let numbers: Vec<String> = links.iter().map(|link| link.number.to_string()).collect();
    let named = |index: usize| [("link", links[index].name.as_str()), ("number", numbers[index].as_str())];
    text.family("netcombiner_link_info", GAUGE, "Carrier, interface and congestion control of the link.");
    for (index, link) in links.iter().enumerate() {
        let device = link.interface.as_deref().unwrap_or("");
        let more = [
            ("method", link.method.as_str()),
            ("device", device),
            ("congestion_control", &link.congestion_control),
        ];
        text.sample(&[&named(index)[..], &more].concat(), 1.0);
    }
    text.family("netcombiner_link_state", GAUGE, "1 for the state that the link is in, 0 for the others.");
    for (index, link) in links.iter().enumerate() {
        let states = STATES.iter().map(|state| (*state, f64::from(u8::from(link.state == *state))));
        text.samples("state", &named(index), states);
    }
    text.family(
        "netcombiner_link_limit",
        GAUGE,
        "1 with what keeps the link from carrying more; absent if nothing does.",
    );
    for (index, link) in links.iter().enumerate() {
        text.samples("limit", &named(index), link.limit.iter().map(|limit| (limit.as_str(), 1.0)));
    }
    for metric in LINK {
        text.family(metric.name, metric.kind, metric.help);
        for (index, link) in links.iter().enumerate() {
            text.optional(&named(index), (metric.value)(link));
        }
    }
    text.family(
        "netcombiner_link_state_seconds_total",
        COUNTER,
        "Time in each state since the link was added.",
    );
    for (index, link) in links.iter().enumerate() {
        let spent = link.state_seconds.iter().map(|(state, seconds)| (state.as_str(), *seconds));
        text.samples("state", &named(index), spent);
    }
    text.family(
        "netcombiner_link_discarded_packets_total",
        COUNTER,
        "Datagrams of the link discarded, by reason.",
    );
    for (index, link) in links.iter().enumerate() {
        text.samples("reason", &named(index), count_by(&link.discards));
    }
}

fn count_by(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = (&str, f64)> {
    counts.iter().map(|(reason, count)| (reason.as_str(), *count as f64))
}

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

const STATES: [&str; 5] = ["init", "probing", "up", "suspect", "down"];

/// A family with one series of a portal, or of each link.
struct Metric<T> {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&T) -> Option<f64>,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Metric<T> {
    Metric { name, kind: COUNTER, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> Option<f64>) -> Metric<T> {
    Metric { name, kind: GAUGE, help, value }
}

fn seconds(milliseconds: Option<f64>) -> Option<f64> {
    milliseconds.map(|milliseconds| milliseconds / 1e3)
}

fn bytes_per_second(bits_per_second: Option<f64>) -> Option<f64> {
    bits_per_second.map(|bits_per_second| bits_per_second / 8.0)
}

fn number(count: u64) -> Option<f64> {
    Some(count as f64)
}

#[rustfmt::skip]
const PORTAL: &[Metric<Snapshot>] = &[
    gauge("netcombiner_uptime_seconds", "Time since the portal became ready.", |s| Some(s.uptime_seconds)),
    gauge("netcombiner_mtu_bytes", "MTU of the interface.", |s| Some(s.mtu.into())),
    gauge("netcombiner_session_established", "Whether there is a session with the other portal: 1 or 0.",
        |s| number((s.session.state == "established").into())),
    counter("netcombiner_session_handshakes_total", "Completed key exchanges.", |s| number(s.session.handshakes)),
    counter("netcombiner_sent_bytes_total", "Bytes of packets of the interface sent to the other portal.",
        |s| number(s.traffic.sent_bytes)),
    counter("netcombiner_received_bytes_total", "Bytes of packets delivered to the interface.",
        |s| number(s.traffic.received_bytes)),
    counter("netcombiner_sent_packets_total", "Packets of the interface sent to the other portal.",
        |s| number(s.traffic.sent_packets)),
    counter("netcombiner_received_packets_total", "Packets delivered to the interface.",
        |s| number(s.traffic.received_packets)),
    gauge("netcombiner_queue_packets", "Packets that wait for a link.", |s| number(s.queue.packets)),
    gauge("netcombiner_queue_bytes", "Bytes that wait for a link.", |s| number(s.queue.bytes)),
    gauge("netcombiner_queue_limit_bytes", "Most bytes that may wait.", |s| number(s.queue.limit_bytes)),
    gauge("netcombiner_queue_delay_median_seconds", "Half of the packets of the last 5 to 10 s waited no longer.",
        |s| seconds(s.queue.sojourn_p50_ms)),
    gauge("netcombiner_queue_delay_p95_seconds", "95 % of the packets of the last 5 to 10 s waited no longer.",
        |s| seconds(s.queue.sojourn_p95_ms)),
    gauge("netcombiner_queue_delay_max_seconds", "The longest wait of the last 5 to 10 s.",
        |s| seconds(s.queue.sojourn_max_ms)),
    counter("netcombiner_queue_enqueued_packets_total", "Packets taken from the interface.",
        |s| number(s.queue.enqueued_packets)),
    counter("netcombiner_queue_marked_packets_total", "Packets marked (ECN) instead of being dropped.",
        |s| number(s.queue.marked_packets)),
    counter("netcombiner_compressed_packets_total", "Packets sent with their headers compressed.",
        |s| number(s.compression.packets)),
    counter("netcombiner_compression_saved_bytes_total", "Bytes that compressing headers spared.",
        |s| number(s.compression.saved_bytes)),
    gauge("netcombiner_resequencer_waiting_packets", "Packets received that wait for those before them.",
        |s| number(s.resequencer.waiting_packets)),
    counter("netcombiner_resequencer_ordered_packets_total", "Packets received whose order is kept.",
        |s| number(s.resequencer.ordered_packets)),
    counter("netcombiner_resequencer_held_packets_total", "Of these, had to wait.",
        |s| number(s.resequencer.held_packets)),
    counter("netcombiner_resequencer_late_packets_total", "Of these, came when they had been given up.",
        |s| number(s.resequencer.late_packets)),
    counter("netcombiner_resequencer_given_up_packets_total", "Packets that were not waited for any longer.",
        |s| number(s.resequencer.given_up_packets)),
    gauge("netcombiner_resequencer_hold_p95_seconds", "95 % of the packets that had to wait in the last 5 to 10 s waited no longer.",
        |s| seconds(s.resequencer.hold_p95_ms)),
    gauge("netcombiner_resequencer_hold_max_seconds", "The longest of these waits.",
        |s| seconds(s.resequencer.hold_max_ms)),
    gauge("netcombiner_links", "Links, whatever their state.", |s| number(s.links.len() as u64)),
];

#[rustfmt::skip]
const LINK: &[Metric<Link>] = &[
    gauge("netcombiner_link_up", "Whether the link carries data: 1 or 0.", |l| number((l.state == "up").into())),
    gauge("netcombiner_link_metric", "Links of a lower metric are used first.", |l| Some(l.metric.into())),
    gauge("netcombiner_link_rtt_seconds", "Smoothed round-trip time.", |l| seconds(l.srtt_ms)),
    gauge("netcombiner_link_min_rtt_seconds", "Smallest recent round-trip time.", |l| seconds(l.min_rtt_ms)),
    gauge("netcombiner_link_delay_difference_seconds",
        "How much later than over the fastest link a datagram arrives here.", |l| seconds(l.delay_difference_ms)),
    gauge("netcombiner_link_path_mtu_bytes", "Longest IP packet that the path is known to carry away from here.",
        |l| l.path_mtu_bytes.map(f64::from)),
    gauge("netcombiner_link_capacity_bytes_per_second", "What the path carries as far as congestion control knows.",
        |l| bytes_per_second(l.bandwidth_bps)),
    gauge("netcombiner_link_delivery_bytes_per_second", "The latest rate at which data was delivered.",
        |l| bytes_per_second(l.delivery_rate_bps)),
    gauge("netcombiner_link_pacing_bytes_per_second", "How fast datagrams may leave.",
        |l| bytes_per_second(l.pacing_rate_bps)),
    gauge("netcombiner_link_congestion_window_bytes", "Most bytes that may be in flight.",
        |l| l.cwnd_bytes.map(|bytes| bytes as f64)),
    gauge("netcombiner_link_in_flight_bytes", "Bytes sent and neither acknowledged nor lost.",
        |l| number(l.in_flight_bytes)),
    gauge("netcombiner_link_sent_share_ratio", "Its share of the data sent over all links in the last 10 s.",
        |l| l.sent_share),
    gauge("netcombiner_link_received_share_ratio", "Its share of the data received over all links in the last 10 s.",
        |l| l.received_share),
    counter("netcombiner_link_sent_bytes_total", "Bytes sent on the wire, with IP and UDP or TCP headers.",
        |l| number(l.wire_sent_bytes)),
    counter("netcombiner_link_received_bytes_total", "Bytes received on the wire, with IP and UDP or TCP headers.",
        |l| number(l.wire_received_bytes)),
    gauge("netcombiner_link_carries", "Whether packets may be sent over the link now: 1 or 0.",
        |l| number(l.carries.into())),
    gauge("netcombiner_link_rate_limit_bytes_per_second", "Most that may be sent, if somebody limits it.",
        |l| bytes_per_second(l.rate_limit_bps)),
    gauge("netcombiner_link_quota_used_bytes", "What of the data cap is used up.",
        |l| l.quota.as_ref().map(|quota| quota.used_bytes as f64)),
    gauge("netcombiner_link_quota_limit_bytes", "The data cap.",
        |l| l.quota.as_ref().map(|quota| quota.limit_bytes as f64)),
    counter("netcombiner_link_sent_packets_total", "Datagrams sent.", |l| number(l.sent_packets)),
    counter("netcombiner_link_received_packets_total", "Authentic datagrams received.", |l| number(l.received_packets)),
    counter("netcombiner_link_lost_packets_total", "Datagrams sent and declared lost.", |l| number(l.lost_packets)),
    counter("netcombiner_link_spurious_losses_total", "Datagrams declared lost that arrived after all.",
        |l| number(l.spurious_losses)),
    counter("netcombiner_link_repairs_sent_packets_total", "Packets sent over the link that another lost or failed to carry.",
        |l| number(l.repairs_sent_packets)),
    counter("netcombiner_link_repairs_caused_packets_total", "Packets of the link that had to be sent again.",
        |l| number(l.repairs_caused_packets)),
    counter("netcombiner_link_copies_sent_packets_total", "Packets sent over the link besides another.",
        |l| number(l.copies_sent_packets)),
];

/// The text while it is written.
struct Text<'a> {
    text: String,
    interface: &'a str,
    /// The name and the head of the family whose samples come next; the head until the first sample is written.
    family: &'static str,
    head: Option<(&'static str, &'static str)>,
}

impl Text<'_> {
    /// Begins a family. Nothing of it is written without a sample.
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) {
        (self.family, self.head) = (name, Some((kind, help)));
    }

    fn optional(&mut self, labels: &[(&str, &str)], value: Option<f64>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }

    /// A sample for each value of the label `by`.
    fn samples<'b>(
        &mut self,
        by: &'static str,
        labels: &[(&'b str, &'b str)],
        values: impl Iterator<Item = (&'b str, f64)>,
    ) {
        for (word, value) in values {
            self.sample(&[labels, &[(by, word)]].concat(), value);
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let name = self.family;
        if let Some((kind, help)) = self.head.take() {
            self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
        self.put(format_args!("{name}{{interface=\"{}\"", Escaped(self.interface)));
        for (label, text) in labels {
            self.put(format_args!(",{label}=\"{}\"", Escaped(text)));
        }
        self.put(format_args!("}} {value}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A String takes all.
        let _ = self.text.write_fmt(text);
    }
}

/// A label's value: backslash, quote and line feed must be escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::snapshot;
    use super::*;

    #[test]
    fn counters_and_measurements_in_base_units() {
        let text = render(&snapshot());
        for line in [
            "# HELP netcombiner_link_sent_bytes_total Bytes sent on the wire, with IP and UDP or TCP headers.",
            "# TYPE netcombiner_link_sent_bytes_total counter",
            "netcombiner_link_sent_bytes_total{interface=\"nc0\",link=\"dsl\",number=\"1\"} 1200000",
            "netcombiner_link_min_rtt_seconds{interface=\"nc0\",link=\"dsl\",number=\"1\"} 0.02",
            "netcombiner_link_capacity_bytes_per_second{interface=\"nc0\",link=\"dsl\",number=\"1\"} 1812500",
            "netcombiner_link_state{interface=\"nc0\",link=\"lte\",number=\"2\",state=\"down\"} 1",
            "netcombiner_link_state{interface=\"nc0\",link=\"lte\",number=\"2\",state=\"up\"} 0",
            "netcombiner_link_limit{interface=\"nc0\",link=\"lte\",number=\"2\",limit=\"down\"} 1",
            "netcombiner_queue_dropped_packets_total{interface=\"nc0\",reason=\"delay\"} 2",
            "netcombiner_session_established{interface=\"nc0\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(
            !text.contains("netcombiner_link_rtt_seconds{interface=\"nc0\",link=\"lte\""),
            "not measured"
        );
    }

    #[test]
    fn each_family_stands_once_and_each_series_too() {
        let text = render(&snapshot());
        let mut seen = HashSet::new();
        for line in text.lines() {
            let series = line.rsplit_once(' ').expect("a value").0;
            assert!(seen.insert(if line.starts_with("# TYPE") { line } else { series }), "{line} twice");
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(Escaped("a\\b\"c\nd").to_string(), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn a_portal_that_knows_nothing_yet_says_that() {
        let text = render(&Snapshot::default());
        assert!(
            text.contains("netcombiner_links{interface=\"\"} 0\n") && !text.contains("netcombiner_link_up")
        );
    }
}
