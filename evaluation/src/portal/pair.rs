//! The usual pair of portals: every link of the lab, one key, the client's traffic through it.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Portal, binary};
use crate::lab::{Family, Lab};
use crate::netns::Namespace;
use crate::ping::Ping;
use crate::wait::until;

/// The tunnel's addresses and their prefix lengths: local, then remote.
const TUNNEL: [[&str; 2]; 2] = [["10.77.0.1/24", "fd77::1/64"], ["10.77.0.2/24", "fd77::2/64"]];

/// The port on which the remote portal listens.
pub const PORT: u16 = 7000;

/// How long connecting may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The carrier of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// How the pair is configured. Empty values leave the daemon its default.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// The daemon's program; [`binary()`] if not given.
    pub binary: Option<PathBuf>,
    /// The name of the interface of both portals.
    pub interface: String,
    /// The carrier of all links.
    pub method: Method,
    /// The carrier of single links where it is another one: link and carrier.
    pub link_methods: Vec<(usize, Method)>,
    /// `CongestionControl` of all links, such as `newreno`.
    pub congestion_control: String,
    /// `Protection`, such as `mac`; empty for the default, `aead`.
    pub protection: String,
    /// The version of IP outside.
    pub outer: Family,
    /// The links of the lab that are used; all if empty.
    pub links: Vec<usize>,
    /// Further lines of `[Host]` on both sides, as `Key = value`.
    pub host_lines: Vec<String>,
    /// Further lines of every `[Peer]` on both sides.
    pub peer_lines: Vec<String>,
    /// Further lines for the `[Peer]` of single links on the local side: link and line.
    pub link_lines: Vec<(usize, String)>,
}

impl Default for PairOptions {
    fn default() -> Self {
        Self {
            binary: None,
            interface: "nc0".into(),
            method: Method::Udp,
            link_methods: Vec::new(),
            congestion_control: String::new(),
            protection: String::new(),
            outer: Family::V4,
            links: Vec::new(),
            host_lines: Vec::new(),
            peer_lines: Vec::new(),
            link_lines: Vec::new(),
        }
    }
}

/// A local and a remote portal. Either may be stopped or killed and started again.
#[derive(Debug)]
pub struct Pair<'a> {
    lab: &'a Lab,
    options: PairOptions,
    configs: [String; 2],
    local: Option<Portal>,
    remote: Option<Portal>,
}

impl PairOptions {
    /// The carrier of a link.
    fn method_of(&self, link: usize) -> Method {
        let own = self.link_methods.iter().find(|(of, _)| *of == link);
        own.map_or(self.method, |(_, method)| *method)
    }

    /// Every carrier that is used.
    fn methods(&self) -> Vec<Method> {
        let mut methods = vec![self.method];
        methods.extend(self.link_methods.iter().map(|(_, method)| *method).find(|own| *own != self.method));
        methods
    }
}

impl<'a> Pair<'a> {
    /// Starts both portals and leads the traffic of client and server through them. It does not
    /// wait for the session; [`wait_connected`](Self::wait_connected) does.
    pub fn start(lab: &'a Lab, options: &PairOptions) -> Result<Self> {
        let key = random_key()?;
        let configs = [local_config(lab, options, &key), remote_config(options, &key)];
        Self::start_with(lab, options, configs)
    }

    /// As [`start`](Self::start), with whole configurations: the local portal's, the remote's.
    pub fn start_with(lab: &'a Lab, options: &PairOptions, configs: [String; 2]) -> Result<Self> {
        let mut pair = Self { lab, options: options.clone(), configs, local: None, remote: None };
        pair.start_remote()?;
        pair.start_local()?;
        Ok(pair)
    }

    /// As [`start`](Self::start), and waits until traffic passes and the local portal has all its links
    /// up.
    pub fn start_connected(lab: &'a Lab, options: &PairOptions) -> Result<Self> {
        let mut pair = Self::start(lab, options)?;
        pair.wait_connected(PATIENCE)?;
        pair.wait_all_up(PATIENCE)?;
        Ok(pair)
    }

    /// Waits until the local portal has all its links up.
    pub fn wait_all_up(&mut self, limit: Duration) -> Result<Duration> {
        let portal = self.local()?;
        until(limit, "all links up", || {
            let shown = portal.show()?;
            let links = shown["links"].as_array().context("no links shown")?;
            Ok(links.iter().all(|link| link["state"] == "up"))
        })
        .with_context(|| portal.log_tail())
    }

    /// The configurations: the local portal's, the remote's.
    pub fn configs(&self) -> &[String; 2] {
        &self.configs
    }

    /// The local portal.
    pub fn local(&mut self) -> Result<&mut Portal> {
        self.local.as_mut().context("the local portal does not run")
    }

    /// The remote portal.
    pub fn remote(&mut self) -> Result<&mut Portal> {
        self.remote.as_mut().context("the remote portal does not run")
    }

    /// Takes the local portal out, to stop or kill it.
    pub fn take_local(&mut self) -> Result<Portal> {
        self.local.take().context("the local portal does not run")
    }

    /// Takes the remote portal out, to stop or kill it.
    pub fn take_remote(&mut self) -> Result<Portal> {
        self.remote.take().context("the remote portal does not run")
    }

