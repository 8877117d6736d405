//! What is measured of one contestant.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::contestant::{Contestant, Running};
use super::packets;
use super::track::Track;
use crate::iperf::Iperf;
use crate::machine::CpuTime;
use crate::ping::Ping;
use crate::wan::Direction;

/// Connections at once.
pub const FLOWS: [u32; 2] = [1, 8];

/// Seconds of a connection that are left out, in which it finds its rate.
const WARM_UP: u32 = 1;

/// Pings of the idle tunnel.
const PINGS: u32 = 100;

/// How often memory is looked at in a long run.
const MEMORY_STEP: Duration = Duration::from_secs(5);

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// How often each contestant has its turn.
    pub rounds: usize,
    /// Seconds of a TCP run.
    pub seconds: u32,
    /// Minutes of full load in the first round, during which memory is watched.
    pub minutes: u32,
    /// Seconds in the first round in which nothing is sent, and processor time is watched.
    pub idle_seconds: u32,
}

/// What a turn brought.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// The median round trip of the idle tunnel in ms.
    pub rtt_ms: f64,
    /// The TCP runs.
    pub tcp: Vec<Tcp>,
    /// Packets of 100 bytes in a second that passed without loss, up, if that was asked for.
    pub small_packets: Option<f64>,
    /// The most resident memory of the local and the remote end in kB.
    pub peak_rss_kb: Option<[u64; 2]>,
    /// Processor time that both ends used without traffic.
    pub idle: Option<Idle>,
    /// What memory they had under long load.
    pub endurance: Option<Endurance>,
}

/// One TCP run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tcp {
    /// Connections at once.
    pub flows: u32,
    /// Up is from the local to the remote host.
    pub direction: Direction,
    /// What arrived, in bit/s of payload.
    pub goodput_bps: f64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Processor seconds of the sending and of the receiving end for each GB (10⁹ bytes) of payload.
    pub cpu_per_gb: Option<[f64; 2]>,
    /// Processor seconds of the whole machine, with the load's programs and the kernel's own threads.
    pub machine_per_gb: f64,
}

/// A time without traffic.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Idle {
    /// How long.
    pub seconds: u32,
    /// Processor seconds of the local and the remote end.
    pub cpu_seconds: [f64; 2],
}

/// A long time of full load.
#[derive(Clone, Debug, Serialize)]
pub struct Endurance {
    /// The goodput in bit/s.
    pub goodput_bps: f64,
    /// Resident memory of the local and the remote end in kB, every five seconds.
    pub rss_kb: Vec<[u64; 2]>,
}

impl Plan {
    /// What a turn takes, about.
    pub fn turn(&self, first: bool) -> Duration {
        let tcp = FLOWS.len() as u32 * 2 * (self.seconds + WARM_UP + 1);
        let once = if first { self.minutes * 60 + self.idle_seconds } else { 0 };
        Duration::from_secs((tcp + 22 + once).into())
    }
}

impl Contestant {
    /// Lets it have its turn on a track of its own.
    pub fn turn(&self, plan: &Plan, first: bool, small: bool) -> Result<Turn> {
        let track = Track::new()?;
        let running = self.start(&track)?;
        let turn = turn(&track, &running, plan, first, small).with_context(|| running.account())?;
        running.stop()?;
        Ok(turn)
    }
}

fn turn(track: &Track, running: &Running, plan: &Plan, first: bool, small: bool) -> Result<Turn> {
    let [local, remote] = track.hosts();
    let ping = Ping { interval: Duration::from_millis(10), ..Ping::times(PINGS) };
    let rtt_ms = ping.run(local, running.address)?.median_ms().context("no reply")?;
    let idle = if first { idle(running, plan.idle_seconds)? } else { None };
    let mut runs = Vec::new();
    for flows in FLOWS {
        for direction in Direction::BOTH {
            runs.push(tcp(track, running, plan.seconds, flows, direction)?);
        }
    }
    let small_packets = || packets::rate_without_loss(local, remote, running.address);
    let small_packets = small.then(small_packets).transpose()?;
    let endurance = if first { endurance(track, running, plan.minutes)? } else { None };
    Ok(Turn { rtt_ms, tcp: runs, small_packets, peak_rss_kb: running.peak_rss_kb()?, idle, endurance })
}

fn tcp(track: &Track, running: &Running, seconds: u32, flows: u32, direction: Direction) -> Result<Tcp> {
    let [local, remote] = track.hosts();
    let mut iperf = Iperf::tcp(seconds).omit(WARM_UP).parallel(flows);
    iperf.reverse = direction == Direction::Down;
    let (before, machine) = (running.cpu_seconds()?, CpuTime::now()?);
    let report = iperf.run_between(local, remote, running.address)?;
    let gigabytes = report.intervals.iter().map(|interval| interval.bytes).sum::<u64>() as f64 / 1e9;
    let machine_per_gb = CpuTime::now()?.busy_seconds_since(&machine)? / gigabytes;
    let cpu_per_gb = before.zip(running.cpu_seconds()?).map(|(before, after)| {
        let [local, remote] = [0, 1].map(|end| (after[end] - before[end]) / gigabytes);
        if direction == Direction::Up { [local, remote] } else { [remote, local] }
    });
    let (goodput_bps, retransmits) = (report.goodput_bps, report.retransmits);
    Ok(Tcp { flows, direction, goodput_bps, retransmits, cpu_per_gb, machine_per_gb })
}

fn idle(running: &Running, seconds: u32) -> Result<Option<Idle>> {
    let before = running.exact_cpu_seconds()?;
    thread::sleep(Duration::from_secs(seconds.into()));
    let after = running.exact_cpu_seconds()?;
    let used = before.zip(after).map(|(before, after)| [0, 1].map(|end| after[end] - before[end]));
    Ok(used.filter(|_| seconds > 0).map(|cpu_seconds| Idle { seconds, cpu_seconds }))
}

fn endurance(track: &Track, running: &Running, minutes: u32) -> Result<Option<Endurance>> {
    if minutes == 0 || running.rss_kb()?.is_none() {
        return Ok(None);
    }
    let [local, remote] = track.hosts();
    let iperf = Iperf::tcp(minutes * 60).omit(WARM_UP).parallel(FLOWS[1]);
    thread::scope(|scope| {
        let load = scope.spawn(|| iperf.run_between(local, remote, running.address));
        let mut rss_kb = Vec::new();
        let mut next = Instant::now() + MEMORY_STEP;
        while !load.is_finished() {
            thread::sleep(Duration::from_millis(100));
            if Instant::now() >= next {
                rss_kb.extend(running.rss_kb()?);
                next += MEMORY_STEP;
            }
        }
        let report = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Some(Endurance { goodput_bps: report.goodput_bps, rss_kb }))
    })
}
