//! `evaluation demo`: in a minute, what Netcombiner is for.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::portal::{Pair, PairOptions};
use evaluation::stream::{Progress, WatchedStream};
use evaluation::traffic::ends;
use evaluation::wan::Direction;

/// The links: name, Mbit/s, delay one way in ms.
const LINKS: [(&str, f64, f64); 2] = [("DSL", 24.0, 15.0), ("LTE", 16.0, 25.0)];
/// Connections of the download, as a browser opens them.
const CONNECTIONS: usize = 4;
/// Characters of a full bar.
const BAR: usize = 16;
/// Seconds of a run that do not count: connections begin slowly.
const WARM_UP: usize = 2;
/// Seconds of a run over one link …
const ONE_LINK: usize = 7;
/// … over both …
const BOTH: usize = 9;
/// … and over both, with a cut.
const WITH_CUT: usize = 20;
/// The first link is cut after so many seconds …
const CUT: usize = 5;
/// … and returns after these.
const RETURN: usize = 11;
/// A rate is back when it reaches this share of what it was.
const BACK: f64 = 0.85;

#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// A run: what arrived in each second, in Mbit/s, and each connection's progress.
struct Download {
    seconds: Vec<f64>,
    streams: Vec<Progress>,
}

pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    println!("Netcombiner: two Internet links as one.\n");
    println!("This machine now plays a house with two links, the Internet, and a rented server:\n");
    println!("              .-- DSL, 24 Mbit/s, 30 ms there and back --.");
    println!("  client -- portal                                     portal -- a server of the Internet");
    println!("              '-- LTE, 16 Mbit/s, 50 ms there and back --'\n");
    println!("The client downloads from the server over {CONNECTIONS} connections, four times.");
    println!("A line per second: what each link carries, and what the client gets, in Mbit/s.");
    let lab = Lab::new(&LINKS.map(|(_, rate, delay)| LinkSpec::mbit(rate).delay_ms(delay)))?;

    let mut alone = Vec::new();
    for (link, (name, ..)) in LINKS.iter().enumerate() {
        headline(link + 1, &format!("{name} alone"));
        alone.push(download(&lab, &[link], ONE_LINK, |_| {})?.rate());
    }
    headline(3, "both links, bonded");
    let both = download(&lab, &[0, 1], BOTH, |_| {})?.rate();
    headline(4, &format!("both links; {} is cut, and returns", LINKS[0].0));
    let with_cut = download(&lab, &[0, 1], WITH_CUT, |second| {
        if second == CUT || second == RETURN {
            lab.wire(0).cut(second == CUT);
            println!("        {} {}", LINKS[0].0, if second == CUT { "is cut" } else { "is back" });
        }
    })?;
    drop(lab);
    summarise(&alone, both, &with_cut);
    println!("It took {:.0} s, and nothing of it is left on this machine.", begun.elapsed().as_secs_f64());
    let broken = with_cut.streams.iter().any(|stream| stream.fault.is_some());
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn headline(number: usize, what: &str) {
    println!("\n[{number}/4] {what}");
}

/// Downloads through the tunnel over some of the links for so many seconds; calls `each` after every
/// second.
fn download(lab: &Lab, links: &[usize], seconds: usize, each: impl Fn(usize)) -> Result<Download> {
    let options = PairOptions { links: links.to_vec(), ..PairOptions::default() };
    let pair = Pair::start_connected(lab, &options)?;
    let (from, to, address) = ends(lab, Direction::Down, Family::V4);
    let start = |_| WatchedStream::start(from, to, address);
    let streams = (0..CONNECTIONS).map(start).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let count = || -> (Vec<u64>, u64, Instant) {
        let wire = |link| lab.wire(link).counters(Direction::Down).bytes;
        let received = streams.iter().map(WatchedStream::received).sum();
        ((0..LINKS.len()).map(wire).collect(), received, Instant::now())
    };
    let mut rates = Vec::new();
    let mut before = count();
    for second in 1..=seconds {
        sleep(Duration::from_secs(second as u64).saturating_sub(begun.elapsed()));
        let now = count();
        let time = now.2.duration_since(before.2).as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 * 8e-6 / time;
        let bars = LINKS.iter().enumerate().map(|(link, (name, most, _))| {
            let rate = rate(now.0[link], before.0[link]);
            format!("{name} {} {rate:5.1}", bar(rate / most))
        });
        let got = rate(now.1, before.1);
        println!("  {second:2} s  {}   download {got:5.1}", bars.collect::<Vec<_>>().join("   "));
        rates.push(got);
        before = now;
        each(second);
    }
    let streams = streams.into_iter().map(WatchedStream::stop).collect();
    pair.stop()?;
    Ok(Download { seconds: rates, streams })
}

fn bar(share: f64) -> String {
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    "█".repeat(full) + &"░".repeat(BAR - full)
}

fn mean(values: &[f64]) -> f64 {
    evaluation::stats::mean(values).unwrap_or(0.0)
}

impl Download {
    /// The rate of the whole run but for its beginning.
    fn rate(&self) -> f64 {
        mean(&self.seconds[WARM_UP..])
    }

    /// The longest time in which no connection got anything, in seconds.
    fn still(&self) -> f64 {
        let sum = Progress::sum(&self.streams);
        let cut = Duration::from_secs(CUT as u64 - 1)..Duration::from_secs(RETURN as u64);
        sum.longest_gap(cut.start, cut.end).as_secs_f64()
    }
}

fn summarise(alone: &[f64], both: f64, with_cut: &Download) {
    let [first, second] = LINKS.map(|(name, ..)| name);
    let sum: f64 = alone.iter().sum();
    println!("\nWhat you saw");
    println!("  {first} alone brought {:.1} Mbit/s, {second} alone {:.1}.", alone[0], alone[1]);
    println!("  Bonded they brought {both:.1} Mbit/s, {:.0} % of both together.", both / sum * 100.0);
    let broken = with_cut.streams.iter().filter(|stream| stream.fault.is_some()).count();
    let during = mean(&with_cut.seconds[CUT + 1..RETURN]);
    println!(
        "  When {first} was cut, the download stood still for {:.0} ms and went on over {second} with {during:.1} \
         Mbit/s;",
        with_cut.still() * 1e3
    );
    match broken {
        0 => {
            println!("  none of the {CONNECTIONS} connections broke, and every byte arrived as it was sent.")
        }
        _ => println!("  {broken} of the {CONNECTIONS} connections broke, which must not be."),
    }
    let after = &with_cut.seconds[RETURN..];
    let before = mean(&with_cut.seconds[WARM_UP..CUT]);
    match after.iter().position(|rate| *rate >= before * BACK) {
        Some(at) => println!("  Within {} s of the return of {first} it was as fast as before.", at + 1),
        None => println!("  After the return of {first} it came to {:.1} Mbit/s.", mean(&after[2..])),
    }
}
