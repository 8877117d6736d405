//! A portal's life as a process, without the portal: into the background, asked, stopped, killed.
//!
//! ```text
//! main ── spawns ──> this program again, with a role ── forks ──> daemon
//!   └──── netcombiner show | down ──── nc0.sock, nc0.pid ───────────┘
//! ```

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, exit};
use std::sync::Arc;
use std::time::Duration;

use netcombiner::config::InterfaceName;
use netcombiner::control::{self, Handler, Listener};
use netcombiner::core::load_test::{Options, Progress};
use netcombiner::core::snapshot::Snapshot;
use netcombiner::journal::{Event, Journal, Kind, Level, Notice};
use netcombiner::process::daemon::{Daemonised, Readiness, daemonise};
use netcombiner::process::lock::{self, Lock};
use netcombiner::process::run_dir::RunDir;
use netcombiner::process::{logging, service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::timeout;

const ROLE: &str = "NETCOMBINER_TEST_ROLE";
const RUN_DIR: &str = "NETCOMBINER_TEST_RUN_DIR";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        play(&role);
    }
    started_once_asked_and_stopped(directory().path());
    killed_and_no_obstacle_to_the_next(directory().path());
    failing_start_told_to_who_waits(directory().path());
    lines_marked_for_the_journal_only(directory().path());
    service_manager_told(directory().path());
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn nc0() -> InterfaceName {
    "nc0".parse().expect("a name")
}

/// Starts a daemon that plays `role`; returns when its parent has ended.
fn start(role: &str, dir: &Path) -> (i32, String) {
    finished(program(role, dir))
}

/// This program in another role.
fn program(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(ROLE, role).env(RUN_DIR, dir).env_remove("NOTIFY_SOCKET");
    command
}

fn netcombiner(args: &[&str], dir: &Path) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netcombiner"));
    command.args(args).arg("--run-dir").arg(dir);
    finished(command)
}

/// Exit code, and standard output and error in one.
fn finished(mut command: Command) -> (i32, String) {
    let output = command.output().expect("started");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("not killed");
    (code, String::from_utf8(text).expect("text"))
}

fn started_once_asked_and_stopped(dir: &Path) {
    assert_eq!(start("serve", dir), (0, String::new()));
    let pid_file = dir.join("nc0.pid");
    let pid = lock::pid(&pid_file).expect("a process id");
    let daemon = Pid::from_raw(i32::try_from(pid).expect("in range"));
    assert_eq!(getsid(Some(daemon)), Ok(daemon), "a session of its own");

    let running = format!("nc0 is already running (pid {pid})\n");
    assert_eq!(start("serve", dir), (1, running));

    let (code, text) = netcombiner(&["show"], dir);
    assert_eq!(code, 0);
    assert_eq!(text, "nc0: not connected, waiting for the other portal\n");
    let (_, text) = netcombiner(&["show", "--details"], dir);
    assert!(text.contains("\n\ninterface: nc0\n"), "{text}");
    let (_, json) = netcombiner(&["show", "nc0", "--json"], dir);
    assert_eq!(serde_json::from_str::<Snapshot>(&json).expect("JSON"), snapshot());

    let refused = "netcombiner: nc0:1: no\nnetcombiner: nc0:2: never\n".to_owned();
    assert_eq!(netcombiner(&["events", "nc0"], dir), (0, String::new()));
    assert_eq!(netcombiner(&["reload", "nc0"], dir), (1, refused));
    let (code, events) = netcombiner(&["events", "nc0"], dir);
    assert!(code == 0 && events.ends_with(" refused\n"), "{events}");
    let (_, json) = netcombiner(&["events", "nc0", "--json", "--since", "1"], dir);
    let event: Event = serde_json::from_str(&json).expect("JSON");
    assert_eq!((event.number, event.text.as_str()), (1, "refused"));

    assert_eq!(netcombiner(&["link", "nc0", "lte", "rate-limit", "20", "Mbit/s"], dir), (0, String::new()));
    let unknown = "netcombiner: nc0: link lte: up, down, metric N or rate-limit R\n".to_owned();
    assert_eq!(netcombiner(&["link", "nc0", "lte", "sideways"], dir), (1, unknown));

    assert_eq!(netcombiner(&["down", "nc0"], dir), (0, String::new()));
    assert!(!pid_file.exists());
    let gone = "netcombiner: nc0 is not running\n".to_owned();
    assert_eq!(netcombiner(&["down", "nc0"], dir), (1, gone));
}

fn killed_and_no_obstacle_to_the_next(dir: &Path) {
    assert_eq!(start("serve", dir), (0, String::new()));
    let pid_file = dir.join("nc0.pid");
    let pid = lock::pid(&pid_file).expect("a process id");
    kill(Pid::from_raw(i32::try_from(pid).expect("in range")), Signal::SIGKILL).expect("killed");

    assert!(fs::exists(dir.join("nc0.sock")).expect("readable"));
    let gone = "netcombiner: nc0 is not running\n".to_owned();
    while lock::is_held(&pid_file).expect("readable") {
        std::thread::yield_now();
    }
    assert_eq!(netcombiner(&["show", "nc0"], dir), (1, gone));
    assert_eq!(start("serve", dir), (0, String::new()));
    assert_eq!(netcombiner(&["down", "nc0"], dir), (0, String::new()));
}

