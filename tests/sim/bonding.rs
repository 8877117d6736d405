//! Several links as one: the sum of their rates, whatever they are like.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::core::outbound::Train;
use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::core::units::LinkId;
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{self, AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{ms, play, s};
use netcombiner::sim::traffic::{FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};

use crate::{BULK, CUBIC, several_runs};

#[test]
fn all_links_come_up_within_a_few_round_trips() {
    let paths = [Conditions::new(20.0, 20.0), Conditions::new(10.0, 40.0), Conditions::new(5.0, 60.0)];
    // Handshake, first probe with a joining answer: the slowest round trip twice, and a timer's grain.
    play(Setup::new(1, paths), &[Within(ms(260), LinksUp(Remote), Exactly(3.0)), Start]);
}

/// Greedy load over `paths`, with either congestion control: near the sum, and in order as far as the links'
/// own queues stay short, which NewReno does not see to.
fn carries_the_sum(seed: u64, paths: [Conditions; 2]) {
    for (algorithm, disorder) in [(Algorithm::Bbr, 0.001), (Algorithm::NewReno, 0.1)] {
        let mut setup = Setup::new(seed, paths.clone());
        setup.hosts.iter_mut().for_each(|host| host.algorithm = algorithm);
        play(
            setup,
            &[
                Start,
                Offer(Local, BULK),
                Run(s(4)),
                Mark,
                Run(s(10)),
                Check(ShareOfSum(Local), AtLeast(0.85)),
                Check(ShareOfBest(Local), AtLeast(0.95)),
                Check(Reordered(0), AtMost(disorder)),
            ],
        );
    }
}

#[test]
fn two_equal_links_carry_their_sum() {
    carries_the_sum(1, [Conditions::new(10.0, 20.0), Conditions::new(10.0, 20.0)]);
}

#[test]
fn two_unequal_links_carry_their_sum() {
    carries_the_sum(2, [Conditions::new(20.0, 10.0), Conditions::new(4.0, 60.0)]);
}

/// 34 of 40 Mbit/s, more than either link has.
fn disorder(load: Load, bound: Bound) {
    let paths = [Conditions::new(20.0, 10.0), Conditions::new(20.0, 35.0).loss(Loss::Random(0.005))];
    let steps = [Start, Offer(Local, load), Run(s(4)), Mark, Run(s(10)), Check(Reordered(0), bound)];
    play(Setup::new(3, paths), &steps);
}

#[test]
fn quic_is_put_in_order_at_any_port_and_other_udp_is_not() {
    disorder(Load::Quic { per_second: 3_000.0, size: FULL }, AtMost(0.001));
    disorder(Load::Rate { per_second: 3_000.0, size: FULL }, AtLeast(0.1));
}

#[test]
fn a_ping_and_a_call_beside_a_greedy_load_take_the_fast_link_and_wait_little() {
    let shallow = |mbit, ms| Conditions::new(mbit, ms).queue_ms(100.0);
    play(
        Setup::new(20, [shallow(20.0, 15.0), shallow(10.0, 50.0)]),
        &[
            Start,
            Offer(Local, BULK),
            Offer(Local, Load::Ping(ms(50))),
            Offer(Local, Load::Voice),
            Run(s(4)),
            Mark,
            Run(s(20)),
            Check(Delay(1, 50.0), AtMost(60.0)),
            Check(Delay(1, 95.0), AtMost(100.0)),
            Check(Delay(2, 95.0), AtMost(60.0)),
            Check(Lost(2), AtMost(0.01)),
        ],
    );
}

#[test]
fn many_conversations_each_keep_their_order() {
    let jittery = |mbit, ms| Conditions::new(mbit, ms).reordering(8.0).loss(Loss::Random(0.005));
    let mut steps = vec![Start];
    steps.extend((0..8).map(|_| Offer(Local, CUBIC)));
    steps.extend([Run(s(3)), Mark, Run(s(10))]);
    steps.extend((0..8).map(|flow| Check(Reordered(flow), AtMost(0.01))));
    steps.push(Check(ShareOfSum(Local), AtLeast(0.6)));
    play(Setup::new(21, [jittery(15.0, 15.0), jittery(10.0, 35.0)]), &steps);
}

#[test]
fn a_tcp_connection_over_lossy_links_is_not_stopped_by_their_loss() {
    let lossy = |mbit, ms| Conditions::new(mbit, ms).loss(Loss::Random(0.01));
    play(
        Setup::new(22, [lossy(20.0, 20.0), lossy(10.0, 30.0)]),
        &[Start, Offer(Local, CUBIC), Run(s(4)), Mark, Run(s(20)), Check(ShareOfBest(Local), AtLeast(0.5))],
    );
}

/// What is lost four times in a row costs the flow a second, so one run is luck: the median of three counts.
#[test]
fn links_that_lose_much_carry_their_sum() {
    for (seed, loss, bound) in [(23, 0.02, 0.93), (24, 0.05, 0.88), (25, 0.1, 0.75)] {
        for (near, far) in [(3.0, 8.0), (20.0, 30.0), (40.0, 60.0)] {
            let lossy = |mbit, ms| Conditions::new(mbit, ms).loss(Loss::Random(loss));
            let share = |seed| {
                let setup = Setup::new(seed, [lossy(20.0, near), lossy(10.0, far)]);
                play(setup, &[Start, Offer(Local, CUBIC), Run(s(8)), Mark, Run(s(20))])
                    .measure(ShareOfSum(Local))
            };
            let shares = several_runs::<3>(seed, share);
            assert!(shares[1] >= bound, "{loss} lost over {near} and {far} ms: {shares:.2?} of the sum");
        }
    }
}

#[test]
fn a_link_that_loses_and_whose_router_holds_little_is_not_overrun_by_its_repairs() {
    let lossy = |mbit, ms, held: u64| {
        Conditions { queue: Some(held), ..Conditions::new(mbit, ms) }.loss(Loss::Random(0.05))
    };
    play(
        Setup::new(41, [lossy(6.0, 8.0, 6_000), lossy(1.0, 36.0, 6_000)]),
        &[Start, Offer(Local, CUBIC), Run(s(5)), Mark, Run(s(10)), Check(ShareOfSum(Local), AtLeast(0.75))],
    );
}

/// Links that take turns for a few packets each cost the other portal more than they gain.
#[test]
fn what_one_link_brings_in_a_moment_is_not_spread() {
    let mut world =
        play(Setup::new(43, [Conditions::new(400.0, 10.0), Conditions::new(400.0, 10.0)]), &[Start]);
    world.offer(Local, BULK);
    world.run(s(2));
    world.hush();
    world.run(s(1));
    let (host, mut bounced) = (&world.hosts[0], Vec::new());
    let now = host.local(world.now());
    // How many of so many packets of one TCP connection leave over the second link, if it is asked first.
    let mut leave = |count| {
        let mut packets = Vec::new();
        host.portal.lend(&mut packets, count);
        for packet in &mut packets {
            let mut bytes = [0; FULL];
            (bytes[0], bytes[2], bytes[3], bytes[9]) = (0x45, (FULL >> 8) as u8, FULL as u8, 6);
            packet.fill(&bytes);
        }
        host.portal.enqueue(now, packets.drain(..), &mut bounced);
        let mut train = Train::default();
        host.portal.pull(now, LinkId(1), &mut train);
        let left = train.len();
        host.portal.pull(now, LinkId(0), &mut train);
        left
    };
    // 5,000 bytes in 100 µs. The first two packets are none of the backlog.
    assert_eq!(leave(4), 2);
    assert!(leave(16) > 10);
}

/// What all links have in common, such as the line of the remote portal, is filled once.
#[test]
fn links_that_share_a_bottleneck_fill_it_and_leave_its_queue_short() {
    let mut setup = Setup::new(44, [Conditions::new(60.0, 10.0), Conditions::new(40.0, 25.0)]);
    let common = Conditions::new(50.0, 1.0).queue_ms(150.0);
    setup.shared = Some([common.clone(), common]);
    let steps = [Start, Offer(Local, CUBIC), Offer(Local, Load::Ping(ms(50))), Run(s(5)), Mark, Run(s(10))];
    let world = play(setup, &steps);
    let share = world.measure(Goodput(Local)) / 50.0;
    assert!(share >= 0.88, "{share:.2} of it\n{}", world.portrait());
    let ping = world.flows[1].report.delay_ms(95.0);
    assert!(ping < 90.0, "{ping:.0} ms for a ping that takes 22\n{}", world.portrait());
}

/// A radio cell or Wi-Fi delivers what has gathered, and acknowledgements come as unevenly.
#[test]
fn links_that_deliver_in_slots_carry_their_sum() {
    play(
        Setup::new(46, [Conditions::new(30.0, 15.0).slots(15.0), Conditions::new(20.0, 25.0).slots(10.0)]),
        &[Start, Offer(Local, CUBIC), Run(s(6)), Mark, Run(s(8)), Check(ShareOfSum(Local), AtLeast(0.9))],
    );
}

/// A policer drops what exceeds its rate, here a sixth of the line's, which the model of the path believes in. The
/// conversation inside has not enough to show that the model is wrong.
#[test]
fn a_policer_is_found_by_a_load_that_does_not_fill_the_links() {
    let policed = |line: f64, ms, rate, burst| Conditions::new(line, ms).policed(rate, burst);
    play(
        Setup::new(45, [policed(188.0, 21.0, 20.7, 87_000), policed(87.0, 18.0, 13.9, 1_059_000)]),
        &[Start, Offer(Local, CUBIC), Run(s(6)), Mark, Run(s(8)), Check(Goodput(Local), AtLeast(26.0))],
    );
}

/// What is lost at any rate is no reason to send less.
#[test]
fn a_link_that_loses_a_sixth_of_everything_is_filled() {
    let given = several_runs::<5>(46, |seed| {
        let lossy = Conditions::new(50.0, 13.0).loss(Loss::Random(0.16));
        let world = play(Setup::new(seed, [lossy]), &[Start, Offer(Local, BULK), Run(s(5)), Mark, Run(s(5))]);
        world.measure(Goodput(Local))
    });
    assert!(given[2] >= 32.0, "{given:.1?} of 42 Mbit/s that arrive");
}

/// A window of theirs is a few packets, and what gets through of so few is luck.
#[test]
fn policers_of_slow_links_lose_little() {
    let given = several_runs::<5>(47, |seed| {
        let paths = [(2.8, 6.0, 19_000), (4.7, 25.0, 15_000)];
        let paths = paths.map(|(rate, ms, burst)| Conditions::new(50.0, ms).policed(rate, burst));
        let world = play(Setup::new(seed, paths), &[Start, Offer(Local, CUBIC), Run(s(6)), Mark, Run(s(20))]);
        world.measure(Goodput(Local))
    });
    assert!(given[2] >= 6.0, "{given:.1?} of 7.5 Mbit/s");
}

/// The first windows overflow the queues of the slow ways up.
#[test]
fn a_slow_link_that_was_filled_too_fast_is_not_left_for_long() {
    let path = |down, up, ms, queue| {
        [Conditions::new(up, ms).queue_ms(queue), Conditions::new(down, ms).queue_ms(queue)]
    };
    let mut setup = Setup::new(42, []);
    setup.paths = vec![path(9.6, 1.2, 8.0, 38.0), path(16.0, 2.0, 17.0, 83.0), path(27.0, 1.7, 14.0, 77.0)];
    let flows = (0..8).map(|i| Offer(if i < 4 { Remote } else { Local }, CUBIC));
    let steps = [
        Run(s(2)),
        Mark,
        Run(s(8)),
        Check(Goodput(Local), AtLeast(3.6)),
        Check(Goodput(Remote), AtLeast(44.0)),
    ];
    let steps: Vec<_> = std::iter::once(Start).chain(flows).chain(steps).collect();
    play(setup, &steps);
}

#[test]
fn many_conversations_fill_a_later_link_too() {
    // It helps only while more waits than the fast one brings in the 40 ms between them.
    let setup = Setup::new(43, [Conditions::new(200.0, 8.0), Conditions::new(60.0, 48.0)]);
    let flows = (0..36).map(|_| Offer(Local, CUBIC));
    let check = [Run(s(6)), Mark, Run(s(4)), Check(Goodput(Local), AtLeast(225.0))];
    let steps: Vec<_> = std::iter::once(Start).chain(flows).chain(check).collect();
    play(setup, &steps);
}

#[test]
fn both_directions_are_filled_at_once() {
    // Without any jitter the two links would move in step.
    let asymmetric = [10.0, 20.0].map(|mbit| Conditions::new(mbit, 15.0).jitter(0.2));
    let mut setup = Setup::new(3, []);
    setup.paths = vec![asymmetric.clone(), asymmetric];
    play(
        setup,
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(3)),
            Mark,
            Run(s(10)),
            // NewReno's linear growth: the acknowledgements of this direction wait in the other's queue.
            Check(ShareOfSum(Local), AtLeast(0.65)),
            Check(ShareOfSum(Remote), AtLeast(0.85)),
        ],
    );
}

