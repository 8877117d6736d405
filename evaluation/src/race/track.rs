//! Two hosts, joined by paths without any emulation.
//!
//! ```text
//!  local   .1  wire0 ======== wire0  .2   remote     192.168.1.0/24
//!          .1  wire1 ======== wire1  .2              192.168.2.0/24
//! ```
//!
//! The wires are veth pairs without segmentation offload, so that full packets cross them, and with GRO where they
//! arrive, as a network card has it. Loads run on the two hosts themselves, at the ends of the tunnel.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};

use crate::lab;
use crate::netns::Namespace;
use crate::scratch::Scratch;

/// The paths.
pub const PATHS: usize = 2;

/// What a network card without segmentation offload has, and what not.
const CARD: [&str; 6] = ["tso", "off", "tx-udp-segmentation", "off", "gro", "on"];

/// The hosts. Dropping them, or the end of this process however it comes, removes everything.
#[derive(Debug)]
pub struct Track {
    hosts: [Namespace; 2],
    scratch: Scratch,
}

impl Track {
    /// Builds it.
    pub fn new() -> Result<Self> {
        let hosts = [lab::host("local")?, lab::host("remote")?];
        let track = Self { hosts, scratch: Scratch::new()? };
        (0..PATHS).try_for_each(|path| track.join(path).with_context(|| format!("building path {path}")))?;
        Ok(track)
    }

    /// The hosts: local, remote.
    pub fn hosts(&self) -> &[Namespace; 2] {
        &self.hosts
    }

    /// A directory that goes with the track.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// The address of a host (0 local, 1 remote) on a path.
    pub fn address(path: usize, host: usize) -> IpAddr {
        Ipv4Addr::new(192, 168, path as u8 + 1, host as u8 + 1).into()
    }

    fn join(&self, path: usize) -> Result<()> {
        let [local, remote] = &self.hosts;
        let wire = format!("wire{path}");
        local.ip(&format!("link add {wire} type veth peer name {wire} netns {}", remote.path()))?;
        for (index, host) in self.hosts.iter().enumerate() {
            let address = Self::address(path, index);
            host.ip(&format!("addr add {address}/24 dev {wire}\nlink set {wire} up\n"))?;
            host.run("ethtool", &[["-K", wire.as_str()].as_slice(), &CARD].concat())?;
        }
        Ok(())
    }
}
