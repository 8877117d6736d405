//! A load, a ping and a call while links change by a script, and what was seen of it over time.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::datagrams::{DatagramFlow, DatagramReport};
use crate::lab::Lab;
use crate::load::{Ends, Load, LoadReport};
use crate::ping::Ping;
use crate::stats;
use crate::stream::Progress;
use crate::tcp_counters::TcpCounters;
use crate::wan::Direction;

/// How often the wires are looked at; the length of the steps of the series.
pub const STEP: Duration = Duration::from_millis(100);

/// The time between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(50);

/// The time over which a rate counts as a rate.
const RATE_WINDOW: Duration = Duration::from_millis(300);

/// Longer than a packet is under way through a tunnel that keeps its queue short.
const UNDER_WAY: Duration = Duration::from_millis(100);

/// What happens to a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Its interface loses the carrier (`false`) or has it again.
    Carrier(bool),
    /// It is a silent black hole (`true`) or a wire again.
    Hole(bool),
    /// The same in one direction only.
    HoleIn(Direction, bool),
    /// It has another rate, in Mbit/s.
    Rate(f64),
}

/// A change of a link at a time after the load's start, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: f64,
    /// Which link.
    pub link: usize,
    /// What.
    pub change: Change,
}

/// What runs, and what happens meanwhile.
#[derive(Clone, Debug)]
pub struct Script {
    /// The load.
    pub load: Load,
    /// Its direction.
    pub direction: Direction,
    /// The changes, in order of time.
    pub events: Vec<Event>,
    /// How long it runs.
    pub seconds: f64,
}

/// What was seen. Times are seconds since the load's start.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// What arrived of the load in each step of 100 ms, in Mbit/s of its payload.
    pub goodput_mbit: Vec<f64>,
    /// What each link carried in the load's direction in each such step, in Mbit/s of IP packets.
    pub links_mbit: Vec<Vec<f64>>,
    /// When each ping was sent, and its round trip in ms. Lost ones are not there.
    pub pings: Vec<(f64, f64)>,
    /// The call in the load's direction.
    pub call: DatagramReport,
    /// What the kernel of the load's sender had counted at the start, before each event, and at the end.
    pub tcp: Vec<(f64, TcpCounters)>,
    #[serde(skip)]
    progress: Progress,
}

impl Event {
    /// What happens, in words.
    pub fn describe(&self) -> String {
        let Self { link, change, .. } = self;
        match change {
            Change::Carrier(false) => format!("link {link} loses its carrier"),
            Change::Hole(true) => format!("link {link} is a black hole"),
            Change::HoleIn(direction, true) => format!("link {link} is a black hole {direction}"),
            Change::Carrier(true) | Change::Hole(false) | Change::HoleIn(_, false) => {
                format!("link {link} is back")
            }
            Change::Rate(mbit) => format!("link {link} at {mbit} Mbit/s"),
        }
    }

    fn apply(&self, lab: &Lab) -> Result<()> {
        let wire = lab.wire(self.link);
        match self.change {
            Change::Carrier(carrier) => wire.carrier(carrier)?,
            Change::Hole(hole) => wire.cut(hole),
            Change::HoleIn(direction, hole) => wire.change(direction, |wire| wire.cut = hole),
            Change::Rate(mbit) => wire.change_both(|wire| wire.rate_bps = (mbit * 1e6) as u64),
        }
        Ok(())
    }
}

