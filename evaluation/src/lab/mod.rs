//! The lab: two portals with an Internet between them, in anonymous network namespaces.
//!
//! ```text
//!                                      emu: the WAN emulator
//!                             .2  wan0 ====== wire 0 ====== link0  .1
//!                                192.168.1.0/24  2001:db8:1::/64
//!  client ------- local       .2  wan1 ====== wire 1 ====== link1  .1     internet
//!    eth0         lan0           192.168.2.0/24  2001:db8:2::/64        (plain router)
//!     .2           .1         .2  wan2 ====== wire 2 ====== link2  .1       |      |
//!   192.168.100.0/24             192.168.3.0/24  2001:db8:3::/64    remote .1      .1 server
//!  2001:db8:100::/64             …                                          |      |
//!                                                                  eth0 .2  |      |  .2 eth0
//!                                                                        remote  server
//!                                                           198.51.100.0/24  203.0.113.0/24
//!                                                          2001:db8:51::/64  2001:db8:113::/64
//! ```
//!
//! Host numbers are the same in IPv4 and IPv6. The links' interfaces have no offload, so the
//! wires carry real packets; all other interfaces are plain veth pairs at full speed. Neighbour
//! entries across the wires are permanent: as with a modem at hand, address resolution neither
//! suffers the wire's loss nor delays its return. In `local` each link has a routing table that
//! serves packets from its address or bound to its interface; anything else leaves by `wan0`.
//!
//! Routes decide how the client and the server meet: straight through one link
//! ([`Lab::route_directly`], so at the start), or through the portals' tunnel
//! ([`Lab::route_through`]).

mod address;
mod change;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};

pub use address::Family;
use change::Changes;

use crate::link::LinkSpec;
use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::wan::{Wan, Wire, WireSpec};
use address::{CLIENT_NETWORK, PLAIN_NETWORK, REMOTE_NETWORK, SERVER_NETWORK, link_mac, link_network};

/// The names of all offloads that would put frames on a wire which no real one could carry.
const OFFLOADS: [&str; 5] = ["tso", "gso", "gro", "tx", "tx-udp-segmentation"];

/// The seed of losses and jitter where none is given.
pub const DEFAULT_SEED: u64 = 1;

/// A running lab. Dropping it, or the end of this process however it comes, removes everything.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: the emulator first, the files last.
    wan: Wan,
    client: Namespace,
    local: Namespace,
    remote: Namespace,
    server: Namespace,
    internet: Namespace,
    emu: Namespace,
    links: Vec<LinkSpec>,
    changes: Mutex<Vec<Changes>>,
    scratch: Scratch,
}

impl Lab {
    /// Builds a lab with these links, ready for traffic through link 0.
    pub fn new(links: &[LinkSpec]) -> Result<Self> {
        Self::with_seed(links, DEFAULT_SEED)
    }

    /// As [`new`](Self::new), with the seed of losses and jitter.
    pub fn with_seed(links: &[LinkSpec], seed: u64) -> Result<Self> {
        anyhow::ensure!(!links.is_empty(), "a lab needs a link");
        let scratch = Scratch::new()?;
        let host = |name| host(name).with_context(|| format!("preparing the namespace {name}"));
        let (client, server) = (host("client")?, host("server")?);
        let (local, remote) = (router("local")?, router("remote")?);
        let (internet, emu) = (router("internet")?, Namespace::new("emu")?);
        emu.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;

        join((&client, "eth0"), (&local, "lan0"), &CLIENT_NETWORK)?;
        join((&remote, "eth0"), (&internet, "remote"), &REMOTE_NETWORK)?;
        join((&server, "eth0"), (&internet, "server"), &SERVER_NETWORK)?;
        for namespace in [&client, &remote, &server] {
            let network = match namespace.name() {
                "client" => &CLIENT_NETWORK,
                "remote" => &REMOTE_NETWORK,
                _ => &SERVER_NETWORK,
            };
            // The machine's default may be BBR; a route's algorithm needs no privilege.
            namespace.ip(&Family::BOTH
                .map(|family| format!("route add default via {} congctl cubic\n", network.host(family, 1)))
                .concat())?;
        }
        for (index, link) in links.iter().enumerate() {
            add_link(&local, &internet, &emu, index, link)
                .with_context(|| format!("building link {index}"))?;
        }
        let wires: Vec<WireSpec> = links.iter().enumerate().map(|(k, link)| wire(k, link)).collect();
        let mtu = links.iter().map(|link| link.mtu).max().unwrap_or(1_500);
        let wan = Wan::start(&emu, &wires, mtu, seed)?;
        let lab = Self {
            wan,
            client,
            local,
            remote,
            server,
            internet,
            emu,
            links: links.to_vec(),
            changes: Mutex::new(vec![Changes::default(); links.len()]),
            scratch,
        };
        (0..links.len()).try_for_each(|link| lab.add_link_routes(link))?;
        lab.route_directly(0)?;
        Ok(lab)
    }

