//! Keeps the links of the configuration open: a task for each `[Peer]` section, which opens its socket, and
//! opens it anew, with back-off, whenever it fails. The links do not know of each other.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::clock;
use super::engine::{Engine, Flow};
use super::interface::{self, Changes, index_of, mtu_of_address};
use super::sys::{has_gso, interface_mtu};
use super::tcp::{self, TcpFlow};
use super::udp::{Local, UdpSocket, source_towards};
use crate::config::{BitRate, CongestionControl, LinkChange, Method, Peer, QuotaAction, Remote, RemoteHost};
use crate::core::outbound::congestion::Algorithm;
use crate::core::outbound::{LAST_RESORT, LinkConfig, Meter, STREAM, SocketId};
use crate::core::snapshot;
use crate::core::units::{LinkId, Rate};
use crate::journal::{Journal, Kind, Level, Notice};

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
/// Why a link of `QuotaAction = off` is closed near its data cap.
const USED_UP: &str = "its Quota is nearly used up";
const IPV4_HEADER: u16 = 20;
const IPV6_HEADER: u16 = 40;
const UDP_HEADER: u16 = 8;

/// Who keeps the links open.
pub(super) struct Keeper {
    engine: Arc<Engine>,
    changes: Changes,
    journal: Arc<Journal>,
    sockets: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    /// Who wants to hear of a socket's failure.
    keepers: HashMap<SocketId, Vec<mpsc::UnboundedSender<String>>>,
    /// UDP sockets with a fixed port, which several sections may share.
    shared: HashMap<Local, Shared>,
}

/// A socket and how many sections use it.
struct Shared {
    socket: SocketId,
    users: usize,
}

/// One section and its task. Dropping it closes what it opened.
pub(super) struct Kept {
    section: Section,
    /// `None` while it is held down.
    task: Option<JoinHandle<()>>,
    orders: Orders,
    /// What is done because its data cap is near.
    demotion: Option<QuotaAction>,
    meter: Meter,
}

/// What was changed of a section by command.
#[derive(Default)]
struct Orders {
    down: bool,
    metric: Option<u8>,
    rate_limit: Option<Option<BitRate>>,
}

/// What the task of a section holds open.
struct KeptState {
    link: Option<LinkId>,
    /// How its links are used at present.
    config: LinkConfig,
    open: Vec<Lease>,
    /// Why a section that listens does not.
    trouble: Option<String>,
    /// Own address that its packets had last.
    source: Option<IpAddr>,
}

/// A socket that is open for one section.
struct Lease {
    socket: SocketId,
    /// The portal was told to accept links on it.
    listening: bool,
}

