//! Real sockets, threads and time around `core`: moves bytes, decides nothing.

mod alarm;
mod busy;
mod caps;
mod clock;
mod cpu;
mod doze;
mod engine;
mod interface;
mod keeper;
mod mmsg;
mod news;
mod socket;
mod sys;
mod tcp;
mod tun;
mod udp;
mod wake;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use self::busy::BusyMeter;
use self::caps::Caps;
use self::clock::SystemEntropy;
use self::engine::{Engine, Notice};
use self::interface::Interfaces;
use self::keeper::{Keeper, Kept};
use self::tun::Tun;
use crate::config::{
    Config, InterfaceName, LinkChange, MetricMode, Mtu, Peer, Protection, QuotaAction, Redundancy,
};
use crate::core::load_test::{Options, Progress};
use crate::core::outbound::{Event, Policy};
use crate::core::portal::{Portal, PortalConfig};
use crate::core::session::protection::Manner;
use crate::core::snapshot::{self, SCHEMA, Snapshot};
use crate::core::units::Instant;
use crate::journal::{Journal, Kind, Level, Notice as News};

/// Longest inner packet while the MTU follows from the links: an Ethernet packet, and something to spare.
const BUFFER_SIZE: usize = 1536;
/// Highest MTU that follows from the links: no network behind the portals has use for more than Ethernet's.
const MAX_MTU: u16 = 1500;
/// How often links that the peer left are looked for.
const TIDY: Duration = Duration::from_secs(30);
/// How often it is measured during a load test how busy the threads are.
const BUSY_LOOK: Duration = Duration::from_millis(250);

/// Why a portal could not start, or had to end; one line for people.
#[derive(Debug)]
pub struct RuntimeError(String);

impl fmt::Display for RuntimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RuntimeError {}

/// A running portal.
pub struct Runtime {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    journal: Arc<Journal>,
    keeper: Arc<Keeper>,
    kept: Mutex<Vec<Kept>>,
    caps: Mutex<Caps>,
    interfaces: Interfaces,
    index: u32,
    name: InterfaceName,
    config: Mutex<Config>,
    started: Instant,
}

/// What the portal has to tell its owner, for [`Runtime::run`].
pub struct Notices(mpsc::UnboundedReceiver<Notice>);

impl Runtime {
    /// Creates the interface, addresses it, and begins to open the links; what happens then is told to `journal`,
    /// and what is to be known after a restart is kept in `state_dir`. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the interface cannot be made or addressed; nothing is left behind then.
    pub async fn start(
        name: &InterfaceName,
        config: Config,
        state_dir: &Path,
        journal: Arc<Journal>,
    ) -> Result<(Self, Notices), RuntimeError> {
        sys::share_heap();
        let portal_config = portal_config(&config);
        let buffer_size = portal_config.buffer_size;
        let now = clock::now();
        let portal = Portal::new(now, &portal_config, &mut SystemEntropy);
        let mtu = fixed_mtu(&config).unwrap_or_else(|| portal.mtu());
        let tun = Tun::create(name.as_str(), mtu, buffer_size, config.host.offload)
            .map_err(|error| explain_tun(name, &error))?;
        portal.allow_unsummed(tun.takes_unsummed());
        let failed = |what: &str, error: &dyn fmt::Display| RuntimeError(format!("cannot {what}: {error}"));
        let index = tun.index().map_err(|error| failed("find the new interface", &error))?;
        let interfaces = Interfaces::new().map_err(|error| failed("open netlink", &error))?;
        for cidr in &config.host.addresses {
            let added = interfaces.add_address(index, cidr.address(), cidr.prefix()).await;
            added.map_err(|error| failed(&format!("add Address {cidr} to the interface"), &error))?;
        }
        interfaces.up(index, mtu).await.map_err(|error| failed("bring the interface up", &error))?;
        let (sender, notices) = mpsc::unbounded_channel();
        let engine = Engine::new(portal, tun, processors(&config), sender)
            .map_err(|error| failed("make a timer", &error))?;
        let threads = engine.start().map_err(|error| failed("start a thread", &error))?;
        let changes = Interfaces::changes().map_err(|error| failed("listen to netlink", &error))?;
        let keeper = Keeper::new(Arc::clone(&engine), changes, Arc::clone(&journal));
        let kept = config.peers.iter().map(|peer| keeper.keep(peer.clone())).collect();
        let caps = Mutex::new(Caps::open(state_dir, &journal));
        let runtime = Self {
            engine,
            threads: Mutex::new(threads),
            journal,
            keeper,
            kept: Mutex::new(kept),
            caps,
            interfaces,
            index,
            name: name.clone(),
            config: Mutex::new(config),
            started: now,
        };
        Ok((runtime, Notices(notices)))
    }