impl Script {
    /// Runs it between the lab's client and server. A link that an event changed stays so.
    pub fn run(&self, lab: &Lab) -> Result<Trace> {
        let ends = Ends::of(lab);
        let (sender, receiver, address) = ends.towards(self.direction);
        let running = self.load.start(&ends, self.direction)?;
        let call = DatagramFlow::default().start(sender, receiver, address)?;
        let begun = Instant::now();
        let wires =
            || lab.wan().wires().iter().map(|wire| wire.counters(self.direction).bytes).collect::<Vec<_>>();
        let mut looks = vec![(begun.elapsed(), wires())];
        let mut tcp = vec![(0.0, TcpCounters::of(sender)?)];
        let seconds = |time: Duration| time.as_secs_f64();
        let end = Duration::from_secs_f64(self.seconds);
        let ping = Ping {
            interval: PING_INTERVAL,
            ..Ping::times((end.as_millis() / PING_INTERVAL.as_millis()).max(1) as u32)
        };
        let replies = thread::scope(|scope| -> Result<_> {
            let pinging = scope.spawn(|| ping.run(ends.client, ends.server_address));
            let mut events = self.events.iter().peekable();
            while begun.elapsed() < end {
                let next = STEP * looks.len() as u32;
                while let Some(event) = events.next_if(|event| event.at <= seconds(next)) {
                    sleep(Duration::from_secs_f64(event.at).saturating_sub(begun.elapsed()));
                    tcp.push((event.at, TcpCounters::of(sender)?));
                    event.apply(lab)?;
                }
                sleep(next.saturating_sub(begun.elapsed()));
                looks.push((begun.elapsed(), wires()));
            }
            tcp.push((seconds(begun.elapsed()), TcpCounters::of(sender)?));
            let report = pinging.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(report.replies)
        })?;
        let LoadReport { progress, .. } = running.stop();
        if let Some(fault) = &progress.fault {
            bail!("{}: {fault}", self.load);
        }
        let steps = progress.steps_bps(STEP).into_iter().take(looks.len() - 1);
        let sent = |number: u32| seconds(PING_INTERVAL * number.saturating_sub(1));
        Ok(Trace {
            goodput_mbit: steps.map(|bps| bps / 1e6).collect(),
            links_mbit: rates(&looks),
            pings: replies.into_iter().map(|(number, rtt)| (sent(number), rtt)).collect(),
            call: call.stop(),
            tcp,
            progress,
        })
    }
}

/// What each link carried between the looks, in Mbit/s.
fn rates(looks: &[(Duration, Vec<u64>)]) -> Vec<Vec<f64>> {
    let links = looks.first().map_or(0, |look| look.1.len());
    let of_link = |link: usize| {
        let steps = looks.windows(2).map(|pair| {
            let time = pair[1].0.saturating_sub(pair[0].0).as_secs_f64();
            (pair[1].1[link] - pair[0].1[link]) as f64 * 8.0 / 1e6 / time.max(1e-6)
        });
        steps.collect()
    };
    (0..links).map(of_link).collect()
}

impl Trace {
    /// The longest time in which nothing of the load arrived, in ms, between two times.
    pub fn longest_gap_ms(&self, from: f64, to: f64) -> f64 {
        self.progress.longest_gap(time(from), time(to)).as_secs_f64() * 1e3
    }

    /// What arrived between two times, in Mbit/s.
    pub fn mbit(&self, from: f64, to: f64) -> f64 {
        self.progress.goodput_bps(time(from), time(to)) / 1e6
    }

    /// How long after `from` the last 300 ms have brought this rate for the first time, in seconds.
    pub fn reached_after(&self, from: f64, mbit: f64) -> Option<f64> {
        let window = RATE_WINDOW.as_secs_f64();
        let last = ((self.progress.watched.as_secs_f64() - from - window) * 100.0) as u32;
        let ends = (0..last).map(|step| window + f64::from(step) / 100.0);
        ends.into_iter().find(|after| self.mbit(from + after - window, from + after) >= mbit)
    }

    /// The slowest whole second between two times, in Mbit/s.
    pub fn slowest_second_mbit(&self, from: f64, to: f64) -> f64 {
        let last = ((to - from - 1.0) * 10.0).max(0.0) as u32;
        let starts = (0..=last).map(|step| from + f64::from(step) / 10.0);
        starts.map(|start| self.mbit(start, start + 1.0)).fold(f64::INFINITY, f64::min)
    }

