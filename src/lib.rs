//! Netcombiner: a multipath bonding layer-3 proxy.
#![deny(unsafe_code)]

pub mod calendar;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod diagnosis;
pub mod journal;
pub mod process;
pub mod quota;
pub mod runtime;
pub mod setup;
pub mod sim;
pub mod status;
pub mod top;
