//! `evaluation criteria`: the figures of the README, measured, each with the bound it is held to.

mod adaptation;
mod capacity;
mod stress;
mod watched;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use evaluation::iperf::Iperf;
use evaluation::lab::{Family, Lab};
use evaluation::portal::{Pair, PairOptions};
use evaluation::stats;
use evaluation::wan::Direction;

use super::readme;

/// Seconds that a connection has to find its rate before it is measured.
const WARM_UP: u32 = 3;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// One short run of each measurement in place of the median of three.
    #[arg(long)]
    quick: bool,
    /// Only the criteria whose name contains this; may be given again.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print the names of the criteria and what they show, and measure nothing.
    #[arg(long)]
    list: bool,
    /// Put the table into this file too, between its lines `<!-- figures -->` and `<!-- /figures -->`.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What is measured together.
struct Criterion {
    /// One word.
    name: &'static str,
    /// What it shows.
    shows: &'static str,
    measure: fn(&Plan) -> Result<Vec<Row>>,
}

const ALL: [Criterion; 11] = [
    Criterion { name: "sums", shows: "links add up, equal and unequal, both ways", measure: capacity::sums },
    Criterion { name: "families", shows: "IPv4 over IPv6 and the reverse", measure: capacity::families },
    Criterion {
        name: "fast",
        shows: "two links of 50 Mbit/s and 40 ms, UDP and TCP",
        measure: capacity::fast,
    },
    Criterion {
        name: "veth",
        shows: "the program's own speed, without the emulator",
        measure: capacity::veth,
    },
    Criterion {
        name: "watched",
        shows: "whoever reads the status page costs no speed",
        measure: watched::watched,
    },
    Criterion { name: "rates", shows: "a link's changing rate is followed", measure: adaptation::rates },
    Criterion { name: "return", shows: "a regained link brings the rate back", measure: adaptation::regain },
    Criterion {
        name: "survive",
        shows: "connections survive the loss of links",
        measure: adaptation::survive,
    },
    Criterion { name: "metric", shows: "a spare link waits for its turn", measure: adaptation::metric },
    Criterion { name: "flood", shows: "bad datagrams do no harm", measure: stress::flood },
    Criterion { name: "restart", shows: "a killed portal is joined again", measure: stress::restart },
];

/// How thoroughly to measure.
struct Plan {
    runs: usize,
    seconds: u32,
}

/// A line of the table.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    measured: String,
    bound: String,
    met: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part.as_str()))
    };
    let chosen: Vec<_> = ALL.iter().filter(|criterion| wanted(criterion.name)).collect();
    anyhow::ensure!(!chosen.is_empty(), "no criterion has such a name; --list shows them");
    if arguments.list {
        chosen.iter().for_each(|criterion| println!("{:<10} {}", criterion.name, criterion.shows));
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        say("note: this is a development build; figures are for release builds");
    }
    let plan = if arguments.quick { Plan { runs: 1, seconds: 6 } } else { Plan { runs: 3, seconds: 10 } };
    let begun = Instant::now();
    let mut rows = Vec::new();
    for (index, criterion) in chosen.iter().enumerate() {
        let passed = begun.elapsed().as_secs();
        say(&format!(
            "[{}/{}] {:>2}:{:02} {}: {}",
            index + 1,
            chosen.len(),
            passed / 60,
            passed % 60,
            criterion.name,
            criterion.shows
        ));
        match (criterion.measure)(&plan) {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row {
                what: criterion.shows.to_owned(),
                measured: format!("failed: {error:#}").replace(['\n', '|'], " "),
                bound: String::new(),
                met: false,
            }),
        }
    }
    let table = table(&rows, &plan);
    println!("{table}");
    if let Some(file) = &arguments.write {
        readme::write(file, "figures", &table).with_context(|| format!("writing {}", file.display()))?;
    }
    let missed = rows.iter().filter(|row| !row.met).count();
    say(&format!(
        "{} of {} met, in {:.0} min",
        rows.len() - missed,
        rows.len(),
        begun.elapsed().as_secs_f64() / 60.0
    ));
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(rows: &[Row], plan: &Plan) -> String {
    let runs = match plan.runs {
        1 => "a single short run each".to_owned(),
        runs => format!("medians of {runs} runs of {} s", plan.seconds),
    };
    let mut text = format!(
        "Measured by `evaluation criteria` in network namespaces over the emulated WAN, iperf3 with cubic, \
         {runs}.\n\n| What | Measured | Bound | |\n|---|---|---|---|\n"
    );
    for Row { what, measured, bound, met } in rows {
        let word = if *met { "pass" } else { "**miss**" };
        text += &format!("| {what} | {measured} | {bound} | {word} |\n");
    }
    text
}

/// Tells how far it is.
fn say(text: &str) {
    eprintln!("{text}");
}

impl Row {
    /// A value in a unit that must not be below `least`.
    fn at_least(what: impl Into<String>, value: f64, least: f64, unit: &str) -> Self {
        let (what, bound) = (what.into(), format!("≥ {} {unit}", number(least)));
        Self::told(Self { what, measured: format!("{} {unit}", number(value)), bound, met: value >= least })
    }

    /// A value in a unit that must not be above `most`.
    fn at_most(what: impl Into<String>, value: f64, most: f64, unit: &str) -> Self {
        let (what, bound) = (what.into(), format!("≤ {} {unit}", number(most)));
        Self::told(Self { what, measured: format!("{} {unit}", number(value)), bound, met: value <= most })
    }

    /// Prints the row as soon as it is known.
    fn told(self) -> Self {
        let word = if self.met { "pass" } else { "MISS" };
        say(&format!("  {word}  {}: {} ({})", self.what, self.measured, self.bound));
        self
    }
}

/// Three digits, no more than two of them after the point.
fn number(value: f64) -> String {
    match value.abs() {
        value_abs if value_abs >= 100.0 => format!("{value:.0}"),
        value_abs if value_abs >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The goodput of TCP connections in Mbit/s through a pair that is set up once: the median of the plan's
/// runs.
fn goodput(plan: &Plan, lab: &Lab, options: &PairOptions, iperf: &Iperf) -> Result<f64> {
    let pair = Pair::start_connected(lab, options)?;
    let mbit = median_of(plan, || Ok(iperf.run(lab)?.goodput_bps / 1e6))?;
    pair.stop()?;
    Ok(mbit)
}

/// The median of as many runs as the plan has.
fn median_of(plan: &Plan, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    let values: Vec<f64> = (0..plan.runs).map(|_| run()).collect::<Result<_>>()?;
    stats::median(&values).context("no runs")
}

/// iperf3 as the plan wants it.
fn iperf(plan: &Plan, direction: Direction, connections: u32) -> Iperf {
    let iperf = Iperf::tcp(plan.seconds).omit(WARM_UP).parallel(connections).family(Family::V4);
    if direction == Direction::Down { iperf.reverse() } else { iperf }
}
