//! A snapshot for people, in the manner of `wg show`.

use std::collections::BTreeMap;

use super::units::{bytes, duration, milliseconds, rate};
use crate::core::snapshot::{Compression, Link, Queue, Session, Snapshot};

/// Width of a terminal that nobody widened.
const COLUMNS: usize = 80;

/// Lines of at most 80 columns, each with its newline.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = Page::default();
    page.head("interface", &snapshot.interface);
    page.line("running", &[duration(snapshot.uptime_seconds), format!("version {}", snapshot.version)]);
    let cipher = snapshot.cipher.as_ref().map_or(String::new(), |cipher| format!(" ({cipher})"));
    let protection = format!("protection {}{cipher}", snapshot.protection);
    page.line("wire", &[format!("MTU {}", snapshot.mtu), protection]);
    page.line("session", &session(&snapshot.session));
    page.line("queue", &queue(&snapshot.queue));
    page.line("compressed", &compression(&snapshot.compression));
    page.line("discarded", &counts(&snapshot.discards));
    for link in &snapshot.links {
        page.text.push('\n');
        page.link(link);
    }
    page.text
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
    ]
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
        let mut state = vec![format!("{} for {}", link.state, duration(link.since_seconds))];
        state.extend(link.reason.clone());
        self.line("state", &state);

        let mut kind = vec![link.method.to_uppercase()];
        kind.extend(link.interface.as_ref().map(|name| format!("interface {name}")));
        kind.push(format!("metric {}", link.metric));
        kind.push(format!("[Peer] {}", link.section));
        self.line("carrier", &kind);
        self.line("local", &link.local.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.line("remote", &link.remote.iter().map(ToString::to_string).collect::<Vec<_>>());

        let path = link.path_mtu_bytes.map(|bytes| format!("MTU {bytes}, search: {}", link.path_mtu_state));
        self.line("path", &path.into_iter().collect::<Vec<_>>());
        let mut rtt: Vec<String> = link.srtt_ms.map(milliseconds).into_iter().collect();
        rtt.extend(link.min_rtt_ms.map(|ms| format!("min {}", milliseconds(ms))));
        self.line("round trip", &rtt);
        let mut rates: Vec<String> = Vec::new();
        rates.extend(link.delivery_rate_bps.map(|bps| format!("{} delivered", rate(bps))));
        rates.extend(link.pacing_rate_bps.map(|bps| format!("{} paced", rate(bps))));
        self.line("rate", &rates);
        let window = link.cwnd_bytes.map_or("unlimited".to_owned(), bytes);
        self.line(
            "window",
            &[
                window,
                format!("{} in flight", bytes(link.in_flight_bytes)),
                format!("congestion control {}", link.congestion_control),
            ],
        );

        let mut sent = vec![bytes(link.sent_bytes), counted(link.sent_packets, "datagram"), lost(link)];
        if link.spurious_losses > 0 {
            sent.push(format!("{} of them late", link.spurious_losses));
        }
        self.line("sent", &sent);
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
            if column + 1 + width > COLUMNS {
                self.text.push_str("\n   ");
                column = 3;
            }
            self.text.extend([" ", word]);
            column += 1 + width;
        }
        self.text.push('\n');
    }
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
            },
            compression: Compression { packets: 120_000, saved_bytes: 4_680_000 },
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
                    since_seconds: 42.0,
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
                    ..Link::default()
                },
                Link {
                    number: 2,
                    name: "lte".into(),
                    section: 2,
                    method: "tcp".into(),
                    state: "down".into(),
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
interface: nc0
  running: 2 h 13 min, version 0.1.0
  wire: MTU 1420, protection aead (AES-128-GCM)
  session: established for 5 min 3 s, 1 handshake
  queue: 12 packets, 16.2 KiB of 1.50 MiB, 120345 taken, 3 dropped
  compressed: 120000 packets, 4.46 MiB spared
  discarded: 2 forged

link 1: dsl
  state: up for 42 s
  carrier: UDP, interface eth0, metric 0, [Peer] 1
  local: 192.0.2.1:9000
  remote: [2001:db8::1]:9000
  round trip: 23.1 ms, min 20.0 ms
  rate: 12.3 Mbit/s delivered, 14.0 Mbit/s paced
  window: 123 KiB, 4.00 KiB in flight, congestion control newreno
  sent: 1.20 GiB, 1234567 datagrams, 12346 lost (1.00 %), 7 of them late
  received: 1.37 KiB, 1 datagram

link 2: lte
  state: down for 0 s, the other portal reports that it has received nothing on
    this link since the interface wwan0 lost its address
  carrier: TCP, metric 0, [Peer] 2
  window: unlimited, 0 B in flight, congestion control kernel
  sent: 0 B, 0 datagrams, 0 lost (0.00 %)
  received: 0 B, 0 datagrams
";
        assert_eq!(render(&snapshot()), expected);
    }

    #[test]
    fn keeps_within_80_columns() {
        let mut snapshot = snapshot();
        snapshot.discards = (0..30).map(|n| (format!("reason{n}"), u64::MAX)).collect();
        assert!(render(&snapshot).lines().all(|line| line.chars().count() <= COLUMNS));
    }
}
