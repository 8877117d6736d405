//! Links whose metric and rate limit change while they carry data, and what `show` says of their rates.
//!
//! ```text
//!   hosts ── local portal ══ 2 emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{play, s};
use netcombiner::sim::wire::Conditions;

use crate::BULK;

fn two_links(seed: u64) -> Setup {
    Setup::new(seed, [4.0, 4.0].map(|mbit| Conditions::new(mbit, 10.0)))
}

#[test]
fn a_rate_limit_holds_one_link_and_leaves_the_other_alone() {
    play(
        two_links(1),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(3)),
            Configure(Local, 0, 0, Some(1.0)),
            Run(s(1)),
            Mark,
            Run(s(4)),
            Check(Carried(Local, 0), AtMost(1.1)),
            Check(Carried(Local, 0), AtLeast(0.85)),
            Check(Carried(Local, 1), AtLeast(3.5)),
            Limit(Local, 0, "rate-limited"),
            // Without it the link is what it was.
            Configure(Local, 0, 0, None),
            Run(s(5)),
            Mark,
            Run(s(3)),
            Check(Carried(Local, 0), AtLeast(3.3)),
        ],
    );
}

#[test]
fn a_metric_is_in_force_at_once_in_both_directions() {
    play(
        two_links(2),
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(2)),
            Configure(Local, 0, 10, None),
            Run(s(1)),
            Mark,
            Run(s(2)),
            Check(Carried(Local, 0), AtMost(0.5)),
            Check(Carried(Remote, 0), AtMost(0.5)),
            Check(Carried(Local, 1), AtLeast(3.3)),
            Limit(Local, 0, "standby"),
            Configure(Local, 0, 0, None),
            Run(s(3)),
            Mark,
            Run(s(2)),
            Check(Carried(Local, 0), AtLeast(3.0)),
            Check(Carried(Remote, 0), AtLeast(3.0)),
        ],
    );
}

#[test]
fn the_rates_shown_are_those_of_the_wires_and_of_the_hosts() {
    let world = play(two_links(3), &[Start, Offer(Local, BULK), Run(s(4)), Mark, Run(s(3))]);
    for link in 0..2 {
        let carried = world.measure(Carried(Local, link));
        for shown in [SendRate(Local, link), ReceiveRate(Remote, link)] {
            let shown = world.measure(shown);
            assert!((shown / carried - 1.0).abs() < 0.03, "{shown} Mbit/s of {carried}");
        }
    }
    let (shown, goodput) = (world.measure(TrafficRate(Remote)), world.measure(Goodput(Local)));
    assert!((shown / goodput - 1.0).abs() < 0.03, "{shown} Mbit/s of {goodput}");
}
