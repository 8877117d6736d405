//! Several links as one: the sum of their rates, whatever they are like.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use std::time::Duration;

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::play;
use netcombiner::sim::traffic::{Control, FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};

const BULK: Load = Load::Bulk { size: FULL };

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn two_equal_links_carry_their_sum() {
    let link = Conditions::new(20.0, 20.0);
    play(
        Setup::new(1, [link.clone(), link]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(2)),
            Mark,
            Run(s(20)),
            Check(ShareOfSum(Local), AtLeast(0.85)),
            Check(ShareOfBest(Local), AtLeast(0.95)),
        ],
    );
}
