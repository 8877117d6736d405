//! What `show` explains: how late each link is, how much of the traffic it has, and what keeps it from carrying more.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::core::outbound::Policy;
use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{Step, ms, play, s};
use netcombiner::sim::traffic::{FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};
use netcombiner::sim::{Setup, World};

use crate::{BULK, CUBIC};

/// 1.1 Mbit/s.
const LIGHT: Load = Load::Rate { per_second: 100.0, size: FULL };
/// What a link says that carries what it can.
const NOTHING: &str = "";

fn links(seed: u64, paths: &[(f64, f64)]) -> Setup {
    Setup::new(seed, paths.iter().map(|(mbit, delay_ms)| Conditions::new(*mbit, *delay_ms)))
}

/// A world in which these steps were taken, as it is then.
fn after(setup: Setup, steps: &[Step]) -> World {
    let mut world = World::new(setup);
    for step in steps {
        if let Err(failure) = world.take(step) {
            panic!("{step:?}: {failure}\n{}", world.portrait());
        }
    }
    world
}

#[test]
fn the_difference_of_one_way_delays_is_measured_at_either_end() {
    let near = [AtLeast(47.0), AtMost(53.0)];
    let there = |end| near.map(|bound| Check(DelayDifference(end, 1), bound));
    let mut steps = vec![Start, Offer(Local, CUBIC), Run(s(10))];
    steps.extend([Local, Remote].map(there).into_iter().flatten());
    steps.extend([Local, Remote].map(|end| Check(DelayDifference(end, 0), Exactly(0.0))));
    // With next to nothing to send too.
    steps.extend([Hush, Offer(Local, Load::Ping(ms(500))), Run(s(20))]);
    steps.extend([Local, Remote].map(there).into_iter().flatten());
    play(links(1, &[(50.0, 20.0), (50.0, 70.0)]), &steps);
}

#[test]
fn a_path_that_is_longer_one_way_shows_it_where_it_arrives() {
    let mut setup = links(2, &[(20.0, 20.0), (20.0, 20.0)]);
    setup.paths[1][Remote as usize] = Conditions::new(20.0, 60.0);
    play(
        setup,
        &[
            Start,
            Offer(Local, BULK),
            Run(s(5)),
            Check(DelayDifference(Local, 1), AtLeast(37.0)),
            Check(DelayDifference(Local, 1), AtMost(43.0)),
            Check(DelayDifference(Remote, 1), AtMost(3.0)),
        ],
    );
}

#[test]
fn a_single_link_is_compared_with_none_and_has_all_of_the_traffic() {
    let world = after(links(3, &[(20.0, 20.0)]), &[Start, Offer(Local, BULK), Run(s(5))]);
    let link = &world.snapshot(Local).links[0];
    assert_eq!((link.delay_difference_ms, link.sent_share, link.received_share), (None, Some(1.0), None));
}

#[test]
fn two_equal_links_have_half_of_the_traffic_each_and_nothing_holds_them_back() {
    let half = |measure| [Check(measure, AtLeast(0.45)), Check(measure, AtMost(0.55))];
    let mut steps = vec![Start, Offer(Local, BULK), Run(s(12))];
    steps.extend(half(SentShare(Local, 0)));
    steps.extend(half(ReceivedShare(Remote, 0)));
    steps.extend([Limit(Local, 0, NOTHING), Limit(Local, 1, NOTHING)]);
    play(links(4, &[(20.0, 20.0), (20.0, 20.0)]), &steps);
}