    /// Looks after the portal; returns with the reason if it cannot go on.
    pub async fn run(&self, notices: &mut Notices) -> RuntimeError {
        let mut tidy = tokio::time::interval(TIDY);
        let mut read = tokio::time::interval(caps::READ_EVERY);
        read.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy_look = tokio::time::interval(BUSY_LOOK);
        busy_look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = BusyMeter::default();
        loop {
            tokio::select! {
                _ = busy_look.tick(), if self.engine.portal.is_load_tested() => {
                    if let Some(share) = busy.sample(clock::now()) {
                        self.engine.portal.note_busy(share);
                    }
                }
                notice = notices.0.recv() => match notice {
                    Some(Notice::SocketFailed(socket, reason)) => self.keeper.on_failure(socket, &reason),
                    Some(Notice::News) => self.tell_news().await,
                    Some(Notice::InterfaceGone(reason)) => {
                        return RuntimeError(format!("the interface is gone: {reason}"));
                    }
                    None => return RuntimeError("the data path ended".to_owned()),
                },
                _ = read.tick(), if self.has_caps() => {
                    let mut kept = lock(&self.kept);
                    lock(&self.caps).tend(&mut kept, &self.journal);
                }
                _ = tidy.tick() => {
                    self.engine.portal.forget_links(clock::now());
                    self.engine.spread();
                }
            }
        }
    }

    /// Tells what happened and lets the interface's MTU follow.
    async fn tell_news(&self) {
        self.engine.news_taken();
        self.engine.spread();
        let fixed = fixed_mtu(&lock(&self.config));
        for event in self.engine.portal.take_events() {
            self.journal.tell(news::notice(&event));
            if let (Event::Mtu { to, .. }, None) = (&event, fixed)
                && let Err(error) = self.interfaces.up(self.index, *to).await
            {
                tracing::warn!("cannot set the MTU to {to}: {error}");
            }
        }
    }

    /// Changes to another configuration. Links that stay the same, or change only in what may change while they run,
    /// go on undisturbed. What [`Runtime::change_link`] changed is as the configuration says again.
    ///
    /// # Errors
    ///
    /// What only a restart can change, if `config` changes that; then nothing was changed.
    pub fn apply(&self, config: Config) -> Result<(), RuntimeError> {
        let mut current = lock(&self.config);
        let (old, new) = (&current.host, &config.host);
        let same_interface =
            old.addresses == new.addresses && old.mtu == new.mtu && old.offload == new.offload;
        if old.protection != new.protection || !same_interface || old.processors != new.processors {
            let told = "Key, Protection, Address, MTU, Offload or Processors changed: restart to apply; nothing \
                        was changed";
            return Err(RuntimeError(told.to_owned()));
        }
        let mut kept = lock(&self.kept);
        let mut removed = Vec::new();
        for mut link in std::mem::take(&mut *kept) {
            if let Some(peer) = config.peers.iter().find(|peer| same_link(peer, link.peer())) {
                link.follow(peer);
                kept.push(link);
            } else {
                self.tell_change(&link.peer().name, "removed");
                removed.push(link);
            }
        }
        // Gone before the new ones come, which may want the same port.
        drop(removed);
        for peer in &config.peers {
            if !kept.iter().any(|link| same_link(peer, link.peer())) {
                self.tell_change(&peer.name, "added");
                kept.push(self.keeper.keep(peer.clone()));
            }
        }
        self.engine.portal.set_policy(policy(&config));
        self.engine.portal.set_compression(config.host.compression);
        *current = config;
        drop((kept, current));
        self.engine.refresh();
        Ok(())
    }

    /// Some link has a data cap.
    fn has_caps(&self) -> bool {
        lock(&self.kept).iter().any(|link| link.peer().quota.is_some())
    }

    /// Changes the link of that name until the configuration is read again.
    ///
    /// # Errors
    ///
    /// If there is none, or the link cannot do that; in words.
    pub fn change_link(&self, name: &str, change: LinkChange) -> Result<(), String> {
        let mut kept = lock(&self.kept);
        let Some(link) = kept.iter_mut().find(|link| link.peer().name == name) else {
            let names: Vec<&str> = kept.iter().map(|link| link.peer().name.as_str()).collect();
            return Err(format!("there is no link {name}; the links are {}", names.join(", ")));
        };
        link.change(change)
    }

    /// Tells of a link that the configuration has changed.
    fn tell_change(&self, link: &str, what: &str) {
        let text = format!("link {link}: {what}");
        self.journal.tell(News::of_link(Level::Info, Kind::Configuration, link, text));
    }