#[test]
fn a_download_does_not_drown_in_its_acknowledgements() {
    let mut setup = Setup::new(4, []);
    setup.paths = vec![[Conditions::new(0.5, 15.0), Conditions::new(25.0, 15.0)]];
    play(
        setup,
        &[
            Start,
            Offer(Remote, BULK),
            Run(s(3)),
            Mark,
            Run(s(10)),
            Check(ShareOfSum(Remote), AtLeast(0.85)),
            Check(Carried(Local, 0), AtMost(0.3)),
        ],
    );
}

#[test]
fn one_tcp_connection_is_not_held_up_by_uplinks_fifty_times_slower() {
    let link = || [Conditions::new(1.0, 20.0), Conditions::new(50.0, 20.0)];
    let mut setup = Setup::new(28, []);
    setup.paths = vec![link(), link()];
    play(
        setup,
        &[Start, Offer(Remote, CUBIC), Run(s(3)), Mark, Run(s(6)), Check(ShareOfSum(Remote), AtLeast(0.88))],
    );
}

#[test]
fn the_acknowledgements_of_many_downloads_do_not_stand_in_a_modem() {
    let link = || [Conditions::new(2.0, 20.0), Conditions::new(100.0, 20.0)];
    let mut setup = Setup::new(35, []);
    setup.paths = vec![link(), link()];
    let mut steps = vec![Start, Offer(Local, Load::Ping(ms(50)))];
    steps.extend((0..8).map(|_| Offer(Remote, CUBIC)));
    steps.extend([
        Run(s(3)),
        Mark,
        Run(s(6)),
        Check(ShareOfSum(Remote), AtLeast(0.88)),
        // The round trip of 40 ms is idle's.
        Check(Delay(0, 50.0), AtMost(65.0)),
        Check(Delay(0, 95.0), AtMost(100.0)),
    ]);
    play(setup, &steps);
}

