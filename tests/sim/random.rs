//! Worlds nobody thought of: links, loads and troubles drawn from a seed.
//!
//! In some the links are cut, change and come back while loads come and go, and only the invariants are checked. In
//! others the links stay what they are, and the bond must carry as much as the best of them alone.
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

use crate::{BULK, CUBIC};

/// Worlds in a usual run.
const WORLDS: u64 = 40;
/// Virtual time of one.
const LENGTH: Duration = Duration::from_secs(6);
/// Rates are 1 Mbit/s to this, each order of magnitude as often as another.
const MOST_MBIT: f64 = 500.0;
/// Worlds of a usual run in which the bond is compared with the best link alone, by bulk …
const COMPARED: u64 = 8;
/// … and by one cubic flow, which is over sooner.
const COMPARED_CUBIC: u64 = 24;
/// By then a lone conversation has moved to a late link that alone carries much more.
const SETTLED: Duration = Duration::from_secs(20);
/// Least part of what the best link carries alone.
const LEAST_SHARE: f64 = 0.95;
/// The same where routers hold little.
const LEAST_SHARE_SHALLOW: f64 = 0.85;
/// Worlds of that kind in a usual run.
const COMPARED_SHALLOW: u64 = 12;
/// Bytes that the least of them holds: four full datagrams.
const LEAST_QUEUE: u64 = 6_000;
/// Links that are that much later than the fastest take whole conversations only, see [`stable`].
const LATE: Duration = Duration::from_millis(80);

fn loss(rng: &mut Rng) -> Loss {
    match rng.below(3) {
        0 => Loss::None,
        1 => Loss::Random(rng.between(0.0, 0.05)),
        _ => Loss::Bursts { begin: rng.between(0.0, 0.003), end: rng.between(0.1, 0.5) },
    }
}

fn conditions(rng: &mut Rng) -> Conditions {
    let (mbit, delay) = (rng.scale(1.0, MOST_MBIT), rng.scale(1.0, 350.0));
    let wire = Conditions::new(mbit, delay).loss(loss(rng)).queue_ms(rng.scale(5.0, 400.0));
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
        _ => CUBIC,
    }
}

/// INVARIANT: what is in order stays so, but for packets whose turn had been given up.
fn check_order(world: &World) {
    for end in End::BOTH {
        let late = world.snapshot(end.other()).resequencer.late_packets;
        let ordered = |load| matches!(load, Load::Bulk { .. });
        let flows = world.flows.iter().filter(|flow| flow.from == end && ordered(flow.load));
        let reordered: u64 = flows.map(|flow| flow.report.reordered).sum();
        assert!(reordered <= late, "{reordered} came after later ones, {late} counted\n{}", world.portrait());
    }
}

/// Gives whether a portal began anew, and with it its counters.
fn trouble(world: &mut World, rng: &mut Rng, keeps_alive: bool) -> bool {
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
        6 if rng.chance(0.3) => {
            world.restart(end);
            return true;
        }
        7 if rng.chance(0.3) => world.suspend(end, ms(rng.below(3_000))),
        _ => {
            let load = load(rng);
            world.offer(end, load);
        }
    }
    false
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
    let mut restarted = false;
    while world.now() < end {
        world.run(Duration::from_secs_f64(rng.scale(0.01, 2.0)));
        restarted |= trouble(&mut world, &mut rng, keeps_alive);
    }
    world.settle();
    if !restarted {
        check_order(&world);
    }
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

/// Links that stay what they are, whose queues hold what a burst of a model's search needs.
fn steady_paths(rng: &mut Rng) -> Vec<Conditions> {
    let path = |rng: &mut Rng| {
        let (mbit, delay) = (rng.scale(1.0, MOST_MBIT), rng.scale(1.0, 350.0));
        let wire = Conditions::new(mbit, delay).loss(loss(rng)).queue_ms(rng.scale(50.0, 400.0));
        let jitter = rng.scale(0.1, (delay / 4.0).max(0.2));
        match rng.below(3) {
            0 => wire,
            1 => wire.jitter(jitter),
            _ => wire.reordering(jitter),
        }
    };
    (0..2 + rng.below(2)).map(|_| path(rng)).collect()
}

/// Mbit/s that one conversation gets over these links, after `warm`, in `time`.
fn goodput(seed: u64, paths: &[Conditions], load: Load, warm: Duration, time: Duration) -> f64 {
    let mut world = World::new(Setup::new(seed, paths.to_vec()));
    let up = |world: &World| {
        End::BOTH.iter().all(|&end| world.snapshot(end).links.iter().all(|link| link.state == "up"))
            && world.snapshot(End::Remote).links.len() == paths.len()
    };
    assert!(world.run_until(Duration::from_secs(20), up).is_some(), "{}", world.portrait());
    world.run(Duration::from_secs(1));
    let flow = world.offer(End::Local, load);
    world.run(warm);
    let before = world.flows[flow].report.goodput_bytes;
    world.run(time);
    (world.flows[flow].report.goodput_bytes - before) as f64 * 8e-6 / time.as_secs_f64()
}

