//! The loads of the matrix and the routes they take.
//!
//! ```text
//! client -- local == wan0, wan1: 10 Mbit/s, 5 ms == internet -- remote, server
//! ```

use std::time::Duration;

use clap::ValueEnum;

use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::load::{Ends, Load};
use evaluation::may_build_labs;
use evaluation::wan::Direction;

const RATE: f64 = 10.0;

fn two_links() -> Lab {
    Lab::new(&vec![LinkSpec::mbit(RATE).delay_ms(5.0); 2]).unwrap()
}

/// Runs a load for so long; returns its goodput and what each link carried, in Mbit/s.
fn carry(lab: &Lab, ends: &Ends<'_>, load: Load, direction: Direction) -> (f64, Vec<f64>) {
    const TIME: Duration = Duration::from_secs(3);
    let bytes = || lab.wan().wires().iter().map(|wire| wire.counters(direction).bytes).collect::<Vec<_>>();
    let before = bytes();
    let running = load.start(ends, direction).unwrap();
    std::thread::sleep(TIME);
    let report = running.stop();
    assert_eq!(report.progress.fault, None, "{load} {direction}");
    assert_eq!(report.quic.is_some(), load == Load::Quic);
    let after = bytes();
    let carried = after.iter().zip(&before).map(|(after, before)| (after - before) as f64 * 8e-6 / 3.0);
    (report.progress.goodput_bps(Duration::ZERO, TIME) / 1e6, carried.collect())
}

#[test]
fn every_load_fills_a_link_both_ways() {
    if !may_build_labs("loads") {
        return;
    }
    let lab = two_links();
    for load in Load::value_variants() {
        for direction in Direction::BOTH {
            lab.route_directly(1).unwrap();
            let (goodput, carried) = carry(&lab, &Ends::of(&lab), *load, direction);
            assert!(
                goodput > RATE * 0.7 && carried[1] > goodput,
                "{load} {direction}: {goodput}, {carried:?}"
            );
            assert!(carried[0] < RATE * 0.05, "{load} {direction}: {carried:?}");
        }
    }
}

#[test]
fn multipath_tcp_takes_all_links() {
    if !may_build_labs("Multipath TCP") {
        return;
    }
    let lab = two_links();
    for direction in Direction::BOTH {
        let ends = Ends::over_mptcp(&lab).unwrap();
        let (goodput, carried) = carry(&lab, &ends, Load::One, direction);
        assert!(carried.iter().all(|rate| *rate > RATE * 0.2), "{direction}: {goodput}, {carried:?}");
    }
}
