//! Links that die, return, move or work one way only: the others carry on, and nobody waits long.
//!
//! ```text
//!   hosts ── local portal ── NAT ══ links that are cut ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{self, Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{Step, ms, play, s};
use netcombiner::sim::traffic::{FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};

use crate::{BULK, CUBIC, several_runs};

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
            Run(s(1)),
            Mark,
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
            Run(s(1)),
            Mark,
            Run(s(3)),
            Check(Carried(Local, 1), AtMost(0.01)),
            Check(Carried(Remote, 1), AtMost(0.01)),
            Check(Goodput(Local), AtLeast(16.0)),
        ],
    );
}

/// Two equal links of 50 Mbit/s and 20 ms one way, in which the bounds below are promised.
fn two_good_links(seed: u64) -> Setup {
    Setup::new(seed, [Conditions::new(50.0, 20.0), Conditions::new(50.0, 20.0)])
}

/// A TCP connection (flow 0) and a telephone call (flow 1) from `from` are under way when `failure` strikes.
fn stands_still(seed: u64, from: End, failure: Step, most_ms: f64, most_missing: f64) {
    play(
        two_good_links(seed),
        &[
            Start,
            Offer(from, CUBIC),
            Offer(from, Load::Voice),
            Run(s(8)),
            Mark,
            failure,
            Run(s(3)),
            Check(Stall(0), AtMost(most_ms)),
            Check(InnerTimeouts(0), Exactly(0.0)),
            Check(ShareOfBest(from), AtLeast(0.8)),
            Hush,
            Run(s(1)),
            Check(Missing(1), AtMost(most_missing)),
        ],
    );
}

#[test]
fn a_carrier_that_is_lost_stops_nobody_for_long() {
    for seed in [20, 21, 22] {
        for from in End::BOTH {
            // One of the 50 packets a second.
            stands_still(seed, from, Unplug(Local, seed as usize % 2), 150.0, 1.0);
        }
    }
}

#[test]
fn a_black_hole_stops_nobody_for_long() {
    for seed in [23, 24, 25] {
        for from in End::BOTH {
            stands_still(seed, from, Cut(seed as usize % 2), 300.0, 15.0);
        }
    }
}

#[test]
fn a_black_hole_in_one_direction_stops_nobody_for_long() {
    for seed in [26, 27, 28] {
        for from in End::BOTH {
            for way in End::BOTH {
                stands_still(seed, from, CutFrom(way, seed as usize % 2), 500.0, 25.0);
            }
        }
    }
}

#[test]
fn a_link_that_returns_is_used_in_full_within_a_second_and_a_half() {
    for from in End::BOTH {
        play(
            two_good_links(29),
            &[
                Start,
                Offer(from, CUBIC),
                Run(s(10)),
                Cut(1),
                Run(s(4)),
                Mend(1),
                Run(ms(1_500)),
                Mark,
                Run(s(2)),
                Check(ShareOfSum(from), AtLeast(0.9)),
            ],
        );
    }
}

#[test]
fn twenty_flaps_never_cost_the_stable_link() {
    let mut steps = vec![Start, Offer(Local, CUBIC), Run(s(10))];
    for _ in 0..20 {
        steps.extend([Mark, Cut(1), Run(s(2)), Mend(1), Run(s(2)), Check(ShareOfBest(Local), AtLeast(0.9))]);
    }
    play(two_good_links(30), &steps);
}

/// A drop from the queue is waited for by a round trip and the time that the queue stands: not for long, unless that is
/// kept long for a link that comes and goes.
#[test]
fn no_long_queue_is_kept_for_a_link_that_flaps() {
    for seed in [32, 33, 34] {
        let mut steps = vec![Start, Offer(Local, CUBIC), Run(s(6))];
        for flap in 0..9 {
            steps.extend((flap == 3).then_some(Mark));
            steps.extend([Cut(1), Run(s(2)), Mend(1), Run(s(2))]);
        }
        steps.extend([Check(Stall(0), AtMost(90.0)), Check(ShareOfBest(Local), AtLeast(0.95))]);
        play(two_good_links(seed), &steps);
    }
}

