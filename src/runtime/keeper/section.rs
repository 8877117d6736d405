//! The task of one section: opens its sockets, and opens them anew whenever they fail.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Keeper, KeptState, Lease, lock};
use crate::config::{Method, Peer, Remote, RemoteHost};
use crate::core::outbound::{STREAM, SocketId};
use crate::core::units::LinkId;
use crate::journal::{Kind, Level, Notice};
use crate::runtime::clock;
use crate::runtime::interface::{self, Changes, index_of, mtu_of_address};
use crate::runtime::socket::Flow;
use crate::runtime::sys::interface_mtu;
use crate::runtime::tcp::{self, TcpFlow};
use crate::runtime::udp::{Local, source_towards};

/// First pause before a link is opened again, doubled up to [`MAX_BACK_OFF`].
const BACK_OFF: Duration = Duration::from_millis(500);
const MAX_BACK_OFF: Duration = Duration::from_secs(15);
/// A link that held for so long begins with the short pause again.
const HELD: Duration = Duration::from_secs(10);
/// How often an interface is looked after where the system does not tell of changes, …
const LOOK: Duration = Duration::from_secs(2);
/// … and where it does.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
/// Changes of interfaces come in swarms: shortest pause before a link is opened again after one.
const SETTLE: Duration = Duration::from_millis(20);
/// How often a name is looked up again while its link is open.
const RESOLVE_AGAIN: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that has not shown to be the peer's by then is closed.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most connections at once on one listening section: 16 links, and strangers.
const MAX_CONNECTIONS: usize = 32;
/// MTU assumed where the system does not tell: Ethernet.
const ETHERNET: u16 = 1500;
const IPV4_HEADER: u16 = 20;
const IPV6_HEADER: u16 = 40;
const UDP_HEADER: u16 = 8;

/// The task of one section.
#[derive(Clone)]
pub(super) struct Section {
    pub(super) keeper: Arc<Keeper>,
    pub(super) peer: Peer,
    pub(super) link: Option<LinkId>,
    pub(super) state: Arc<Mutex<KeptState>>,
}

