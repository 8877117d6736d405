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