#[test]
fn calls_that_are_too_many_for_the_fast_link_take_the_other_too() {
    let mut steps = vec![Start];
    steps.extend((0..60).map(|_| Offer(Local, Load::Voice)));
    steps.extend([Run(s(3)), Mark, Run(s(5))]);
    for call in [0, 29, 59] {
        steps.extend([Check(Lost(call), AtMost(0.03)), Check(Delay(call, 95.0), AtMost(110.0))]);
    }
    play(Setup::new(36, [Conditions::new(4.0, 10.0), Conditions::new(8.0, 40.0)]), &steps);
}

#[test]
fn one_tcp_connection_alone_on_one_link_is_not_slowed_much() {
    play(
        Setup::new(5, [Conditions::new(20.0, 20.0)]),
        &[Start, Offer(Local, CUBIC), Run(s(3)), Mark, Run(s(10)), Check(ShareOfSum(Local), AtLeast(0.85))],
    );
}

#[test]
fn one_tcp_connection_gains_from_a_second_equal_link() {
    let link = Conditions::new(10.0, 20.0);
    play(
        Setup::new(6, [link.clone(), link]),
        &[Start, Offer(Local, CUBIC), Run(s(3)), Mark, Run(s(10)), Check(ShareOfBest(Local), AtLeast(0.95))],
    );
}

