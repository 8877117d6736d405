//! What is measured, and how of one contestant.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
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

/// All are started anew after so many rounds: what one start happens to have, as where its memory lies, is worth some
/// 5 % as long as it lasts, and is to be averaged like other chance.
pub const ROUNDS_OF_ONE_START: usize = 3;

/// Seconds of a connection that are left out, in which it finds its rate.
const WARM_UP: u32 = 1;

/// Pings of the idle tunnel.
const PINGS: u32 = 100;

/// How often memory is looked at in a long run.
const MEMORY_STEP: Duration = Duration::from_secs(5);

/// Congestion control of the TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438. Sends what its window allows.
    Cubic,
    /// Spreads what it sends over time, in smaller pieces.
    Bbr,
}

impl Congestion {
    /// What the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// How thoroughly to measure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Of the TCP connections.
    pub congestion: Congestion,
    /// How often each contestant has its turn of each kind.
    pub rounds: usize,
    /// Seconds of a TCP run.
    pub seconds: u32,
    /// In how many rounds, from the first, small packets are sent too.
    pub small_rounds: usize,
    /// Minutes of full load in the first round, during which memory is watched.
    pub minutes: u32,
    /// Seconds in the first round in which nothing is sent, and processor time is watched.
    pub idle_seconds: u32,
}

/// A measurement, which all contestants have one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heat {
    /// The round trip of the idle tunnel.
    RoundTrip,
    /// Processor time without traffic.
    Idle,
    /// So many TCP connections this way.
    Tcp(u32, Direction),
    /// How many small packets pass, up.
    SmallPackets,
    /// Memory under long load.
    Endurance,
}

/// What a round brought for one contestant.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Turn {
    /// The median round trip of the idle tunnel in ms.
    pub rtt_ms: Option<f64>,
    /// The TCP runs.
    pub tcp: Vec<Tcp>,
    /// Packets of 100 bytes in a second that passed without loss, up.
    pub small_packets: Option<f64>,
    /// The most resident memory that the local and the remote end had so far, in kB.
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

/// A contestant at work, on a track of its own. Dropping it removes both.
#[derive(Debug)]
pub struct Racer {
    // Ends before its track goes.
    running: Running,
    track: Track,
}

impl Plan {
    /// The measurements of a round, which count from 0.
    pub fn heats(&self, round: usize) -> Vec<Heat> {
        let tcp = runs().map(|(flows, way)| Heat::Tcp(flows, way));
        let idle = (round == 0 && self.idle_seconds > 0).then_some(Heat::Idle);
        let small = (round < self.small_rounds).then_some(Heat::SmallPackets);
        let endurance = (round == 0 && self.minutes > 0).then_some(Heat::Endurance);
        [Heat::RoundTrip].into_iter().chain(idle).chain(tcp).chain(small).chain(endurance).collect()
    }

    /// So many TCP connections for so long.
    fn load(&self, seconds: u32, connections: u32) -> Iperf {
        Iperf::tcp(seconds).omit(WARM_UP).parallel(connections).congestion(self.congestion.name())
    }

    /// What one contestant takes for a measurement, about.
    pub fn duration(&self, heat: Heat) -> Duration {
        Duration::from_secs(match heat {
            Heat::RoundTrip => 1,
            Heat::Idle => self.idle_seconds.into(),
            Heat::Tcp(..) => (self.seconds + WARM_UP + 1).into(),
            Heat::SmallPackets => 20,
            Heat::Endurance => u64::from(self.minutes) * 60,
        })
    }
}

impl Idle {
    /// Processor seconds of the end that used more.
    pub fn busier_end(&self) -> f64 {
        self.cpu_seconds.into_iter().fold(0.0, f64::max)
    }
}

impl Turn {
    /// The TCP run of this kind.
    pub fn tcp(&self, flows: u32, direction: Direction) -> Option<&Tcp> {
        self.tcp.iter().find(|run| (run.flows, run.direction) == (flows, direction))
    }

    /// Processor seconds for a GB over one connection, mean of both ways: of the sending end (0) or the receiving
    /// end (1).
    pub fn cpu_per_gb(&self, end: usize) -> Option<f64> {
        self.of_one_connection(|run| Some(run.cpu_per_gb?[end]))
    }

    /// The same of the whole machine.
    pub fn machine_per_gb(&self) -> Option<f64> {
        self.of_one_connection(|run| Some(run.machine_per_gb))
    }

    fn of_one_connection(&self, value: impl Fn(&Tcp) -> Option<f64>) -> Option<f64> {
        let [up, down] = Direction::BOTH.map(|way| value(self.tcp(FLOWS[0], way)?));
        Some((up? + down?) / 2.0)
    }
}

impl Racer {
    /// Builds the track, and starts the contestant on it.
    pub fn start(contestant: &Contestant) -> Result<Self> {
        let track = Track::new()?;
        let running = contestant.start(&track)?;
        Ok(Self { running, track })
    }

    /// Has one measurement, and notes what it brought.
    pub fn run(&self, heat: Heat, plan: &Plan, turn: &mut Turn) -> Result<()> {
        self.measure(heat, plan, turn).with_context(|| self.running.account())
    }

    /// Ends it in good order.
    pub fn stop(self) -> Result<()> {
        self.running.stop()
    }

    fn measure(&self, heat: Heat, plan: &Plan, turn: &mut Turn) -> Result<()> {
        let (running, [local, remote]) = (&self.running, self.track.hosts());
        match heat {
            Heat::RoundTrip => {
                let ping = Ping { interval: Duration::from_millis(10), ..Ping::times(PINGS) };
                turn.rtt_ms = Some(ping.run(local, running.address)?.median_ms().context("no reply")?);
            }
            Heat::Idle => turn.idle = idle(running, plan.idle_seconds)?,
            Heat::Tcp(flows, way) => turn.tcp.push(tcp(&self.track, running, plan, flows, way)?),
            Heat::SmallPackets => {
                turn.small_packets = Some(packets::rate_without_loss(local, remote, running.address)?);
            }
            Heat::Endurance => turn.endurance = endurance(&self.track, running, plan)?,
        }
        turn.peak_rss_kb = running.peak_rss_kb()?;
        Ok(())
    }
}

/// The TCP runs of a round: connections, and which way.
pub(super) fn runs() -> impl Iterator<Item = (u32, Direction)> {
    FLOWS.into_iter().flat_map(|flows| Direction::BOTH.map(|way| (flows, way)))
}

fn tcp(track: &Track, running: &Running, plan: &Plan, flows: u32, direction: Direction) -> Result<Tcp> {
    let [local, remote] = track.hosts();
    let mut iperf = plan.load(plan.seconds, flows);
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
    Ok(used.map(|cpu_seconds| Idle { seconds, cpu_seconds }))
}

fn endurance(track: &Track, running: &Running, plan: &Plan) -> Result<Option<Endurance>> {
    if running.rss_kb()?.is_none() {
        return Ok(None);
    }
    let [local, remote] = track.hosts();
    let iperf = plan.load(plan.minutes * 60, FLOWS[1]);
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