impl Section {
    /// Keeps its link open for good.
    pub(super) async fn run(self) {
        let mut pause = BACK_OFF;
        let mut changes = self.keeper.changes.clone();
        loop {
            let begun = Instant::now();
            changes.mark_unchanged();
            let reason = self.attempt().await.to_string();
            self.leave(&reason);
            if begun.elapsed() > HELD {
                pause = BACK_OFF;
            }
            sleep(SETTLE).await;
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(MAX_BACK_OFF),
                // It may be what was missing.
                () = interface::changed(&mut changes) => {}
            }
        }
    }

    /// Opens the link and returns when it does not work any more, with the reason.
    async fn attempt(&self) -> io::Error {
        let result = match (&self.peer.remote, self.peer.method) {
            (Some(remote), Method::Udp) => self.initiate_udp(remote).await,
            (Some(remote), Method::Tcp) => self.initiate_tcp(remote).await,
            (None, Method::Udp) => self.listen_udp().await,
            (None, Method::Tcp) => self.listen_tcp().await,
        };
        match result {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn initiate_udp(&self, remote: &Remote) -> io::Result<std::convert::Infallible> {
        let mut address = resolve(remote, self.wants_v6()).await?;
        let local = self.local();
        let way = self.way_to(address)?;
        let socket = self.open_udp(&local, Some(address))?;
        let mut failures = self.hold(socket, false);
        loop {
            self.open(socket, address, max_datagram(&local, address));
            self.note_source(address);
            let moved = async {
                loop {
                    sleep(RESOLVE_AGAIN).await;
                    // A name that cannot be resolved now is no reason to leave what may work.
                    match resolve(remote, self.wants_v6()).await {
                        Ok(now) if now != address => return now,
                        _ => {}
                    }
                }
            };
            address = tokio::select! {
                error = self.failure(&mut failures, &way) => return Err(error),
                never = self.watch_source(address) => match never {},
                moved = moved => moved,
            };
            self.tell(Level::Info, Kind::Address, &format!("the other portal is at {address} now"));
        }
    }

    fn open_udp(&self, local: &Local, remote: Option<SocketAddr>) -> io::Result<SocketId> {
        self.keeper.open_udp(local, remote, self.peer.gro).map_err(|error| self.explain(error))
    }

    async fn initiate_tcp(&self, remote: &Remote) -> io::Result<std::convert::Infallible> {
        let address = resolve(remote, self.wants_v6()).await?;
        let local = self.local();
        let mut way = self.way_to(address)?;
        let socket = tcp::socket(&local, Some(address)).map_err(|error| self.explain(error))?;
        let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
        let stream = timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{remote} does not answer")))?
            .map_err(|error| io::Error::new(error.kind(), format!("{remote}: {error}")))?;
        // A connection does not outlive its address.
        way.address = Some(stream.local_addr()?.ip());
        let flow = TcpFlow::new(stream.into_std()?, address)?;
        let socket = self.keeper.engine.add_socket(Flow::Tcp(flow))?;
        let mut failures = self.hold(socket, false);
        self.open(socket, address, STREAM);
        self.note_source(address);
        Err(self.failure(&mut failures, &way).await)
    }

    async fn listen_udp(&self) -> io::Result<std::convert::Infallible> {
        let local = self.local();
        let socket = self.open_udp(&local, None)?;
        let mut failures = self.hold(socket, true);
        // The path to the peer is not known yet: it tells its side's limit, the interface gives ours.
        let mtu = local.interface.as_deref().and_then(interface_mtu).unwrap_or(ETHERNET);
        self.listen(socket, mtu.saturating_sub(IPV6_HEADER + UDP_HEADER));
        tokio::select! {
            error = told(&mut failures) => Err(error),
            error = self.interface_gone() => Err(error),
        }
    }

    async fn listen_tcp(&self) -> io::Result<std::convert::Infallible> {
        let local = self.local();
        let socket = tcp::socket(&local, None).map_err(|error| self.explain(error))?;
        socket.listen(16)?;
        let listener = TcpListener::from_std(socket.into())?;
        lock(&self.state).trouble = None;
        tracing::info!("{}: listening on {}", self.peer.name, listener.local_addr()?);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    let (stream, peer) = accepted?;
                    let flow = TcpFlow::new(stream.into_std()?, peer)?;
                    let socket = self.keeper.engine.add_socket(Flow::Tcp(flow))?;
                    let mut failures = self.hold(socket, true);
                    self.listen(socket, STREAM);
                    let keeper = Arc::clone(&self.keeper);
                    let state = Arc::clone(&self.state);
                    connections.spawn(async move {
                        let strange = async {
                            sleep(STRANGER_TIMEOUT).await;
                            if keeper.engine.portal.has_links_on(socket) {
                                std::future::pending::<()>().await;
                            }
                        };
                        tokio::select! { _ = failures.recv() => {}, () = strange => {} }
                        release(&keeper, &state, socket);
                    });
                }
                Some(_) = connections.join_next() => {}
                error = self.interface_gone() => return Err(error),
            }
        }
    }

    /// Takes note of an open socket; gives where its failures are told.
    fn hold(&self, socket: SocketId, listening: bool) -> mpsc::UnboundedReceiver<String> {
        let (sender, failures) = mpsc::unbounded_channel();
        self.keeper.sockets().keepers.entry(socket).or_default().push(sender);
        let mut state = lock(&self.state);
        state.open.push(Lease { socket, listening });
        state.trouble = None;
        failures
    }

    fn open(&self, socket: SocketId, remote: SocketAddr, max_datagram: u16) {
        if let Some(link) = self.link {
            self.keeper.engine.portal.open(clock::now(), link, socket, remote, max_datagram);
            self.keeper.engine.refresh();
        }
    }

    /// Tells if the section's packets to `remote` have another own address than before.
    fn note_source(&self, remote: SocketAddr) {
        let Some(now) = source_towards(&self.local(), remote) else { return };
        let before = lock(&self.state).source.replace(now);
        if let Some(before) = before.filter(|before| *before != now) {
            self.tell(Level::Info, Kind::Address, &format!("own address is {now} now, was {before}"));
        }
    }

    /// Follows the own address, which the kernel may choose anew without closing the socket.
    async fn watch_source(&self, remote: SocketAddr) -> std::convert::Infallible {
        let mut changes = self.keeper.changes.clone();
        loop {
            interface::changed(&mut changes).await;
            sleep(SETTLE).await;
            self.note_source(remote);
        }
    }

    fn listen(&self, socket: SocketId, max_datagram: u16) {
        let config = lock(&self.state).config.clone();
        self.keeper.engine.portal.listen(socket, config, max_datagram);
        if let (Method::Udp, Some(address)) =
            (self.peer.method, self.keeper.engine.socket(socket).and_then(|socket| socket.local()))
        {
            tracing::info!("{}: listening on {address}", self.peer.name);
        }
    }

    /// Tells something of the section's link.
    pub(super) fn tell(&self, level: Level, kind: Kind, text: &str) {
        let name = &self.peer.name;
        self.keeper.journal.tell(Notice::of_link(level, kind, name, format!("link {name}: {text}")));
    }

    /// Closes what the section holds, and says why.
    pub(super) fn leave(&self, reason: &str) {
        let leases: Vec<_> = {
            let mut state = lock(&self.state);
            if !self.peer.initiates() && state.trouble.as_deref() != Some(reason) {
                self.tell(Level::Warning, Kind::Link, reason);
            }
            state.trouble = Some(reason.to_owned());
            state.open.drain(..).collect()
        };
        if let Some(link) = self.link {
            let ready = self.keeper.engine.portal.fail(clock::now(), link, reason.to_owned());
            self.keeper.engine.settle(ready);
        }
        leases.iter().for_each(|lease| self.keeper.close(lease));
    }

    /// Waits until the socket fails, or the way out of this system that it takes.
    async fn failure(&self, failures: &mut mpsc::UnboundedReceiver<String>, way: &Way) -> io::Error {
        tokio::select! {
            error = told(failures) => error,
            error = self.interface_gone() => error,
            error = way.fault(self.keeper.changes.clone()) => error,
        }
    }

    /// Waits until the bound interface is not the one any more that it was; for ever if none is bound. That
    /// is all that a section which listens is closed for: its peer's links may come in by another way.
    async fn interface_gone(&self) -> io::Error {
        let Some(interface) = &self.peer.interface else { return std::future::pending().await };
        let mut changes = self.keeper.changes.clone();
        let bound = index_of(interface.as_str());
        loop {
            wait_for_change(&mut changes).await;
            if index_of(interface.as_str()) != bound {
                return io::Error::new(io::ErrorKind::NotFound, format!("interface {interface} is gone"));
            }
        }
    }

    /// The way by which the link leaves this system, if it can be used.
    fn way_to(&self, remote: SocketAddr) -> io::Result<Way> {
        let local = self.local();
        let address = match (&local.interface, local.address) {
            (None, None) => source_towards(&local, remote),
            (_, address) => address,
        };
        let way = Way { interface: local.interface, address };
        match interface::fault(way.interface.as_deref(), way.address) {
            Some(fault) => Err(io::Error::new(io::ErrorKind::NotConnected, fault)),
            None => Ok(way),
        }
    }

    fn local(&self) -> Local {
        Local {
            address: self.peer.local_address,
            port: self.peer.local_port,
            interface: self.peer.interface.as_ref().map(ToString::to_string),
        }
    }

    fn wants_v6(&self) -> Option<bool> {
        self.peer.local_address.map(|address| address.is_ipv6())
    }

    /// Says what an error of opening a socket means here.
    fn explain(&self, error: io::Error) -> io::Error {
        let peer = &self.peer;
        let at = match peer.local_address {
            Some(address) => SocketAddr::new(address, peer.local_port).to_string(),
            None => format!("port {}", peer.local_port),
        };
        let interface = peer.interface.as_ref().map(ToString::to_string).unwrap_or_default();
        let words = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => {
                format!("{at} is in use by another program: stop that, or change LocalPort")
            }
            Some(libc::EADDRNOTAVAIL) => format!("{at} is no address of this system now: check LocalAddress"),
            Some(libc::ENODEV) => format!("there is no interface {interface} now"),
            _ => format!("cannot open {at}: {error}"),
        };
        io::Error::new(error.kind(), words)
    }
}

