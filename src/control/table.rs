//! A snapshot for people, in the manner of `wg show`.

use std::collections::BTreeMap;

use super::summary::{headline, quota, reason};
use super::units::{bytes, duration, milliseconds, rate};
use crate::core::snapshot::{Compression, Link, Queue, Resequencer, Session, Snapshot};

/// Everything: lines of at most 80 columns, each with its newline.
pub fn details(snapshot: &Snapshot) -> String {
    let mut page = Page { text: headline(snapshot) };
    page.text.push('\n');
    page.head("interface", &snapshot.interface);
    page.line("running", &[duration(snapshot.uptime_seconds), format!("version {}", snapshot.version)]);
    let cipher = snapshot.cipher.as_ref().map_or(String::new(), |cipher| format!(" ({cipher})"));
    let protection = format!("protection {}{cipher}", snapshot.protection);
    page.line("wire", &[format!("MTU {}", snapshot.mtu), protection]);
    page.line("offload", &offload(&snapshot.offload));
    page.line("session", &session(&snapshot.session));
    let (waiting, order) = (&snapshot.queue, &snapshot.resequencer);
    page.line("queue", &queue(waiting));
    page.line("queue time", &queue_time(waiting));
    page.line("dropped", &dropped(waiting));
    page.line("resequencer", &resequencer(order));
    page.line("hold time", &hold_time(order));
    page.line("compressed", &compression(&snapshot.compression));
    page.line("discarded", &counts(&snapshot.discards));
    for link in &snapshot.links {
        page.text.push('\n');
        page.link(link);
    }
    page.text
}

fn offload(kinds: &[String]) -> Vec<String> {
    if kinds.is_empty() { vec!["off".to_owned()] } else { kinds.to_vec() }
}

fn session(session: &Session) -> Vec<String> {
    let mut parts = vec![
        format!("{} for {}", session.state, duration(session.since_seconds)),
        counted(session.handshakes, "handshake"),
    ];
    parts.extend(session.trouble.clone());
    parts
}

fn queue(queue: &Queue) -> Vec<String> {
    vec![
        counted(queue.packets, "packet"),
        format!("{} of {}", bytes(queue.bytes), bytes(queue.limit_bytes)),
        format!("{} taken", queue.enqueued_packets),
        format!("{} dropped", queue.dropped_packets),
        format!("{} marked", queue.marked_packets),
    ]
}

fn queue_time(queue: &Queue) -> Vec<String> {
    percentiles(&[
        ("p50", queue.sojourn_p50_ms),
        ("p95", queue.sojourn_p95_ms),
        ("max", queue.sojourn_max_ms),
    ])
}

fn dropped(queue: &Queue) -> Vec<String> {
    let reasons = [
        (queue.delay_dropped_packets, "waited too long"),
        (queue.overflowed_packets, "found no room"),
        (queue.too_big_packets, "too big"),
        (queue.superseded_acks, "acknowledgements superseded"),
    ];
    some(&reasons)
}

fn resequencer(order: &Resequencer) -> Vec<String> {
    if order.ordered_packets == 0 {
        return Vec::new();
    }
    let mut parts = vec![counted(order.ordered_packets, "packet")];
    parts.push(format!("{} held", order.held_packets));
    parts.push(format!("{} late", order.late_packets));
    parts.push(format!("{} given up", order.given_up_packets));
    parts
}

fn hold_time(order: &Resequencer) -> Vec<String> {
    percentiles(&[
        ("p50", order.hold_p50_ms),
        ("p95", order.hold_p95_ms),
        ("p99", order.hold_p99_ms),
        ("max", order.hold_max_ms),
    ])
}

fn percentiles(named: &[(&str, Option<f64>)]) -> Vec<String> {
    named.iter().filter_map(|(name, ms)| Some(format!("{name} {}", milliseconds((*ms)?)))).collect()
}

/// The counts that are not zero.
fn some(counts: &[(u64, &str)]) -> Vec<String> {
    let seen = counts.iter().filter(|(count, _)| *count > 0);
    seen.map(|(count, what)| format!("{count} {what}")).collect()
}

