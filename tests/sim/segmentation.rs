//! Network cards that lose what they are to cut apart: found out, and outlived; and paths that lose anyway.
//!
//! ```text
//!   hosts ── local portal ── network card ══ links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::host::LosesRuns;
use netcombiner::sim::scenario::Bound::{AtLeast, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{play, s};
use netcombiner::sim::wire::{Conditions, Loss};

use crate::CUBIC;

fn link() -> Conditions {
    Conditions::new(50.0, 15.0).queue_ms(60.0)
}

fn other() -> Conditions {
    Conditions::new(30.0, 25.0).queue_ms(60.0)
}

fn with_card(seed: u64, loses_runs: LosesRuns, paths: &[Conditions]) -> Setup {
    let mut setup = Setup::new(seed, paths.iter().cloned());
    setup.hosts[0].loses_runs = loses_runs;
    setup
}

#[test]
fn a_card_that_loses_all_runs_gets_none_any_more() {
    for (seed, paths) in [(1, vec![link()]), (2, vec![link(), other()])] {
        play(
            with_card(seed, LosesRuns::Whole, &paths),
            &[
                Start,
                Offer(Local, CUBIC),
                Within(s(4), InRuns(0), Exactly(0.0)),
                Run(s(10)),
                Mark,
                Run(s(5)),
                Check(ShareOfSum(Local), AtLeast(0.7)),
            ],
        );
    }
}

#[test]
fn one_that_loses_the_last_of_each_run_neither() {
    play(
        with_card(3, LosesRuns::TheLast, &[link()]),
        &[
            Start,
            Offer(Local, CUBIC),
            Within(s(15), InRuns(0), Exactly(0.0)),
            Run(s(3)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.8)),
        ],
    );
}

#[test]
fn a_path_that_loses_anyway_keeps_them() {
    let losses = [Loss::Random(0.01), Loss::Random(0.05), Loss::Bursts { begin: 0.001, end: 0.05 }];
    for (seed, loss) in (4..).zip(losses) {
        play(
            Setup::new(seed, [link().loss(loss), other().queue_ms(5.0)]),
            &[
                Start,
                Offer(Local, CUBIC),
                Offer(Remote, CUBIC),
                Run(s(30)),
                Cut(0),
                Run(s(2)),
                Mend(0),
                Run(s(30)),
                Check(InRuns(0), Exactly(1.0)),
                Check(InRuns(1), Exactly(1.0)),
            ],
        );
    }
}
