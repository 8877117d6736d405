//! Two portals over emulated links in virtual time: a scenario for every rule, and random worlds.

mod bonding;
mod change;
mod compression;
mod failover;
mod load_test;
mod path_mtu;
mod random;
mod segmentation;
mod session;
mod show;
mod strangers;

use netcombiner::sim::traffic::{Control, FULL, Load};

/// Full packets for as long as the links take any.
const BULK: Load = Load::Bulk { size: FULL };
/// A TCP connection that never ends.
const CUBIC: Load = Load::Tcp { control: Control::Cubic, segments: None };

/// What `run` gives for three seeds, the least first: where one run is luck, the median counts.
fn three_runs(seed: u64, run: impl Fn(u64) -> f64) -> [f64; 3] {
    let mut given = [run(seed), run(seed + 10), run(seed + 20)];
    given.sort_by(f64::total_cmp);
    given
}
