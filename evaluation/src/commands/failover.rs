//! `evaluation failover`: links fail, return, flap and change their rate under load.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use evaluation::failover::{ALL, Finding, LINKS, Scenario};
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::machine::Machine;
use evaluation::ping::Ping;
use evaluation::plot;
use evaluation::portal::{Pair, PairOptions};
use evaluation::script::{Script, Trace};
use evaluation::stats;
use evaluation::wan::Direction;

use super::charts::trace_panels;
use super::progress::{Progress, say};

/// What a run takes beside its script: the lab, connecting, and the last datagrams.
const AROUND_RUN: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the scenarios whose name contains this; may be given again.
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Print the scenarios, and measure nothing.
    #[arg(long)]
    list: bool,
    /// The load's directions, as seen from the client.
    #[arg(long, value_delimiter = ',', default_values = ["up", "down"])]
    direction: Vec<Direction>,
    /// Runs of each; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// One run of each.
    #[arg(long)]
    quick: bool,
    /// Where the results go, rewritten after each run; target/evaluation/failover-DATE if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Everything, as it is written into a file.
#[derive(Serialize)]
struct Results {
    machine: Machine,
    links: [&'static str; 2],
    measured: Vec<Measured>,
}

/// The runs of a scenario.
#[derive(Serialize)]
struct Measured {
    scenario: &'static str,
    what: &'static str,
    direction: Direction,
    runs: Vec<Run>,
    failures: Vec<String>,
}

#[derive(Serialize)]
struct Run {
    idle_rtt_ms: f64,
    findings: Vec<Finding>,
    trace: Trace,
    /// What the portals say of themselves at the end, the local one first.
    portals: [Value; 2],
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |scenario: &Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| scenario.name.contains(part.as_str()))
    };
    let chosen: Vec<_> = ALL.into_iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no scenario has such a name; --list shows them");
    if arguments.list {
        chosen.iter().for_each(|scenario| println!("{:<13} {}", scenario.name, scenario.what));
        return Ok(ExitCode::SUCCESS);
    }
    let runs = if arguments.quick { 1 } else { arguments.runs };
    ensure!(runs > 0, "no runs");
    let directory = super::output::directory(arguments.out.as_deref(), "failover")?;
    let all: Duration = chosen.iter().map(time_of_run).sum();
    let mut progress = Progress::new(all * (runs * arguments.direction.len()) as u32);
    say(&format!("results go to {}", directory.display()));
    let mut results = Results { machine: Machine::here()?, links: LINKS, measured: Vec::new() };
    for scenario in &chosen {
        for &direction in &arguments.direction {
            results.measured.push(Measured {
                scenario: scenario.name,
                what: scenario.what,
                direction,
                runs: Vec::new(),
                failures: Vec::new(),
            });
            for number in 1..=runs {
                let outcome = measure(scenario, direction);
                let told = match &outcome {
                    Ok(run) => run.findings.iter().map(tell).collect::<Vec<_>>().join("; "),
                    Err(error) => format!("failed: {error:#}"),
                };
                let what = format!("{}, {direction}, run {number}: {told}", scenario.name);
                progress.did(time_of_run(scenario), &what);
                if let Some(measured) = results.measured.last_mut() {
                    match outcome {
                        Ok(run) => measured.runs.push(run),
                        Err(error) => measured.failures.push(format!("{error:#}")),
                    }
                    write(measured, scenario, &directory)?;
                }
                super::output::write(&directory.join("results.json"), &serde_json::to_string(&results)?)?;
                super::output::write(&directory.join("table.md"), &table(&results))?;
            }
        }
    }
    println!("{}", table(&results));
    say(&format!("see {}", directory.display()));
    let met = results.measured.iter().all(Measured::met);
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn time_of_run(scenario: &Scenario) -> Duration {
    Duration::from_secs_f64(scenario.seconds) + AROUND_RUN
}

/// One run in a lab of its own, as links stay as the script left them.
fn measure(scenario: &Scenario, direction: Direction) -> Result<Run> {
    let links: Vec<LinkSpec> = LINKS.iter().map(|link| link.parse()).collect::<Result<_>>()?;
    let lab = Lab::new(&links)?;
    let mut pair = Pair::start_connected(&lab, &PairOptions::default())?;
    let idle = Ping::times(20).run(lab.client(), lab.server_address(Family::V4))?;
    let idle_rtt_ms = idle.median_ms().context("the idle tunnel carries no ping")?;
    let trace = scenario.script(direction).run(&lab)?;
    let portals = [pair.local()?.show()?, pair.remote()?.show()?];
    pair.stop()?;
    let answer = |asked: &evaluation::failover::Asked| asked.answer(&trace, scenario.seconds, idle_rtt_ms);
    Ok(Run { idle_rtt_ms, findings: scenario.asked.iter().map(answer).collect(), trace, portals })
}

fn tell(finding: &Finding) -> String {
    let word = if finding.met() { "" } else { " MISS" };
    format!("{} {:.2} ({:.2}){word}", finding.what, finding.value, finding.bound)
}

/// The chart of a scenario's last run.
fn write(measured: &Measured, scenario: &Scenario, directory: &Path) -> Result<()> {
    let Some(run) = measured.runs.last() else { return Ok(()) };
    let script: Script = scenario.script(measured.direction);
    let title = format!("{}, one cubic flow {}", scenario.what, measured.direction);
    let chart = plot::panels(&title, &trace_panels(&run.trace, &script))?;
    super::output::write(&directory.join(format!("{}-{}.svg", scenario.name, measured.direction)), &chart)
}

fn table(results: &Results) -> String {
    let mut text = String::from(
        "| scenario | way | looked at | median | worst | bound | |\n|---|---|---|---|---|---|---|\n",
    );
    for measured in &results.measured {
        let Measured { what, direction, .. } = measured;
        for [median, worst] in measured.findings() {
            let bound = format!("{} {:.2}", if median.least { "≥" } else { "≤" }, median.bound);
            let word = if median.met() { "pass" } else { "**miss**" };
            let (value, worst) = (median.value, worst.value);
            text += &format!(
                "| {what} | {direction} | {} | {value:.2} | {worst:.2} | {bound} | {word} |\n",
                median.what
            );
        }
        for failure in &measured.failures {
            let failure = failure.replace(['\n', '|'], " ");
            text += &format!("| {what} | {direction} | a run failed: {failure} | | | | **miss** |\n");
        }
    }
    text
}

impl Measured {
    /// Of each thing that was looked at: the median of the runs against the bounds' median, and the worst.
    fn findings(&self) -> Vec<[Finding; 2]> {
        let count = self.runs.first().map_or(0, |run| run.findings.len());
        let of_place = |place: usize| {
            let each = || self.runs.iter().filter_map(move |run| run.findings.get(place));
            let median = |value: fn(&Finding) -> f64| stats::median(&each().map(value).collect::<Vec<_>>());
            let first = each().next()?;
            let margin = |finding: &Finding| {
                if finding.least { finding.value - finding.bound } else { finding.bound - finding.value }
            };
            let worst = each().min_by(|a, b| margin(a).total_cmp(&margin(b)))?.clone();
            let value = median(|finding| finding.value)?;
            let bound = median(|finding| finding.bound)?;
            Some([Finding { value, bound, ..first.clone() }, worst])
        };
        (0..count).filter_map(of_place).collect()
    }

    fn met(&self) -> bool {
        self.failures.is_empty() && self.findings().iter().all(|[median, _]| median.met())
    }
}