    /// A percentile of the round trips of pings sent between two times, in ms. A ping without a reply took
    /// for ever.
    pub fn ping_percentile_ms(&self, from: f64, to: f64, percent: f64) -> Option<f64> {
        let sent = ((to - from) / PING_INTERVAL.as_secs_f64()) as usize;
        let within = self.pings.iter().filter(|(at, _)| (from..to).contains(at));
        let mut rtts: Vec<f64> = within.map(|(_, rtt)| *rtt).collect();
        rtts.resize(rtts.len().max(sent), f64::MAX);
        stats::percentile(&rtts, percent)
    }

    /// What the sender's kernel counted from the last look before a time to the first one after another.
    pub fn tcp_between(&self, from: f64, to: f64) -> TcpCounters {
        let before = self.tcp.iter().rev().find(|(at, _)| *at <= from).or(self.tcp.first());
        let after = self.tcp.iter().find(|(at, _)| *at >= to).or(self.tcp.last());
        before.zip(after).map_or(TcpCounters::default(), |(before, after)| after.1 - before.1)
    }

    /// The datagrams of the call that were due from a time on, or under way then, and did not arrive.
    pub fn call_lost(&self, from: f64) -> usize {
        let interval = 1.0 / f64::from(DatagramFlow::default().rate);
        let due = |&(first, count): &(Duration, u32)| {
            (0..count).map(move |n| first.as_secs_f64() + f64::from(n) * interval)
        };
        let lost = self.call.lost_runs.iter().flat_map(due);
        lost.filter(|at| *at >= from - UNDER_WAY.as_secs_f64()).count()
    }
}

fn time(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two seconds at 8 Mbit/s, one at nothing, two at 4 Mbit/s.
    fn trace() -> Trace {
        let bytes_by_ms = [vec![1_000; 2_000], vec![0; 1_000], vec![500; 2_000]].concat();
        let progress = Progress { bytes_by_ms, watched: Duration::from_secs(5), fault: None };
        let counters = |timeouts| TcpCounters { timeouts, ..TcpCounters::default() };
        let call = DatagramReport {
            sent: 250,
            received: 247,
            duplicates: 0,
            reordered: 0,
            longest_gap: Duration::ZERO,
            lost_runs: vec![(Duration::from_secs(1), 1), (Duration::from_secs(3), 2)],
            delays_ms: Vec::new(),
        };
        Trace {
            goodput_mbit: Vec::new(),
            links_mbit: Vec::new(),
            pings: (0..50).filter(|n| *n != 5).map(|n| (f64::from(n) * 0.1, f64::from(n))).collect(),
            call,
            tcp: vec![(0.0, counters(1)), (2.0, counters(1)), (4.0, counters(3)), (5.0, counters(4))],
            progress,
        }
    }

    #[test]
    fn gaps_and_rates_are_found_in_time() {
        let trace = trace();
        assert_eq!(trace.longest_gap_ms(1.0, 5.0), 1_000.0);
        assert_eq!(trace.mbit(0.0, 2.0), 8.0);
        assert_eq!(trace.slowest_second_mbit(1.0, 5.0), 0.0);
        assert_eq!(trace.slowest_second_mbit(3.0, 5.0), 4.0);
        let after = trace.reached_after(2.5, 4.0).unwrap();
        assert!((0.79..=0.81).contains(&after), "{after}");
        assert_eq!(trace.reached_after(2.5, 5.0), None);
    }

    #[test]
    fn events_lie_between_looks() {
        let trace = trace();
        assert_eq!(trace.tcp_between(2.0, 3.0).timeouts, 2);
        assert_eq!(trace.tcp_between(2.0, 5.0).timeouts, 3);
        assert_eq!(trace.call_lost(0.0), 3);
        // The second of the pair was due at 3.02 s.
        assert_eq!(trace.call_lost(3.11), 1);
    }

    #[test]
    fn links_rates_follow_from_looks() {
        let look = |ms, bytes: &[u64]| (Duration::from_millis(ms), bytes.to_vec());
        let rates = rates(&[look(0, &[0, 10]), look(100, &[12_500, 10]), look(300, &[12_500, 25_010])]);
        assert_eq!(rates, [vec![1.0, 0.0], vec![0.0, 1.0]]);
    }
}
