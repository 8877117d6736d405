//! One run: a load, a ping and a call at once over a route, and what became of them.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::route::OpenRoute;
use crate::datagrams::{DatagramFlow, DatagramReport};
use crate::load::{Load, LoadReport};
use crate::machine::CpuTime;
use crate::ping::{Ping, PingReport};
use crate::quic::QuicCounters;
use crate::stats;
use crate::tcp_counters::TcpCounters;
use crate::wan::{Counters, Direction};

/// The length of a step of the time series.
const STEP: Duration = Duration::from_millis(100);

/// The time between two pings under load.
const PING_INTERVAL: Duration = Duration::from_millis(50);

/// So much before its end a run sends no more pings, so that every reply comes under load.
const LAST_PING: Duration = Duration::from_millis(500);

/// A machine that is busier than this did not only carry, it also held up.
const BUSY: f64 = 0.95;

/// How long a run takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Runs of each cell.
    pub runs: usize,
    /// Seconds of load before anything is measured.
    pub warm_up: u32,
    /// Seconds that are measured.
    pub seconds: u32,
}

/// What a run brought, over the measured seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// What arrived of the load, in bit/s of its payload.
    pub goodput_bps: f64,
    /// The same in steps of 100 ms from the load's start, warm-up included, in Mbit/s.
    pub series_mbit: Vec<f64>,
    /// What the kernel of the load's sender counted.
    pub tcp: TcpCounters,
    /// What a QUIC sender counted, from its handshake on.
    pub quic: Option<QuicCounters>,
    /// Round trips under load.
    pub ping: PingUnderLoad,
    /// The call in the load's direction.
    pub call: Call,
    /// What each link carried in the load's direction.
    pub links: Vec<LinkUse>,
    /// Processor time.
    pub cpu: CpuUse,
    /// What the portals say of themselves after the run, the local one first: totals since the cell's first
    /// run began.
    pub portals: Option<[Value; 2]>,
    /// Why the figures are not to be trusted, if so.
    pub doubts: Vec<String>,
}

/// Round trips under load.
#[derive(Clone, Debug, Serialize)]
pub struct PingUnderLoad {
    /// Each in ms.
    pub rtts_ms: Vec<f64>,
    /// The fraction without a reply.
    pub lost: f64,
}

/// A voice-like flow of 50 datagrams per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Call {
    /// The fraction that did not arrive.
    pub lost: f64,
    /// The fraction that a later one overtook.
    pub reordered: f64,
    /// The longest time between two arrivals, in ms.
    pub longest_gap_ms: f64,
    /// The time on the way in ms: the median.
    pub delay_p50_ms: Option<f64>,
    /// The 95th percentile.
    pub delay_p95_ms: Option<f64>,
    /// The 99th percentile.
    pub delay_p99_ms: Option<f64>,
}

/// What a link did in the load's direction.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LinkUse {
    /// Its rate, in bit/s of IP packets.
    pub rate_bps: f64,
    /// What came through, likewise.
    pub carried_bps: f64,
    /// The emulator's counters over the measured time; the queue's are at its end and the most ever.
    pub wire: Counters,
}

/// Processor time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CpuUse {
    /// The share of the machine's processors that worked.
    pub machine: f64,
    /// Seconds per second of the emulator's thread, with the kernel's work within its sends.
    pub emulator: f64,
    /// Seconds per second of the local and the remote portal.
    pub portals: Option<[f64; 2]>,
}

/// What is looked at before and after the measured time.
struct Look {
    wires: Vec<Counters>,
    tcp: TcpCounters,
    machine: CpuTime,
    emulator: f64,
    portals: Option<[f64; 2]>,
}

