//! Netcombiner: a multipath bonding layer-3 proxy.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod process;
pub mod runtime;
pub mod setup;
pub mod sim;