/// What the bond carries as a share of what the best of its links does alone.
fn share_of_best(seed: u64, paths: &[Conditions], load: Load, warm: Duration, time: Duration) -> f64 {
    let alone = paths.iter().map(|path| goodput(seed, std::slice::from_ref(path), load, warm, time));
    let best = alone.fold(0.0, f64::max);
    let bond = goodput(seed, paths, load, warm, time);
    println!("world {seed}: {bond:.1} Mbit/s of {best:.1} alone");
    bond / best
}

/// Whether what one cubic flow gets says something of the links and not of the moment.
///
/// It does not where a link is much later than the fastest: a lone conversation moves to it once it has the window
/// for its round trip, which takes cubic half a minute; `sim_bonding` has a world of that kind. Nor does it where a
/// link alone needs a window that cubic does not reach in the time that is run here.
fn stable(paths: &[Conditions]) -> bool {
    let fastest = paths.iter().map(|path| path.delay).min().unwrap_or_default();
    let window = |path: &Conditions| path.rate.bytes_in(path.delay * 2);
    paths.iter().all(|path| path.delay - fastest <= LATE && window(path) <= 1 << 20)
}

/// Without the conversation's own control every world says something of the links.
fn compare_bulk(seed: u64) {
    let paths = steady_paths(&mut Rng::new(seed));
    let share = share_of_best(seed, &paths, BULK, SETTLED, Duration::from_secs(3));
    assert!(share >= LEAST_SHARE, "{share:.3} of the best link alone, seed {seed}: {paths:#?}");
}

/// Links over which one cubic flow says something of them.
fn stable_paths(rng: &mut Rng) -> Vec<Conditions> {
    std::iter::repeat_with(|| steady_paths(rng)).find(|paths| stable(paths)).unwrap_or_default()
}

fn compare_cubic(seed: u64) {
    compare_one_flow(seed, &stable_paths(&mut Rng::new(seed)), LEAST_SHARE);
}

/// Routers that hold less than a burst of a model's search: what is lost is that, and the links are as good as ever.
fn compare_shallow(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut paths = stable_paths(&mut rng);
    for path in &mut paths {
        let held = path.rate.bytes_in(Duration::from_secs_f64(rng.scale(0.003, 0.03)));
        path.queue = Some(held.max(LEAST_QUEUE));
    }
    compare_one_flow(seed, &paths, LEAST_SHARE_SHALLOW);
}

/// One run of cubic over links that lose packets is luck: where it falls short, the median of three decides.
fn compare_one_flow(seed: u64, paths: &[Conditions], least: f64) {
    let run = |seed| share_of_best(seed, paths, CUBIC, Duration::from_secs(6), Duration::from_secs(6));
    let mut shares = vec![run(seed)];
    if shares[0] < least {
        shares.extend([run(seed + 1_000_000), run(seed + 2_000_000)]);
        shares.sort_by(f64::total_cmp);
    }
    let share = shares[shares.len() / 2];
    assert!(share >= least, "{shares:.3?} of the best link alone, seed {seed}: {paths:#?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs all seeds, `usual` of them unless told otherwise, that leave the rest `part` when divided by `parts`, so that
/// the machine's cores share the work.
fn share(usual: u64, part: u64, parts: u64, run: impl Fn(u64)) {
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(usual),
    };
    seeds.filter(|seed| seed % parts == part).for_each(run);
}

#[test]
fn worlds_by_chance_1() {
    share(WORLDS, 0, 4, run);
}

#[test]
fn worlds_by_chance_2() {
    share(WORLDS, 1, 4, run);
}

#[test]
fn worlds_by_chance_3() {
    share(WORLDS, 2, 4, run);
}

#[test]
fn worlds_by_chance_4() {
    share(WORLDS, 3, 4, run);
}

#[test]
fn bulk_is_never_slower_than_over_the_best_link_alone() {
    share(COMPARED, 0, 1, compare_bulk);
}

#[test]
fn one_flow_is_never_slower_than_over_the_best_link_alone_1() {
    share(COMPARED_CUBIC, 0, 2, compare_cubic);
}

#[test]
fn one_flow_is_never_slower_than_over_the_best_link_alone_2() {
    share(COMPARED_CUBIC, 1, 2, compare_cubic);
}

#[test]
fn one_flow_is_hardly_slower_than_over_the_best_link_alone_where_routers_hold_little() {
    share(COMPARED_SHALLOW, 0, 1, compare_shallow);
}
