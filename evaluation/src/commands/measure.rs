//! `evaluation measure`: one condition, measured as often as asked.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use evaluation::iperf::Iperf;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::ping::Ping;
use evaluation::portal::{Method, Pair, PairOptions};
use evaluation::stats;
use evaluation::wan::Direction;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The links, as for `shell`.
    #[arg(required = true)]
    links: Vec<LinkSpec>,
    /// Measure link N alone, without a tunnel.
    #[arg(long, value_name = "N")]
    direct: Option<usize>,
    /// Carry the links by TCP.
    #[arg(long)]
    tcp: bool,
    /// `CongestionControl` of the links.
    #[arg(long, default_value = "")]
    control: String,
    /// `Protection` of the portals.
    #[arg(long, default_value = "")]
    protection: String,
    /// Further line of `[Host]`; may be given again.
    #[arg(long)]
    host: Vec<String>,
    /// Further line of every `[Peer]`; may be given again.
    #[arg(long)]
    peer: Vec<String>,
    /// TCP connections inside.
    #[arg(long, default_value_t = 1)]
    flows: u32,
    /// Congestion control of the connections inside.
    #[arg(long, default_value = "cubic")]
    inner: String,
    /// Measure from the server to the client.
    #[arg(long)]
    down: bool,
    /// IPv6 inside.
    #[arg(long)]
    v6: bool,
    /// Seconds of a run, after three that do not count.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Runs; the median is printed last.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Print the portals' own account and log after each run.
    #[arg(long)]
    show: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lab = Lab::new(&arguments.links)?;
    let mut pair = match arguments.direct {
        Some(link) => {
            lab.route_directly(link)?;
            None
        }
        None => {
            let mut pair = Pair::start(&lab, &options(arguments))?;
            println!(
                "connected after {:.0} ms",
                pair.wait_connected(Duration::from_secs(10))?.as_secs_f64() * 1e3
            );
            // Links that join a little later are there too.
            thread::sleep(Duration::from_secs(1));
            Some(pair)
        }
    };
    let family = if arguments.v6 { Family::V6 } else { Family::V4 };
    let direction = if arguments.down { Direction::Down } else { Direction::Up };
    let sum: u64 = (0..arguments.links.len())
        .filter(|link| arguments.direct.is_none_or(|only| only == *link))
        .map(|link| lab.wire(link).conditions(direction).rate_bps)
        .sum();
    let idle = Ping::times(10).run(lab.client(), lab.server_address(family))?.median_ms().unwrap_or(f64::NAN);
    println!("links together {:.1} Mbit/s, idle ping {idle:.1} ms", sum as f64 / 1e6);
    let mut shares = Vec::new();
    for _ in 0..arguments.runs {
        let mut iperf = Iperf::tcp(arguments.seconds)
            .omit(3)
            .parallel(arguments.flows)
            .family(family)
            .congestion(&arguments.inner);
        iperf.reverse = arguments.down;
        let cpu = |pair: &mut Pair| {
            Ok::<_, anyhow::Error>((pair.local()?.cpu_seconds()?, pair.remote()?.cpu_seconds()?))
        };
        let before = pair.as_mut().map(cpu).transpose()?;
        let (report, ping) = thread::scope(|scope| {
            let pinger = scope.spawn(|| {
                thread::sleep(Duration::from_secs(3));
                let count = arguments.seconds * 10 - 5;
                let ping = Ping { interval: Duration::from_millis(100), ..Ping::times(count) };
                ping.run(lab.client(), lab.server_address(family))
            });
            let report = iperf.run(&lab);
            (report, pinger.join())
        });
        let (report, ping) = (report?, ping.expect("the pinger does not panic")?);
        let rtts = ping.rtts_ms();
        let share = report.goodput_bps / sum as f64;
        shares.push(share);
        print!(
            "{:7.2} Mbit/s  share {share:.3}  retransmits {:5}  ping median {:6.1} p95 {:6.1} ms, lost {:.1} %",
            report.goodput_bps / 1e6,
            report.retransmits,
            stats::median(&rtts).unwrap_or(f64::NAN),
            stats::percentile(&rtts, 95.0).unwrap_or(f64::NAN),
            ping.loss() * 100.0,
        );
        if let (Some(pair), Some(before)) = (&mut pair, before) {
            let after = cpu(pair)?;
            print!("  cpu {:.2} + {:.2} s", after.0 - before.0, after.1 - before.1);
        }
        println!();
        if arguments.show {
            for direction in Direction::BOTH {
                for link in 0..arguments.links.len() {
                    println!("wire {link} {direction:?}: {:?}", lab.wire(link).counters(direction));
                }
            }
            if let Some(pair) = &mut pair {
                println!(
                    "{}\n{}",
                    serde_json::to_string_pretty(&pair.local()?.show()?)?,
                    pair.local()?.log()
                );
                println!(
                    "{}\n{}",
                    serde_json::to_string_pretty(&pair.remote()?.show()?)?,
                    pair.remote()?.log()
                );
            }
        }
    }
    println!("median share {:.3}", stats::median(&shares).unwrap_or(f64::NAN));
    Ok(ExitCode::SUCCESS)
}

fn options(arguments: &Arguments) -> PairOptions {
    PairOptions {
        method: if arguments.tcp { Method::Tcp } else { Method::Udp },
        congestion_control: if arguments.tcp { String::new() } else { arguments.control.clone() },
        protection: arguments.protection.clone(),
        host_lines: arguments.host.clone(),
        peer_lines: arguments.peer.clone(),
        ..PairOptions::default()
    }
}