#[test]
fn a_link_of_a_higher_metric_stands_by() {
    let mut setup = links(5, &[(20.0, 20.0), (20.0, 20.0)]);
    setup.hosts[Local as usize].metrics = vec![0, 10];
    let steps = [
        Start,
        Offer(Local, BULK),
        Run(s(12)),
        Limit(Local, 0, NOTHING),
        Limit(Local, 1, "standby"),
        Check(SentShare(Local, 1), AtMost(0.01)),
    ];
    let world = after(setup.clone(), &steps);
    let reason = world.snapshot(Local).links[1].reason.clone();
    assert_eq!(reason.as_deref(), Some("metric 10 behind metric 0"));
    // With overflow it stands by only while the others have room.
    setup.hosts.iter_mut().for_each(|host| host.policy = Policy { overflow: true, ..Policy::default() });
    play(
        setup,
        &[
            Start,
            Offer(Local, LIGHT),
            Run(s(5)),
            Limit(Local, 1, "standby"),
            Check(SentShare(Local, 1), AtMost(0.01)),
            Offer(Local, BULK),
            Run(s(12)),
            Check(SentShare(Local, 1), AtLeast(0.3)),
        ],
    );
}

#[test]
fn a_link_that_is_too_late_for_one_conversation_says_so() {
    let steps = [
        Start,
        Offer(Local, CUBIC),
        Run(s(20)),
        Limit(Local, 1, "too-late"),
        Check(SentShare(Local, 1), AtMost(0.02)),
    ];
    play(links(6, &[(40.0, 35.0), (20.0, 320.0)]), &steps);
}

#[test]
fn light_load_leaves_links_limited_by_the_application() {
    let idle = [Limit(Local, 0, "application-limited"), Limit(Local, 1, "application-limited")];
    let mut steps = vec![Start, Run(s(3))];
    steps.extend(idle.clone());
    steps.extend([Offer(Local, LIGHT), Run(s(10))]);
    steps.extend(idle.clone());
    // What was found out under load stays known.
    steps.extend([Offer(Local, BULK), Run(s(10)), Hush, Run(s(1)), Offer(Local, LIGHT), Run(s(5))]);
    steps.extend(idle);
    play(links(7, &[(20.0, 20.0), (20.0, 40.0)]), &steps);
}

#[test]
fn a_later_link_waits_for_a_backlog_that_lasts() {
    // As much as the fast link carries.
    let moderate = Load::Rate { per_second: 1_720.0, size: FULL };
    play(
        links(8, &[(20.0, 20.0), (20.0, 80.0)]),
        &[
            Start,
            Offer(Local, BULK),
            Run(s(10)),
            Limit(Local, 1, NOTHING),
            Hush,
            Run(s(1)),
            Offer(Local, moderate),
            Run(s(5)),
            Limit(Local, 1, "later"),
        ],
    );
}

#[test]
fn a_link_that_was_cut_is_suspect_then_down_and_its_time_is_told() {
    let steps = [
        Start,
        Offer(Local, BULK),
        Run(s(5)),
        Cut(1),
        Run(ms(200)),
        Limit(Local, 1, "suspect"),
        Run(s(2)),
        Limit(Local, 1, "down"),
        Mend(1),
        Within(s(5), LinkUp(Local, 1), Exactly(1.0)),
        Run(s(4)),
        Limit(Local, 1, NOTHING),
    ];
    let world = after(links(9, &[(20.0, 20.0), (20.0, 20.0)]), &steps);
    let link = &world.snapshot(Local).links[1];
    let spent = |state| link.state_seconds[state];
    assert!((0.25..0.4).contains(&spent("suspect")), "{:?}", link.state_seconds);
    assert!((1.5..4.0).contains(&spent("down")) && spent("up") > 8.0, "{:?}", link.state_seconds);
    let sum: f64 = link.state_seconds.values().sum();
    assert!((sum - world.now().as_nanos() as f64 / 1e9).abs() < 0.1, "{sum}: of its whole life");
    assert!(link.repairs_caused_packets > 0);
    assert!(world.snapshot(Local).links[0].repairs_sent_packets > 0);
}

