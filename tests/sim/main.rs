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
