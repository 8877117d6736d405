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
mod status;
