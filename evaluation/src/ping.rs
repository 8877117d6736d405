//! Round trips, measured by the system's `ping`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::netns::Namespace;
use crate::{process, stats};

/// How to ping.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// Echo requests to send.
    pub count: u32,
    /// The time between them.
    pub interval: Duration,
    /// Bytes of data in each, after 8 of ICMP and the IP header.
    pub size: u32,
    /// How long to wait for the last replies.
    pub timeout: Duration,
}

impl Default for Ping {
    /// 50 requests of the usual 56 bytes, one every 20 ms, and a second for the last reply.
    fn default() -> Self {
        Self { count: 50, interval: Duration::from_millis(20), size: 56, timeout: Duration::from_secs(1) }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Replies, each sequence number (from 1) with its round trip in ms, in order of arrival.
    /// Duplicates are not among them.
    pub replies: Vec<(u32, f64)>,
    /// Replies that came more than once.
    pub duplicates: u32,
}

impl PingReport {
    /// The round trips in ms.
    pub fn rtts_ms(&self) -> Vec<f64> {
        self.replies.iter().map(|&(_, rtt)| rtt).collect()
    }

    /// The median round trip in ms, if there was any.
    pub fn median_ms(&self) -> Option<f64> {
        stats::median(&self.rtts_ms())
    }

    /// The fraction of requests without a reply.
    pub fn loss(&self) -> f64 {
        1.0 - self.replies.len() as f64 / f64::from(self.sent.max(1))
    }
}

impl Ping {
    /// So many requests, otherwise as [`default`](Self::default).
    pub fn times(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// Sends the requests from a namespace. Lost ones are no error; an unreachable target is one
    /// only when not a single request could be sent.
    pub fn run(&self, from: &Namespace, target: IpAddr) -> Result<PingReport> {
        let mut command = from.command("ping");
        command.env("LC_ALL", "C").args([
            "-n",
            "-c",
            &self.count.to_string(),
            "-i",
            &format!("{:.4}", self.interval.as_secs_f64()),
            "-s",
            &self.size.to_string(),
            "-W",
            &format!("{:.3}", self.timeout.as_secs_f64()),
            &target.to_string(),
        ]);
        // Without a reply, ping itself waits up to twice the longest round trip it saw.
        let limit = self.interval * self.count + self.timeout * 2 + Duration::from_secs(10);
        let output = process::output_within(&mut command, "", limit)
            .with_context(|| format!("{}: ping {target}", from.name()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        match parse(&text) {
            Some(report) => Ok(report),
            None => {
                bail!("{}: ping {target}: {}", from.name(), String::from_utf8_lossy(&output.stderr).trim())
            }
        }
    }
}

/// Reads what ping of iputils prints; `None` without its summary.
fn parse(text: &str) -> Option<PingReport> {
    let mut report = PingReport::default();
    let mut summary = false;
    for line in text.lines() {
        if let Some((sent, _)) = line.split_once(" packets transmitted") {
            report.sent = sent.parse().ok()?;
            summary = true;
        }
        let (Some(sequence), Some(rtt)) = (field(line, "icmp_seq="), field(line, " time=")) else {
            continue;
        };
        if line.contains("(DUP!)") {
            report.duplicates += 1;
        } else {
            report.replies.push((sequence as u32, rtt));
        }
    }
    summary.then_some(report)
}

fn field(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(name)?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_replies_duplicates_and_the_summary() {
        let text = "PING 203.0.113.2 (203.0.113.2) 56(84) bytes of data.\n\
            64 bytes from 203.0.113.2: icmp_seq=1 ttl=62 time=40.1 ms\n\
            64 bytes from 203.0.113.2: icmp_seq=3 ttl=62 time=0.345 ms\n\
            64 bytes from 203.0.113.2: icmp_seq=3 ttl=62 time=45.1 ms (DUP!)\n\
            From 192.168.100.1 icmp_seq=4 Destination Host Unreachable\n\n\
            --- 203.0.113.2 ping statistics ---\n\
            4 packets transmitted, 2 received, +1 duplicates, 50% packet loss, time 3ms\n";
        let report = parse(text).unwrap();
        assert_eq!(report.replies, [(1, 40.1), (3, 0.345)]);
        assert_eq!((report.sent, report.duplicates), (4, 1));
        assert_eq!(report.loss(), 0.5);
        assert_eq!(parse("ping: unknown host\n"), None);
    }
}
