//! Links that die, return, move or work one way only: the others carry on, and nobody waits long.
//!
//! ```text
//!   hosts ── local portal ── NAT ══ links that are cut ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{ms, play, s};
use netcombiner::sim::traffic::{Control, FULL, Load};
use netcombiner::sim::wire::Conditions;

const BULK: Load = Load::Bulk { size: FULL };
const CUBIC: Load = Load::Tcp { control: Control::Cubic, segments: None };

/// Round trips of 40 and 60 ms unloaded, and queues that add at most 20 ms.
fn two_links(seed: u64) -> Setup {
    Setup::new(seed, [(20.0, 20.0), (10.0, 30.0)].map(|(mbit, ms)| Conditions::new(mbit, ms).queue_ms(20.0)))
}

#[test]
fn a_link_that_dies_under_load_is_noticed_and_its_return_is_used() {
    play(
        two_links(1),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(3)),
            Cut(0),
            // 1.5 round trips of 60 ms (with the queue) and 100 ms.
            Within(ms(190), LinkUp(Local, 0), Exactly(0.0)),
            Mark,
            Run(s(5)),
            Check(ShareOfBest(Local), AtLeast(0.8)),
            Mend(0),
            Within(ms(1_000), LinkUp(Local, 0), Exactly(1.0)),
            Within(ms(1_000), LinkUp(Remote, 0), Exactly(1.0)),
            Run(s(2)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.85)),
        ],
    );
}

#[test]
fn a_tcp_connection_survives_the_death_of_a_link() {
    play(
        two_links(2),
        &[
            Start,
            Offer(Local, CUBIC),
            Run(s(3)),
            Cut(0),
            Run(s(1)),
            Mark,
            Run(s(5)),
            Check(ShareOfBest(Local), AtLeast(0.8)),
        ],
    );
}

#[test]
fn a_link_that_died_unnoticed_while_idle_is_noticed_at_the_first_packets() {
    play(
        two_links(3),
        &[
            Start,
            Run(s(20)),
            Cut(0),
            Run(s(20)),
            Offer(Local, Load::Voice),
            Within(ms(400), LinkUp(Local, 0), Exactly(0.0)),
            Mark,
            Run(s(5)),
            Check(Lost(0), AtMost(0.02)),
        ],
    );
}

#[test]
fn the_death_of_all_links_is_outlived() {
    play(
        two_links(4),
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(2)),
            Cut(0),
            Cut(1),
            Run(s(30)),
            Check(Timeouts, AtMost(20_000.0)),
            Mend(0),
            Mend(1),
            Within(s(3), LinksUp(Local), Exactly(2.0)),
            Within(s(3), LinksUp(Remote), Exactly(2.0)),
            Run(s(3)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.6)),
            Check(ShareOfSum(Remote), AtLeast(0.6)),
        ],
    );
}

#[test]
fn the_last_link_is_never_given_up() {
    play(
        Setup::new(5, [Conditions::new(10.0, 20.0)]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(2)),
            Cut(0),
            Run(s(10)),
            Mend(0),
            Within(s(3), LinksUp(Local), Exactly(1.0)),
            Run(s(3)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.7)),
        ],
    );
}

#[test]
fn a_way_out_that_fails_alone_is_noticed_by_both() {
    play(
        two_links(6),
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(3)),
            CutFrom(Local, 0),
            Within(ms(1_500), LinkUp(Local, 0), Exactly(0.0)),
            Within(ms(1_500), LinkUp(Remote, 0), Exactly(0.0)),
            Mark,
            Run(s(5)),
            // Of the other link, both ways.
            Check(Goodput(Local), AtLeast(7.5)),
            Check(Goodput(Remote), AtLeast(7.5)),
            Mend(0),
            Within(s(2), LinksUp(Local), Exactly(2.0)),
            Within(s(2), LinksUp(Remote), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_way_back_that_fails_alone_is_noticed_too() {
    play(
        two_links(7),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(3)),
            CutFrom(Remote, 0),
            Within(ms(190), LinkUp(Local, 0), Exactly(0.0)),
            Mark,
            Run(s(5)),
            Check(Goodput(Local), AtLeast(8.0)),
        ],
    );
}

#[test]
fn a_nat_that_forgets_is_followed_under_load() {
    play(
        two_links(8),
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(2)),
            Mark,
            Rebind(0),
            Run(s(5)),
            Check(LinkUp(Remote, 0), Exactly(1.0)),
            Check(ShareOfSum(Local), AtLeast(0.8)),
            Check(ShareOfSum(Remote), AtLeast(0.7)),
            Check(Links(Remote), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_nat_that_forgets_is_followed_in_a_download() {
    play(
        two_links(9),
        &[
            Start,
            Offer(Remote, BULK),
            Run(s(2)),
            Rebind(0),
            Rebind(1),
            Within(s(3), LinksUp(Remote), Exactly(2.0)),
            Run(s(2)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Remote), AtLeast(0.6)),
            Check(Links(Remote), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_higher_metric_waits_until_the_lower_one_is_dead() {
    let mut setup = two_links(10);
    setup.hosts[0].metrics = vec![0, 1];
    play(
        setup,
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(5)),
            // Nothing but what keeps it known.
            Check(Carried(Local, 1), AtMost(0.01)),
            Check(Carried(Remote, 1), AtMost(0.01)),
            Cut(0),
            Run(s(1)),
            Mark,
            Run(s(3)),
            Check(Goodput(Local), AtLeast(7.0)),
            Check(Goodput(Remote), AtLeast(7.0)),
            Mend(0),
            Within(s(1), LinkUp(Local, 0), Exactly(1.0)),
            Within(s(1), LinkUp(Remote, 0), Exactly(1.0)),
            Run(ms(500)),
            Mark,
            Run(s(3)),
            Check(Carried(Local, 1), AtMost(0.01)),
            Check(Carried(Remote, 1), AtMost(0.01)),
            Check(Goodput(Local), AtLeast(16.0)),
        ],
    );
}

#[test]
fn a_link_that_flaps_does_not_stop_the_other() {
    let mut steps = vec![Start, Offer(Local, BULK), Run(s(2)), Mark];
    for _ in 0..10 {
        steps.extend([Cut(1), Run(ms(700)), Mend(1), Run(ms(700))]);
    }
    steps.push(Check(ShareOfBest(Local), AtLeast(0.9)));
    play(two_links(11), &steps);
}