#[test]
fn a_link_that_loses_much_is_unfit() {
    let paths = [Conditions::new(20.0, 20.0), Conditions::new(20.0, 20.0).loss(Loss::Random(0.38))];
    let mut world = after(Setup::new(10, paths), &[Start, Offer(Local, BULK), Run(s(5))]);
    // With so many answers lost it is suspected now and then.
    let told = |world: &World| world.snapshot(Local).links[1].limit.as_deref() == Some("unfit");
    assert!(world.run_until(s(1), told).is_some(), "{}", world.portrait());
}

#[test]
fn a_window_that_losses_keep_small_is_told_and_a_full_one_is_not() {
    let paths = [Conditions::new(20.0, 20.0), Conditions::new(20.0, 20.0).loss(Loss::Random(0.01))];
    let mut setup = Setup::new(12, paths);
    setup.hosts.iter_mut().for_each(|host| host.algorithm = Algorithm::NewReno);
    let mut world = after(setup, &[Start, Offer(Local, BULK), Run(s(12)), Limit(Local, 0, NOTHING)]);
    // An acknowledgement makes room for a moment.
    let told = |world: &World| world.snapshot(Local).links[1].limit.as_deref() == Some("window-limited");
    assert!(world.run_until(ms(100), told).is_some(), "{}", world.portrait());
}

#[test]
fn a_rate_that_is_being_found_out_is_told() {
    let steps = [Start, Offer(Local, BULK), Run(ms(300)), Limit(Local, 0, "searching"), Run(s(8))];
    after(links(13, &[(100.0, 50.0)]), &[steps.as_slice(), &[Limit(Local, 0, NOTHING)]].concat());
}

#[test]
fn a_link_that_carries_short_packets_only_says_so() {
    let paths = [Conditions::new(20.0, 20.0), Conditions::new(20.0, 20.0).mtu(1_200)];
    after(Setup::new(14, paths), &[Start, Offer(Local, LIGHT), Run(s(10)), Limit(Local, 1, "narrow")]);
}

#[test]
fn what_waits_and_what_is_put_in_order_is_told() {
    let paths = [(20.0, 20.0), (20.0, 45.0)].map(|(mbit, delay)| Conditions::new(mbit, delay));
    let world = after(Setup::new(11, paths), &[Start, Offer(Local, CUBIC), Run(s(20))]);
    let (queue, order) = (world.snapshot(Local).queue, world.snapshot(Remote).resequencer);
    let known = |ms: Option<f64>| ms.unwrap_or(f64::NAN);
    println!("{queue:?}\n{order:?}");
    assert!(known(queue.sojourn_p50_ms) > 0.0 && known(queue.sojourn_p50_ms) <= known(queue.sojourn_p95_ms));
    assert!((1.0..400.0).contains(&known(queue.sojourn_max_ms)));
    let dropped = queue.delay_dropped_packets + queue.overflowed_packets + queue.too_big_packets;
    assert_eq!(dropped, queue.dropped_packets);
    // Packets of the earlier link wait about as long as the other is later.
    assert!((10.0..35.0).contains(&known(order.hold_p50_ms)), "{order:?}");
    let holds = [order.hold_p50_ms, order.hold_p95_ms, order.hold_p99_ms, order.hold_max_ms].map(known);
    assert!(holds.is_sorted(), "{holds:?}");
    assert!(order.held_packets > 0 && order.held_packets <= order.ordered_packets);
}

#[test]
fn several_long_conversations_share_a_shorter_queue_and_fill_the_link() {
    let limit = |count: usize| {
        let flows = (0..count).map(|_| Offer(Local, CUBIC));
        let check = [Run(s(3)), Mark, Run(s(2)), Check(Goodput(Local), AtLeast(180.0))];
        let steps: Vec<_> = std::iter::once(Start).chain(flows).chain(check).collect();
        after(links(31, &[(200.0, 5.0)]), &steps).snapshot(Local).queue.limit_bytes
    };
    assert_eq!(limit(1), 4 << 20);
    // With all nine waiting a third.
    let shared = limit(9);
    assert!(((4 << 20) / 3..=(4 << 20) * 2 / 5).contains(&shared), "{shared}");
}
