//! One run of the program for one interface: from an order to the end of the portal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::cli::{Up, UpResult};
use crate::config::{Config, InterfaceName, LinkChange, Status};
use crate::control::{self, Handler, Listener};
use crate::core::load_test::{Options, Progress};
use crate::core::snapshot::Snapshot;
use crate::journal::{Journal, Kind, Level, Notice};
use crate::process::daemon::{Daemonised, Readiness, daemonise};
use crate::process::hooks::{self, Phase};
use crate::process::lock::Lock;
use crate::process::run_dir::RunDir;
use crate::process::{logging, routes, service};
use crate::runtime::Runtime;
use crate::status;

/// Longest wait for the interface's end; it takes the kernel some 20 ms.
const GONE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two looks whether the interface is gone.
const GONE_POLL: Duration = Duration::from_millis(5);

/// Runs a portal. Returns when it has ended, or, in the process that went to the background for it, when it
/// is ready.
///
/// # Errors
///
/// What kept the portal from starting or made it end, in one line.
pub fn run(up: Up) -> UpResult {
    let readiness = if up.foreground {
        Readiness::foreground()
    } else {
        match daemonise()? {
            Daemonised::Parent(word) => return word.map_err(Into::into),
            Daemonised::Daemon(readiness) => readiness,
        }
    };
    // `failed` gives the error back if nobody but the caller can tell it.
    let mut readiness = Some(readiness);
    let result = serve(up, &mut readiness);
    match (result, readiness) {
        (Err(error), Some(readiness)) => readiness.failed(error),
        (result, _) => result,
    }
}

fn serve(up: Up, readiness: &mut Option<Readiness>) -> UpResult {
    let interface = up.interface.clone();
    let lock = Lock::acquire(&up.run_dir, &interface)?;
    let background = readiness.as_ref().is_some_and(Readiness::is_background);
    logging::init(&interface, up.log_level, background)?;
    for warning in &up.warnings {
        tracing::warn!("{warning}");
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hooks = up.config.host.hooks.clone();
    let started = hooks::run(Phase::PreUp, &hooks.pre_up, &interface).map_err(Into::into).and_then(|()| {
        let socket = Listener::bind(&up.run_dir.socket(&interface))?;
        let Up { config_path, config, run_dir, state_dir, .. } = up;
        let order = Order { interface: &interface, config_path, run_dir, state_dir };
        tokio.block_on(live(order, config, socket, readiness))
    });
    // However far it came: what was set up is taken down.
    hooks::run_all(Phase::PostDown, &hooks.post_down, &interface);
    drop(lock);
    started
}

/// What is to run, and where its files are.
struct Order<'a> {
    interface: &'a InterfaceName,
    config_path: PathBuf,
    run_dir: RunDir,
    state_dir: PathBuf,
}

/// From the interface's coming up to its going down.
async fn live(
    Order { interface, config_path, run_dir, state_dir }: Order<'_>,
    config: Config,
    socket: Listener,
    readiness: &mut Option<Readiness>,
) -> UpResult {
    let hooks = config.host.hooks.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let journal = Arc::new(Journal::default());
    let (status, wanted) = watch::channel(config.host.status.clone());
    let (runtime, mut notices) =
        Runtime::start(interface, config.clone(), &state_dir, Arc::clone(&journal)).await?;
    let portal = Arc::new(LivePortal {
        runtime,
        journal,
        config_path,
        interface: interface.clone(),
        run_dir,
        status,
        stop: Notify::new(),
    });
    let result = async {
        routes::up(interface, &config.host, &config.peers, &portal.run_dir)?;
        hooks::run(Phase::PostUp, &hooks.post_up, interface)?;
        if let Some(readiness) = readiness.take() {
            readiness.ready()?;
        }
        tracing::info!("interface {interface} is up");
        let serving = control::serve(socket, Arc::clone(&portal), std::future::pending());
        let reading = status::serve(wanted, Arc::clone(&portal));
        tokio::pin!(serving, reading);
        loop {
            tokio::select! {
                error = portal.runtime.run(&mut notices) => return Err(error.into()),
                served = &mut serving => served?,
                never = &mut reading => match never {},
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = portal.stop.notified() => break,
                _ = hang_up.recv() => {
                    // Told in the log by `reload`.
                    let _ = portal.reload().await;
                }
            }
        }
        Ok(())
    }
    .await;
    service::stopping();
    hooks::run_all(Phase::PreDown, &hooks.pre_down, interface);
    routes::down(interface, &portal.run_dir);
    portal.runtime.stop();
    drop(portal);
    gone(interface).await;
    tracing::info!("stopped");
    result
}

/// Waits until the kernel has taken the interface away, which is when the last thread that holds it ends.
/// Whoever finds the lock free, and the commands of `PostDown`, may then rely on that.
async fn gone(interface: &InterfaceName) {
    let asked = Instant::now();
    while if_nametoindex(interface.as_str()).is_ok() {
        if asked.elapsed() > GONE_TIMEOUT {
            tracing::warn!("the interface is still there");
            return;
        }
        tokio::time::sleep(GONE_POLL).await;
    }
}

/// The portal, as the control socket sees it.
struct LivePortal {
    runtime: Runtime,
    journal: Arc<Journal>,
    config_path: PathBuf,
    interface: InterfaceName,
    run_dir: RunDir,
    /// Where the status page is served.
    status: watch::Sender<Option<Status>>,
    stop: Notify,
}

impl LivePortal {
    /// Moves the status page; one that stays where it is goes on undisturbed.
    fn show_status_at(&self, status: Option<Status>) {
        self.status.send_if_modified(|current| {
            let changed = *current != status;
            *current = status;
            changed
        });
    }
}

impl Handler for LivePortal {
    fn snapshot(&self) -> Snapshot {
        self.runtime.snapshot()
    }

    async fn reload(&self) -> Result<(), String> {
        service::reloading();
        let outcome = match Config::load_for(&self.interface, &self.config_path) {
            Err(errors) => Err(errors.to_string()),
            Ok((config, warnings)) => {
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                let (host, peers) = (config.host.clone(), config.peers.clone());
                self.runtime.apply(config).map_err(|error| error.to_string()).and_then(|()| {
                    self.show_status_at(host.status.clone());
                    routes::up(&self.interface, &host, &peers, &self.run_dir).map_err(|e| e.to_string())
                })
            }
        };
        let tell = |level, text: &str| self.journal.tell(Notice::new(level, Kind::Configuration, text));
        match &outcome {
            Ok(()) => tell(Level::Info, "configuration read again"),
            Err(errors) => {
                for error in errors.lines() {
                    tell(Level::Error, &format!("configuration not applied: {error}"));
                }
            }
        }
        service::ready();
        outcome
    }

    fn change_link(&self, name: &str, change: &str) -> Result<(), String> {
        let change: LinkChange = change.parse().map_err(|allowed| format!("the changes are {allowed}"))?;
        self.runtime.change_link(name, change)
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn start_load_test(&self, options: &Options) -> Result<(), String> {
        self.runtime.start_load_test(options)
    }

    fn load_test(&self) -> Option<Progress> {
        self.runtime.load_test()
    }

    fn stop_load_test(&self) {
        self.runtime.stop_load_test();
    }

    fn stop(&self) {
        self.stop.notify_one();
    }
}