    /// Starts the local portal, again if it had been taken out.
    pub fn start_local(&mut self) -> Result<()> {
        self.local = Some(self.start_portal(self.lab.local(), &self.configs[0])?);
        self.route()
    }

    /// Starts the remote portal, again if it had been taken out.
    pub fn start_remote(&mut self) -> Result<()> {
        self.remote = Some(self.start_portal(self.lab.remote(), &self.configs[1])?);
        self.route()
    }

    /// Waits until the client reaches the server through the tunnel; returns how long that took.
    pub fn wait_connected(&mut self, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        let target = self.lab.server_address(Family::V4);
        // Short waits tell precisely when the way is there; the long ones are for ways that take long.
        for timeout in [500, 500, 500, 2_000].map(Duration::from_millis).into_iter().cycle() {
            if start.elapsed() >= limit {
                break;
            }
            let once = Ping { timeout, ..Ping::times(1) };
            // Without a route yet, ping fails; that is not the end either.
            if once.run(self.lab.client(), target).is_ok_and(|report| !report.replies.is_empty()) {
                return Ok(start.elapsed());
            }
        }
        let tails = [self.local.as_ref(), self.remote.as_ref()]
            .map(|portal| portal.map(|portal| portal.name() + &portal.log_tail()).unwrap_or_default());
        bail!("no way through the tunnel within {limit:?}\n{}", tails.join("\n"))
    }

    /// What both portals say of themselves, and the end of their logs: for messages.
    pub fn account(&self) -> String {
        let tell = |portal: &Portal| {
            let shown = portal.show_text().unwrap_or_else(|error| format!("{error:#}"));
            format!("{}{}\n{shown}", portal.name(), portal.log_tail())
        };
        let portals = [&self.local, &self.remote].into_iter().flatten();
        portals.map(tell).collect::<Vec<_>>().join("\n")
    }

    /// Stops both portals in good order.
    pub fn stop(mut self) -> Result<()> {
        let portals = [self.local.take(), self.remote.take()];
        portals.into_iter().flatten().try_for_each(Portal::stop)
    }

    fn start_portal(&self, namespace: &Namespace, config: &str) -> Result<Portal> {
        let binary = self.options.binary.clone().map_or_else(binary, Ok)?;
        Portal::start(namespace, &binary, &self.options.interface, config, self.lab.directory())
    }

    /// A portal that starts anew has lost the routes over its interface.
    fn route(&self) -> Result<()> {
        if self.local.is_none() || self.remote.is_none() {
            return Ok(());
        }
        let interface = &self.options.interface;
        self.lab.route_through(interface, interface)
    }
}

/// The remote portal's IPv4 address inside the tunnel.
pub fn remote_tunnel_address() -> IpAddr {
    IpAddr::from([10, 77, 0, 2])
}

/// The local portal's configuration: one `[Peer]` for each link.
pub fn local_config(lab: &Lab, options: &PairOptions, key: &str) -> String {
    let mut text = host_section(options, key, TUNNEL[0]);
    let all: Vec<usize> = (0..lab.links().len()).collect();
    let links = if options.links.is_empty() { &all } else { &options.links };
    for &link in links {
        text += &format!(
            "\n[Peer]\nName = link{link}\nMethod = {}\nInterface = {}\nRemoteHost = {}\n\
             RemotePort = {PORT}\n",
            options.method_of(link).name(),
            Lab::wan_interface(link),
            lab.remote_address(options.outer)
        );
        let own = options.link_lines.iter().filter(|(of, _)| *of == link).map(|(_, line)| line);
        push_lines(&mut text, options, options.method_of(link), own);
    }
    text
}

/// The remote portal's configuration: one `[Peer]` for each carrier, which listens for all links that use it.
pub fn remote_config(options: &PairOptions, key: &str) -> String {
    let mut text = host_section(options, key, TUNNEL[1]);
    for method in options.methods() {
        let name = method.name();
        text += &format!("\n[Peer]\nName = local-{name}\nMethod = {name}\nLocalPort = {PORT}\n");
        push_lines(&mut text, options, method, std::iter::empty());
    }
    text
}

fn host_section(options: &PairOptions, key: &str, addresses: [&str; 2]) -> String {
    let mut text = format!("[Host]\nKey = {key}\n");
    if !options.protection.is_empty() {
        text += &format!("Protection = {}\n", options.protection);
    }
    for address in addresses {
        text += &format!("Address = {address}\n");
    }
    options.host_lines.iter().for_each(|line| text += &format!("{line}\n"));
    text
}

fn push_lines<'a>(
    text: &mut String,
    options: &'a PairOptions,
    method: Method,
    own: impl Iterator<Item = &'a String>,
) {
    // With TCP flows the kernel has the congestion control.
    if !options.congestion_control.is_empty() && method == Method::Udp {
        *text += &format!("CongestionControl = {}\n", options.congestion_control);
    }
    options.peer_lines.iter().chain(own).for_each(|line| *text += &format!("{line}\n"));
}

/// A new key, as `netcombiner genkey` makes it.
pub fn random_key() -> Result<String> {
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(STANDARD.encode(key))
}
