//! Worlds nobody thought of: links, loads and troubles drawn from a seed. Only the invariants are checked.
//!
//! `SIM_SEEDS=1000` runs more of them, `SIM_SEED=17` one alone.

use std::time::Duration;

use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::core::session::protection::Manner;
use netcombiner::sim::rng::Rng;
use netcombiner::sim::scenario::ms;
use netcombiner::sim::traffic::{Control, FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};
use netcombiner::sim::{End, Setup, World};

/// Worlds in a usual run.
const WORLDS: u64 = 40;
/// Virtual time of one.
const LENGTH: Duration = Duration::from_secs(6);

fn conditions(rng: &mut Rng) -> Conditions {
    let (mbit, delay) = (rng.scale(1.0, 100.0), rng.scale(1.0, 350.0));
    let loss = match rng.below(3) {
        0 => Loss::None,
        1 => Loss::Random(rng.between(0.0, 0.03)),
        _ => Loss::Bursts { begin: rng.between(0.0, 0.003), end: rng.between(0.1, 0.5) },
    };
    let wire = Conditions::new(mbit, delay).loss(loss).queue_ms(rng.scale(5.0, 400.0));
    let wire = if rng.chance(0.2) { wire.duplicate(rng.between(0.0, 0.05)) } else { wire };
    let jitter = rng.scale(0.1, delay.max(0.2));
    match rng.below(3) {
        0 => wire,
        1 => wire.jitter(jitter),
        _ => wire.reordering(jitter),
    }
}

fn setup(seed: u64, rng: &mut Rng) -> Setup {
    let mut setup = Setup::new(seed, []);
    let links = 1 + rng.below(4);
    setup.paths = (0..links).map(|_| [conditions(rng), conditions(rng)]).collect();
    setup.listens = rng.chance(0.7);
    setup.coalesce = Duration::from_micros([0, 100, 1_000][rng.below(3) as usize]);
    let manner = [Manner::Aead, Manner::Mac, Manner::None][rng.below(3) as usize];
    let keep_alive = rng.chance(0.5).then(|| ms(100 + rng.below(5_000)));
    for host in &mut setup.hosts {
        (host.manner, host.keep_alive) = (manner, keep_alive);
        host.hardware_aes = rng.chance(0.7);
        host.compression = !seed.is_multiple_of(5);
        host.algorithm = if rng.chance(0.8) { Algorithm::Bbr } else { Algorithm::NewReno };
        if rng.chance(0.2) {
            host.metrics = (0..links).map(|_| rng.below(3) as u8).collect();
        }
    }
    setup
}

fn load(rng: &mut Rng) -> Load {
    match rng.below(6) {
        0 => Load::Bulk { size: 200 + rng.below(1_200) as usize },
        1 => Load::Rate { per_second: rng.scale(1.0, 3_000.0), size: FULL },
        2 => Load::Ping(ms(5 + rng.below(500))),
        3 => Load::Voice,
        4 => Load::Tcp { control: Control::Reno, segments: Some(rng.below(5_000)) },
        _ => Load::Tcp { control: Control::Cubic, segments: None },
    }
}

fn trouble(world: &mut World, rng: &mut Rng, keeps_alive: bool) {
    let path = rng.below(world.net.paths.len() as u64) as usize;
    let end = End::BOTH[rng.below(2) as usize];
    match rng.below(9) {
        0 => world.cut(path, true),
        1 => world.change(path, end, |wire| wire.cut = true),
        2 | 3 => world.cut(path, false),
        4 => {
            let other = conditions(rng);
            world.change(path, end, |wire| *wire = other);
        }
        // Without keepalives an idle local portal is never heard from behind its new mapping.
        5 if keeps_alive => world.net.rebind(path),
        6 if rng.chance(0.3) => world.restart(end),
        7 if rng.chance(0.3) => world.suspend(end, ms(rng.below(3_000))),
        _ => {
            let load = load(rng);
            world.offer(end, load);
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let setup = setup(seed, &mut rng);
    let keeps_alive = setup.hosts[0].keep_alive.is_some();
    let mut world = World::new(setup);
    let end = world.now() + LENGTH;
    for _ in 0..2 {
        let from = End::BOTH[rng.below(2) as usize];
        let load = load(&mut rng);
        world.offer(from, load);
    }
    while world.now() < end {
        world.run(Duration::from_secs_f64(rng.scale(0.01, 2.0)));
        trouble(&mut world, &mut rng, keeps_alive);
    }
    world.settle();
    // With all paths whole again, every link returns.
    let up = |world: &World| {
        End::BOTH.iter().all(|&end| {
            let links = world.snapshot(end).links;
            links.iter().filter(|link| link.state == "up").count() == world.net.paths.len()
        })
    };
    let nudged = [End::Local, End::Remote].map(|end| world.offer(end, Load::Voice));
    let returned = world.run_until(Duration::from_secs(30), up);
    assert!(returned.is_some(), "links that did not return\n{}", world.portrait());
    world.run(Duration::from_secs(2));
    assert!(nudged.iter().all(|&flow| world.flows[flow].report.arrived > 0), "{}", world.portrait());
    world.settle();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Every fourth of the seeds, so that the machine's cores share the work.
fn share(part: u64) {
    match number("SIM_SEED") {
        Some(seed) if seed % 4 == part => run(seed),
        Some(_) => {}
        None => (0..number("SIM_SEEDS").unwrap_or(WORLDS)).filter(|seed| seed % 4 == part).for_each(run),
    }
}

#[test]
fn worlds_by_chance_1() {
    share(0);
}

#[test]
fn worlds_by_chance_2() {
    share(1);
}

#[test]
fn worlds_by_chance_3() {
    share(2);
}

#[test]
fn worlds_by_chance_4() {
    share(3);
}
