//! What the matrix brought, and how it compares with what was asked.

use serde::Serialize;

use super::condition::{Condition, Target, USUAL_QUEUE_MS};
use super::route::Route;
use super::run::{Plan, Run};
use crate::load::Load;
use crate::machine::Machine;
use crate::stats;
use crate::wan::Direction;

/// What a longer queue may cost of the share against the usual one.
const LONGER_QUEUE_COSTS: f64 = 0.02;

/// Everything, as it is written into a file.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What measured.
    pub machine: Machine,
    /// How.
    pub plan: Plan,
    /// Each condition.
    pub conditions: Vec<Measured>,
}

/// A condition and what was measured under it.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Which one.
    pub condition: Condition,
    /// The round trip over each idle link without a tunnel, the median in ms.
    pub idle_rtts_ms: Vec<f64>,
    /// What was measured.
    pub cells: Vec<Cell>,
}

/// The runs of a load in a direction over a route.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Over what.
    pub route: Route,
    /// What.
    pub load: Load,
    /// Which way.
    pub direction: Direction,
    /// How it went, once or more.
    pub runs: Vec<Run>,
    /// Why there are not as many runs as there should be.
    pub failure: Option<String>,
}

/// A bound and whether it is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// The bound.
    pub bound: f64,
    /// Whether it is kept.
    pub met: bool,
}

impl Measured {
    /// The condition's name, with the queue where it is not the usual one.
    pub fn file_name(&self) -> String {
        match self.condition.queue_ms {
            USUAL_QUEUE_MS => self.condition.name.to_owned(),
            queue => format!("{}-{queue}ms", self.condition.name),
        }
    }

    /// The cell of a route, a load and a direction, if it was measured.
    pub fn cell(&self, route: Route, load: Load, direction: Direction) -> Option<&Cell> {
        self.cells.iter().find(|cell| (cell.route, cell.load, cell.direction) == (route, load, direction))
    }

    /// The rate in bit/s of IP packets that a cell could have had at most.
    pub fn sum_bps(&self, cell: &Cell) -> f64 {
        match cell.route.link() {
            Some(link) => self.condition.rate_bps(link, cell.direction),
            None => self.condition.sum_bps(cell.direction),
        }
    }

    /// The median goodput of a cell's runs as a share of the summed rate.
    pub fn share(&self, cell: &Cell) -> Option<f64> {
        Some(cell.goodput_bps()? / self.sum_bps(cell))
    }

    /// The median goodput of the best link alone, through the tunnel, under the same load.
    pub fn best_alone_bps(&self, load: Load, direction: Direction) -> Option<f64> {
        let alone =
            (0..self.condition.links.len()).map(|link| self.cell(Route::Alone(link), load, direction));
        alone.filter_map(|cell| cell?.goodput_bps()).max_by(f64::total_cmp)
    }

    /// How much longer than the fastest idle link's the median round trip was, and the 95th percentile, in
    /// ms: medians of the runs.
    pub fn added_ping_ms(&self, cell: &Cell) -> Option<[f64; 2]> {
        let idle = self.idle_rtts_ms.iter().copied().min_by(f64::total_cmp)?;
        let of_runs = |percent| {
            let each = cell.runs.iter().filter_map(|run| run.ping.percentile_ms(percent));
            stats::median(&each.collect::<Vec<_>>())
        };
        Some([of_runs(50.0)? - idle, of_runs(95.0)? - idle])
    }
}

impl Results {
    /// Whether a cell carries the share that is asked of it, if something is.
    pub fn judge_share(&self, measured: &Measured, cell: &Cell) -> Option<Judgement> {
        let Measured { condition, .. } = measured;
        let (load, direction) = (cell.load, cell.direction);
        let target = condition.target(load, direction).filter(|_| cell.route == Route::Bonded)?;
        let bound = match target {
            Target::Share(share) if condition.queue_ms > USUAL_QUEUE_MS => {
                self.usual_share(condition, cell).unwrap_or(share) - LONGER_QUEUE_COSTS
            }
            Target::Share(share) => share,
            Target::OfBestLink(part) => {
                part * measured.best_alone_bps(load, direction)? / measured.sum_bps(cell)
            }
        };
        Some(Judgement { bound, met: measured.share(cell)? >= bound })
    }

    /// Whether a cell of which a share is asked keeps the ping short.
    pub fn judge_ping(&self, measured: &Measured, cell: &Cell) -> Option<Judgement> {
        let Measured { condition, .. } = measured;
        let asked = condition.target(cell.load, cell.direction).is_some() && cell.route == Route::Bonded;
        let bound = asked.then_some(condition.ping_ms)?;
        let [median, _] = measured.added_ping_ms(cell)?;
        Some(Judgement { bound, met: median <= bound })
    }

    /// The share of the same cell under the same condition with the usual queue.
    fn usual_share(&self, condition: &Condition, cell: &Cell) -> Option<f64> {
        let same = |other: &&Measured| {
            other.condition.name == condition.name && other.condition.queue_ms == USUAL_QUEUE_MS
        };
        let usual = self.conditions.iter().find(same)?;
        usual.share(usual.cell(cell.route, cell.load, cell.direction)?)
    }
}

impl Cell {
    /// The median goodput of the runs in bit/s.
    pub fn goodput_bps(&self) -> Option<f64> {
        stats::median(&self.each(|run| run.goodput_bps))
    }

    /// A value of each run.
    pub fn each(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(value).collect()
    }
}
