//! `evaluation matrix`: link conditions × routes × loads × directions.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use evaluation::lab::{Family, Lab};
use evaluation::load::Load;
use evaluation::machine::Machine;
use evaluation::matrix::condition::{self, Condition, Target, USUAL_QUEUE_MS};
use evaluation::matrix::results::{Cell, Measured, Results};
use evaluation::matrix::route::Route;
use evaluation::matrix::run::{Plan, Run};
use evaluation::matrix::{plots, table};
use evaluation::ping::Ping;
use evaluation::stats;
use evaluation::wan::Direction;

use super::progress::{Progress, say};

/// What a run takes beside its load: connecting, and the last datagrams.
const AROUND_RUN: Duration = Duration::from_millis(1_500);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the conditions whose name or links contain this; may be given again.
    #[arg(long, value_name = "CONDITION")]
    only: Vec<String>,
    /// Print the conditions and what is asked of them, and measure nothing.
    #[arg(long)]
    list: bool,
    /// The loads.
    #[arg(long, value_delimiter = ',', default_values = ["one", "eight", "bbr", "quic"])]
    load: Vec<Load>,
    /// The directions, as seen from the client.
    #[arg(long, value_delimiter = ',', default_values = ["up", "down"])]
    direction: Vec<Direction>,
    /// The routes: all links bonded, each link alone through the tunnel, each link without it, and the
    /// kernel's Multipath TCP between the portals' systems.
    #[arg(long, value_delimiter = ',', default_values = ["bonded", "alone"])]
    route: Vec<RouteKind>,
    /// Measure what the bond compares with, too: the routes direct and mptcp.
    #[arg(long)]
    references: bool,
    /// The length of the links' queues, in ms.
    #[arg(long, value_name = "MS", value_delimiter = ',', default_values_t = [USUAL_QUEUE_MS])]
    queue: Vec<f64>,
    /// Runs of each cell; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// One run of five seconds each.
    #[arg(long)]
    quick: bool,
    /// Where the results go, rewritten after each run; target/evaluation/matrix-DATE if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RouteKind {
    Bonded,
    Alone,
    Direct,
    Mptcp,
}

