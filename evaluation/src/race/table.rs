//! The results for people, in Markdown.

use super::measure::FLOWS;
use super::results::{Bound, Entry, Results, Target, runs};

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
         segmentation offload and with GRO, iperf3 with cubic, Gbit/s, {rounds}, {} s each. In brackets: times the \
         best other tunnel's figure. CPU is the tunnel's own process, user and system, without the kernel's threads; \
         machine is all of it, with the load. Linux {}, {} processors.\n",
        plan.seconds, results.machine.kernel, results.machine.processors
    )
}

fn line(results: &Results, entry: &Entry) -> String {
    let mut cells = vec![entry.contestant.name.clone()];
    for (flows, way) in runs() {
        let gbit = |entry: &Entry| Some(entry.goodput_bps(flows, way)? / 1e9);
        cells.push(against(gbit(entry), results.most_of_peers(gbit), 2));
    }
    for end in 0..2 {
        let cpu = |entry: &Entry| Some(entry.cpu_per_gb()?[end]);
        cells.push(against(cpu(entry), results.least_of_peers(cpu), 2));
    }
    cells.push(plain(entry.machine_per_gb(), 2, ""));
    let small = |entry: &Entry| entry.small_packets();
    cells.push(against(small(entry), results.most_of_peers(small), 0));
    cells.push(plain(entry.rtt_ms(), 3, " ms"));
    cells.push(plain(entry.peak_mb(), 1, " MB"));
    if let Some(failure) = &entry.failure {
        cells[1] += &format!(" failed: {}", failure.replace(['\n', '|'], " "));
    }
    format!("| {} |\n", cells.join(" | "))
}

fn against(value: Option<f64>, best: Option<f64>, digits: usize) -> String {
    let times = value.zip(best).map(|(value, best)| format!(" ({:.2})", value / best));
    plain(value, digits, "") + &times.unwrap_or_default()
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

/// A turn in a line.
pub fn summary(entry: &Entry) -> String {
    let gbit = |flows, way| plain(entry.goodput_bps(flows, way).map(|bps| bps / 1e9), 2, "");
    let speeds: Vec<String> = runs().map(|(flows, way)| gbit(flows, way)).collect();
    let small = plain(entry.small_packets(), 0, " small packets/s");
    format!("{} and {} connections: {} Gbit/s, {small}", FLOWS[0], FLOWS[1], speeds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

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
        assert!(serde_json::to_string(&results).is_ok());
    }
}
