//! Real portals, and what they are measured with, in network namespaces.

mod adversary;
mod bonding;
mod diagnose;
mod emulator;
mod lab;
mod loads;
mod offload;
mod operation;
mod path_mtu;
mod portal;
mod race;
mod resilience;
mod secrecy;
mod setup;
mod setup_scripts;
mod setups;
mod spread;
mod status;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Held by a test that takes the machine for itself, or measures exactly: they would take it from each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path of a set-up script for Linux.
fn script(role: &str) -> String {
    format!("{}/../scripts/linux/{role}", env!("CARGO_MANIFEST_DIR"))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
