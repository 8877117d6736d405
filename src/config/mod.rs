//! The configuration: INI text in, a valid [`Config`] out, or every error of the file at once.
//!
//! One `[Host]` section speaks of this portal, each `[Peer]` section of one link. Section and key
//! names and the words among the values (`UDP`, `auto`, …) may be written in any case. A line that
//! starts with `#` or `;` is a comment, and so is what follows white space and `#` on any line.
//!
//! Parse, don't validate: only this room makes a [`Config`], so whoever holds one need not check
//! it. Nothing here acts on the system but for reading the two files, configuration and key.

mod amount;
mod change;
mod check;
mod diagnostic;
mod endpoint;
mod fields;
mod host;
mod key;
mod load;
mod peer;
mod status;
mod suggest;
mod text;
mod value;

#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

pub use amount::{BitRate, Volume};
pub use change::LinkChange;
pub use diagnostic::{Diagnostic, Errors, Warning};
pub use endpoint::{Remote, RemoteHost};
pub use host::KEYS as HOST_KEYS;
pub use key::Key;
pub use peer::KEYS as PEER_KEYS;
pub use status::{Password, Status};
pub use suggest::nearest;
pub use value::{
    Cidr, CongestionControl, InterfaceName, Method, MetricMode, Mtu, Network, Protection, QuotaAction,
    Redundancy, Table,
};

/// Most `[Peer]` sections in one file: the wire format has room for 16 links between two portals.
pub const MAX_PEERS: usize = 16;

/// A whole, valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The portal itself.
    pub host: Host,
    /// The links, in the order of the file; 1 to [`MAX_PEERS`] of them.
    pub peers: Vec<Peer>,
}

/// The `[Host]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Host {
    /// How datagrams are protected between the portals, and the shared key.
    pub protection: Protection,
    /// Inner headers are sent compressed.
    pub compression: bool,
    /// Addresses of the TUN interface, in the order of the file, none twice.
    pub addresses: Vec<Cidr>,
    /// MTU of the TUN interface.
    pub mtu: Mtu,
    /// When links of a higher metric carry packets.
    pub metric_mode: MetricMode,
    /// Which packets are sent twice.
    pub redundancy: Redundancy,
    /// Packets may cross the interface together, if the system can.
    pub offload: bool,
    /// Over how many processors the work is spread; `None`: over as many as the system allows.
    pub processors: Option<u16>,
    /// Where the status page is served; `None`: nowhere.
    pub status: Option<Status>,
    /// What this system leads into the tunnel.
    pub routing: Routing,
    /// Commands of the operator.
    pub hooks: Hooks,
}

/// What this system leads into the tunnel while the interface is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// Where the routes are made.
    pub table: Table,
    /// What is led into the tunnel; everything if empty.
    pub routes: Vec<Network>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Search domains for the resolver.
    pub search: Vec<String>,
}

/// Shell commands run around the life of the interface, in the order of the file. `%i` in them
/// stands for the name of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before the interface is made.
    pub pre_up: Vec<String>,
    /// When the interface is up.
    pub post_up: Vec<String>,
    /// Before the interface is taken away.
    pub pre_down: Vec<String>,
    /// When the interface is gone.
    pub post_down: Vec<String>,
}

/// A `[Peer]` section: one link to the other portal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Number of the section among the `[Peer]` sections, from 1.
    pub section: usize,
    /// Name of the link, unique in the file; `peerN` if none is given.
    pub name: String,
    /// What carries the link.
    pub method: Method,
    /// Own address to send from or listen on; `None` leaves it to the kernel.
    pub local_address: Option<IpAddr>,
    /// Own port; 0 leaves it to the kernel. Never 0 on a link that listens.
    pub local_port: u16,
    /// Interface that the link is bound to.
    pub interface: Option<InterfaceName>,
    /// Where the other portal is; `None` means that this link listens.
    pub remote: Option<Remote>,
    /// Who decides how much may be in flight.
    pub congestion_control: CongestionControl,
    /// Links of a lower metric are used first.
    pub metric: u8,
    /// Longest silence before a sign of life is sent, whole seconds; `None` sends none.
    pub keep_alive: Option<Duration>,
    /// Datagrams may leave in runs that the system cuts apart (UDP GSO), if it can and as long as they arrive.
    pub gso: bool,
    /// Datagrams may be taken from the system in runs (UDP GRO), if it can.
    pub gro: bool,
    /// Its data cost money or are limited: no load test uses it unasked.
    pub metered: bool,
    /// Most that is sent over it, with IP and UDP headers; `None`: what congestion control allows.
    pub rate_limit: Option<BitRate>,
    /// Data cap of the link's contract.
    pub quota: Option<Quota>,
}

/// The `Quota…` keys of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// Bytes on the wire, both directions together, that a month may have.
    pub volume: Volume,
    /// Day of the month, 1 to 28, that begins a period.
    pub reset_day: u8,
    /// What is done with the link when nearly all is used up.
    pub action: QuotaAction,
}

impl Peer {
    /// Whether this portal opens the link, rather than waiting for the other one to do so.
    pub fn initiates(&self) -> bool {
        self.remote.is_some()
    }
}
