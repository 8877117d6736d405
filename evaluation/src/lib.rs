//! The lab of Netcombiner: network namespaces, an emulated WAN between the portals, measurements.
//!
//! - [`lab`]: the topology, drawn at the top of its file; [`link`] says what a link is like.
//! - [`netns`]: anonymous namespaces, programs and threads inside them.
//! - [`wan`]: the emulator of rates, delays, queues, losses and cuts.
//! - [`portal`]: `netcombiner` daemons and the usual pair of them.
//! - [`check`]: whether the emulator is true.
//! - [`system_state`]: what a set-up must put back.
//! - [`machine`], [`tcp_counters`], [`usage`]: what the measuring kernel says of itself and of processes.
//! - [`iperf`], [`ping`], [`datagrams`], [`stream`], [`quic`]: what is measured; [`stats`] condenses it, [`plot`] draws it.
//! - [`load`]: what fills the wire; [`matrix`]: under which conditions, and what comes of it.
//! - [`race`]: how fast portals and other tunnels are where nothing but the processor holds them up.
//! - [`script`]: links that change under load; [`failover`]: what is asked then.
//! - [`traffic`]: a user's day on the tunnel; [`adversary`]: somebody who means harm.
//!
//! Everything needs root and leaves nothing behind, however the process ends.
#![deny(unsafe_code)]

pub mod adversary;
pub mod browser;
pub mod check;
pub mod datagrams;
pub mod diagnose;
pub mod failover;
pub mod http;
pub mod iperf;
pub mod lab;
pub mod link;
pub mod load;
pub mod machine;
pub mod matrix;
pub mod netns;
pub mod ping;
pub mod plot;
pub mod portal;
mod process;
pub mod quic;
pub mod race;
pub mod scratch;
pub mod script;
pub mod stats;
pub mod stream;
pub mod system_state;
pub mod tcp_counters;
pub mod traffic;
pub mod usage;
pub mod wait;
pub mod wan;

/// Whether this process may build a lab. If not, says on standard error what is skipped.
pub fn may_build_labs(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {what}: network namespaces need root");
    }
    root
}