/// The interface and the own address that a link depends on, as far as they are known.
struct Way {
    interface: Option<String>,
    address: Option<IpAddr>,
}

impl Way {
    /// Waits until it cannot be used any more.
    async fn fault(&self, mut changes: Changes) -> io::Error {
        loop {
            wait_for_change(&mut changes).await;
            if let Some(fault) = interface::fault(self.interface.as_deref(), self.address) {
                return io::Error::new(io::ErrorKind::NotConnected, fault);
            }
        }
    }
}

/// Waits until an interface changed, or may have.
async fn wait_for_change(changes: &mut Changes) {
    let told = changes.has_changed().is_ok();
    let _ = timeout(if told { LOOK_ANYWAY } else { LOOK }, interface::changed(changes)).await;
}

/// Waits for what is told of a socket.
async fn told(failures: &mut mpsc::UnboundedReceiver<String>) -> io::Error {
    io::Error::other(failures.recv().await.unwrap_or_else(|| "closed".to_owned()))
}

fn release(keeper: &Keeper, state: &Mutex<KeptState>, socket: SocketId) {
    let lease = {
        let mut state = lock(state);
        let position = state.open.iter().position(|lease| lease.socket == socket);
        position.map(|position| state.open.swap_remove(position))
    };
    if let Some(lease) = lease {
        keeper.close(&lease);
    }
}

