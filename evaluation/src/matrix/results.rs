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

#[cfg(test)]
pub(super) mod tests {
    use super::super::condition;
    use super::super::run::{Call, CpuUse, PingUnderLoad};
    use super::*;
    use crate::tcp_counters::TcpCounters;

    /// A run of so many Mbit/s with one round trip.
    fn run(mbit: f64, rtt_ms: f64) -> Run {
        Run {
            goodput_bps: mbit * 1e6,
            series_mbit: Vec::new(),
            tcp: TcpCounters::default(),
            quic: None,
            ping: PingUnderLoad { rtts_ms: vec![rtt_ms], lost: 0.0 },
            call: Call {
                lost: 0.0,
                reordered: 0.0,
                longest_gap_ms: 20.0,
                delay_p50_ms: Some(20.0),
                delay_p95_ms: Some(30.0),
                delay_p99_ms: None,
            },
            links: Vec::new(),
            cpu: CpuUse { machine: 0.5, emulator: 0.1, portals: None },
            portals: None,
            doubts: Vec::new(),
        }
    }

    fn cell(route: Route, load: Load, rates: &[f64]) -> Cell {
        let runs = rates.iter().map(|mbit| run(*mbit, 50.0)).collect();
        Cell { route, load, direction: Direction::Up, runs, failure: None }
    }

    /// Results of a condition, first with the usual queue, then with one of a second.
    pub(in super::super) fn results(name: &str, usual: Vec<Cell>, long: Vec<Cell>) -> Results {
        let condition =
            condition::all().unwrap().into_iter().find(|condition| condition.name == name).unwrap();
        let measured = |queue, cells| Measured {
            condition: condition.clone().with_queue(queue),
            idle_rtts_ms: vec![40.0, 60.0],
            cells,
        };
        Results {
            machine: Machine { kernel: "6.18".into(), processors: 2, development_build: false },
            plan: Plan { runs: 3, warm_up: 3, seconds: 10 },
            conditions: vec![measured(100.0, usual), measured(1_000.0, long)],
        }
    }

    /// The bond and its share under the usual queue and the long one.
    pub(in super::super) fn equal() -> Results {
        let bond = |rates| vec![cell(Route::Bonded, Load::One, rates)];
        results("equal", bond(&[80.0, 94.0, 95.0]), bond(&[91.0, 91.0, 93.0]))
    }

    #[test]
    fn medians_count_and_long_queues_are_held_to_the_usual_one() {
        let results = equal();
        let judge = |place: usize| {
            let measured = &results.conditions[place];
            results.judge_share(measured, &measured.cells[0]).unwrap()
        };
        assert_eq!(judge(0), Judgement { bound: 0.91, met: true });
        // 0.94 with the usual queue.
        let long = judge(1);
        assert!((long.bound - 0.92).abs() < 1e-9 && !long.met, "{long:?}");
        let [usual, _] = &results.conditions[..] else { panic!() };
        assert_eq!(usual.added_ping_ms(&usual.cells[0]), Some([10.0, 10.0]));
        assert_eq!(results.judge_ping(usual, &usual.cells[0]), Some(Judgement { bound: 15.0, met: true }));
    }

    #[test]
    fn a_bond_may_be_held_to_its_best_link() {
        let cells = vec![
            cell(Route::Bonded, Load::One, &[36.5]),
            cell(Route::Alone(0), Load::One, &[37.0]),
            cell(Route::Alone(1), Load::One, &[9.0]),
            cell(Route::Direct(0), Load::One, &[38.6]),
        ];
        let results = results("satellite", cells, Vec::new());
        let measured = &results.conditions[0];
        let judgement = results.judge_share(measured, &measured.cells[0]).unwrap();
        assert!(judgement.met && (judgement.bound - 0.98 * 37.0 / 60.0).abs() < 1e-9, "{judgement:?}");
        // Only the bond is judged.
        assert_eq!(results.judge_share(measured, &measured.cells[1]), None);
        assert_eq!(measured.share(&measured.cells[1]), Some(37.0 / 40.0));
    }
}