#[test]
fn one_tcp_connection_over_unequal_links() {
    play(
        Setup::new(7, [Conditions::new(10.0, 10.0), Conditions::new(10.0, 30.0)]),
        &[Start, Offer(Local, CUBIC), Run(s(3)), Mark, Run(s(10)), Check(ShareOfBest(Local), AtLeast(0.95))],
    );
}

#[test]
fn loss_costs_newreno_what_the_square_root_law_says() {
    let lossy = Conditions::new(20.0, 20.0).loss(Loss::Random(0.01));
    let mut setup = Setup::new(8, [lossy.clone(), lossy]);
    setup.hosts.iter_mut().for_each(|host| host.algorithm = Algorithm::NewReno);
    play(
        setup,
        &[
            Start,
            Offer(Local, BULK),
            Run(s(2)),
            Mark,
            Run(s(30)),
            // Mathis: 1464 bytes, 41 ms, 1 %: 3.5 Mbit/s a link at best.
            Check(Goodput(Local), AtLeast(5.0)),
        ],
    );
}

#[test]
fn bursts_of_loss_on_one_link_leave_the_other_alone() {
    let bursts = Conditions::new(10.0, 20.0).loss(Loss::Bursts { begin: 0.002, end: 0.1 });
    play(
        Setup::new(9, [Conditions::new(10.0, 20.0), bursts]),
        &[Start, Offer(Local, BULK), Run(s(2)), Mark, Run(s(30)), Check(ShareOfBest(Local), AtLeast(1.05))],
    );
}