    /// The host behind the local portal.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The system of the local portal, which has the links.
    pub fn local(&self) -> &Namespace {
        &self.local
    }

    /// The system of the remote portal.
    pub fn remote(&self) -> &Namespace {
        &self.remote
    }

    /// A host of the Internet.
    pub fn server(&self) -> &Namespace {
        &self.server
    }

    /// The router that joins the links, the remote portal and the server.
    pub fn internet(&self) -> &Namespace {
        &self.internet
    }

    /// All namespaces.
    pub fn namespaces(&self) -> [&Namespace; 6] {
        [&self.client, &self.local, &self.remote, &self.server, &self.internet, &self.emu]
    }

    /// What the links were like at the start.
    pub fn links(&self) -> &[LinkSpec] {
        &self.links
    }

    /// The emulator.
    pub fn wan(&self) -> &Wan {
        &self.wan
    }

    /// The wire of a link.
    ///
    /// # Panics
    /// If there is no such link.
    pub fn wire(&self, link: usize) -> &Wire {
        self.wan.wire(link)
    }

    /// A directory for configurations, logs and sockets that goes with the lab.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Sends client and server straight through one link, without portals: what that link alone
    /// can do.
    pub fn route_directly(&self, link: usize) -> Result<()> {
        let mut local = String::new();
        let mut internet = String::new();
        for family in Family::BOTH {
            let network = link_network(link);
            let (server, client) = (SERVER_NETWORK.prefix(family), CLIENT_NETWORK.prefix(family));
            local += &format!(
                "route replace {server} via {} dev {}\n",
                network.host(family, 1),
                Self::wan_interface(link)
            );
            let portal = self.local_address(link, family);
            internet += &format!("route replace {client} via {portal}\n");
        }
        self.local.ip(&local)?;
        self.internet.ip(&internet)
    }

    /// Sends client and server through the tunnel between these interfaces of the portals, with the MSS of
    /// TCP clamped to their MTU as the set-ups do it. Should an interface go, the traffic goes nowhere rather
    /// than past the tunnel.
    pub fn route_through(&self, local_interface: &str, remote_interface: &str) -> Result<()> {
        clamp_mss(&self.local, local_interface)?;
        clamp_mss(&self.remote, remote_interface)?;
        let mut local = String::new();
        let mut remote = String::new();
        let mut internet = String::new();
        for family in Family::BOTH {
            let (server, client) = (SERVER_NETWORK.prefix(family), CLIENT_NETWORK.prefix(family));
            local += &format!("route replace {server} dev {local_interface}\n");
            local += &format!("route replace unreachable {server} metric 9999\n");
            remote += &format!("route replace {client} dev {remote_interface}\n");
            remote += &format!("route replace unreachable {client} metric 9999\n");
            internet += &format!("route replace {client} via {}\n", REMOTE_NETWORK.host(family, 2));
        }
        self.local.ip(&local)?;
        self.remote.ip(&remote)?;
        self.internet.ip(&internet)
    }

    /// Joins the portals' systems by a plain veth pair as well, at full speed and past the emulator; returns
    /// the name of its interface on both sides, and the remote portal's address there.
    pub fn add_plain_link(&self) -> Result<(&'static str, IpAddr)> {
        const INTERFACE: &str = "plain0";
        let remote = self.remote.path();
        self.local.ip(&format!(
            "link add {INTERFACE} type veth peer name {INTERFACE} netns {remote}\n\
             {}",
            bring_up(INTERFACE, &PLAIN_NETWORK, 1)
        ))?;
        self.remote.ip(&bring_up(INTERFACE, &PLAIN_NETWORK, 2))?;
        Ok((INTERFACE, PLAIN_NETWORK.host(Family::V4, 2)))
    }

    /// The local portal's routes over a link that the kernel drops with the interface.
    fn add_link_routes(&self, link: usize) -> Result<()> {
        let interface = Self::wan_interface(link);
        let network = link_network(link);
        let mac = link_mac(link, 1);
        let table = 100 + link;
        let mut lines = String::new();
        for family in Family::BOTH {
            let gateway = network.host(family, 1);
            lines += &format!(
                "neigh replace {gateway} lladdr {mac} dev {interface} nud permanent\n\
                 route replace {} dev {interface} table {table}\n\
                 route replace default via {gateway} dev {interface} table {table}\n",
                network.prefix(family)
            );
            if link == 0 {
                lines += &format!("route replace default via {gateway} dev {interface}\n");
            }
        }
        self.local.ip(&lines)
    }
}

