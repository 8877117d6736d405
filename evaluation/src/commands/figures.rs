//! `evaluation figures`: the dissertation's figures, measured anew with one cubic connection.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::load::Load;
use evaluation::plot::{self, Curve, Panel};
use evaluation::portal::{Pair, PairOptions};
use evaluation::script::{Change, Event, Script, Trace};
use evaluation::wan::Direction;

use super::progress::{Progress, say};

/// The delay of every link one way, in ms.
const DELAY_MS: f64 = 20.0;

/// Seconds that a connection has to find its rate where one figure is made of a run.
const WARM_UP: f64 = 3.0;

/// Seconds that are measured then.
const MEASURED: f64 = 10.0;

/// Steps of the curves over time: what TCP does in less hides the rest.
const STEP: f64 = 0.5;

/// What a run takes beside its script.
const AROUND_RUN: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only the figures whose name contains this; may be given again.
    #[arg(long, value_name = "FIGURE")]
    only: Vec<String>,
    /// Print the figures, and measure nothing.
    #[arg(long)]
    list: bool,
    /// The connection's direction, as seen from the client.
    #[arg(long, default_value = "down")]
    direction: Direction,
    /// Where the figures go; target/evaluation/figures-DATE if not given.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

struct Figure {
    name: &'static str,
    title: &'static str,
    kind: Kind,
}