#[test]
fn reordering_on_a_link_is_learned_and_costs_little() {
    let shuffled = Conditions::new(10.0, 20.0).reordering(10.0);
    play(
        Setup::new(10, [shuffled.clone(), shuffled]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(5)),
            Mark,
            Run(s(10)),
            Check(Reordered(0), AtMost(0.001)),
            Check(ShareOfSum(Local), AtLeast(0.85)),
        ],
    );
}

#[test]
fn duplicates_by_the_network_arrive_once() {
    let twice = Conditions::new(20.0, 20.0).duplicate(0.1).reordering(5.0);
    play(
        Setup::new(11, [twice.clone(), twice]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(5)),
            Check(DiscardsFor(Remote, "replayed"), AtLeast(1_000.0)),
            Check(ShareOfSum(Local), AtLeast(0.75)),
        ],
    );
}

#[test]
fn a_rate_step_is_followed() {
    let (slow, fast) = (Conditions::new(3.0, 20.0), Conditions::new(15.0, 20.0));
    play(
        Setup::new(12, [Conditions::new(5.0, 20.0), fast.clone()]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(5)),
            Change(1, slow),
            Run(s(2)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.85)),
            Change(1, fast),
            Run(s(10)),
            Mark,
            Run(s(5)),
            Check(ShareOfSum(Local), AtLeast(0.7)),
        ],
    );
}

#[test]
fn a_satellite_round_trip_of_600_ms_is_filled() {
    play(
        Setup::new(13, [Conditions::new(20.0, 300.0).queue_ms(600.0)]),
        &[Start, Offer(Local, BULK), Run(s(10)), Mark, Run(s(10)), Check(ShareOfSum(Local), AtLeast(0.8))],
    );
}

#[test]
fn a_satellite_beside_a_fast_link_takes_nothing_away() {
    play(
        Setup::new(14, [Conditions::new(15.0, 15.0), Conditions::new(10.0, 300.0).queue_ms(600.0)]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(15)),
            Mark,
            Run(s(15)), // Too far behind for one conversation.
            Check(ShareOfBest(Local), AtLeast(0.95)),
        ],
    );
}

#[test]
fn sixteen_links_carry_their_sum() {
    let paths = (0..16).map(|i| Conditions::new(1.0 + 0.25 * f64::from(i), 5.0 + 4.0 * f64::from(i)));
    play(
        Setup::new(15, paths),
        &[Start, Offer(Local, BULK), Run(s(5)), Mark, Run(s(5)), Check(ShareOfSum(Local), AtLeast(0.85))],
    );
}

#[test]
fn a_light_load_loses_nothing_and_is_not_held_up() {
    play(
        Setup::new(16, [Conditions::new(20.0, 20.0), Conditions::new(20.0, 25.0)]),
        &[
            Start,
            Offer(Local, Load::Voice),
            Offer(Remote, Load::Rate { per_second: 100.0, size: 1_000 }),
            Offer(Local, Load::Ping(ms(100))),
            Run(s(10)),
            Hush,
            Run(s(1)),
            Check(Lost(0), Exactly(0.0)),
            Check(Lost(1), Exactly(0.0)),
            Check(Lost(2), Exactly(0.0)),
            Check(Delay(0, 100.0), AtMost(27.0)),
            Check(Delay(2, 100.0), AtMost(54.0)),
        ],
    );
}

