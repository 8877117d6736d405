//! Load tests: what is measured of each link alone and of all together, in both directions, and what is said of it.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::core::load_test::{Direction, Measured, Options, Progress, Step};
use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::diagnosis::{Cause, diagnose};
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::scenario::{Measure, Step as Take, ms, s};
use netcombiner::sim::traffic::{Control, Load};
use netcombiner::sim::wire::{Conditions, Loss};
use netcombiner::sim::{End, Setup, World};

const BOTH: [Direction; 2] = [Direction::Out, Direction::In];

fn links(seed: u64, paths: &[(f64, f64)]) -> Setup {
    Setup::new(seed, paths.iter().map(|(mbit, delay_ms)| Conditions::new(*mbit, *delay_ms)))
}

/// A world whose links are up.
fn begun(setup: Setup) -> World {
    let mut world = World::new(setup);
    world.take(&Take::Start).expect("all links come up");
    world
}

fn short() -> Options {
    Options { step_ms: 1_000, ..Options::default() }
}

fn tested(setup: Setup) -> Progress {
    begun(setup).load_test(Local, &short()).expect("a result")
}

/// The worst that is found where this is done to the second of two links.
fn found(change: impl FnOnce(Conditions) -> Conditions) -> (Cause, Vec<String>) {
    found_in(&short(), change)
}

fn found_in(options: &Options, change: impl FnOnce(Conditions) -> Conditions) -> (Cause, Vec<String>) {
    let paths = [Conditions::new(20.0, 10.0), change(Conditions::new(15.0, 20.0))];
    let mut world = begun(Setup::new(7, paths));
    let progress = world.load_test(Local, options).expect("a result");
    let finding = diagnose(&world.snapshot(Local), &progress).swap_remove(0);
    println!("{}\n  {}", finding.what, finding.advice);
    world.settle();
    (finding.cause, finding.links)
}

/// What link `number` carried alone.
fn alone(progress: &Progress, direction: Direction, number: u8) -> &Measured {
    let steps = progress.steps.iter().filter(|step| step.direction == direction && !step.together);
    let link = steps.flat_map(|step| &step.links).find(|link| link.number == number);
    link.unwrap_or_else(|| panic!("link {number} was not measured {direction:?}: {progress:#?}"))
}

fn together(progress: &Progress, direction: Direction) -> &Step {
    let mut steps = progress.steps.iter().filter(|step| step.direction == direction && step.together);
    steps.next().expect("all together")
}

fn near(value: f64, expected: f64, share: f64) {
    assert!((value / expected - 1.0).abs() <= share, "{value} is not {expected}");
}

/// Mbit/s that both ends send while so much time passes.
fn sent(world: &mut World, time: std::time::Duration) -> f64 {
    world.mark();
    world.run(time);
    let paths = 0..world.net.paths.len();
    let of = |path| End::BOTH.map(|end| world.measure(Measure::Carried(end, path))).iter().sum::<f64>();
    paths.map(of).sum()
}

#[test]
fn every_link_is_measured_alone_and_together_both_ways() {
    let progress = tested(links(1, &[(20.0, 10.0), (8.0, 25.0)]));
    assert_eq!((progress.trouble.as_deref(), progress.steps.len()), (None, 6));
    for direction in BOTH {
        for (number, mbit, rtt) in [(1, 20.0, 20.0), (2, 8.0, 50.0)] {
            let link = alone(&progress, direction, number);
            near(link.rate_bps, mbit * 1e6, 0.08);
            near(link.idle_rtt_ms.expect("measured"), rtt, 0.1);
            near(link.queue_ms.expect("tried"), 100.0, 0.15);
            assert!(link.queue_overflowed && link.loss < 0.005, "{link:?}");
            assert!(link.reordered.is_some_and(|share| share < 0.005), "{link:?}");
            assert_eq!((link.growing, link.interrupted, link.path_mtu_bytes), (false, false, Some(1500)));
        }
        let sum: f64 = together(&progress, direction).links.iter().map(|link| link.rate_bps).sum();
        near(sum, 28e6, 0.08);
    }
}

#[test]
fn what_is_wrong_is_found() {
    let second = |cause| (cause, vec!["peer2".to_owned()]);
    assert_eq!(found(|link| link), (Cause::AllWell, vec![]));
    assert_eq!(found(|link| link.loss(Loss::Random(0.02))), second(Cause::LossyLink));
    assert_eq!(found(|link| link.queue_ms(500.0)), second(Cause::Bufferbloat));
    assert_eq!(found(|link| link.mtu(1_320)), second(Cause::SmallMtu));
    assert_eq!(found(|_| Conditions::new(3.0, 20.0)), second(Cause::SlowLink));
    assert_eq!(found(|_| Conditions::new(0.5, 20.0)), second(Cause::WorthlessLink));
}

