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

/// What `run` gives for `N` seeds, the least first: where one run is luck, the median counts.
fn several_runs<const N: usize>(seed: u64, run: impl Fn(u64) -> f64) -> [f64; N] {
    let mut given = std::array::from_fn(|i| run(seed + 10 * i as u64));
    given.sort_by(f64::total_cmp);
    given
}
