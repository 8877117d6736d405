//! A thin flow of small UDP datagrams, as a telephone call makes it: what is lost, for how long
//! nothing comes, and how long the way takes.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::netns::Namespace;
use crate::stats;

/// How long the receiver goes on after the last datagram was sent.
const TAIL: Duration = Duration::from_millis(700);

/// The sequence number and the time of sending, both in network order.
const HEADER: usize = 4 + 8;

/// What such a flow is like.
#[derive(Clone, Copy, Debug)]
pub struct DatagramFlow {
    /// Datagrams in a second.
    pub rate: u32,
    /// Bytes of payload in each, at least 12.
    pub size: usize,
}

impl Default for DatagramFlow {
    /// A G.711 call: 50 datagrams in a second, 172 bytes each.
    fn default() -> Self {
        Self { rate: 50, size: 172 }
    }
}

/// A flow that runs until [`stop`](Self::stop).
#[derive(Debug)]
pub struct RunningDatagrams {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU32>,
    start: Instant,
    interval: Duration,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<Vec<Arrival>>>,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    sequence: u32,
    at: Duration,
    delay: Duration,
}

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatagramReport {
    /// Datagrams sent.
    pub sent: u32,
    /// Different datagrams that arrived.
    pub received: u32,
    /// Further copies of these.
    pub duplicates: u32,
    /// Datagrams that arrived after one that was sent later.
    pub reordered: u32,
    /// The longest time between two arrivals, from the flow's start to the end of its last
    /// interval.
    pub longest_gap: Duration,
    /// The runs of lost datagrams: the time at which the first was due, and how many.
    pub lost_runs: Vec<(Duration, u32)>,
    /// The time on the way, in ms, of each that arrived.
    pub delays_ms: Vec<f64>,
}

impl DatagramReport {
    /// Datagrams that never arrived.
    pub fn lost(&self) -> u32 {
        self.sent - self.received
    }

    /// A percentile of the time on the way, in ms.
    pub fn delay_percentile_ms(&self, percent: f64) -> Option<f64> {
        stats::percentile(&self.delays_ms, percent)
    }
}

impl DatagramFlow {
    /// Starts the flow: threads of this process send from one namespace to an address of the
    /// other one.
    pub fn start(self, from: &Namespace, to: &Namespace, address: IpAddr) -> Result<RunningDatagrams> {
        anyhow::ensure!(self.rate > 0 && self.size >= HEADER, "no such flow: {self:?}");
        let target = to
            .enter(|| UdpSocket::bind((address, 0)))?
            .with_context(|| format!("{}: receiving datagrams at {address}", to.name()))?;
        target.set_read_timeout(Some(Duration::from_millis(20)))?;
        let destination = target.local_addr()?;
        let any: SocketAddr = if address.is_ipv4() { ([0u8; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let source = from.enter(|| UdpSocket::bind(any))??;
        source.set_nonblocking(true)?;

        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU32::new(0));
        let start = Instant::now();
        let interval = Duration::from_secs(1) / self.rate;
        let sender = {
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            std::thread::Builder::new().name("datagrams-out".into()).spawn(move || {
                let mut datagram = vec![0; self.size];
                while !stop.load(Ordering::Relaxed) {
                    let sequence = sent.load(Ordering::Relaxed);
                    std::thread::sleep((interval * sequence).saturating_sub(start.elapsed()));
                    datagram[..4].copy_from_slice(&sequence.to_be_bytes());
                    let now = start.elapsed().as_nanos() as u64;
                    datagram[4..HEADER].copy_from_slice(&now.to_be_bytes());
                    // One that the system refuses counts as lost.
                    let _ = source.send_to(&datagram, destination);
                    sent.store(sequence + 1, Ordering::Release);
                }
            })?
        };
        let receiver = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                .name("datagrams-in".into())
                .spawn(move || receive(&target, &stop, start))?
        };
        Ok(RunningDatagrams { stop, sent, start, interval, sender: Some(sender), receiver: Some(receiver) })
    }
}

impl RunningDatagrams {
    /// The time since the flow's start, on the clock of its report.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the flow, waits for what is under way, and reports.
    pub fn stop(mut self) -> DatagramReport {
        let arrivals = self.finish();
        report(self.sent.load(Ordering::Acquire), self.interval, &arrivals)
    }

    fn finish(&mut self) -> Vec<Arrival> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(sender) = self.sender.take() {
            // Neither thread has a way to panic.
            let _ = sender.join();
        }
        self.receiver.take().and_then(|receiver| receiver.join().ok()).unwrap_or_default()
    }
}

impl Drop for RunningDatagrams {
    fn drop(&mut self) {
        self.finish();
    }
}

fn receive(socket: &UdpSocket, stop: &AtomicBool, start: Instant) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    let mut buffer = [0; 65_536];
    let mut end = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            let end = *end.get_or_insert_with(|| Instant::now() + TAIL);
            if Instant::now() >= end {
                return arrivals;
            }
        }
        match socket.recv(&mut buffer) {
            Ok(length) if length >= HEADER => {
                let at = start.elapsed();
                let (sequence, rest) = buffer.split_at(4);
                let number = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                let sent = Duration::from_nanos(number(&rest[..8]));
                let delay = at.saturating_sub(sent);
                arrivals.push(Arrival { sequence: number(sequence) as u32, at, delay });
            }
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                // An error of an earlier datagram; do not spin on one that stays.
                std::thread::sleep(Duration::from_millis(1));
            }
            _ => {}
        }
    }
}

fn report(sent: u32, interval: Duration, arrivals: &[Arrival]) -> DatagramReport {
    let mut seen = BTreeSet::new();
    let mut report = DatagramReport {
        sent,
        received: 0,
        duplicates: 0,
        reordered: 0,
        longest_gap: Duration::ZERO,
        lost_runs: Vec::new(),
        delays_ms: Vec::new(),
    };
    let mut last = Duration::ZERO;
    for arrival in arrivals {
        if !seen.insert(arrival.sequence) {
            report.duplicates += 1;
            continue;
        }
        report.reordered += u32::from(seen.last() != Some(&arrival.sequence));
        report.longest_gap = report.longest_gap.max(arrival.at - last);
        last = arrival.at;
        report.delays_ms.push(arrival.delay.as_secs_f64() * 1e3);
    }
    report.received = seen.len() as u32;
    report.longest_gap = report.longest_gap.max((interval * sent).saturating_sub(last));
    let mut run = 0;
    for sequence in 0..=sent {
        if sequence < sent && !seen.contains(&sequence) {
            run += 1;
        } else if run > 0 {
            report.lost_runs.push((interval * (sequence - run), run));
            run = 0;
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_gaps_and_reordering_are_told_apart() {
        let ms = Duration::from_millis;
        let at = |sequence, time| Arrival { sequence, at: ms(time), delay: ms(5) };
        let arrivals = [at(0, 5), at(2, 45), at(1, 46), at(1, 47), at(6, 125)];
        let report = report(8, ms(20), &arrivals);
        assert_eq!((report.received, report.lost()), (4, 4));
        assert_eq!((report.duplicates, report.reordered), (1, 1));
        assert_eq!(report.longest_gap, ms(79));
        assert_eq!(report.lost_runs, [(ms(60), 3), (ms(140), 1)]);
        assert_eq!(report.delay_percentile_ms(50.0), Some(5.0));
    }
}