/// Lets TCP connections that are forwarded into an interface begin with segments that fit it.
fn clamp_mss(namespace: &Namespace, interface: &str) -> Result<()> {
    let rules = format!(
        "table inet mss {{}}\n\
         delete table inet mss\n\
         table inet mss {{\n\
           chain forward {{\n\
             type filter hook forward priority mangle\n\
             oifname {interface} tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu\n\
           }}\n\
         }}\n"
    );
    namespace.run_with_input("nft", &["-f", "-"], &rules).map(drop)
}

/// A host's namespace.
pub(crate) fn host(name: &str) -> Result<Namespace> {
    let namespace = Namespace::new(name)?;
    namespace.sysctls(&[
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.default.rp_filter", "0"),
        ("net.ipv6.conf.default.accept_dad", "0"),
        ("net.ipv6.conf.default.accept_ra", "0"),
        ("net.ipv6.conf.default.router_solicitations", "0"),
        // What one run learned of a path must not help the next one.
        ("net.ipv4.tcp_no_metrics_save", "1"),
        // Room for 400 Mbit/s across half a second.
        ("net.ipv4.tcp_rmem", "4096 131072 33554432"),
        ("net.ipv4.tcp_wmem", "4096 65536 33554432"),
    ])?;
    Ok(namespace)
}

/// A namespace that forwards.
fn router(name: &str) -> Result<Namespace> {
    let namespace = host(name)?;
    namespace.sysctls(&[
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        // An address answers on its own interface only.
        ("net.ipv4.conf.all.arp_ignore", "1"),
        ("net.ipv4.conf.all.arp_announce", "2"),
        // A second address of a subnet survives the first one's removal.
        ("net.ipv4.conf.all.promote_secondaries", "1"),
        // IPv6 addresses survive an interface that is taken down, as IPv4 ones do.
        ("net.ipv6.conf.all.keep_addr_on_down", "1"),
        ("net.ipv6.conf.default.keep_addr_on_down", "1"),
    ])?;
    Ok(namespace)
}

/// Joins two namespaces by a plain veth pair; the first has host number 2, the second 1.
fn join(
    (host, host_interface): (&Namespace, &str),
    (router, router_interface): (&Namespace, &str),
    network: &address::Network,
) -> Result<()> {
    let path = router.path();
    host.ip(&format!(
        "link add {host_interface} type veth peer name {router_interface} netns {path}\n\
         {}",
        bring_up(host_interface, network, 2)
    ))?;
    router.ip(&bring_up(router_interface, network, 1))
}

fn bring_up(interface: &str, network: &address::Network, host: u8) -> String {
    let addresses = Family::BOTH.map(|family| {
        let flags = if family == Family::V6 { " nodad" } else { "" };
        format!("addr add {} dev {interface}{flags}\n", network.host_with_length(family, host))
    });
    format!("link set {interface} up\n{}", addresses.concat())
}

/// Adds the interfaces of a link: two veth pairs that meet in the emulator.
fn add_link(
    local: &Namespace,
    internet: &Namespace,
    emu: &Namespace,
    index: usize,
    link: &LinkSpec,
) -> Result<()> {
    let network = link_network(index);
    let mtu = link.mtu;
    let WireSpec { a, b, .. } = wire(index, link);
    let (wan, gateway) = (Lab::wan_interface(index), format!("link{index}"));
    for (namespace, interface, end, host) in [(local, &wan, &a, 2), (internet, &gateway, &b, 1)] {
        namespace.ip(&format!(
            "link add {interface} address {} mtu {mtu} type veth peer name {end} mtu {mtu} netns {}\n\
             {}",
            link_mac(index, host),
            emu.path(),
            bring_up(interface, &network, host)
        ))?;
        emu.ip(&format!("link set {end} up"))?;
        let mut arguments = vec!["-K", interface];
        arguments.extend(OFFLOADS.iter().flat_map(|offload| [*offload, "off"]));
        namespace.run("ethtool", &arguments)?;
    }
    let mut neighbours = String::new();
    let table = (100 + index).to_string();
    for family in Family::BOTH {
        let address = network.host(family, 2).to_string();
        for [selector, value] in [["from", address.as_str()], ["oif", wan.as_str()]] {
            let rule = [family.ip_flag(), "rule", "add", selector, value, "lookup", &table];
            local.run("ip", &rule)?;
        }
        let mac = link_mac(index, 2);
        neighbours += &format!("neigh replace {address} lladdr {mac} dev {gateway} nud permanent\n");
    }
    internet.ip(&neighbours)
}

fn wire(index: usize, link: &LinkSpec) -> WireSpec {
    WireSpec { a: format!("a{index}"), b: format!("b{index}"), up: link.up.clone(), down: link.down.clone() }
}
