//! How the links' changes are followed.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::portal::{Method, Pair, PairOptions};
use evaluation::stats;
use evaluation::stream::{Progress, WatchedStream};
use evaluation::traffic::{Traffic, ends};
use evaluation::wait::until;
use evaluation::wan::Direction;

use super::{Plan, Row, median_of};

/// What TCP has of a link's rate in a tunnel: 1,384 bytes of 1,500 and a little less.
const SHARE: f64 = 0.92;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn two_links(rate: f64) -> Result<Lab> {
    Lab::new(&vec![LinkSpec::mbit(rate).delay_ms(20.0); 2])
}

/// One link's rate goes from 2 Mbit/s to another one and back.
pub(super) fn rates(plan: &Plan) -> Result<Vec<Row>> {
    // Seconds at each rate, and how many of them are not measured.
    const STAGE: f64 = 10.0;
    const SETTLING: f64 = 4.0;
    let lab = two_links(2.0)?;
    let (from, to, address) = ends(&lab, Direction::Down, Family::V4);
    let mut rows = Vec::new();
    for stages in [[2.0, 1.0, 2.0], [2.0, 3.0, 2.0]] {
        let pair = Pair::start_connected(&lab, &PairOptions::default())?;
        let mut runs = Vec::new();
        for _ in 0..plan.runs {
            let stream = WatchedStream::start(from, to, address)?;
            for rate in stages {
                lab.wire(1).change_both(|wire| wire.rate_bps = (rate * 1e6) as u64);
                sleep(secs(STAGE));
            }
            runs.push(stream.stop());
        }
        pair.stop()?;
        for (index, rate) in stages.into_iter().enumerate() {
            let begin = index as f64 * STAGE;
            let mut turns = runs.iter();
            let mbit = median_of(plan, || {
                let run =
                    turns.next().map(|run| run.goodput_bps(secs(begin + SETTLING), secs(begin + STAGE)));
                Ok(run.unwrap_or(0.0) / 1e6)
            })?;
            let [a, b, c] = stages;
            let turn = ["first", "then", "last"][index];
            let what = format!("a link of 2 Mbit/s and one of {a} → {b} → {c}: {turn}, at {rate}");
            rows.push(Row::at_least(what, mbit, (2.0 + rate) * SHARE * 0.85, "Mbit/s"));
        }
    }
    Ok(rows)
}

/// A link is lost for five seconds.
pub(super) fn regain(plan: &Plan) -> Result<Vec<Row>> {
    let lab = two_links(4.0)?;
    let mut rows = Vec::new();
    for direction in Direction::BOTH {
        let (from, to, address) = ends(&lab, direction, Family::V4);
        let pair = Pair::start_connected(&lab, &PairOptions::default())?;
        let mut runs = Vec::new();
        for _ in 0..plan.runs {
            let stream = WatchedStream::start(from, to, address)?;
            sleep(secs(10.0));
            lab.wire(1).cut(true);
            sleep(secs(5.0));
            lab.wire(1).cut(false);
            sleep(secs(10.0));
            runs.push(stream.stop());
        }
        pair.stop()?;
        let rate = |from: f64, to: f64| {
            let mut turns = runs.iter();
            median_of(
                plan,
                || Ok(turns.next().map_or(0.0, |run| run.goodput_bps(secs(from), secs(to))) / 1e6),
            )
        };
        let (before, during, after) = (rate(4.0, 10.0)?, rate(11.0, 15.0)?, rate(19.0, 25.0)?);
        let what = format!("one of two links of 4 Mbit/s is lost, {direction}");
        rows.push(Row::at_least(what, during, 4.0 * SHARE * 0.85, "Mbit/s"));
        let what = format!("and regained, against before, {direction}");
        rows.push(Row::at_least(what, after, before * 0.9, "Mbit/s"));
    }
    Ok(rows)
}

/// The longest time that a TCP stream and a call stand still when each link is cut and returns.
pub(super) fn survive(plan: &Plan) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (method, name) in [(Method::Udp, "UDP"), (Method::Tcp, "TCP")] {
        let options = PairOptions { method, ..PairOptions::default() };
        let (mut streams, mut calls) = (Vec::new(), Vec::new());
        for _ in 0..plan.runs {
            let lab = two_links(10.0)?;
            let pair = Pair::start_connected(&lab, &options)?;
            let traffic = Traffic::start(&lab, Family::V4)?;
            sleep(secs(2.0));
            for link in [0, 1] {
                lab.wire(link).cut(true);
                sleep(secs(3.0));
                lab.wire(link).cut(false);
                sleep(secs(4.0));
            }
            let ways = traffic.stop();
            pair.stop()?;
            // A connection that broke makes this fail.
            ways.iter().try_for_each(|way| way.survived(secs(30.0)))?;
            let still = |stream: &Progress| stream.longest_gap(Duration::ZERO, stream.watched);
            streams.push(longest(ways.iter().flat_map(|way| way.streams.iter().map(still))));
            calls.push(longest(ways.iter().map(|way| way.call.longest_gap)));
        }
        let what = format!("each of two {name} links cut and returned");
        let stream = stats::median(&streams).unwrap_or(f64::NAN);
        rows.push(Row::at_most(
            format!("{what}: longest a TCP connection stands still"),
            stream,
            1_000.0,
            "ms",
        ));
        let call = stats::median(&calls).unwrap_or(f64::NAN);
        rows.push(Row::at_most(format!("{what}: longest gap at 50 datagrams/s"), call, 500.0, "ms"));
    }
    Ok(rows)
}

fn longest(gaps: impl Iterator<Item = Duration>) -> f64 {
    gaps.max().unwrap_or_default().as_secs_f64() * 1e3
}

/// A link of a higher metric: what it carries while the other is usable, when it takes over, and when it
/// gives back.
pub(super) fn metric(plan: &Plan) -> Result<Vec<Row>> {
    let (mut share, mut takes, mut gives) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        let lab = two_links(10.0)?;
        let options = PairOptions { link_lines: vec![(1, "Metric = 5".into())], ..PairOptions::default() };
        let pair = Pair::start_connected(&lab, &options)?;
        let (from, to, address) = ends(&lab, Direction::Down, Family::V4);
        let bytes = |link| lab.wire(link).counters(Direction::Down).bytes;
        // The time until a link has carried a tenth of a second's data.
        let carries = |link, what| {
            let before = bytes(link);
            until(secs(20.0), what, || Ok(bytes(link) > before + 125_000)).map(|time| time.as_secs_f64())
        };
        let before = [bytes(0), bytes(1)];
        let stream = WatchedStream::start(from, to, address)?;
        sleep(secs(5.0));
        share.push((bytes(1) - before[1]) as f64 / (bytes(0) - before[0]).max(1) as f64 * 100.0);
        lab.wire(0).cut(true);
        takes.push(carries(1, "the spare link takes over")?);
        sleep(secs(2.0));
        lab.wire(0).cut(false);
        gives.push(carries(0, "the first link takes back")?);
        drop(stream);
        pair.stop()?;
    }
    let median = |values: &[f64]| stats::median(values).unwrap_or(f64::NAN);
    Ok(vec![
        Row::at_most("a link of higher metric carries, while the other is usable", median(&share), 1.0, "%"),
        Row::at_most(
            "it carries 10 Mbit/s for 100 ms after the other's loss within",
            median(&takes),
            1.0,
            "s",
        ),
        Row::at_most("the other one does after its return within", median(&gives), 3.0, "s"),
    ])
}
