//! The results for people, in Markdown.

use super::measure::{Heat, ROUNDS_OF_ONE_START, Turn, runs};
use super::results::{Best, Bound, Entry, Results, Target, connections, goodput};

const HEAD: &str = "| | one connection, up | down | eight, up | down | CPU s/GB, sender | receiver | machine | \
                    100-byte packets/s | idle RTT | memory |\n|---|---|---|---|---|---|---|---|---|---|---|\n";

/// The whole table, with what was asked.
pub fn table(results: &Results) -> String {
    let lines: String = results.entries.iter().map(|entry| line(results, entry)).collect();
    let targets: String = results.targets().iter().map(target).collect();
    let asked = if targets.is_empty() {
        String::new()
    } else {
        format!("\n| asked of netcombiner | measured | bound | |\n|---|---|---|---|\n{targets}")
    };
    format!("{}\n{HEAD}{lines}{asked}", preface(results))
}

/// What was missed, one a line; empty if nothing was.
pub fn misses(results: &Results) -> Vec<String> {
    let failed = results
        .entries
        .iter()
        .filter_map(|entry| Some(format!("{} failed: {}", entry.contestant.name, entry.failure.as_ref()?)));
    let missed = results.targets().into_iter().filter(|target| !target.met());
    failed.chain(missed.map(|target| format!("{}: {:.2}", target.what, target.value))).collect()
}

fn preface(results: &Results) -> String {
    let plan = &results.plan;
    let rounds = match plan.rounds {
        1 => "one round".to_owned(),
        rounds => format!("medians of {rounds} interleaved rounds"),
    };
    format!(
        "Measured by `evaluation race`: load and both ends of the tunnel on one machine, veth pairs without \
         segmentation offload and with GRO, iperf3 with {}, Gbit/s, {rounds}, {} s each. All stand at once, have \
         their turns one after the other, and are started anew every {ROUNDS_OF_ONE_START} rounds. In brackets: times \
         the best other tunnel's figure of the same round, median of the rounds. CPU is the tunnel's own process, user \
         and system, without the kernel's threads; machine is all of it, with the load. Linux {}, {} processors.\n",
        plan.congestion.name(),
        plan.seconds,
        results.machine.kernel,
        results.machine.processors
    )
}

fn line(results: &Results, entry: &Entry) -> String {
    let mut cells = vec![entry.contestant.name.clone()];
    for (flows, way) in runs() {
        let gbit = move |turn: &Turn| Some(goodput(flows, way)(turn)? / 1e9);
        cells.push(against(results, entry, Best::Most, gbit, 2));
    }
    for end in 0..2 {
        cells.push(against(results, entry, Best::Least, move |turn| turn.cpu_per_gb(end), 2));
    }
    cells.push(plain(entry.median(Turn::machine_per_gb), 2, ""));
    cells.push(against(results, entry, Best::Most, |turn| turn.small_packets, 0));
    cells.push(plain(entry.median(|turn| turn.rtt_ms), 3, " ms"));
    cells.push(plain(entry.peak_mb(), 1, " MB"));
    if let Some(failure) = &entry.failure {
        cells[1] += &format!(" failed: {}", failure.replace(['\n', '|'], " "));
    }
    format!("| {} |\n", cells.join(" | "))
}

fn against(
    results: &Results,
    entry: &Entry,
    best: Best,
    figure: impl Fn(&Turn) -> Option<f64> + Copy,
    digits: usize,
) -> String {
    let times = results.times(entry, best, figure).map(|times| format!(" ({times:.2})"));
    plain(entry.median(figure), digits, "") + &times.unwrap_or_default()
}

fn plain(value: Option<f64>, digits: usize, unit: &str) -> String {
    value.map(|value| format!("{value:.digits$}{unit}")).unwrap_or_default()
}

fn target(target: &Target) -> String {
    let bound = match target.bound {
        Bound::AtLeast(least) => format!("≥ {least}"),
        Bound::AtMost(most) => format!("≤ {most}"),
    };
    let word = if target.met() { "pass" } else { "**miss**" };
    format!("| {} | {:.2} | {bound} | {word} |\n", target.what, target.value)
}

/// What the last round's measurement brought, in a line.
pub fn summary(results: &Results, heat: Heat) -> String {
    let told = results.entries.iter().filter_map(|entry| {
        let figure = figure(heat, entry.turns.last()?)?;
        Some(format!("{} {figure}", entry.contestant.name))
    });
    format!("{}: {}", name(heat), told.collect::<Vec<_>>().join("; "))
}

fn name(heat: Heat) -> String {
    match heat {
        Heat::RoundTrip => "round trip, ms".into(),
        Heat::Idle => "processor time without traffic, s".into(),
        Heat::Tcp(flows, way) => format!("{}, {way}, Gbit/s", connections(flows)),
        Heat::SmallPackets => "packets of 100 bytes in a second".into(),
        Heat::Endurance => "under long load, Gbit/s".into(),
    }
}

fn figure(heat: Heat, turn: &Turn) -> Option<String> {
    let (value, digits) = match heat {
        Heat::RoundTrip => (turn.rtt_ms?, 3),
        Heat::Idle => (turn.idle?.busier_end(), 4),
        Heat::Tcp(flows, way) => (turn.tcp(flows, way)?.goodput_bps / 1e9, 2),
        Heat::SmallPackets => (turn.small_packets?, 0),
        Heat::Endurance => (turn.endurance.as_ref()?.goodput_bps / 1e9, 2),
    };
    Some(format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;
    use crate::wan::Direction;

    #[test]
    fn lines_tell_figures_and_ratios() {
        let mut results = results();
        results.entries[6].failure = Some("it | has\nended".into());
        let text = table(&results);
        assert!(text.contains("| netcombiner, aead | 3.00 (3.00) | 3.00 (3.00) |"), "{text}");
        assert!(
            text.contains(
                "| aead: processor time for a GB, sender, of the best peer's | 0.25 | ≤ 0.4 | pass |"
            )
        );
        assert!(
            text.contains("| mac, one connection, up: of the best peer's speed | 1.90 | ≥ 2 | **miss** |")
        );
        let columns = |line: &str| line.matches('|').count();
        let head = columns(HEAD.lines().next().unwrap());
        let entries = text.lines().filter(|line| line.contains("Gbit") || columns(line) > 6);
        entries.filter(|line| columns(line) > 6).for_each(|line| assert_eq!(columns(line), head, "{line}"));
        assert_eq!(misses(&results).len(), 9);
        let told = summary(&results, Heat::Tcp(8, Direction::Down));
        assert!(
            told.starts_with("8 connections, down, Gbit/s: no tunnel 20.00; netcombiner, aead 3.00;"),
            "{told}"
        );
        assert_eq!(summary(&results, Heat::Idle), "processor time without traffic, s: ");
        assert!(serde_json::to_string(&results).is_ok());
    }
}
