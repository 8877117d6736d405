//! Throughput, measured by `iperf3` between the lab's client and server.
//!
//! The figures are the receiver's: what arrived, in 100 ms steps. The sender's own would count
//! what only its socket buffer has seen.

use std::net::IpAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::lab::{Family, Lab};
use crate::netns::Namespace;
use crate::process::{self, Started};

/// Added to the duration of a run for connecting, queues that drain, and the exchange of results
/// over a link that may be slow or lossy.
const SLACK: Duration = Duration::from_secs(20);

/// An interval of fewer seconds has none of its own.
const NO_TIME: f64 = 0.01;

/// One run of iperf3, from the client to the server unless [`reverse`](Self::reverse).
#[derive(Clone, Debug)]
pub struct Iperf {
    /// How long it measures, in whole seconds.
    pub seconds: u32,
    /// How long it runs before it measures, in whole seconds, so that slow start is left out.
    pub omit: u32,
    /// Connections at once.
    pub parallel: u32,
    /// Whether the server sends to the client.
    pub reverse: bool,
    /// UDP at this rate in bit/s of payload in place of TCP.
    pub udp_bps: Option<u64>,
    /// The bytes of payload of a UDP datagram.
    pub udp_length: u32,
    /// The version of IP.
    pub family: Family,
    /// TCP's congestion control.
    pub congestion: String,
    /// The port of the server; runs at the same time need different ones.
    pub port: u16,
    /// How long the client tries to connect.
    pub connect_timeout: Duration,
}

/// What a run brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IperfReport {
    /// What the receiver got, in bit/s of payload, over the time after `omit`.
    pub goodput_bps: f64,
    /// TCP segments that the sender sent again; 0 for UDP.
    pub retransmits: u64,
    /// The fraction of UDP datagrams that did not arrive; 0 for TCP.
    pub udp_loss: f64,
    /// The receiver's progress, including the time of `omit`.
    pub intervals: Vec<Interval>,
}

/// A step of a run at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Its begin in seconds since the start of the run.
    pub start: f64,
    /// Its end likewise.
    pub end: f64,
    /// The bytes of payload that arrived.
    pub bytes: u64,
    /// Whether it belongs to the time of `omit`.
    pub omitted: bool,
}

impl Interval {
    /// The goodput in bit/s.
    pub fn bps(&self) -> f64 {
        self.bytes as f64 * 8.0 / (self.end - self.start).max(1e-6)
    }
}

