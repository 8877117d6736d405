//! The results as a table in Markdown.

use super::results::{Cell, Judgement, Measured, Results};
use super::route::Route;
use super::run::Run;
use crate::stats;

const HEAD: &str = "| load | way | route | Mbit/s | least … most | share | asked | ping + ms (p95) | asked | \
                    call lost, p95 | links used | |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n";

/// The whole table: a part for each condition.
pub fn table(results: &Results) -> String {
    let mut text = String::new();
    for measured in &results.conditions {
        let idle: Vec<String> = measured.idle_rtts_ms.iter().map(|rtt| format!("{rtt:.1}")).collect();
        text += &format!(
            "### {}: {}\n\nround trips of the idle links: {} ms\n\n{HEAD}",
            measured.condition.name,
            measured.condition.label(),
            idle.join(", ")
        );
        measured.cells.iter().for_each(|cell| text += &line(results, measured, cell));
        text += "\n";
    }
    text + &footnote(results)
}

/// What bounds were missed, one a line; empty if none was.
pub fn misses(results: &Results) -> Vec<String> {
    let mut missed = Vec::new();
    for measured in &results.conditions {
        for cell in &measured.cells {
            let what = || {
                format!("{}, {}, {}, {}", measured.condition.label(), cell.route, cell.load, cell.direction)
            };
            if let Some(Judgement { bound, met: false }) = results.judge_share(measured, cell) {
                missed.push(format!("{}: share {}, asked {bound:.3}", what(), share(measured, cell)));
            }
            if let Some(Judgement { bound, met: false }) = results.judge_ping(measured, cell) {
                missed.push(format!("{}: ping {}, asked +{bound:.0}", what(), ping(measured, cell)));
            }
            if let Some(failure) = &cell.failure {
                missed.push(format!("{}: failed: {failure}", what()));
            }
        }
    }
    missed
}

fn footnote(results: &Results) -> String {
    let plan = &results.plan;
    let runs = match plan.runs {
        1 => "one run".to_owned(),
        runs => format!("medians of {runs} runs"),
    };
    format!(
        "{runs} of {} s after {} s; share: goodput of the links' summed rate of IP packets; ping: over the \
         fastest idle link's round trip; call: 50 datagrams per second, lost and 95th percentile of the time on \
         the way; links used: what each carried of its rate. \
         Linux {}, {} processors.\n",
        plan.seconds, plan.warm_up, results.machine.kernel, results.machine.processors
    )
}

fn line(results: &Results, measured: &Measured, cell: &Cell) -> String {
    let Cell { load, direction, route, .. } = cell;
    if cell.runs.is_empty() {
        let failure = cell.failure.as_deref().unwrap_or("not measured").replace(['\n', '|'], " ");
        return format!("| {load} | {direction} | {route} | {failure} | | | | | | | | |\n");
    }
    let rates = cell.each(|run| run.goodput_bps / 1e6);
    let bounds = [results.judge_share(measured, cell), results.judge_ping(measured, cell)];
    let [share_asked, ping_asked] = bounds.map(|bound| bound.map(|judgement| judgement.bound));
    let of_runs = |percent: f64| format!("{:.1}", stats::percentile(&rates, percent).unwrap_or(f64::NAN));
    format!(
        "| {load} | {direction} | {route} | {} | {} … {} | {} | {} | {} | {} | {} | {} | {} |\n",
        of_runs(50.0),
        of_runs(0.0),
        of_runs(100.0),
        share(measured, cell),
        share_asked.map(|bound| format!("{bound:.3}")).unwrap_or_default(),
        ping(measured, cell),
        ping_asked.map(|bound| format!("{bound:.0}")).unwrap_or_default(),
        call(cell),
        links(cell),
        verdict(measured, cell, &bounds)
    )
}

fn share(measured: &Measured, cell: &Cell) -> String {
    measured.share(cell).map(|share| format!("{share:.3}")).unwrap_or_default()
}

fn ping(measured: &Measured, cell: &Cell) -> String {
    let added = measured.added_ping_ms(cell);
    added.map(|[median, p95]| format!("{median:+.1} ({p95:+.1})")).unwrap_or_default()
}

fn call(cell: &Cell) -> String {
    let lost = stats::median(&cell.each(|run| run.call.lost)).unwrap_or(f64::NAN);
    let delays: Vec<f64> = cell.runs.iter().filter_map(|run| run.call.delay_p95_ms).collect();
    let delay = stats::median(&delays).map(|delay| format!("{delay:.0} ms")).unwrap_or_default();
    format!("{:.1} %, {delay}", lost * 100.0)
}

/// What the links carried of their rates: of the only one in use, or of each.
fn links(cell: &Cell) -> String {
    let count = cell.runs.first().map_or(0, |run| run.links.len());
    let used = (0..count).filter(|link| cell.route.link().is_none_or(|only| only == *link)).map(|link| {
        let share = |run: &Run| run.links.get(link).map_or(0.0, |used| used.share());
        format!("{:.0} %", stats::median(&cell.each(share)).unwrap_or(f64::NAN) * 100.0)
    });
    used.collect::<Vec<_>>().join(", ")
}

fn verdict(measured: &Measured, cell: &Cell, bounds: &[Option<Judgement>; 2]) -> String {
    let mut words = Vec::new();
    if bounds.iter().flatten().any(|judgement| !judgement.met) {
        words.push("**miss**");
    } else if bounds.iter().flatten().next().is_some() {
        words.push("pass");
    }
    let best = measured.best_alone_bps(cell.load, cell.direction);
    if cell.route == Route::Bonded && cell.goodput_bps().zip(best).is_some_and(|(bond, best)| bond < best) {
        words.push("**slower than the best link**");
    }
    if cell.runs.iter().any(|run| !run.doubts.is_empty()) {
        words.push("in doubt");
    }
    if cell.failure.is_some() {
        words.push("a run failed");
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{equal, results};
    use super::*;
    use crate::load::Load;
    use crate::wan::Direction;

    #[test]
    fn a_line_tells_what_was_measured_and_asked() {
        let text = table(&equal());
        assert!(text.contains("### equal: 50/20 + 50/20\n"), "{text}");
        let pass = "| one cubic flow | up | bonded | 94.0 | 80.0 … 95.0 | 0.940 | 0.910 | +10.0 (+10.0) | 15 | \
                    0.0 %, 30 ms |  | pass |";
        assert!(text.contains(pass), "{text}");
        assert!(
            text.contains("| 0.910 | 0.920 | +10.0 (+10.0) | 15 | 0.0 %, 30 ms |  | **miss** |"),
            "{text}"
        );
        assert_eq!(
            misses(&equal()),
            ["50/20 + 50/20, queues of 1000 ms, bonded, one cubic flow, up: share 0.910, asked 0.920"]
        );
    }

    #[test]
    fn a_cell_that_failed_keeps_the_table_whole() {
        let cell = Cell {
            route: Route::Bonded,
            load: Load::One,
            direction: Direction::Up,
            runs: Vec::new(),
            failure: Some("no way | through\nthe tunnel".into()),
        };
        let results = results("equal", vec![cell], Vec::new());
        let text = table(&results);
        let line = text.lines().find(|line| line.contains("no way")).unwrap();
        let columns = |line: &str| line.matches('|').count();
        assert_eq!(columns(line), columns(HEAD.lines().next().unwrap()), "{line}");
        assert_eq!(misses(&results).len(), 1);
        assert!(
            super::super::plots::plots(&results).unwrap().iter().all(|(name, _)| !name.starts_with("ping"))
        );
        assert!(serde_json::to_string(&results).is_ok());
    }
}
