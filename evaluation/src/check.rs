//! Is the emulator true? Each check builds a lab, measures with other people's tools or from
//! outside, and says whether a promise holds.
//!
//! The checks need a quiet machine: when others keep its processors busy, `ping` and the kernel
//! answer late, and that is measured too.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::datagrams::DatagramFlow;
use crate::iperf::{Interval, Iperf};
use crate::lab::{Family, Lab};
use crate::link::LinkSpec;
use crate::ping::Ping;
use crate::stats;
use crate::stream::WatchedStream;
use crate::wan::{Direction, GilbertElliott, Loss};

/// One check.
pub struct Check {
    /// Its name, one word.
    pub name: &'static str,
    /// What should hold.
    pub promise: &'static str,
    /// Builds a lab, measures, and removes it again.
    pub run: fn() -> Result<Finding>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Whether the promise holds.
    pub holds: bool,
    /// The figures.
    pub measured: String,
}

/// All checks.
pub const ALL: [Check; 9] = [
    Check { name: "delay", promise: "ping sees the delay that was set, within 0.5 ms", run: delay },
    Check {
        name: "goodput",
        promise: "one cubic connection gets 94.5 to 97.5 % of the IP rate",
        run: goodput,
    },
    Check { name: "queue", promise: "a full queue of 100 ms delays by 100 ms", run: queue },
    Check { name: "loss", promise: "random loss is within four standard deviations of its rate", run: loss },
    Check { name: "bursts", promise: "loss in bursts has its share", run: bursts },
    Check {
        name: "cut",
        promise: "a cut swallows everything for its time, and what follows arrives",
        run: cut,
    },
    Check { name: "rate-change", promise: "a new rate counts at once, within 2 %", run: rate_change },
    Check { name: "carrier", promise: "the local portal's system sees a carrier go and come", run: carrier },
    Check {
        name: "total",
        promise: "4 links of 100 Mbit/s at once, with processor time to spare",
        run: total,
    },
];

/// The share of a link's IP rate that TCP with timestamps has as payload: 1,448 of 1,500 bytes.
const TCP_SHARE: std::ops::RangeInclusive<f64> = 0.945..=0.975;

fn dsl() -> LinkSpec {
    LinkSpec::mbit(50.0).delay_ms(20.0)
}

fn delay() -> Result<Finding> {
    let lab = Lab::new(&[dsl(), LinkSpec::mbit(20.0).delay_ms(3.0)])?;
    let mut errors = Vec::new();
    let ping = Ping::times(100);
    for (link, set) in [(0, 40.0), (1, 6.0)] {
        lab.route_directly(link)?;
        for family in Family::BOTH {
            let report = ping.run(lab.client(), lab.server_address(family))?;
            errors.push(report.median_ms().context("no reply at all")? - set);
        }
    }
    let listed: Vec<String> = errors.iter().map(|error| format!("{error:+.2}")).collect();
    Ok(Finding {
        holds: errors.iter().all(|error| (0.0..=0.5).contains(error)),
        measured: format!(
            "median round trips are {} ms from 40 (IPv4, IPv6) and 6 ms (IPv4, IPv6); \
             real-time priority: {}",
            listed.join(", "),
            lab.wan().real_time()
        ),
    })
}

fn goodput() -> Result<Finding> {
    let lab = Lab::new(&[dsl()])?;
    let mut shares = Vec::new();
    for iperf in [Iperf::tcp(6).omit(3), Iperf::tcp(6).omit(3).reverse()] {
        shares.push(iperf.run(&lab)?.goodput_bps / 50e6);
    }
    Ok(Finding {
        holds: shares.iter().all(|share| TCP_SHARE.contains(share)),
        measured: format!("{:.2} % of 50 Mbit/s up, {:.2} % down", shares[0] * 100.0, shares[1] * 100.0),
    })
}

