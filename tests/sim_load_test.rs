//! Load tests: what is measured of each link alone and of all together, in both directions.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::core::load_test::{Direction, Measured, Options, Progress, Step};
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::scenario::{Step as Take, ms, s};
use netcombiner::sim::traffic::Load;
use netcombiner::sim::wire::Conditions;
use netcombiner::sim::{Setup, World};

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
    Options { step_ms: 1_500, ..Options::default() }
}

fn tested(setup: Setup) -> Progress {
    begun(setup).load_test(Local, &short()).expect("a result")
}

/// What link `number` carried alone.
fn alone(progress: &Progress, direction: Direction, number: u8) -> &Measured {
    let mut steps = progress.steps.iter().filter(|step| step.direction == direction && !step.together);
    let mut links = steps.find_map(|step| step.links.iter().find(|link| link.number == number));
    links.take().unwrap_or_else(|| panic!("link {number} was not measured {direction:?}: {progress:#?}"))
}

fn together(progress: &Progress, direction: Direction) -> &Step {
    let mut steps = progress.steps.iter().filter(|step| step.direction == direction && step.together);
    steps.next().expect("all together")
}

fn near(value: f64, expected: f64, share: f64) {
    assert!((value / expected - 1.0).abs() <= share, "{value} is not {expected}");
}

#[test]
fn every_link_is_measured_alone_and_together_both_ways() {
    let progress = tested(links(1, &[(20.0, 10.0), (8.0, 25.0)]));
    assert_eq!((progress.trouble.as_deref(), progress.steps.len()), (None, 6));
    for direction in [Direction::Out, Direction::In] {
        for (number, mbit, rtt) in [(1, 20.0, 20.0), (2, 8.0, 50.0)] {
            let link = alone(&progress, direction, number);
            near(link.rate_bps, mbit * 1e6, 0.08);
            near(link.idle_rtt_ms.expect("measured"), rtt, 0.1);
            assert!(link.loss < 0.005 && link.reordered.is_some_and(|share| share < 0.005), "{link:?}");
            assert_eq!((link.growing, link.interrupted, link.path_mtu_bytes), (false, false, Some(1500)));
        }
        let sum: f64 = together(&progress, direction).links.iter().map(|link| link.rate_bps).sum();
        near(sum, 28e6, 0.08);
    }
}

#[test]
fn debug_print() {
    println!("{:#?}", tested(links(1, &[(20.0, 10.0), (8.0, 25.0)])));
}
