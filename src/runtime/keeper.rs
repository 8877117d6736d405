//! Keeps the links of the configuration open: a task for each `[Peer]` section, which opens its socket, and
//! opens it anew, with back-off, whenever it fails. The links do not know of each other.

mod section;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::section::Section;
use super::clock;
use super::engine::Engine;
use super::interface::Changes;
use super::socket::Flow;
use super::sys::has_gso;
use super::udp::{Local, UdpSocket};
use crate::config::{BitRate, CongestionControl, LinkChange, Method, Peer, QuotaAction};
use crate::core::outbound::congestion::Algorithm;
use crate::core::outbound::{LAST_RESORT, LinkConfig, Meter, SocketId};
use crate::core::snapshot;
use crate::core::units::{LinkId, Rate};
use crate::journal::{Journal, Kind, Level};

pub(super) use self::section::assumed_datagram;

/// Why a link of `QuotaAction = off` is closed near its data cap.
const USED_UP: &str = "its Quota is nearly used up";

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
            if !gro {
                self.engine.turn_gro_off(shared.socket);
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

fn lock(state: &Mutex<KeptState>) -> MutexGuard<'_, KeptState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