impl OpenRoute<'_> {
    /// Runs a load over the route, with a ping and a call.
    pub fn run(&mut self, load: Load, direction: Direction, plan: &Plan) -> Result<Run> {
        let [warm_up, time] = [plan.warm_up, plan.seconds].map(|seconds| Duration::from_secs(seconds.into()));
        let running = load.start(&self.ends, direction).with_context(|| load.to_string())?;
        thread::sleep(warm_up.saturating_sub(running.elapsed()));
        let (from, before) = (running.elapsed(), self.look(direction)?);
        let (sender, receiver, address) = self.ends.towards(direction);
        let call = DatagramFlow::default().start(sender, receiver, address)?;
        let ping = self.ping(time)?;
        thread::sleep((from + time).saturating_sub(running.elapsed()));
        let (to, after) = (running.elapsed(), self.look(direction)?);
        let call = call.stop();
        let LoadReport { progress, quic } = running.stop();
        if let Some(fault) = &progress.fault {
            bail!("{load}: {fault}");
        }
        let links = self.links(direction, to - from, &before, &after);
        let cpu = CpuUse::between(&before, &after, to - from);
        let portals = match &mut self.pair {
            Some(pair) => Some([pair.local()?.show()?, pair.remote()?.show()?]),
            None => None,
        };
        Ok(Run {
            goodput_bps: progress.goodput_bps(from, to),
            series_mbit: progress.steps_bps(STEP).iter().map(|bps| thousandths(bps / 1e6)).collect(),
            tcp: after.tcp - before.tcp,
            quic,
            ping: PingUnderLoad::of(&ping),
            call: Call::of(&call),
            doubts: doubts(&links, &cpu),
            links,
            cpu,
            portals,
        })
    }

    /// Pings for almost so long from the client's side.
    fn ping(&self, time: Duration) -> Result<PingReport> {
        let count = time.saturating_sub(LAST_PING).as_millis() / PING_INTERVAL.as_millis();
        let ping = Ping { interval: PING_INTERVAL, ..Ping::times(count.max(1) as u32) };
        ping.run(self.ends.client, self.ends.server_address)
    }

    fn look(&mut self, direction: Direction) -> Result<Look> {
        let (sender, ..) = self.ends.towards(direction);
        let tcp = TcpCounters::of(sender)?;
        let portals = match &mut self.pair {
            Some(pair) => Some([pair.local()?.cpu_seconds()?, pair.remote()?.cpu_seconds()?]),
            None => None,
        };
        let wan = self.lab.wan();
        let wires = wan.wires().iter().map(|wire| wire.counters(direction)).collect();
        Ok(Look { wires, tcp, machine: CpuTime::now()?, emulator: wan.cpu_seconds(), portals })
    }

    fn links(&self, direction: Direction, time: Duration, before: &Look, after: &Look) -> Vec<LinkUse> {
        let wires = self.lab.wan().wires().iter();
        let each = wires.zip(after.wires.iter().zip(&before.wires)).map(|(wire, (&after, &before))| {
            let counted = after.since(&before);
            LinkUse {
                rate_bps: wire.conditions(direction).rate_bps as f64,
                carried_bps: counted.bytes as f64 * 8.0 / time.as_secs_f64(),
                wire: counted,
            }
        });
        each.collect()
    }
}

impl PingUnderLoad {
    fn of(report: &PingReport) -> Self {
        Self { rtts_ms: report.rtts_ms(), lost: thousandths(report.loss()) }
    }

    /// A percentile of the round trips, in ms.
    pub fn percentile_ms(&self, percent: f64) -> Option<f64> {
        stats::percentile(&self.rtts_ms, percent)
    }
}

impl Call {
    fn of(report: &DatagramReport) -> Self {
        let share = |count: u32| thousandths(f64::from(count) / f64::from(report.sent.max(1)));
        let delay = |percent| report.delay_percentile_ms(percent).map(thousandths);
        Self {
            lost: share(report.lost()),
            reordered: share(report.reordered),
            longest_gap_ms: thousandths(report.longest_gap.as_secs_f64() * 1e3),
            delay_p50_ms: delay(50.0),
            delay_p95_ms: delay(95.0),
            delay_p99_ms: delay(99.0),
        }
    }
}

impl LinkUse {
    /// The share of its rate that came through.
    pub fn share(&self) -> f64 {
        self.carried_bps / self.rate_bps
    }
}

impl CpuUse {
    fn between(before: &Look, after: &Look, time: Duration) -> Self {
        let time = time.as_secs_f64();
        let portals = after.portals.zip(before.portals);
        Self {
            machine: thousandths(after.machine.busy_since(&before.machine)),
            emulator: thousandths((after.emulator - before.emulator) / time),
            portals: portals
                .map(|(after, before)| [0, 1].map(|end| thousandths((after[end] - before[end]) / time))),
        }
    }
}

fn doubts(links: &[LinkUse], cpu: &CpuUse) -> Vec<String> {
    let mut doubts = Vec::new();
    if cpu.machine > BUSY {
        doubts.push(format!("the machine was {:.0} % busy", cpu.machine * 100.0));
    }
    let faults: u64 = links.iter().map(|link| link.wire.dropped_fault).sum();
    if faults > 0 {
        doubts.push(format!("the emulator failed to carry {faults} packets"));
    }
    doubts
}

/// To three digits after the point, so that files stay small.
fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