fn compression(compression: &Compression) -> Vec<String> {
    match compression.packets {
        0 => Vec::new(),
        packets => vec![counted(packets, "packet"), format!("{} spared", bytes(compression.saved_bytes))],
    }
}

fn counts(counts: &BTreeMap<String, u64>) -> Vec<String> {
    let seen = counts.iter().filter(|(_, count)| **count > 0);
    seen.map(|(reason, count)| format!("{count} {reason}")).collect()
}

fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn link(&mut self, link: &Link) {
        self.head(&format!("link {}", link.number), &link.name);
        self.line("state", &[format!("{} for {}", link.state, duration(link.since_seconds))]);
        self.line("reason", &reason(link).into_iter().collect::<Vec<_>>());
        self.line("spent", &spent(link));
        self.line("changed", &link.changed);
        self.line("quota", &quota(link).into_iter().collect::<Vec<_>>());

        let mut kind = vec![link.method.to_uppercase()];
        kind.extend(link.interface.as_ref().map(|name| format!("interface {name}")));
        kind.push(format!("metric {}", link.metric));
        kind.push(format!("[Peer] {}", link.section));
        self.line("carrier", &kind);
        self.line("local", &link.local.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.line("remote", &link.remote.iter().map(ToString::to_string).collect::<Vec<_>>());

        let switch = |on| if on { "on" } else { "off" };
        let why = link.gso_reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let gso = link.gso.map(|on| format!("gso {}{why}", switch(on)));
        let gro = link.gro.map(|on| format!("gro {}", switch(on)));
        self.line("offload", &gso.into_iter().chain(gro).collect::<Vec<_>>());

        let path = link.path_mtu_bytes.map(|bytes| format!("MTU {bytes}, search: {}", link.path_mtu_state));
        self.line("path", &path.into_iter().collect::<Vec<_>>());
        let mut rtt: Vec<String> = link.srtt_ms.map(milliseconds).into_iter().collect();
        rtt.extend(link.min_rtt_ms.map(|ms| format!("min {}", milliseconds(ms))));
        self.line("round trip", &rtt);
        let later = link.delay_difference_ms.map(|ms| format!("+{} (received)", milliseconds(ms)));
        self.line("one way", &later.into_iter().collect::<Vec<_>>());
        let bandwidth = link.bandwidth_bps.map_or("not known".to_owned(), rate);
        let mut rates = vec![format!("bandwidth {bandwidth}")];
        rates.extend(link.delivery_rate_bps.map(|bps| format!("{} delivered", rate(bps))));
        rates.extend(link.pacing_rate_bps.map(|bps| format!("{} paced", rate(bps))));
        rates.extend(link.rate_limit_bps.map(|bps| format!("limited to {}", rate(bps))));
        self.line("rate", &rates);
        let lately =
            [format!("{} out", rate(link.send_rate_bps)), format!("{} in", rate(link.receive_rate_bps))];
        self.line("lately", &lately);
        let window = link.cwnd_bytes.map_or("unlimited".to_owned(), bytes);
        self.line(
            "window",
            &[
                window,
                format!("{} in flight", bytes(link.in_flight_bytes)),
                format!("congestion control {}", link.congestion_control),
            ],
        );

        let share = |share: Option<f64>, what| share.map(|share| format!("{:.1} % of {what}", share * 100.0));
        let shares = [share(link.sent_share, "data sent"), share(link.received_share, "data received")];
        self.line("share", &shares.into_iter().flatten().collect::<Vec<_>>());
        let mut sent = vec![bytes(link.sent_bytes), counted(link.sent_packets, "datagram"), lost(link)];
        if link.spurious_losses > 0 {
            sent.push(format!("{} of them late", link.spurious_losses));
        }
        self.line("sent", &sent);
        let again = [
            (link.repairs_sent_packets, "sent"),
            (link.repairs_caused_packets, "caused"),
            (link.copies_sent_packets, "as copies"),
        ];
        self.line("repairs", &some(&again));
        let received = [bytes(link.received_bytes), counted(link.received_packets, "datagram")];
        self.line("received", &received);
        self.line("discarded", &counts(&link.discards));
    }

    fn head(&mut self, what: &str, name: &str) {
        self.text.extend([what, ": ", name, "\n"]);
    }

    /// `  name: part, part`, continued on further lines where it gets too long; nothing if there
    /// is no part.
    fn line(&mut self, name: &str, parts: &[String]) {
        if parts.is_empty() {
            return;
        }
        let name = format!("  {name}:");
        let mut column = name.chars().count();
        self.text.push_str(&name);
        let joined = parts.join(", ");
        for word in joined.split_whitespace() {
            let width = word.chars().count();
            if column + 1 + width > super::COLUMNS {
                self.text.push_str("\n   ");
                column = 3;
            }
            self.text.extend([" ", word]);
            column += 1 + width;
        }
        self.text.push('\n');
    }
}

