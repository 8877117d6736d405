//! `evaluation race`: portals and other tunnels over paths that hold nothing up, all at once and in turns.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use evaluation::machine::Machine;
use evaluation::race::contestant::Contestant;
use evaluation::race::measure::{Congestion, Heat, Plan, ROUNDS_OF_ONE_START, Racer, Turn};
use evaluation::race::results::{Entry, Results};
use evaluation::race::table::{misses, summary, table};

use super::progress::{Progress, say};
use super::{output, readme};

/// Measure Gbit/s, processor time, small packets, round trip and memory of no tunnel, netcombiner with each protection,
/// without offload and over two paths, and of the other tunnels found here: wireguard-go, boringtun-cli, gotatun,
/// openvpn.
///
/// Example: evaluation race --rounds 3 --peer glorytun=./start-glorytun
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only those whose name contains this; may be given again.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print who would take part, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Another tunnel; may be given again. What is called openvpn…, or wireguard…, boringtun… and gotatun…,
    /// is started as such. Any other program is started on both hosts, finds SIDE (local or remote), OUTER_LOCAL,
    /// OUTER_REMOTE, INTERFACE, ADDRESS and DIRECTORY in its environment, and is the tunnel until it is killed.
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = peer)]
    peer: Vec<Contestant>,
    /// Congestion control of the TCP connections.
    #[arg(long, value_enum, default_value_t = Congestion::Cubic)]
    congestion: Congestion,
    /// How often each has its turn of each kind.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a TCP run, after one that does not count.
    #[arg(long, default_value_t = 1)]
    seconds: u32,
    /// In how many of the rounds small packets are sent too.
    #[arg(long, default_value_t = 3, value_name = "ROUNDS")]
    small: usize,
    /// In the first round, also minutes of eight connections while memory is watched.
    #[arg(long, default_value_t = 0)]
    minutes: u32,
    /// In the first round, also seconds without traffic while processor time is watched.
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    idle: u32,
    /// Put the table into this file, between `<!-- race -->` and `<!-- /race -->`.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Where results.json and table.md go; target/evaluation/race-DATE if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let contestants = chosen(arguments);
    ensure!(!contestants.is_empty(), "nobody of that name takes part; --list shows who does");
    if arguments.list {
        contestants.iter().for_each(|contestant| println!("{}", contestant.name));
        return Ok(ExitCode::SUCCESS);
    }
    let Arguments { congestion, rounds, seconds, small, minutes, idle, .. } = *arguments;
    ensure!(rounds > 0 && seconds > 0, "a race has a round of a second at least");
    if cfg!(debug_assertions) {
        say("note: this is a development build; figures are for release builds");
    }
    let plan = Plan { congestion, rounds, seconds, small_rounds: small, minutes, idle_seconds: idle };
    let directory = output::directory(arguments.out.as_deref(), "race")?;
    let entries = contestants.into_iter().map(Entry::new).collect();
    let mut results = Results { machine: Machine::here()?, plan, entries };
    race(&mut results, &directory)?;
    let text = table(&results);
    println!("{text}");
    if let Some(file) = &arguments.write {
        readme::write(file, "race", &text).with_context(|| format!("writing {}", file.display()))?;
    }
    let missed = misses(&results);
    missed.iter().for_each(|miss| say(&format!("miss: {miss}")));
    say(&format!("results in {}", directory.display()));
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts all, lets them take turns at each measurement of each round, and writes down after each what there is.
fn race(results: &mut Results, directory: &Path) -> Result<()> {
    let plan = results.plan;
    let all = results.entries.len() as u32;
    let heats = (0..plan.rounds).flat_map(|round| plan.heats(round));
    let mut progress = Progress::new(heats.map(|heat| plan.duration(heat) * all).sum());
    let mut racers = Vec::new();
    for round in 0..plan.rounds {
        if round % ROUNDS_OF_ONE_START == 0 {
            stop(results, std::mem::take(&mut racers));
            racers = results.entries.iter_mut().map(start).collect();
        }
        results.entries.iter_mut().for_each(|entry| entry.turns.push(Turn::default()));
        for heat in plan.heats(round) {
            let mut pairs: Vec<_> = results.entries.iter_mut().zip(&mut racers).collect();
            // Nobody always comes after the same one.
            if round % 2 == 1 {
                pairs.reverse();
            }
            pairs.into_iter().for_each(|(entry, racer)| measure(entry, racer, heat, &plan));
            let told = format!("round {} of {}, {}", round + 1, plan.rounds, summary(results, heat));
            progress.did(plan.duration(heat) * all, &told);
            write_down(results, directory)?;
        }
    }
    stop(results, racers);
    write_down(results, directory)
}

fn write_down(results: &Results, directory: &Path) -> Result<()> {
    output::write(&directory.join("results.json"), &serde_json::to_string_pretty(results)?)?;
    output::write(&directory.join("table.md"), &table(results))
}

/// One that failed is out.
fn start(entry: &mut Entry) -> Option<Racer> {
    if entry.failure.is_some() {
        return None;
    }
    let started = Racer::start(&entry.contestant);
    started.map_err(|error| fail(entry, &error)).ok()
}

fn stop(results: &mut Results, racers: Vec<Option<Racer>>) {
    for (entry, racer) in results.entries.iter_mut().zip(racers) {
        if let Some(Err(error)) = racer.map(Racer::stop) {
            fail(entry, &error);
        }
    }
}

/// One measurement of one contestant. One that fails is out.
fn measure(entry: &mut Entry, racer: &mut Option<Racer>, heat: Heat, plan: &Plan) {
    let (Some(running), Some(turn)) = (&racer, entry.turns.last_mut()) else { return };
    if let Err(error) = running.run(heat, plan, turn) {
        fail(entry, &error);
        *racer = None;
    }
}

fn fail(entry: &mut Entry, error: &anyhow::Error) {
    let failure = format!("{error:#}");
    say(&format!("{}: {failure}", entry.contestant.name));
    entry.failure = Some(failure);
}

fn chosen(arguments: &Arguments) -> Vec<Contestant> {
    let mut all = Contestant::usual();
    all.extend(Contestant::installed_peers());
    all.extend(arguments.peer.iter().cloned());
    let wanted = |name: &str| arguments.only.iter().any(|part| name.contains(part.as_str()));
    all.retain(|contestant| arguments.only.is_empty() || wanted(&contestant.name));
    all
}

fn peer(text: &str) -> Result<Contestant, String> {
    match text.split_once('=') {
        Some((name, program)) if !name.is_empty() && Path::new(program).is_file() => {
            Ok(Contestant::peer(name, program.into()))
        }
        _ => Err("NAME=PROGRAM is wanted, PROGRAM a file".into()),
    }
}