    /// How the portal is.
    pub fn snapshot(&self) -> Snapshot {
        let now = clock::now();
        let mut snapshot = self.engine.portal.snapshot(now);
        snapshot.schema = SCHEMA;
        snapshot.interface = self.name.to_string();
        snapshot.version = env!("CARGO_PKG_VERSION").to_owned();
        snapshot.uptime_seconds = now.since(self.started).as_secs_f64();
        if let Some(mtu) = fixed_mtu(&lock(&self.config)) {
            snapshot.mtu = mtu.into();
        }
        let tun = &self.engine.tun;
        snapshot.offload = tun.offloads();
        if tun.cuts() && self.engine.portal.leaves_unsummed() {
            snapshot.offload.push("partial checksums".to_owned());
        }
        for (reason, count) in [("undelivered", tun.undelivered()), ("uncut", tun.malformed())] {
            if count > 0 {
                snapshot.discards.insert(reason.to_owned(), count);
            }
        }
        let kept = lock(&self.kept);
        for link in &mut snapshot.links {
            let id = crate::core::units::LinkId(link.number - 1);
            let socket = self.engine.portal.socket(id).and_then(|socket| self.engine.socket(socket));
            if let Some(socket) = socket {
                link.local = socket.local();
                link.gro = socket.gro();
                link.discards = socket.discards.snapshot();
            }
        }
        let silent =
            kept.iter().filter(|kept| !snapshot.links.iter().any(|link| link.section == kept.peer().section));
        let waiting: Vec<_> = silent.filter_map(Kept::waiting).collect();
        snapshot.links.extend(waiting);
        let mut caps = lock(&self.caps);
        for link in &mut snapshot.links {
            let section = kept.iter().find(|kept| kept.peer().section == link.section);
            if let Some(section) = section {
                describe_section(section, &mut caps, link);
            }
        }
        snapshot
    }

    /// Begins a load test of the links.
    ///
    /// # Errors
    ///
    /// Why that cannot be, in words.
    pub fn start_load_test(&self, options: &Options) -> Result<(), String> {
        self.engine.portal.start_load_test(clock::now(), options)?;
        self.engine.refresh();
        Ok(())
    }

    /// How far it is, or what the last one brought; `None` if there was none.
    pub fn load_test(&self) -> Option<Progress> {
        self.engine.portal.load_test()
    }

    /// Ends it before it is complete, if there is one.
    pub fn stop_load_test(&self) {
        let ready = self.engine.portal.stop_load_test(clock::now());
        self.engine.settle(ready);
    }

    /// Says goodbye to the other portal, closes everything and removes the interface.
    pub fn stop(&self) {
        let ready = self.engine.portal.close(clock::now());
        self.engine.settle(ready);
        let mut kept = lock(&self.kept);
        lock(&self.caps).close(&mut kept, &self.journal);
        kept.clear();
        drop(kept);
        self.engine.stop();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// The sections describe the same link, wherever they stand in their files and however it is to be used.
fn same_link(one: &Peer, other: &Peer) -> bool {
    let Peer { section, metric, metered, rate_limit, quota, .. } = *other;
    Peer { section, metric, metered, rate_limit, quota, ..one.clone() } == *other
}

/// Fills in what the section knows of a link.
fn describe_section(section: &Kept, caps: &mut Caps, link: &mut snapshot::Link) {
    link.interface = section.peer().interface.as_ref().map(ToString::to_string);
    link.changed = section.changed();
    link.quota = caps.describe(section);
    if section.demotion() == Some(QuotaAction::Backup) && link.limit.as_deref() == Some("standby") {
        link.reason = Some("its Quota is nearly used up: a last resort only".to_owned());
    }
}

/// The interface's MTU, if the configuration says it.
fn fixed_mtu(config: &Config) -> Option<u16> {
    match config.host.mtu {
        Mtu::Auto => None,
        Mtu::Fixed(mtu) => Some(mtu),
    }
}

/// How many processors the threads may have.
fn processors(config: &Config) -> usize {
    let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
    config.host.processors.map_or_else(allowed, usize::from)
}

fn portal_config(config: &Config) -> PortalConfig {
    let manner = match config.host.protection {
        Protection::Aead { .. } => Manner::Aead,
        Protection::Mac { .. } => Manner::Mac,
        Protection::None { .. } => Manner::None,
    };
    let psk = config.host.protection.key().map_or([0; 32], |key| *key.as_bytes());
    let max_mtu = fixed_mtu(config).unwrap_or(MAX_MTU);
    let assumed = config.peers.iter().map(keeper::assumed_datagram).min();
    PortalConfig {
        psk,
        manner,
        hardware_aes: cpu::has_aes(),
        buffer_size: BUFFER_SIZE.max(max_mtu.into()),
        assumed_datagram: assumed.filter(|_| fixed_mtu(config).is_none()).unwrap_or(u16::MAX),
        max_mtu,
        compression: config.host.compression,
        policy: policy(config),
    }
}

fn policy(config: &Config) -> Policy {
    Policy {
        overflow: config.host.metric_mode == MetricMode::Overflow,
        redundancy: config.host.redundancy == Redundancy::Realtime,
    }
}

fn explain_tun(name: &InterfaceName, error: &::tun::Error) -> RuntimeError {
    let number = match error {
        ::tun::Error::Io(io) => io.raw_os_error(),
        _ => None,
    };
    RuntimeError(match number {
        Some(libc::EBUSY) => format!("interface {name} exists and is in use by another program"),
        Some(libc::EINVAL) => {
            format!("interface {name} exists and is not a TUN interface: choose another name")
        }
        Some(libc::ENOENT) => "there is no /dev/net/tun: load the module with `modprobe tun`".to_owned(),
        Some(libc::EPERM | libc::EACCES) => {
            "creating the interface needs CAP_NET_ADMIN: run as root".to_owned()
        }
        _ => format!("cannot create interface {name}: {error}"),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
