//! Netcombiner: a multipath bonding layer-3 proxy.
#![deny(unsafe_code)]

pub mod config;
pub mod control;
pub mod core;
pub mod sim;