impl Keeper {
    pub(super) fn new(engine: Arc<Engine>, changes: Changes, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self { engine, changes, journal, sockets: Mutex::default() })
    }

    /// Starts to keep a section's link. `None` if there are too many links.
    pub(super) fn keep(self: &Arc<Self>, peer: Peer) -> Kept {
        let (orders, meter) = (Orders::default(), Meter::default());
        let config = link_config(&peer, &orders, None, &meter);
        let link =
            peer.initiates().then(|| self.engine.portal.add_link(clock::now(), config.clone())).flatten();
        let state = KeptState { link, config, open: Vec::new(), trouble: None, source: None };
        let section = Section { keeper: Arc::clone(self), peer, link, state: Arc::new(Mutex::new(state)) };
        let task = Some(tokio::spawn(section.clone().run()));
        Kept { section, task, orders, demotion: None, meter }
    }

    /// A socket does not work any more.
    pub(super) fn on_failure(&self, socket: SocketId, reason: &str) {
        for keeper in self.sockets().keepers.get(&socket).into_iter().flatten() {
            let _ = keeper.send(reason.to_owned());
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a UDP socket, or shares the one that has this port already.
    fn open_udp(&self, local: &Local, remote: Option<SocketAddr>, gro: bool) -> io::Result<SocketId> {
        if local.port == 0 {
            return self.engine.add_socket(Flow::Udp(UdpSocket::open(local, remote, gro)?));
        }
        let mut sockets = self.sockets();
        if let Some(shared) = sockets.shared.get_mut(local) {
            shared.users += 1;
            if let Some(socket) = self.engine.socket(shared.socket).filter(|_| !gro) {
                socket.turn_gro_off();
            }
            return Ok(shared.socket);
        }
        // Bound for both families, as another section may need the other one.
        let socket = self.engine.add_socket(Flow::Udp(UdpSocket::open(local, None, gro)?))?;
        sockets.shared.insert(local.clone(), Shared { socket, users: 1 });
        Ok(socket)
    }

    /// Gives a socket up; it is closed when nobody uses it any more.
    fn close(&self, lease: &Lease) {
        let mut sockets = self.sockets();
        if let Some(shared) = sockets.shared.values_mut().find(|shared| shared.socket == lease.socket) {
            shared.users -= 1;
            if shared.users > 0 {
                return;
            }
        }
        sockets.shared.retain(|_, shared| shared.users > 0);
        sockets.keepers.remove(&lease.socket);
        drop(sockets);
        if lease.listening {
            self.engine.portal.unlisten(clock::now(), lease.socket);
        }
        self.engine.remove_socket(lease.socket);
    }
}

impl Kept {
    /// The section.
    pub(super) fn peer(&self) -> &Peer {
        &self.section.peer
    }

    /// Bytes that its links sent and received on the wire since the portal's start, if it has a data cap.
    pub(super) fn metered(&self) -> u64 {
        self.meter.bytes()
    }

    /// Follows the file, which describes the same link; what was changed by command is forgotten.
    pub(super) fn follow(&mut self, peer: &Peer) {
        self.section.peer = peer.clone();
        self.orders = Orders::default();
        if peer.quota.is_none() {
            self.demotion = None;
        }
        self.settle();
    }

    /// Changes the link until the configuration is read again.
    ///
    /// # Errors
    ///
    /// If the link cannot come up, in words.
    pub(super) fn change(&mut self, change: LinkChange) -> Result<(), String> {
        match change {
            LinkChange::Up if self.demotion == Some(QuotaAction::Off) => {
                return Err(format!("link {}: {USED_UP}; raise Quota and reload", self.peer().name));
            }
            LinkChange::Up => self.orders.down = false,
            LinkChange::Down => self.orders.down = true,
            LinkChange::Metric(metric) => self.orders.metric = Some(metric),
            LinkChange::RateLimit(rate) => self.orders.rate_limit = Some(rate),
        }
        // What it does to the link's state is told by that.
        if !matches!(change, LinkChange::Up | LinkChange::Down) {
            self.section.tell(Level::Info, Kind::Configuration, &format!("{change}, by command"));
        }
        self.settle();
        Ok(())
    }

    /// What is done with the link because its data cap is near; `None`: nothing. True if that is news.
    pub(super) fn demote(&mut self, demotion: Option<QuotaAction>) -> bool {
        let news = self.demotion != demotion;
        if news {
            self.demotion = demotion;
            self.settle();
        }
        news
    }

    /// What is done with the link because its data cap is near.
    pub(super) fn demotion(&self) -> Option<QuotaAction> {
        self.demotion
    }

    /// What was changed by command and is not as the file says, in words.
    pub(super) fn changed(&self) -> Vec<String> {
        let Orders { down, metric, rate_limit } = &self.orders;
        let (peer, words) =
            (self.peer(), |rate: Option<BitRate>| rate.map_or("off".into(), |rate| rate.to_string()));
        let down = down.then(|| "down, the file says up".to_owned());
        let metric = metric.filter(|metric| *metric != peer.metric);
        let metric = metric.map(|metric| format!("metric {metric}, the file says {}", peer.metric));
        let rate = rate_limit.filter(|rate| *rate != peer.rate_limit);
        let rate =
            rate.map(|rate| format!("rate limit {}, the file says {}", words(rate), words(peer.rate_limit)));
        [down, metric, rate].into_iter().flatten().collect()
    }

    /// Lets the link be as file, commands and data cap want it.
    fn settle(&mut self) {
        let section = &self.section;
        let config = link_config(&section.peer, &self.orders, self.demotion, &self.meter);
        lock(&section.state).config = config.clone();
        let engine = &section.keeper.engine;
        engine.settle(engine.portal.configure(clock::now(), &config));
        let held = match self.demotion {
            _ if self.orders.down => Some("taken down by command"),
            Some(QuotaAction::Off) => Some(USED_UP),
            _ => None,
        };
        match held {
            Some(reason) => {
                // The reason may be another one than before.
                self.task.take().inspect(JoinHandle::abort);
                section.leave(reason);
            }
            None if self.task.is_none() => self.task = Some(tokio::spawn(section.clone().run())),
            None => {}
        }
    }

    /// What `show` says of a section that listens and has no link.
    pub(super) fn waiting(&self) -> Option<snapshot::Link> {
        let (state, peer) = (lock(&self.section.state), self.peer());
        if peer.initiates() {
            return None;
        }
        let (word, reason) = match &state.trouble {
            Some(trouble) => ("down", trouble.clone()),
            None => ("init", "waiting for the other portal".to_owned()),
        };
        Some(snapshot::Link {
            name: peer.name.clone(),
            section: peer.section,
            method: method_name(peer.method).to_owned(),
            local: state
                .open
                .first()
                .and_then(|lease| self.section.keeper.engine.socket(lease.socket)?.local()),
            state: word.to_owned(),
            limit: Some(word.to_owned()),
            reason: Some(reason),
            metric: state.config.metric.unwrap_or_default().into(),
            rate_limit_bps: state.config.rate_limit.map(|rate| rate.bits_per_second()),
            congestion_control: peer.congestion_control.name().to_owned(),
            ..snapshot::Link::default()
        })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
        let keeper = &self.section.keeper;
        let mut state = lock(&self.section.state);
        state.open.drain(..).for_each(|lease| keeper.close(&lease));
        if let Some(link) = state.link.take() {
            keeper.engine.portal.remove_link(clock::now(), link);
        }
    }
}

/// The task of one section.
#[derive(Clone)]
struct Section {
    keeper: Arc<Keeper>,
    peer: Peer,
    link: Option<LinkId>,
    state: Arc<Mutex<KeptState>>,
}

impl Section {
    async fn run(self) {
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
    fn tell(&self, level: Level, kind: Kind, text: &str) {
        let name = &self.peer.name;
        self.keeper.journal.tell(Notice::of_link(level, kind, name, format!("link {name}: {text}")));
    }

    /// Closes what the section holds, and says why.
    fn leave(&self, reason: &str) {
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

fn lock(state: &Mutex<KeptState>) -> MutexGuard<'_, KeptState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) fn assumed_datagram(peer: &Peer) -> u16 {
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

/// How the links of a section are used, by the file, by command, and because of its data cap.
fn link_config(peer: &Peer, orders: &Orders, demotion: Option<QuotaAction>, meter: &Meter) -> LinkConfig {
    let metric = match demotion {
        Some(QuotaAction::Backup) => LAST_RESORT,
        _ => orders.metric.unwrap_or(peer.metric),
    };
    let rate_limit = orders.rate_limit.unwrap_or(peer.rate_limit);
    LinkConfig {
        name: peer.name.clone(),
        section: peer.section,
        method: method_name(peer.method),
        algorithm: match peer.congestion_control {
            CongestionControl::Bbr => Algorithm::Bbr,
            CongestionControl::NewReno => Algorithm::NewReno,
            CongestionControl::None | CongestionControl::Kernel => Algorithm::Unlimited,
        },
        // A section that listens does as its peer says, unless it is told otherwise.
        metric: (peer.initiates() || orders.metric.is_some() || metric > 0).then_some(metric),
        keep_alive: peer.keep_alive,
        gso: peer.gso && has_gso(),
        rate_limit: rate_limit.map(|rate| Rate::from_bytes_per_second(rate.bits_per_second() / 8)),
        meter: peer.quota.map(|_| meter.clone()),
        metered: peer.metered,
    }
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Udp => "udp",
        Method::Tcp => "tcp",
    }
}