/// The first address of the host, of the family of our own address if one is given.
async fn resolve(remote: &Remote, v6: Option<bool>) -> io::Result<SocketAddr> {
    let name = match &remote.host {
        RemoteHost::Address(address) => return Ok(SocketAddr::new(*address, remote.port)),
        RemoteHost::Name(name) => name,
    };
    let looked_up = tokio::net::lookup_host((name.as_str(), remote.port)).await;
    let mut addresses =
        looked_up.map_err(|error| io::Error::new(error.kind(), format!("cannot resolve {name}: {error}")))?;
    addresses.find(|address| v6.is_none_or(|v6| address.is_ipv6() == v6)).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address of LocalAddress's family"))
    })
}

/// Longest datagram that the interface carries on the way to `remote`.
fn max_datagram(local: &Local, remote: SocketAddr) -> u16 {
    let mtu = match &local.interface {
        Some(interface) => interface_mtu(interface),
        None => source_towards(local, remote).and_then(mtu_of_address),
    };
    let ip = if remote.is_ipv6() { IPV6_HEADER } else { IPV4_HEADER };
    mtu.unwrap_or(ETHERNET).saturating_sub(ip + UDP_HEADER)
}

/// What a section's links probably carry, as far as it says.
pub(in crate::runtime) fn assumed_datagram(peer: &Peer) -> u16 {
    let remote = peer.remote.as_ref().map(|remote| &remote.host);
    let v6 = match (remote, peer.local_address) {
        (Some(RemoteHost::Address(remote)), _) => remote.is_ipv6(),
        (_, local) => local.is_some_and(|local| local.is_ipv6()),
    };
    let ip = if v6 { IPV6_HEADER } else { IPV4_HEADER };
    let mtu = peer.interface.as_ref().and_then(|interface| interface_mtu(interface.as_str()));
    match peer.method {
        Method::Udp => mtu.unwrap_or(ETHERNET).saturating_sub(ip + UDP_HEADER),
        Method::Tcp => STREAM,
    }
}
