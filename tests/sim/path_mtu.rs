//! Paths that carry less than their interfaces say, and tell nobody: found, followed, outlived.
//!
//! ```text
//!   hosts ── local portal ── NAT ══ links of several MTUs ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{ms, play, s};
use netcombiner::sim::traffic::Load;
use netcombiner::sim::wire::{Conditions, Loss};

use crate::{BULK, CUBIC};

/// What header and footer leave of an IP packet with UDP over IPv4.
const AROUND: f64 = 28.0 + 36.0;

fn link() -> Conditions {
    Conditions::new(20.0, 20.0).queue_ms(40.0)
}

fn other() -> Conditions {
    Conditions::new(10.0, 30.0).queue_ms(40.0)
}

#[test]
fn a_small_mtu_is_found_and_tcp_fits_it() {
    play(
        Setup::new(1, [link().mtu(1400), other()]),
        &[
            Start,
            Offer(Local, CUBIC),
            Offer(Remote, CUBIC),
            Within(s(2), PathMtu(0), Exactly(1400.0)),
            Within(s(1), Mtu(Remote), Exactly(1400.0 - AROUND)),
            Within(s(1), Mtu(Local), Exactly(1400.0 - AROUND)),
            Check(PathMtu(1), Exactly(1500.0)),
            Check(MtuChanges(Local), AtMost(1.0)),
            Run(s(8)),
            Mark,
            Run(s(10)),
            Check(ShareOfSum(Local), AtLeast(0.65)),
            Check(ShareOfSum(Remote), AtLeast(0.65)),
        ],
    );
}

#[test]
fn the_usual_path_settles_without_a_change() {
    play(
        Setup::new(2, [link(), other()]),
        &[
            Start,
            Within(ms(200), PathMtu(0), Exactly(1500.0)),
            Run(s(1)),
            Check(Mtu(Local), Exactly(1500.0 - AROUND)),
            Check(MtuChanges(Local), Exactly(0.0)),
            Check(MtuChanges(Remote), Exactly(0.0)),
        ],
    );
}

#[test]
fn a_lone_path_that_shrinks_does_not_end_a_connection() {
    for (seed, load) in [(3, CUBIC), (4, BULK)] {
        play(
            Setup::new(seed, [link()]),
            &[
                Start,
                Offer(Local, load),
                Offer(Remote, load),
                Run(s(5)),
                Change(0, link().mtu(1400)),
                Within(s(3), PathMtu(0), Exactly(1400.0)),
                Within(s(3), Mtu(Remote), Exactly(1400.0 - AROUND)),
                Within(s(1), Mtu(Local), Exactly(1400.0 - AROUND)),
                Run(s(8)),
                Mark,
                Run(s(10)),
                Check(ShareOfSum(Local), AtLeast(0.65)),
                Check(ShareOfSum(Remote), AtLeast(0.65)),
            ],
        );
    }
}

#[test]
fn meanwhile_the_other_links_carry_what_is_too_long() {
    play(
        Setup::new(5, [link(), other()]),
        &[
            Start,
            Offer(Local, CUBIC),
            Run(s(5)),
            Change(0, link().mtu(1400)),
            Run(ms(300)),
            Mark,
            Run(s(2)),
            Check(ShareOfBest(Local), AtLeast(0.35)),
            Within(s(2), PathMtu(0), Exactly(1400.0)),
            Run(s(10)),
            Mark,
            Run(s(10)),
            Check(ShareOfSum(Local), AtLeast(0.65)),
        ],
    );
}

#[test]
fn each_direction_has_its_own() {
    play(
        Setup::new(6, [link()]),
        &[
            ChangeFrom(Local, 0, link().mtu(1400)),
            ChangeFrom(Remote, 0, link().mtu(1460)),
            Start,
            Offer(Local, CUBIC),
            Offer(Remote, CUBIC),
            Run(s(3)),
            Check(Mtu(Local), Exactly(1400.0 - AROUND)),
            Check(Mtu(Remote), Exactly(1460.0 - AROUND)),
            Run(s(8)),
            Mark,
            Run(s(10)),
            Check(ShareOfSum(Local), AtLeast(0.65)),
            Check(ShareOfSum(Remote), AtLeast(0.65)),
        ],
    );
}

#[test]
fn losses_are_not_taken_for_a_small_mtu() {
    let burst = Loss::Bursts { begin: 0.005, end: 0.2 };
    for (seed, loss) in [(7, Loss::Random(0.02)), (8, Loss::Random(0.1)), (9, burst)] {
        play(
            Setup::new(seed, [link().loss(loss), other().loss(loss)]),
            &[
                Start,
                Offer(Local, BULK),
                Offer(Remote, CUBIC),
                Run(s(2)),
                Check(PathMtu(0), Exactly(1500.0)),
                Run(s(20)),
                Check(PathMtu(0), Exactly(1500.0)),
                Check(PathMtu(1), Exactly(1500.0)),
                Check(MtuChanges(Local), Exactly(0.0)),
                Check(MtuChanges(Remote), Exactly(0.0)),
                Check(Bounced(Local), Exactly(0.0)),
            ],
        );
    }
}

#[test]
fn a_small_link_that_comes_and_goes_does_not_move_the_mtu() {
    let mut steps = vec![Start, Offer(Local, Load::Voice), Run(s(3))];
    for _ in 0..5 {
        steps.extend([Cut(0), Run(s(60)), Mend(0), Run(s(30))]);
    }
    steps.extend([
        Check(MtuChanges(Local), Exactly(1.0)),
        Check(Mtu(Local), Exactly(1400.0 - AROUND)),
        // It is gone for good.
        Cut(0),
        Within(s(700), Mtu(Local), Exactly(1500.0 - AROUND)),
        Run(ms(200)),
        Check(MtuChanges(Local), Exactly(2.0)),
    ]);
    play(Setup::new(10, [link().mtu(1400), other()]), &steps);
}

#[test]
fn a_path_that_grows_is_used_after_a_while() {
    play(
        Setup::new(11, [link().mtu(1400)]),
        &[
            Start,
            Offer(Local, Load::Voice),
            Run(s(3)),
            Change(0, link()),
            Run(s(500)),
            Check(PathMtu(0), Exactly(1400.0)),
            Within(s(150), PathMtu(0), Exactly(1500.0)),
            Within(s(650), Mtu(Local), Exactly(1500.0 - AROUND)),
        ],
    );
}

#[test]
fn an_idle_link_is_not_probed() {
    play(
        Setup::new(12, [link().mtu(1400), other()]),
        &[
            Start,
            Run(s(10)),
            Mark,
            Run(s(3_600)),
            Check(Datagrams, Exactly(0.0)),
            Check(Timeouts, AtMost(20.0)),
        ],
    );
}

#[test]
fn a_link_too_small_for_ipv6_carries_what_fits() {
    play(
        Setup::new(13, [link().mtu(1280), other()]),
        &[
            Start,
            Offer(Local, CUBIC),
            Offer(Local, Load::Voice),
            Run(s(5)),
            Check(PathMtu(0), Exactly(1280.0)),
            Check(Mtu(Local), Exactly(1280.0)),
            Mark,
            Run(s(10)),
            // Of the other link, which carries all that is long.
            Check(Goodput(Local), AtLeast(8.0)),
            Check(Lost(1), AtMost(0.01)),
            // The faster one is for the call.
            Check(Carried(Local, 0), AtLeast(0.05)),
        ],
    );
}