#[test]
fn what_the_search_for_a_long_links_rate_loses_is_not_the_links_fault() {
    let late = (Cause::LateLink, vec!["peer2".to_owned()]);
    for step_ms in [1_000, 2_000, 3_000, 5_000] {
        for delay_ms in [150.0, 300.0] {
            let options = Options { step_ms, ..Options::default() };
            assert_eq!(found_in(&options, |_| Conditions::new(15.0, delay_ms)), late, "{step_ms} {delay_ms}");
        }
    }
}

#[test]
fn other_congestion_controls_are_measured_too() {
    for algorithm in [Algorithm::NewReno, Algorithm::Unlimited] {
        let mut setup = links(2, &[(10.0, 20.0)]);
        setup.hosts.iter_mut().for_each(|host| host.algorithm = algorithm);
        let mut world = begun(setup);
        let progress = world.load_test(Local, &short()).expect("a result");
        for direction in BOTH {
            near(alone(&progress, direction, 1).rate_bps, 10e6, 0.15);
        }
        let name = if algorithm == Algorithm::NewReno { "newreno" } else { "none" };
        assert_eq!(world.snapshot(Local).links[0].congestion_control, name, "it has its own again");
    }
}

#[test]
fn ordinary_traffic_stays_alive_and_counts() {
    let mut world = begun(links(3, &[(20.0, 10.0), (10.0, 20.0)]));
    let download = world.offer(Local, Load::Tcp { control: Control::Cubic, segments: None });
    let ping = world.offer(Local, Load::Ping(ms(100)));
    world.run(s(4));
    world.mark();
    let progress = world.load_test(Local, &short()).expect("a result");
    assert!(world.measure(Measure::Goodput(Local)) > 5.0, "the download goes on");
    assert!(world.measure(Measure::Stall(download)) < 1_000.0);
    assert!(world.measure(Measure::Lost(ping)) < 0.1 && world.measure(Measure::Delay(ping, 50.0)) < 100.0);
    // What it carries over a link is not counted as missing there.
    near(alone(&progress, Direction::Out, 1).rate_bps, 20e6, 0.12);
    world.settle();
}

#[test]
fn no_more_bytes_are_sent_than_are_allowed() {
    let mut world = begun(links(4, &[(50.0, 10.0), (20.0, 20.0)]));
    let options = Options { bytes: 6_000_000, ..Options::default() };
    world.mark();
    let progress = world.load_test(Local, &options).expect("a result");
    let bytes: u64 = progress.steps.iter().flat_map(|step| &step.links).map(|link| link.bytes).sum();
    assert!((4_000_000..=6_200_000).contains(&bytes), "{bytes}");
    near(alone(&progress, Direction::In, 2).rate_bps, 20e6, 0.3);
}

#[test]
fn a_test_ends_with_who_asked_for_it() {
    let mut world = begun(links(5, &[(10.0, 10.0)]));
    let far = |world: &World| world.hosts[Local as usize].portal.load_test().expect("a test").steps.len();
    world.start_load_test(Local, &short()).expect("begun");
    world.start_load_test(Local, &short()).expect_err("one at a time");
    world.run(ms(300));
    world.start_load_test(Remote, &short()).expect_err("not while it takes part in one");
    world.run_until(s(20), |world| far(world) == 1).expect("the first step ends");
    world.run(s(1));
    assert!(sent(&mut world, ms(300)) > 5.0, "the other portal sends");
    let host = &world.hosts[Local as usize];
    host.portal.stop_load_test(host.local(world.now()));
    world.run(s(3));
    assert!(sent(&mut world, s(1)) < 0.05);
    assert!(!world.hosts.iter().any(|host| host.portal.is_load_tested()));
}

#[test]
fn a_test_ends_at_the_other_portal_when_the_asking_one_dies() {
    let mut world = begun(links(6, &[(10.0, 10.0), (10.0, 10.0)]));
    let far = |world: &World| world.hosts[Local as usize].portal.load_test().expect("a test").steps.len();
    world.start_load_test(Local, &short()).expect("begun");
    world.run_until(s(30), |world| far(world) == 3).expect("those of this side end");
    world.run(s(1));
    world.take(&Take::Suspend(Local, s(4))).expect("a machine sleeps");
    assert!(!world.hosts[Remote as usize].portal.is_load_tested());
}

#[test]
fn metered_links_are_tested_only_if_that_is_said() {
    let mut setup = links(8, &[(10.0, 10.0)]);
    setup.hosts[Remote as usize].metered = true;
    let mut world = begun(setup.clone());
    let progress = world.load_test(Local, &short()).expect("a result");
    let trouble = progress.steps[1].trouble.as_deref().unwrap_or_default();
    assert!(trouble.contains("metered") && progress.steps[1].links.is_empty(), "{progress:?}");
    let progress = world.load_test(Local, &Options { metered: true, ..short() }).expect("a result");
    assert_eq!(progress.steps[1].trouble, None);
    setup.hosts[Local as usize].metered = true;
    assert!(begun(setup).load_test(Local, &short()).is_err());
}
