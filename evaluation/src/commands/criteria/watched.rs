//! What those who read the status page cost the others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{ScopedJoinHandle, scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use evaluation::http;
use evaluation::iperf::{Iperf, IperfReport};
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::netns::Namespace;
use evaluation::ping::Ping;
use evaluation::portal::{Pair, PairOptions};
use evaluation::stats;
use evaluation::wan::Direction;

use super::{Plan, Row, WARM_UP, iperf};

/// Where both portals serve their pages.
const PAGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8475);
/// What each reader asks both portals for every second.
const PATHS: [&str; 3] = ["/", "/metrics", "/status.json"];
const READERS: usize = 2;

/// Turns of each kind for a run of the plan, in one connection: what differs from connection to connection is in none.
const TURNS: usize = 3;
/// Until what changed with the turn has reached the other end, seconds.
const SETTLED: f64 = 0.5;

/// What the turns of one kind brought.
#[derive(Default)]
struct Turns {
    /// From when to when, on the connection's clock, seconds.
    spans: Vec<(f64, f64)>,
    /// Round trips beside it, ms.
    rtts: Vec<f64>,
}

/// One connection, by turns without readers and with them, and what these cost of the processor.
pub(super) fn watched(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&vec![LinkSpec::mbit(50.0).delay_ms(20.0); 2])?;
    let options = PairOptions { host_lines: vec![format!("Status = {PAGE}")], ..PairOptions::default() };
    let mut pair = Pair::start_connected(&lab, &options)?;
    pair.wait_all_up(Duration::from_secs(10))?;
    let processor = processor(plan, &lab, &mut pair)?;
    let turn = plan.seconds / 2;
    let turns = 2 * TURNS * plan.runs;
    // A second more: a turn takes a little longer than its pings.
    let flow = Iperf { seconds: (turn + 1) * turns as u32, ..iperf(plan, Direction::Up, 1) };
    let kinds = &mut [Turns::default(), Turns::default()];
    let report = scope(|scope| {
        let (begun, flow) = (Instant::now(), scope.spawn(|| flow.run(&lab)));
        sleep(Duration::from_secs(WARM_UP.into()));
        for number in 0..turns {
            let ping = || Ping::times(turn * 50).run(lab.client(), lab.server_address(Family::V4));
            let from = begun.elapsed().as_secs_f64() + SETTLED;
            let rtts = if number % 2 == 0 { ping()? } else { read_during(&lab, ping)?? }.rtts_ms();
            kinds[number % 2].rtts.extend(rtts);
            kinds[number % 2].spans.push((from, begun.elapsed().as_secs_f64()));
        }
        joined(flow)
    })?;
    pair.stop()?;
    let [without, with] = kinds;
    let [mbit_without, mbit_with] = [mbit(without, &report)?, mbit(with, &report)?];
    let later = |percent| {
        let [without, with] = [&without, &with].map(|turns| stats::percentile(&turns.rtts, percent));
        Ok::<_, anyhow::Error>(with.context("no replies")? - without.context("no replies")?)
    };
    let what = format!(
        "two readers ask both portals for all that `Status` has: one connection over two links of 50 Mbit/s, \
         40 ms, {mbit_with:.1} Mbit/s, of that without"
    );
    Ok(vec![
        Row::at_least(what, 100.0 * mbit_with / mbit_without, 97.0, "%"),
        Row::at_most("… ping beside it, median, longer by", later(50.0)?, 2.0, "ms"),
        Row::at_most("… ping beside it, 95th percentile, longer by", later(95.0)?, 2.0, "ms"),
        Row::at_most("… processor time of the local portal, idle otherwise", processor, 2.0, "%"),
    ])
}

/// Median Mbit/s over the turns.
fn mbit(turns: &Turns, report: &IperfReport) -> Result<f64> {
    let of = |&(from, to): &(f64, f64)| {
        let within = report.intervals.iter().filter(|step| step.start >= from && step.end <= to);
        let (bytes, seconds) = within
            .fold((0, 0.0), |(bytes, seconds), step| (bytes + step.bytes, seconds + step.end - step.start));
        8e-6 * bytes as f64 / seconds
    };
    stats::median(&turns.spans.iter().map(of).collect::<Vec<_>>()).context("no turns")
}

/// How much of a processor the idle local portal uses more while it is read, per cent.
fn processor(plan: &Plan, lab: &Lab, pair: &mut Pair<'_>) -> Result<f64> {
    let seconds = f64::from(plan.seconds);
    let mut used = |read: bool| {
        let before = pair.local()?.cpu_seconds()?;
        let wait = || sleep(Duration::from_secs_f64(seconds));
        if read {
            read_during(lab, wait)?
        } else {
            wait()
        }
        Ok::<_, anyhow::Error>(100.0 * (pair.local()?.cpu_seconds()? - before) / seconds)
    };
    // In this order what the portal still does after its start counts against it.
    Ok(used(true)? - used(false)?)
}

/// Does `work` while the readers read; an error if they were not answered.
fn read_during<T>(lab: &Lab, work: impl FnOnce() -> T) -> Result<T> {
    scope(|scope| {
        let (ends, readers): (Vec<_>, Vec<_>) = (0..READERS)
            .map(|_| {
                let (end, ended) = channel::<()>();
                (end, scope.spawn(move || read([lab.local(), lab.remote()], &ended)))
            })
            .unzip();
        let done = work();
        drop(ends);
        readers.into_iter().try_for_each(joined)?;
        Ok(done)
    })
}

/// Reads everything once a second until the other end of `ended` is gone.
fn read(portals: [&Namespace; 2], ended: &Receiver<()>) -> Result<()> {
    while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
        for portal in portals {
            for path in PATHS {
                http::get(portal, PAGE, path)?;
            }
        }
    }
    Ok(())
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