fn queue() -> Result<Finding> {
    let lab = Lab::new(&[dsl()])?;
    let ping = Ping { count: 100, interval: Duration::from_millis(30), ..Ping::default() };
    let report = std::thread::scope(|scope| {
        let flood = scope.spawn(|| Iperf::udp(100_000_000, 5).run(&lab));
        sleep(Duration::from_secs(1));
        let report = ping.run(lab.client(), lab.server_address(Family::V4));
        // Half of the flood is lost, its results may be too: the flood was all that mattered.
        drop(flood.join());
        report
    })?;
    let median = report.median_ms().context("no reply at all")?;
    let counters = lab.wire(0).counters(Direction::Up);
    let most = counters.queued_bytes_max as f64 * 8.0 / 50e6 * 1e3;
    Ok(Finding {
        holds: (138.0..=142.0).contains(&median) && most <= 100.0 && counters.dropped_queue > 0,
        measured: format!(
            "median round trip {median:.1} ms of 40 + 100; at most {most:.1} ms queued; \
             {} packets dropped there",
            counters.dropped_queue
        ),
    })
}

fn loss() -> Result<Finding> {
    let share = 0.02;
    let (seen, sent) = lost_share(Loss::Random(share))?;
    let deviation = (share * (1.0 - share) / sent).sqrt();
    Ok(Finding {
        holds: (seen - share).abs() <= 4.0 * deviation,
        measured: format!(
            "{:.3} % of {sent} datagrams lost, set 2 ± {:.3} %",
            seen * 100.0,
            deviation * 100.0
        ),
    })
}

fn bursts() -> Result<Finding> {
    let (share, run) = (0.03, 6.0);
    let (seen, sent) = lost_share(Loss::Burst(GilbertElliott::with_runs(share, run)))?;
    // Losses of one burst hang together: there are fewer independent ones, by about 2·run.
    let deviation = (share * (1.0 - share) * 2.0 * run / sent).sqrt();
    Ok(Finding {
        holds: (seen - share).abs() <= 4.0 * deviation,
        measured: format!(
            "{:.2} % of {sent} datagrams lost, set 3 ± {:.2} %",
            seen * 100.0,
            deviation * 100.0
        ),
    })
}

/// The share of datagrams that a receiver misses, and how many the wire was given.
fn lost_share(loss: Loss) -> Result<(f64, f64)> {
    let lab = Lab::new(&[dsl()])?;
    lab.wire(0).change(Direction::Up, |conditions| conditions.loss = loss);
    let report = Iperf::udp(30_000_000, 5).run(&lab)?;
    let counters = lab.wire(0).counters(Direction::Up);
    Ok((report.udp_loss, (counters.packets + counters.dropped_loss) as f64))
}

fn cut() -> Result<Finding> {
    let lab = Lab::new(&[dsl()])?;
    let flow = DatagramFlow { rate: 200, ..DatagramFlow::default() };
    let flow = flow.start(lab.client(), lab.server(), lab.server_address(Family::V4))?;
    sleep(Duration::from_millis(500));
    lab.wire(0).cut(true);
    sleep(Duration::from_millis(600));
    lab.wire(0).cut(false);
    sleep(Duration::from_millis(500));
    let report = flow.stop();
    let gap = report.longest_gap.as_secs_f64() * 1e3;
    // What was under way at the start of the cut, 20 ms, is lost as well.
    Ok(Finding {
        holds: (600.0..=650.0).contains(&gap) && report.lost_runs.len() == 1,
        measured: format!(
            "nothing for {gap:.0} ms at a cut of 600 ms and 20 ms of delay; {} of {} datagrams \
             lost, in {} run(s)",
            report.lost(),
            report.sent,
            report.lost_runs.len()
        ),
    })
}