/// Time in each state that it was in, in the order of a link's life.
fn spent(link: &Link) -> Vec<String> {
    let span = |seconds: f64| if seconds < 1.0 { milliseconds(seconds * 1e3) } else { duration(seconds) };
    let states = ["init", "probing", "up", "suspect", "down"];
    let times = states.iter().filter_map(|state| Some((state, *link.state_seconds.get(*state)?)));
    times
        .filter(|(_, seconds)| *seconds > 0.0)
        .map(|(state, seconds)| format!("{state} {}", span(seconds)))
        .collect()
}

fn lost(link: &Link) -> String {
    let share = match link.sent_packets {
        0 => 0.0,
        sent => 100.0 * link.lost_packets as f64 / sent as f64,
    };
    format!("{} lost ({share:.2} %)", link.lost_packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            interface: "nc0".into(),
            version: "0.1.0".into(),
            uptime_seconds: 7980.0,
            mtu: 1420,
            protection: "aead".into(),
            cipher: Some("AES-128-GCM".into()),
            offload: ["tso4", "tso6", "uso", "coalesced tcp"].map(Into::into).into(),
            session: Session {
                state: "established".into(),
                since_seconds: 303.0,
                handshakes: 1,
                trouble: None,
            },
            queue: Queue {
                packets: 12,
                bytes: 16_589,
                limit_bytes: 1_572_864,
                enqueued_packets: 120_345,
                dropped_packets: 3,
                delay_dropped_packets: 2,
                overflowed_packets: 1,
                too_big_packets: 0,
                marked_packets: 4,
                superseded_acks: 7,
                sojourn_p50_ms: Some(4.1),
                sojourn_p95_ms: Some(15.0),
                sojourn_max_ms: Some(22.0),
            },
            compression: Compression { packets: 120_000, saved_bytes: 4_680_000 },
            resequencer: Resequencer {
                ordered_packets: 98_765,
                held_packets: 4_321,
                late_packets: 2,
                given_up_packets: 5,
                hold_p50_ms: Some(3.5),
                hold_p95_ms: Some(22.5),
                hold_p99_ms: Some(44.0),
                hold_max_ms: Some(125.0),
                ..Resequencer::default()
            },
            discards: BTreeMap::from([("forged".into(), 2), ("replayed".into(), 0)]),
            links: vec![
                Link {
                    number: 1,
                    name: "dsl".into(),
                    section: 1,
                    method: "udp".into(),
                    interface: Some("eth0".into()),
                    local: "192.0.2.1:9000".parse().ok(),
                    remote: "[2001:db8::1]:9000".parse().ok(),
                    state: "up".into(),
                    carries: true,
                    send_rate_bps: 12_000_000.0,
                    since_seconds: 42.0,
                    state_seconds: BTreeMap::from(
                        [("probing", 0.081), ("up", 7970.0), ("suspect", 3.0), ("down", 0.0)]
                            .map(|(state, seconds)| (state.into(), seconds)),
                    ),
                    limit: Some("application-limited".into()),
                    reason: Some("there is nothing more to send".into()),
                    delay_difference_ms: Some(12.3),
                    sent_share: Some(0.483),
                    received_share: Some(1.0),
                    bandwidth_bps: Some(14_500_000.0),
                    repairs_sent_packets: 12,
                    repairs_caused_packets: 345,
                    congestion_control: "newreno".into(),
                    srtt_ms: Some(23.14),
                    min_rtt_ms: Some(20.0),
                    cwnd_bytes: Some(125_952),
                    in_flight_bytes: 4096,
                    delivery_rate_bps: Some(12_340_000.0),
                    pacing_rate_bps: Some(14_000_000.0),
                    sent_packets: 1_234_567,
                    sent_bytes: 1_288_490_189,
                    received_packets: 1,
                    received_bytes: 1400,
                    lost_packets: 12_346,
                    spurious_losses: 7,
                    gso: Some(true),
                    gro: Some(false),
                    ..Link::default()
                },
                Link {
                    number: 2,
                    name: "lte".into(),
                    section: 2,
                    method: "tcp".into(),
                    state: "down".into(),
                    limit: Some("down".into()),
                    reason: Some(
                        "the other portal reports that it has received nothing on this link since \
                         the interface wwan0 lost its address"
                            .into(),
                    ),
                    congestion_control: "kernel".into(),
                    ..Link::default()
                },
            ],
            ..Snapshot::default()
        }
    }

    #[test]
    fn reads_like_wg_show() {
        let expected = "\
nc0: connected, 1 of 2 links carries, 0 bit/s up, 0 bit/s down,
  session 5 min 3 s

interface: nc0
  running: 2 h 13 min, version 0.1.0
  wire: MTU 1420, protection aead (AES-128-GCM)
  offload: tso4, tso6, uso, coalesced tcp
  session: established for 5 min 3 s, 1 handshake
  queue: 12 packets, 16.2 KiB of 1.50 MiB, 120345 taken, 3 dropped, 4 marked
  queue time: p50 4.10 ms, p95 15.0 ms, max 22.0 ms
  dropped: 2 waited too long, 1 found no room, 7 acknowledgements superseded
  resequencer: 98765 packets, 4321 held, 2 late, 5 given up
  hold time: p50 3.50 ms, p95 22.5 ms, p99 44.0 ms, max 125 ms
  compressed: 120000 packets, 4.46 MiB spared
  discarded: 2 forged

link 1: dsl
  state: up for 42 s
  reason: application-limited: there is nothing more to send
  spent: probing 81.0 ms, up 2 h 12 min, suspect 3 s
  carrier: UDP, interface eth0, metric 0, [Peer] 1
  local: 192.0.2.1:9000
  remote: [2001:db8::1]:9000
  offload: gso on, gro off
  round trip: 23.1 ms, min 20.0 ms
  one way: +12.3 ms (received)
  rate: bandwidth 14.5 Mbit/s, 12.3 Mbit/s delivered, 14.0 Mbit/s paced
  lately: 12.0 Mbit/s out, 0 bit/s in
  window: 123 KiB, 4.00 KiB in flight, congestion control newreno
  share: 48.3 % of data sent, 100.0 % of data received
  sent: 1.20 GiB, 1234567 datagrams, 12346 lost (1.00 %), 7 of them late
  repairs: 12 sent, 345 caused
  received: 1.37 KiB, 1 datagram

link 2: lte
  state: down for 0 s
  reason: down: the other portal reports that it has received nothing on this
    link since the interface wwan0 lost its address
  carrier: TCP, metric 0, [Peer] 2
  rate: bandwidth not known
  lately: 0 bit/s out, 0 bit/s in
  window: unlimited, 0 B in flight, congestion control kernel
  sent: 0 B, 0 datagrams, 0 lost (0.00 %)
  received: 0 B, 0 datagrams
";
        assert_eq!(details(&snapshot()), expected);
    }

    #[test]
    fn keeps_within_80_columns() {
        let mut snapshot = snapshot();
        snapshot.discards = (0..30).map(|n| (format!("reason{n}"), u64::MAX)).collect();
        assert!(details(&snapshot).lines().all(|line| line.chars().count() <= super::super::COLUMNS));
    }
}