impl Iperf {
    /// One TCP (cubic) connection over IPv4 for so long.
    pub fn tcp(seconds: u32) -> Self {
        Self {
            seconds,
            omit: 0,
            parallel: 1,
            reverse: false,
            udp_bps: None,
            udp_length: 1_200,
            family: Family::V4,
            congestion: "cubic".into(),
            port: 5201,
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// UDP at this rate in bit/s of payload, for so long.
    pub fn udp(bps: u64, seconds: u32) -> Self {
        Self { udp_bps: Some(bps), ..Self::tcp(seconds) }
    }

    /// Leaves the first seconds out of the figures.
    pub fn omit(mut self, seconds: u32) -> Self {
        self.omit = seconds;
        self
    }

    /// So many connections at once.
    pub fn parallel(mut self, connections: u32) -> Self {
        self.parallel = connections;
        self
    }

    /// The server sends.
    pub fn reverse(mut self) -> Self {
        self.reverse = true;
        self
    }

    /// With this congestion control, as the kernel calls it.
    pub fn congestion(mut self, name: &str) -> Self {
        self.congestion = name.to_owned();
        self
    }

    /// Over this version of IP.
    pub fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// With another port, for runs at the same time.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Runs it between the lab's client and server. It ends within its duration and a bounded time
    /// for the rest, or fails.
    pub fn run(&self, lab: &Lab) -> Result<IperfReport> {
        self.run_between(lab.client(), lab.server(), lab.server_address(self.family))
    }

    /// Runs it from one namespace to a server in another one, which has this address.
    pub fn run_between(&self, client: &Namespace, server: &Namespace, to: IpAddr) -> Result<IperfReport> {
        let limit = Duration::from_secs((self.seconds + self.omit).into()) + SLACK;
        let server = self.start_server(server)?;
        let mut client = client.command("iperf3");
        client.args(["-J", "-i", "0.1", "-t", &self.seconds.to_string()]);
        client.args(["-c", &to.to_string()]);
        client.args(["-p", &self.port.to_string(), "-O", &self.omit.to_string()]);
        client.args(["-P", &self.parallel.to_string()]);
        client.args(["--connect-timeout", &self.connect_timeout.as_millis().to_string()]);
        if self.reverse {
            client.arg("-R");
        }
        match self.udp_bps {
            Some(bps) => {
                let length = self.udp_length.to_string();
                client.args(["-u", "-b", &bps.to_string(), "-l", &length])
            }
            None => client.args(["-C", &self.congestion]),
        };
        let client = process::output_within(&mut client, "", limit).context("iperf3 client")?;
        let client = read_json(&client.stdout).context("iperf3 client")?;
        let server = process::collect(server, SLACK).context("iperf3 server")?;
        let server = read_json(&server.stdout).context("iperf3 server")?;
        let (sender, receiver) = if self.reverse { (server, client) } else { (client, server) };
        report(&sender, &receiver, self.omit)
    }

    /// Starts a server for one run and waits until it listens.
    fn start_server(&self, namespace: &Namespace) -> Result<Started> {
        let port = self.port.to_string();
        let mut command = namespace.quiet_command("iperf3");
        command.args(["-s", "-1", "-J", "-i", "0.1", "-p", &port]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = Started(command.spawn().context("starting the iperf3 server")?);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if listens(namespace, self.port)? {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the iperf3 server does not listen on port {port}")
    }
}

/// Whether a TCP socket listens on the port.
fn listens(namespace: &Namespace, port: u16) -> Result<bool> {
    let tables = namespace.enter(|| -> std::io::Result<String> {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        Ok(read("tcp")? + &read("tcp6")?)
    })??;
    // Local address and port, then the remote ones, then state 0A, LISTEN.
    let local = format!(":{port:04X}");
    Ok(tables.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|field| field.ends_with(&local)) && fields.get(3) == Some(&"0A")
    }))
}

fn read_json(text: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(text).context("its output is not JSON")?;
    // A server notes the loss of its control connection even after a run that was whole.
    match value.get("error").and_then(Value::as_str) {
        Some(error) if value["intervals"].as_array().is_none_or(Vec::is_empty) => {
            bail!("{error}")
        }
        _ => Ok(value),
    }
}

fn report(sender: &Value, receiver: &Value, omit: u32) -> Result<IperfReport> {
    let mut intervals: Vec<Interval> = receiver["intervals"]
        .as_array()
        .context("the receiver's output has no intervals")?
        .iter()
        .filter_map(|interval| read_interval(&interval["sum"], f64::from(omit)))
        .collect();
    take_back_the_last_omitted(&mut intervals);
    let counted = || intervals.iter().filter(|interval| !interval.omitted);
    let seconds: f64 = counted().map(|interval| interval.end - interval.start).sum();
    let bytes: u64 = counted().map(|interval| interval.bytes).sum();
    ensure!(seconds > 0.0, "the receiver measured no time");
    let lost_percent = receiver["end"]["sum"]["lost_percent"].as_f64();
    Ok(IperfReport {
        goodput_bps: bytes as f64 * 8.0 / seconds,
        retransmits: sender["end"]["sum_sent"]["retransmits"].as_u64().unwrap_or(0),
        udp_loss: lost_percent.unwrap_or(0.0) / 100.0,
        intervals,
    })
}

/// If an interval ends in the moment in which iperf3 begins to count, iperf3 says that it counts, with all its bytes and next
/// to no time.
fn take_back_the_last_omitted(intervals: &mut [Interval]) {
    let Some(first) = intervals.iter().position(|interval| !interval.omitted).filter(|&first| first > 0)
    else {
        return;
    };
    let last = intervals[first - 1];
    let next = &mut intervals[first];
    if next.end - next.start < NO_TIME {
        *next = Interval { start: last.end, end: 2.0 * last.end - last.start, omitted: true, ..*next };
    }
}

fn read_interval(sum: &Value, omit: f64) -> Option<Interval> {
    let omitted = sum["omitted"].as_bool()?;
    // iperf3 counts its seconds anew after the time it omits.
    let before = if omitted { 0.0 } else { omit };
    Some(Interval {
        start: before + sum["start"].as_f64()?,
        end: before + sum["end"].as_f64()?,
        bytes: sum["bytes"].as_u64()?,
        omitted,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What iperf3 3.12 says if the third interval ends as it begins to count, and if not.
    #[test]
    fn what_arrived_before_the_count_does_not_count() {
        let interval = |(omitted, start, end): (bool, f64, f64)| json!({ "sum": { "omitted": omitted, "start": start, "end": end, "bytes": 1_000 } });
        let given = |third| {
            let steps = [(true, 0.0, 0.1), (true, 0.1, 0.2), third, (false, 0.1, 0.2), (false, 0.2, 0.3)];
            report(&json!({}), &json!({ "intervals": steps.map(interval) }), 1).unwrap()
        };
        for (third, counted) in [((false, 0.0999, 0.1), 2), ((false, 0.0, 0.1), 3), ((true, 0.2, 0.3), 2)] {
            let report = given(third);
            assert!((report.goodput_bps - 80_000.0).abs() < 1.0, "{report:?}");
            assert_eq!(report.intervals.iter().filter(|interval| !interval.omitted).count(), counted);
            assert_eq!(report.intervals.iter().map(|interval| interval.bytes).sum::<u64>(), 5_000);
        }
        let taken_back = given((false, 0.0999, 0.1)).intervals[2];
        assert!(
            (taken_back.start - 0.2).abs() < 1e-9 && (taken_back.end - 0.3).abs() < 1e-9,
            "{taken_back:?}"
        );
    }
}