enum Kind {
    /// A curve over so many seconds for each run.
    OverTime { seconds: f64, runs: &'static [Run] },
    /// A point for each number: the links' rates in Mbit/s.
    Scaling { x: &'static str, points: &'static [(f64, &'static [f64])] },
}

/// The links' rates in Mbit/s, and what happens to the second one.
struct Run {
    name: &'static str,
    rates: &'static [f64],
    events: &'static [(f64, Change)],
}

const fn steady(name: &'static str, rates: &'static [f64]) -> Run {
    Run { name, rates, events: &[] }
}

const ALL: [Figure; 7] = [
    Figure {
        name: "equal",
        title: "Two equal links",
        kind: Kind::OverTime {
            seconds: 20.0,
            runs: &[steady("one link of 2 Mbit/s", &[2.0]), steady("2 + 2 Mbit/s", &[2.0, 2.0])],
        },
    },
    Figure {
        name: "unequal",
        title: "Unequal pairs between equal ones",
        kind: Kind::OverTime {
            seconds: 20.0,
            runs: &[
                steady("2 + 2 Mbit/s", &[2.0, 2.0]),
                steady("2 + 4 Mbit/s", &[2.0, 4.0]),
                steady("4 + 4 Mbit/s", &[4.0, 4.0]),
            ],
        },
    },
    Figure {
        name: "links",
        title: "Two, three and four links of 2 Mbit/s",
        kind: Kind::OverTime {
            seconds: 20.0,
            runs: &[
                steady("two", &[2.0, 2.0]),
                steady("three", &[2.0, 2.0, 2.0]),
                steady("four", &[2.0, 2.0, 2.0, 2.0]),
            ],
        },
    },
    Figure {
        name: "rates",
        title: "Two links of 2 Mbit/s, one of which varies for ten seconds",
        kind: Kind::OverTime {
            seconds: 30.0,
            runs: &[
                Run {
                    name: "to 1 Mbit/s",
                    rates: &[2.0, 2.0],
                    events: &[(10.0, Change::Rate(1.0)), (20.0, Change::Rate(2.0))],
                },
                Run {
                    name: "to 3 Mbit/s",
                    rates: &[2.0, 2.0],
                    events: &[(10.0, Change::Rate(3.0)), (20.0, Change::Rate(2.0))],
                },
            ],
        },
    },
    Figure {
        name: "loss",
        title: "Two links, one of which is lost for five seconds",
        kind: Kind::OverTime {
            seconds: 25.0,
            runs: &[
                Run {
                    name: "2 + 2 Mbit/s",
                    rates: &[2.0, 2.0],
                    events: &[(10.0, Change::Hole(true)), (15.0, Change::Hole(false))],
                },
                Run {
                    name: "4 + 4 Mbit/s",
                    rates: &[4.0, 4.0],
                    events: &[(10.0, Change::Hole(true)), (15.0, Change::Hole(false))],
                },
            ],
        },
    },
    Figure {
        name: "link-rate",
        title: "Two links of growing rate",
        kind: Kind::Scaling {
            x: "rate of each link, Mbit/s",
            points: &[
                (1.0, &[1.0, 1.0]),
                (5.0, &[5.0, 5.0]),
                (10.0, &[10.0, 10.0]),
                (25.0, &[25.0, 25.0]),
                (50.0, &[50.0, 50.0]),
                (75.0, &[75.0, 75.0]),
                (100.0, &[100.0, 100.0]),
            ],
        },
    },
    Figure {
        name: "link-number",
        title: "More and more links of 10 Mbit/s",
        kind: Kind::Scaling {
            x: "links",
            points: &[
                (1.0, &[10.0; 1]),
                (2.0, &[10.0; 2]),
                (3.0, &[10.0; 3]),
                (4.0, &[10.0; 4]),
                (5.0, &[10.0; 5]),
                (6.0, &[10.0; 6]),
                (7.0, &[10.0; 7]),
                (8.0, &[10.0; 8]),
            ],
        },
    },
];

/// A drawn figure's data, as it is written beside it.
#[derive(Serialize)]
struct Data<'a> {
    figure: &'a str,
    title: &'a str,
    direction: Direction,
    /// Name and points: seconds or the figure's number, and Mbit/s of TCP payload.
    curves: Vec<(String, Vec<(f64, f64)>)>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |figure: &&Figure| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| figure.name.contains(part.as_str()))
    };
    let chosen: Vec<&Figure> = ALL.iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no figure has such a name; --list shows them");
    if arguments.list {
        chosen.iter().for_each(|figure| println!("{:<12} {}", figure.name, figure.title));
        return Ok(ExitCode::SUCCESS);
    }
    let directory = super::output::directory(arguments.out.as_deref(), "figures")?;
    say(&format!("figures go to {}", directory.display()));
    let mut progress = Progress::new(chosen.iter().map(|figure| figure.kind.time()).sum());
    for figure in chosen {
        let panel = figure.measure(arguments.direction, &mut progress)?;
        let data = Data {
            figure: figure.name,
            title: figure.title,
            direction: arguments.direction,
            curves: panel.curves.iter().map(|curve| (curve.name.clone(), curve.points.clone())).collect(),
        };
        let file = |extension: &str| directory.join(figure.name).with_extension(extension);
        super::output::write(&file("json"), &serde_json::to_string(&data)?)?;
        super::output::write(&file("svg"), &plot::panels(figure.title, &[panel])?)?;
        println!("{}", file("svg").display());
    }
    Ok(ExitCode::SUCCESS)
}

impl Kind {
    /// How long all its runs take.
    fn time(&self) -> Duration {
        match self {
            Self::OverTime { seconds, runs } => time_of_run(*seconds) * runs.len() as u32,
            Self::Scaling { points, .. } => time_of_run(WARM_UP + MEASURED) * points.len() as u32,
        }
    }
}

impl Figure {
    fn measure(&self, direction: Direction, progress: &mut Progress) -> Result<Panel> {
        let Self { name, .. } = self;
        let mut panel = Panel { y: "Mbit/s".into(), ..Panel::default() };
        match self.kind {
            Kind::OverTime { seconds, runs } => {
                panel.x = "seconds".into();
                for run in runs {
                    let script = run.script(direction, seconds);
                    let trace =
                        bonded(run.rates, &script).with_context(|| format!("{name}: {}", run.name))?;
                    let steps: Vec<f64> = (0..(seconds / STEP) as u32)
                        .map(|step| trace.mbit(f64::from(step) * STEP, f64::from(step + 1) * STEP))
                        .collect();
                    panel.curves.push(Curve::steps(run.name, STEP, &steps));
                    panel.marks = script.events.iter().map(|event| (event.at, String::new())).collect();
                    let told = format!("{name}, {}: {:.2} Mbit/s", run.name, trace.mbit(WARM_UP, seconds));
                    progress.did(time_of_run(seconds), &told);
                }
            }
            Kind::Scaling { x, points } => {
                panel.x = x.into();
                let (mut measured, mut sums) = (Vec::new(), Vec::new());
                for (at, rates) in points {
                    let end = WARM_UP + MEASURED;
                    let script = Script { load: Load::One, direction, events: Vec::new(), seconds: end };
                    let trace = bonded(rates, &script).with_context(|| format!("{name}: {at}"))?;
                    let mbit = trace.mbit(WARM_UP, end);
                    measured.push((*at, mbit));
                    sums.push((*at, rates.iter().sum()));
                    progress.did(time_of_run(end), &format!("{name}, {at}: {mbit:.2} Mbit/s"));
                }
                panel.curves.push(Curve { name: "one cubic flow, bonded".into(), points: measured });
                panel.curves.push(Curve { name: "sum of the links".into(), points: sums });
            }
        }
        Ok(panel)
    }
}

impl Run {
    fn script(&self, direction: Direction, seconds: f64) -> Script {
        let event = |&(at, change): &(f64, Change)| Event { at, link: 1, change };
        Script { load: Load::One, direction, events: self.events.iter().map(event).collect(), seconds }
    }
}

fn time_of_run(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds) + AROUND_RUN
}

/// Runs a script over a bond of links of these rates.
fn bonded(rates: &[f64], script: &Script) -> Result<Trace> {
    let links: Vec<LinkSpec> = rates.iter().map(|rate| LinkSpec::mbit(*rate).delay_ms(DELAY_MS)).collect();
    let lab = Lab::new(&links)?;
    let pair = Pair::start_connected(&lab, &PairOptions::default())?;
    let trace = script.run(&lab)?;
    pair.stop()?;
    Ok(trace)
}
