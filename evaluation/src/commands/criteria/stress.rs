//! Bad datagrams, and portals that crash.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use evaluation::adversary::{Flood, Kind, Recorder, dropped_at_remote};
use evaluation::iperf::Iperf;
use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::portal::{Method, Pair, PairOptions};
use evaluation::stats;
use evaluation::wan::Direction;

use super::{Plan, Row, WARM_UP, iperf};

/// Bad datagrams in a second.
const RATE: u64 = 10_000;

/// A flood of every kind at the remote portal's port, while it carries a full link of 50 Mbit/s.
pub(super) fn flood(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&[LinkSpec::mbit(50.0).delay_ms(20.0)])?;
    let mut pair = Pair::start_connected(&lab, &PairOptions::default())?;
    let iperf = iperf(plan, Direction::Up, 8);
    let recorder = Arc::new(Recorder::start(&lab)?);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut sent, mut counted, mut dropped, mut seconds, mut answers, mut grown) = (0, 0, 0, 0.0, 0, 0);
    // The portals' own repairs that came in vain are counted too.
    let mut repairs = 0;
    for run in 0..plan.runs {
        without.push(iperf.run(&lab)?.goodput_bps);
        let portal = pair.remote()?;
        let before = (discards(&portal.show()?), dropped_at_remote(&lab)?, portal.rss_kb()?);
        let (report, outcome) = flooded(&lab, &iperf, &recorder, run as u64 + 1)?;
        sleep(Duration::from_millis(300));
        with.push(report);
        sent += outcome.total();
        seconds += outcome.seconds;
        answers += outcome.answers;
        counted += discards(&portal.show()?) - before.0;
        dropped += dropped_at_remote(&lab)? - before.1;
        repairs = portal.show()?["discards"]["duplicate"].as_u64().unwrap_or(0);
        grown = grown.max(portal.rss_kb()?.saturating_sub(before.2));
    }
    pair.stop()?;
    let median = |values: &[f64]| stats::median(values).context("no runs");
    let share = median(&with)? / median(&without)? * 100.0;
    let rate = sent as f64 / seconds;
    let what = format!("throughput at 50 Mbit/s under {rate:.0} bad datagrams/s, of that without them");
    let all = Row {
        what: "bad datagrams counted".into(),
        measured: format!("{counted} of {sent}, {dropped} dropped by the kernel, {answers} answers"),
        bound: "all, and no answer".into(),
        // What the kernel drops at a full socket, nobody else can count.
        met: counted + dropped >= sent && counted <= sent + repairs && answers == 0,
    };
    Ok(vec![
        Row::at_least(what, share, 95.0, "%"),
        all.told(),
        Row::at_most("growth of the portal's memory meanwhile", grown as f64 / 1e3, 1.0, "MB"),
    ])
}

/// Runs iperf3 under a flood that begins a little earlier and ends a little later than what it measures.
fn flooded(
    lab: &Lab,
    iperf: &Iperf,
    recorder: &Arc<Recorder>,
    seed: u64,
) -> Result<(f64, evaluation::adversary::Outcome)> {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| iperf.run(lab));
        sleep(Duration::from_secs(u64::from(WARM_UP) - 1));
        let flood = Flood::start(lab, Arc::clone(recorder), &Kind::ALL, RATE, seed)?;
        let report = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let outcome = flood.stop();
        Ok((report?.goodput_bps, outcome))
    })
}

/// All that the portal discarded.
fn discards(shown: &Value) -> u64 {
    let discards = shown["discards"].as_object().into_iter().flatten();
    discards.filter_map(|(_, count)| count.as_u64()).sum()
}

/// The time from the restart of a killed portal until traffic passes.
pub(super) fn restart(plan: &Plan) -> Result<Vec<Row>> {
    let lab = Lab::new(&vec![LinkSpec::mbit(50.0).delay_ms(20.0); 2])?;
    let mut rows = Vec::new();
    for (method, name) in [(Method::Udp, "UDP"), (Method::Tcp, "TCP")] {
        let mut pair = Pair::start_connected(&lab, &PairOptions { method, ..PairOptions::default() })?;
        for (local, which) in [(true, "local"), (false, "remote")] {
            let mut times = Vec::new();
            // Killed for no time, one second, two seconds: what the other one knows of it differs.
            for run in 0..plan.runs {
                let portal = if local { pair.take_local() } else { pair.take_remote() };
                portal?.kill();
                sleep(Duration::from_secs(run as u64));
                let begun = Instant::now();
                if local { pair.start_local() } else { pair.start_remote() }?;
                pair.wait_connected(Duration::from_secs(30))?;
                times.push(begun.elapsed().as_secs_f64());
            }
            let worst = times.iter().copied().fold(0.0, f64::max);
            let what = format!(
                "`kill -9` of the {which} portal, {name} links: traffic is back, worst of {}",
                plan.runs
            );
            rows.push(Row::at_most(what, worst, 3.0, "s"));
        }
        pair.stop()?;
    }
    Ok(rows)
}