fn failing_start_told_to_who_waits(dir: &Path) {
    assert_eq!(start("fail", dir), (1, "no interface today\n".to_owned()));
    let (code, text) = start("vanish", dir);
    assert_eq!(code, 1);
    assert!(text.starts_with("the daemon ended before it was ready (exit code 7); "), "{text}");
}

fn lines_marked_for_the_journal_only(dir: &Path) {
    let path = dir.join("log");
    let logged = |stream: &str| {
        let log = File::create(&path).expect("created");
        let mut command = program("log", dir);
        command.env("JOURNAL_STREAM", stream).stderr(log);
        assert!(command.status().expect("started").success());
        fs::read_to_string(&path).expect("text")
    };
    let elsewhere = logged("1:2");
    assert!(elsewhere.contains("Z INFO  nc0: ours\n"), "{elsewhere}");
    let metadata = fs::metadata(&path).expect("there");
    let journal = logged(&format!("{}:{}", metadata.dev(), metadata.ino()));
    assert_eq!(journal, "<6>nc0: ours\n<4>nc0: theirs\n");
}

fn service_manager_told(dir: &Path) {
    let path = dir.join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    let mut command = program("notify", dir);
    command.env("NOTIFY_SOCKET", &path);
    assert!(command.status().expect("started").success());
    let mut words = String::new();
    for _ in 0..3 {
        let mut word = [0; 256];
        let len = manager.recv(&mut word).expect("sent");
        words.push_str(std::str::from_utf8(&word[..len]).expect("text"));
    }
    let (before, after) = words.split_once("MONOTONIC_USEC=").expect("the time");
    assert_eq!(before, "READY=1\nRELOADING=1\n");
    assert!(after.ends_with("\nSTOPPING=1\n"), "{after}");
}

/// What the spawned program does instead of testing.
fn play(role: &str) -> ! {
    match role {
        "log" => log(),
        "notify" => {
            Readiness::foreground().ready().expect("nothing to turn away");
            service::reloading();
            service::stopping();
        }
        role => daemon(role),
    }
    exit(0)
}

fn log() {
    logging::init(&nc0(), tracing::Level::INFO, false).expect("the first log");
    tracing::info!(target: "netcombiner::core", "ours");
    tracing::debug!(target: "netcombiner::core", "too small");
    tracing::info!(target: "netlink", "too small");
    tracing::warn!(target: "netlink", "theirs");
}

fn daemon(role: &str) {
    let readiness = match daemonise().expect("forked") {
        Daemonised::Parent(Ok(())) => exit(0),
        Daemonised::Parent(Err(why)) => {
            eprintln!("{why}");
            exit(1)
        }
        Daemonised::Daemon(readiness) => readiness,
    };
    match role {
        "serve" => serve(readiness),
        "fail" => readiness.failed("no interface today").expect("somebody waits"),
        _ => exit(7),
    }
}

fn serve(readiness: Readiness) {
    let dir = std::env::var_os(RUN_DIR).expect("set");
    let run_dir = RunDir::new(Path::new(&dir)).expect("absolute");
    let _lock = match Lock::acquire(&run_dir, &nc0()) {
        Ok(lock) => lock,
        Err(error) => {
            readiness.failed(error).expect("somebody waits");
            exit(1)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = Listener::bind(&run_dir.socket(&nc0())).expect("bound");
    readiness.ready().expect("told");
    let portal = Arc::new(Portal::default());
    let stopped = async {
        // A test that fails leaves nobody to stop this.
        let _ = timeout(Duration::from_secs(60), portal.stopped.notified()).await;
    };
    runtime.block_on(control::serve(listener, Arc::clone(&portal), stopped)).expect("served");
}

#[derive(Default)]
struct Portal {
    stopped: Notify,
    journal: Journal,
}

impl Handler for Portal {
    fn snapshot(&self) -> Snapshot {
        snapshot()
    }

    async fn reload(&self) -> Result<(), String> {
        self.journal.tell(Notice::new(Level::Error, Kind::Configuration, "refused"));
        Err("nc0:1: no\nnc0:2: never".into())
    }

    fn change_link(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn start_load_test(&self, _: &Options) -> Result<(), String> {
        Err("there is no session".to_owned())
    }

    fn load_test(&self) -> Option<Progress> {
        None
    }

    fn stop_load_test(&self) {}

    fn stop(&self) {
        self.stopped.notify_one();
    }
}

fn snapshot() -> Snapshot {
    Snapshot { interface: "nc0".into(), uptime_seconds: 1.5, ..Snapshot::default() }
}