/// What is to be measured under one condition.
struct Task {
    condition: Condition,
    cells: Vec<(Route, Load, Direction)>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tasks = tasks(arguments)?;
    if arguments.list {
        tasks.iter().for_each(|task| list(&task.condition));
        return Ok(ExitCode::SUCCESS);
    }
    let plan = match arguments.quick {
        true => Plan { runs: 1, warm_up: 3, seconds: 5 },
        false => Plan { runs: arguments.runs, warm_up: 3, seconds: 10 },
    };
    ensure!(plan.runs > 0, "no runs");
    let directory = super::output::directory(arguments.out.as_deref(), "matrix")?;
    let mut results = Results { machine: Machine::here()?, plan, conditions: Vec::new() };
    let runs = tasks.iter().map(|task| task.cells.len()).sum::<usize>() * plan.runs;
    let mut progress = Progress::new(time_of_run(&plan) * runs as u32);
    say(&format!("{runs} runs; results go to {}", directory.display()));
    if results.machine.development_build {
        say("note: this is a development build; figures are for release builds");
    }
    for task in tasks {
        measure(task, &mut results, &mut progress, &directory)?;
    }
    println!("{}", table::table(&results));
    let misses = table::misses(&results);
    misses.iter().for_each(|miss| println!("missed: {miss}"));
    say(&format!("{} bounds missed; see {}", misses.len(), directory.display()));
    Ok(if misses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tasks(arguments: &Arguments) -> Result<Vec<Task>> {
    let wanted = |condition: &Condition| {
        let names = |part: &String| condition.name.contains(part) || condition.label().contains(part);
        arguments.only.is_empty() || arguments.only.iter().any(names)
    };
    let mut tasks = Vec::new();
    for condition in condition::all()?.into_iter().filter(wanted) {
        for &queue in &arguments.queue {
            ensure!(queue > 0.0, "a queue of {queue} ms");
            let condition = condition.clone().with_queue(queue);
            let cells = cells(&condition, arguments);
            tasks.push(Task { condition, cells });
        }
    }
    ensure!(!tasks.is_empty(), "no condition has such a name; --list shows them");
    Ok(tasks)
}

fn cells(condition: &Condition, arguments: &Arguments) -> Vec<(Route, Load, Direction)> {
    let links = 0..condition.links.len();
    let mut cells = Vec::new();
    for &load in &arguments.load {
        for &direction in &arguments.direction {
            // What is asked may need the links alone.
            let compares = matches!(condition.target(load, direction), Some(Target::OfBestLink(_)));
            for kind in RouteKind::value_variants().iter().copied() {
                let needed = match kind {
                    RouteKind::Bonded => false,
                    RouteKind::Alone => compares && arguments.route.contains(&RouteKind::Bonded),
                    RouteKind::Direct | RouteKind::Mptcp => arguments.references,
                };
                if !needed && !arguments.route.contains(&kind) {
                    continue;
                }
                let routes: Vec<Route> = match kind {
                    RouteKind::Bonded => vec![Route::Bonded],
                    RouteKind::Alone => links.clone().map(Route::Alone).collect(),
                    RouteKind::Direct => links.clone().map(Route::Direct).collect(),
                    RouteKind::Mptcp => vec![Route::Mptcp],
                };
                let able = routes.into_iter().filter(|route| route.carries(load));
                cells.extend(able.map(|route| (route, load, direction)));
            }
        }
    }
    cells
}

fn list(condition: &Condition) {
    println!("{:<14} {}, ping +{} ms", condition.name, condition.label(), condition.ping_ms);
    for asked in condition.asked {
        let way = asked.direction.map(|way| format!(", {way}")).unwrap_or_default();
        let target = match asked.target {
            Target::Share(share) => format!("{share} of the sum"),
            Target::OfBestLink(part) => format!("{part} of the best link alone"),
        };
        println!("{:<14}   {}{way}: {target}", "", asked.load);
    }
}

/// Measures everything under one condition; what fails is noted and does not end it.
fn measure(task: Task, results: &mut Results, progress: &mut Progress, directory: &Path) -> Result<()> {
    let Task { condition, cells } = task;
    let lab = Lab::new(&condition.links).with_context(|| condition.label())?;
    let idle_rtts_ms = idle_rtts(&lab).with_context(|| condition.label())?;
    results.conditions.push(Measured { condition, idle_rtts_ms, cells: Vec::new() });
    for (route, load, direction) in cells {
        let place = results.conditions.len() - 1;
        let cell = Cell { route, load, direction, runs: Vec::new(), failure: None };
        results.conditions[place].cells.push(cell);
        let plan = results.plan;
        let mut note = |run: Run, number: usize| -> Result<()> {
            let measured = &mut results.conditions[place];
            let told = describe(measured, &run);
            if let Some(cell) = measured.cells.last_mut() {
                cell.runs.push(run);
            }
            let label = measured.condition.label();
            progress.did(
                time_of_run(&plan),
                &format!("{label}: {route}, {load}, {direction}, run {number}: {told}"),
            );
            write(results, directory)
        };
        let outcome = route.open(&lab).and_then(|mut open| {
            for number in 1..=plan.runs {
                note(open.run(load, direction, &plan)?, number)?;
            }
            open.close()
        });
        if let Err(error) = outcome {
            let measured = &mut results.conditions[place];
            say(&format!("{}: {route}, {load}, {direction} failed: {error:#}", measured.condition.label()));
            if let Some(cell) = measured.cells.last_mut() {
                progress.skip(time_of_run(&plan) * (plan.runs - cell.runs.len()) as u32);
                cell.failure = Some(format!("{error:#}"));
            }
            write(results, directory)?;
        }
    }
    Ok(())
}

fn time_of_run(plan: &Plan) -> Duration {
    Duration::from_secs((plan.warm_up + plan.seconds).into()) + AROUND_RUN
}

/// The round trip over each link without a tunnel, the median in ms.
fn idle_rtts(lab: &Lab) -> Result<Vec<f64>> {
    let rtt = |link| {
        lab.route_directly(link)?;
        let report = Ping::times(20).run(lab.client(), lab.server_address(Family::V4))?;
        report.median_ms().with_context(|| format!("link {link} carries no ping"))
    };
    (0..lab.links().len()).map(rtt).collect()
}

/// A run in a few words.
fn describe(measured: &Measured, run: &Run) -> String {
    let idle = measured.idle_rtts_ms.iter().copied().min_by(f64::total_cmp).unwrap_or(f64::NAN);
    let ping = stats::median(&run.ping.rtts_ms).unwrap_or(f64::NAN) - idle;
    let doubts: String = run.doubts.iter().map(|doubt| format!("; in doubt: {doubt}")).collect();
    format!("{:.1} Mbit/s, ping {ping:+.1} ms{doubts}", run.goodput_bps / 1e6)
}

/// Writes everything that is known so far, so that an end at any time loses no more than a run.
fn write(results: &Results, directory: &Path) -> Result<()> {
    super::output::write(&directory.join("results.json"), &serde_json::to_string(results)?)?;
    super::output::write(&directory.join("table.md"), &table::table(results))?;
    plots::plots(results)?
        .iter()
        .try_for_each(|(name, text)| super::output::write(&directory.join(name), text))
}