/// Whoever asks once and waits, as DNS does, waits seconds if nobody sends it again.
#[test]
fn what_a_link_loses_arrives_whatever_it_is() {
    for loss in [0.01, 0.05] {
        let lossy = |ms| Conditions::new(20.0, ms).loss(Loss::Random(loss));
        play(
            Setup::new(17, [lossy(20.0), lossy(25.0)]),
            &[
                Start,
                Offer(Local, Load::Voice),
                Offer(Remote, Load::Rate { per_second: 300.0, size: 1_200 }),
                Run(s(20)),
                Hush,
                Run(s(1)),
                Check(Lost(0), AtMost(0.001)),
                Check(Lost(1), AtMost(0.001)),
                // A repair is noticed by what comes after it, or asked for where nothing does.
                Check(Delay(0, 99.9), AtMost(160.0)),
            ],
        );
        play(
            Setup::new(18, [lossy(20.0), lossy(25.0)]),
            &[
                Start,
                Offer(Local, Load::Ping(s(1))),
                Run(s(300)),
                Hush,
                Run(s(1)),
                Check(Lost(0), AtMost(0.004)),
            ],
        );
    }
}

#[test]
fn a_packet_that_is_too_long_comes_back_as_an_error() {
    play(
        Setup::new(17, [Conditions::new(20.0, 20.0)]),
        &[
            Start,
            Offer(Local, Load::Rate { per_second: 10.0, size: 1_437 }),
            Run(ms(950)),
            // Its hosts heed the first.
            Check(Bounced(Local), Exactly(1.0)),
            Offer(Local, Load::Rate { per_second: 10.0, size: 1_436 }),
            Run(ms(950)),
            Hush,
            Run(s(1)),
            Check(Lost(1), Exactly(0.0)),
        ],
    );
}

#[test]
fn a_run_repeats_to_the_bit() {
    let run = |seed| {
        let paths = [Conditions::new(20.0, 20.0).reordering(5.0), Conditions::new(10.0, 40.0)];
        let paths = paths.map(|path| path.loss(Loss::Random(0.01)));
        play(Setup::new(seed, paths), &[Start, Offer(Local, CUBIC), Offer(Remote, BULK), Run(s(3))])
            .net
            .digest
    };
    assert_eq!(run(18), run(18));
    assert_ne!(run(18), run(19));
}

/// A link that is too late to share a conversation takes whole ones, if there are several long ones.
#[test]
fn a_late_link_carries_whole_conversations() {
    let late = Conditions::new(20.0, 320.0).jitter(20.0).loss(Loss::Random(0.005));
    let setup = |seed| Setup::new(seed, [Conditions::new(40.0, 35.0), late.clone()]);
    let mut steps = vec![Start];
    steps.extend([const { Offer(Local, CUBIC) }; 8]);
    steps.extend([
        Run(s(5)),
        Mark,
        Run(s(10)),
        Check(Carried(Local, 1), AtLeast(6.0)),
        Check(ShareOfSum(Local), AtLeast(0.85)),
        // The conversations go on over what is left, once what was on its way there has been sent again.
        Cut(1),
        Run(s(6)),
        Mark,
        Run(s(6)),
        Check(ShareOfBest(Local), AtLeast(0.9)),
    ]);
    play(setup(40), &steps);
    // It has been measured by then, and is not worth its delay.
    let one =
        [Start, Offer(Local, CUBIC), Run(s(12)), Mark, Run(s(5)), Check(Carried(Local, 1), AtMost(0.1))];
    play(setup(41), &one);
}

/// Conversations that begin anew have small windows for a long path, so it takes more of them.
#[test]
fn a_late_link_with_room_takes_more_than_its_share() {
    let setup = Setup::new(45, [Conditions::new(40.0, 35.0), Conditions::new(20.0, 320.0)]);
    let mut steps = vec![Start];
    steps.extend([const { Offer(Local, CUBIC) }; 8]);
    // The links' rates are known then.
    steps.extend([Run(s(8)), Hush, Run(s(2))]);
    steps.extend([const { Offer(Local, CUBIC) }; 8]);
    steps.extend([Run(s(3)), Mark, Run(s(6)), Check(ShareOfSum(Local), AtLeast(0.9))]);
    play(setup, &steps);
}

/// A lone conversation moves to a late link that alone carries much more, and loses nothing on the way there.
#[test]
fn a_lone_conversation_moves_to_a_late_link_with_its_window() {
    let lossy = Conditions::new(6.0, 3.0).loss(Loss::Random(0.01));
    let setup = Setup::new(42, [lossy, Conditions::new(30.0, 150.0)]);
    let steps = [
        Start,
        Offer(Local, CUBIC),
        Run(s(2)),
        Mark,
        Run(s(12)),
        Check(Goodput(Local), AtLeast(5.0)),
        Mark,
        Run(s(3)),
        Check(Goodput(Local), AtLeast(20.0)),
    ];
    play(setup, &steps);
}
