//! The results as charts: throughput against the links' sum, and round trips under load.

use anyhow::Result;

use super::results::{Cell, Measured, Results};
use super::route::Route;
use crate::load::Load;
use crate::plot::{self, Curve, Group, Panel};
use crate::wan::Direction;

/// The bars of a group.
const BARS: [&str; 4] = ["bonded", "best link alone", "best link without tunnel", "MPTCP"];

/// The bar that a route belongs to.
fn bar(route: Route) -> usize {
    match route {
        Route::Bonded => 0,
        Route::Alone(_) => 1,
        Route::Direct(_) => 2,
        Route::Mptcp => 3,
    }
}

/// All charts of the results, each with the name of its file.
pub fn plots(results: &Results) -> Result<Vec<(String, String)>> {
    let mut plots = Vec::new();
    for (load, direction) in what_was_measured(results) {
        let title = format!("Throughput, {load}, {direction}");
        let groups: Vec<Group> =
            results.conditions.iter().filter_map(|measured| group(measured, load, direction)).collect();
        let text = plot::bars(&title, "Mbit/s", &BARS, "sum of the links", &groups)?;
        plots.push((format!("throughput-{load}-{direction}.svg").replace(' ', "-"), text));
    }
    for measured in &results.conditions {
        for direction in Direction::BOTH {
            let curves = round_trips(measured, direction);
            if curves.is_empty() {
                continue;
            }
            let panel = Panel { x: "round trip in ms".into(), y: "share".into(), curves, marks: Vec::new() };
            let title = format!("Ping under load {direction}: {}", measured.condition.label());
            plots.push((
                format!("ping-{}-{direction}.svg", measured.file_name()),
                plot::panels(&title, &[panel])?,
            ));
        }
    }
    Ok(plots)
}

/// The loads and directions, in the order of their first cell.
fn what_was_measured(results: &Results) -> Vec<(Load, Direction)> {
    let mut found = Vec::new();
    for cell in results.conditions.iter().flat_map(|measured| &measured.cells) {
        let what = (cell.load, cell.direction);
        if !found.contains(&what) {
            found.push(what);
        }
    }
    found
}

/// The bars of a condition, if there is any.
fn group(measured: &Measured, load: Load, direction: Direction) -> Option<Group> {
    let best = |kind| {
        let cells = measured.cells.iter().filter(|cell| (cell.load, cell.direction) == (load, direction));
        let rates = cells.filter(|cell| bar(cell.route) == kind).filter_map(Cell::goodput_bps);
        rates.max_by(f64::total_cmp).map(|bps| bps / 1e6)
    };
    let bars: Vec<_> = (0..BARS.len()).map(best).collect();
    bars.iter().any(Option::is_some).then(|| Group {
        name: measured.file_name(),
        bars,
        line: measured.condition.sum_bps(direction) / 1e6,
    })
}

/// How the round trips under load are distributed, of each load's bond, and of the routes without tunnel under
/// one cubic flow.
fn round_trips(measured: &Measured, direction: Direction) -> Vec<Curve> {
    let told = |cell: &&Cell| {
        let reference = matches!(cell.route, Route::Direct(_) | Route::Mptcp) && cell.load == Load::One;
        cell.direction == direction && (cell.route == Route::Bonded || reference) && !cell.runs.is_empty()
    };
    let curve = |cell: &Cell| {
        let rtts: Vec<f64> = cell.runs.iter().flat_map(|run| run.ping.rtts_ms.iter().copied()).collect();
        Curve::distribution(format!("{}, {}", cell.route, cell.load), &rtts)
    };
    measured.cells.iter().filter(told).map(curve).collect()
}