#[test]
fn a_ping_hardly_feels_a_link_whose_rate_falls_and_rises() {
    let (fast, slow) = (Conditions::new(50.0, 20.0), Conditions::new(10.0, 20.0));
    play(
        two_good_links(31),
        &[
            Start,
            Offer(Local, CUBIC),
            Offer(Local, Load::Ping(ms(20))),
            Run(s(10)),
            Mark,
            Change(1, slow),
            Run(s(5)),
            // 60 ms over the idle round trip of 40.
            Check(Delay(1, 95.0), AtMost(100.0)),
            Mark,
            Change(1, fast),
            Run(s(5)),
            Check(Delay(1, 95.0), AtMost(100.0)),
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

/// The second of two equal links has a higher metric at both ends.
fn one_to_spare(seed: u64, overflow: bool) -> Setup {
    let mut setup = two_good_links(seed);
    setup.hosts[0].metrics = vec![0, 1];
    setup.hosts.iter_mut().for_each(|host| host.policy.overflow = overflow);
    setup
}

#[test]
fn overflow_goes_over_a_higher_metric_when_the_lower_is_full() {
    let (moderate, greedy) = (Load::Rate { per_second: 2_000.0, size: FULL }, CUBIC);
    for (overflow, carried, goodput) in
        [(false, AtMost(0.1), AtMost(50.0)), (true, AtLeast(25.0), AtLeast(80.0))]
    {
        play(
            one_to_spare(32, overflow),
            &[
                Start,
                // 22.4 of 50 Mbit/s: there is room.
                Offer(Local, moderate),
                Run(s(5)),
                Mark,
                Run(s(5)),
                Check(Carried(Local, 1), AtMost(0.1)),
                Check(Goodput(Local), AtLeast(22.0)),
                Hush,
                Run(s(1)),
                Offer(Local, greedy),
                Run(s(20)),
                Mark,
                Run(s(5)),
                Check(Carried(Local, 1), carried),
                Check(Goodput(Local), goodput),
            ],
        );
    }
}

#[test]
fn a_call_that_is_sent_twice_waits_for_no_repair_and_survives_the_death_of_a_link() {
    let lossy = |ms| Conditions::new(20.0, ms).loss(Loss::Random(0.03));
    for (redundancy, delay) in [(false, AtLeast(60.0)), (true, AtMost(35.0))] {
        let mut setup = Setup::new(33, [lossy(20.0), lossy(25.0)]);
        setup.hosts.iter_mut().for_each(|host| host.policy.redundancy = redundancy);
        play(
            setup,
            &[
                Start,
                Offer(Local, Load::Voice),
                Run(s(20)),
                Check(Delay(0, 98.5), delay),
                Cut(1),
                Run(s(1)),
                Mend(1),
                Run(s(5)),
                Hush,
                Run(s(1)),
                Check(Missing(0), AtMost(3.0)),
            ],
        );
    }
}

#[test]
fn copies_leave_a_full_link_its_bytes() {
    let mut setup = Setup::new(34, [Conditions::new(2.0, 20.0), Conditions::new(2.0, 20.0)]);
    setup.hosts.iter_mut().for_each(|host| host.policy.redundancy = true);
    play(
        setup,
        &[
            Start,
            Offer(Local, Load::Rate { per_second: 400.0, size: 200 }),
            Offer(Local, CUBIC),
            Run(s(10)),
            Mark,
            Run(s(10)),
            // 0.64 Mbit/s without order are asked for, 0.86 with headers; no more than a tenth of 4 comes again.
            Check(Lost(0), AtMost(0.01)),
            Check(Goodput(Local), AtLeast(2.9)),
        ],
    );
}

/// Mbit/s of a TCP connection from `from` over these links.
fn goodput(seed: u64, from: End, links: &[Conditions]) -> f64 {
    let steps = [Start, Offer(from, CUBIC), Run(s(15)), Mark, Run(s(20))];
    let world = play(Setup::new(seed, links.to_vec()), &steps);
    println!("{}", world.portrait());
    world.measure(Goodput(from))
}

#[test]
fn a_link_that_is_too_bad_to_use_costs_the_others_nothing() {
    let good = [Conditions::new(50.0, 20.0), Conditions::new(50.0, 20.0)];
    let lossy = Conditions::new(20.0, 40.0).loss(Loss::Random(0.3)).reordering(60.0);
    let bursts = Conditions::new(20.0, 40.0).loss(Loss::Bursts { begin: 0.05, end: 0.1 }).jitter(100.0);
    for (seed, bad, from) in [(35, lossy, Local), (36, bursts, Remote)] {
        let alone = goodput(seed, from, &good);
        // One loss more is a twentieth: the median counts.
        let with = |seed| goodput(seed, from, &[&good[..], std::slice::from_ref(&bad)].concat());
        let five = several_runs::<5>(seed, with);
        println!("{bad:?} from {from:?}: {five:.1?} Mbit/s with it, {alone:.1} without");
        assert!(five[2] >= 0.97 * alone, "{five:?} Mbit/s with it, {alone} without");
    }
}

#[test]
fn reports_end_with_the_data_and_cost_little() {
    play(
        two_good_links(37),
        &[
            Start,
            Offer(Local, Load::Voice),
            Run(s(2)),
            Mark,
            Run(s(10)),
            // 75 bytes ten times a second.
            Check(Carried(Remote, 1), AtMost(0.02)),
            Hush,
            Run(s(2)),
            Mark,
            Run(s(60)),
            Check(Datagrams, Exactly(0.0)),
            Check(Timeouts, Exactly(0.0)),
        ],
    );
}