fn rate_change() -> Result<Finding> {
    const RATES: [f64; 3] = [50.0, 10.0, 40.0];
    // Datagrams of 1,200 bytes of payload are packets of 1,228.
    const SHARE: f64 = 1_200.0 / 1_228.0;
    let lab = Lab::new(&[dsl()])?;
    let report = std::thread::scope(|scope| {
        let flood = scope.spawn(|| Iperf::udp(60_000_000, 6).run(&lab));
        for mbit in RATES {
            lab.wire(0).change_both(|conditions| conditions.rate_bps = (mbit * 1e6) as u64);
            sleep(Duration::from_secs(2));
        }
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let shares: Vec<f64> = RATES
        .iter()
        .enumerate()
        .map(|(turn, mbit)| {
            // The last of the two seconds at each rate, clear of the queue of the one before.
            let (from, to) = (turn as f64 * 2.0 + 0.8, turn as f64 * 2.0 + 1.8);
            let within = |at: &&Interval| at.start >= from && at.end <= to;
            let steps: Vec<f64> = report.intervals.iter().filter(within).map(Interval::bps).collect();
            stats::mean(&steps).unwrap_or(0.0) / (mbit * 1e6) / SHARE
        })
        .collect();
    let listed: Vec<String> =
        shares.iter().zip(RATES).map(|(share, mbit)| format!("{:.1} % of {mbit}", share * 100.0)).collect();
    Ok(Finding {
        holds: shares.iter().all(|share| (0.98..=1.02).contains(share)),
        measured: format!("{} Mbit/s of IP packets at the receiver", listed.join(", ")),
    })
}

fn carrier() -> Result<Finding> {
    let lab = Lab::new(&[dsl()])?;
    let has_carrier = || -> Result<bool> {
        let link = lab.local().run("ip", &["-o", "link", "show", "wan0"])?;
        Ok(!link.contains("NO-CARRIER"))
    };
    let replies = || -> Result<usize> {
        let ping = Ping { timeout: Duration::from_millis(200), ..Ping::times(5) };
        Ok(ping.run(lab.client(), lab.server_address(Family::V4))?.replies.len())
    };
    let before = (has_carrier()?, replies()?);
    lab.wire(0).carrier(false)?;
    let without = (has_carrier()?, replies()?);
    lab.wire(0).carrier(true)?;
    let after = (has_carrier()?, replies()?);
    Ok(Finding {
        holds: (before, without, after) == ((true, 5), (false, 0), (true, 5)),
        measured: format!(
            "carrier and replies of 5: {before:?}, without it {without:?}, with it again {after:?}"
        ),
    })
}

fn total() -> Result<Finding> {
    const LINKS: usize = 4;
    let lab = Lab::new(&vec![LinkSpec::mbit(100.0).delay_ms(20.0); LINKS])?;
    // An address of the server for each link, so that a stream from `local` takes that link.
    let mut streams = Vec::new();
    for link in 0..LINKS {
        let address = IpAddr::from([203, 0, 113, 100 + link as u8]);
        lab.server().ip(&format!("addr add {address}/24 dev eth0"))?;
        let gateway = lab.gateway(link, Family::V4);
        lab.local().ip(&format!("route add {address} via {gateway}"))?;
        streams.push(WatchedStream::start(lab.local(), lab.server(), address)?);
    }
    sleep(Duration::from_secs(3));
    let (start, cpu, idle) = (Instant::now(), lab.wan().cpu_seconds(), idle_seconds()?);
    sleep(Duration::from_secs(5));
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (lab.wan().cpu_seconds() - cpu) / seconds;
    let idle = (idle_seconds()? - idle) / seconds;
    let mut goodput = 0.0;
    for stream in streams {
        let end = stream.elapsed();
        goodput += stream.stop().goodput_bps(end - Duration::from_secs(5), end);
    }
    let share = goodput / 400e6;
    let counters = || lab.wan().wires().iter().map(|wire| wire.counters(Direction::Up));
    let faults: u64 = counters().map(|counters| counters.dropped_fault).sum();
    Ok(Finding {
        holds: TCP_SHARE.contains(&share) && cpu < 0.85 && faults == 0,
        measured: format!(
            "{:.1} Mbit/s of goodput, {:.1} % of 4 × 100; the emulator used {:.0} % of one \
             processor, {:.0} % of one were idle; {faults} faults",
            goodput / 1e6,
            share * 100.0,
            cpu * 100.0,
            idle * 100.0
        ),
    })
}

/// The idle time of all processors together since the machine's start.
fn idle_seconds() -> Result<f64> {
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    uptime.split_whitespace().nth(1).and_then(|idle| idle.parse().ok()).context("/proc/uptime")
}
