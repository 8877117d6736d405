//! A server and its clients over a real socket.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::*;
use crate::core::load_test::{Options, Progress};
use crate::core::snapshot::Snapshot;
use crate::journal::{Journal, Kind, Level, Notice};

#[derive(Default)]
struct Portal {
    stopped: Notify,
    journal: Journal,
    /// Steps of the load test that goes on.
    testing: Mutex<Option<usize>>,
    tests_ended: AtomicUsize,
}

impl Handler for Portal {
    fn snapshot(&self) -> Snapshot {
        Snapshot { interface: "nc0".into(), mtu: 1420, ..Snapshot::default() }
    }

    async fn reload(&self) -> Result<(), String> {
        self.journal.tell(Notice::new(Level::Error, Kind::Configuration, "refused"));
        Err("nc0:1: one\nnc0:2: two".into())
    }

    fn change_link(&self, name: &str, change: &str) -> Result<(), String> {
        match name {
            "lte" => Ok(()),
            _ => Err(format!("no link {name} for {change}")),
        }
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn start_load_test(&self, options: &Options) -> Result<(), String> {
        match options.links[..] {
            [] => Err("no link is up".to_owned()),
            _ => {
                *self.testing.lock().expect("sound") = Some(0);
                Ok(())
            }
        }
    }

    fn load_test(&self) -> Option<Progress> {
        let mut testing = self.testing.lock().expect("sound");
        let planned_steps = testing.as_mut().map(|steps| {
            *steps += 1;
            *steps
        })?;
        Some(Progress { running: planned_steps < 3, planned_steps, ..Progress::default() })
    }

    fn stop_load_test(&self) {
        self.tests_ended.fetch_add(1, Ordering::Relaxed);
    }

    fn stop(&self) {
        self.stopped.notify_one();
    }
}

/// Runs `ask` against a server that lives as long as it, and returns when the server has ended.
fn with_server<T: Send + 'static>(ask: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("nc0.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = Listener::bind(&path).expect("bound");
        let portal = Arc::new(Portal::default());
        let asked = path.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let result = ask(asked.clone());
            // A second `down` does no harm if `ask` has sent one.
            let _ = down(&asked);
            result
        });
        let shutdown = portal.stopped.notified();
        serve(listener, Arc::clone(&portal), shutdown).await.expect("served");
        let result = asking.await.expect("no panic");
        assert!(!path.exists(), "the socket outlived its server");
        result
    })
}

fn raw(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("connected");
    stream.write_all(request).expect("sent");
    let mut answer = String::new();
    // The server may close before it has read a request that is too long.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn show_gives_the_snapshot() {
    let snapshot = with_server(|socket| show(&socket).expect("shown"));
    assert_eq!((snapshot.interface.as_str(), snapshot.mtu), ("nc0", 1420));
}

#[test]
fn down_is_confirmed_and_stops_the_server() {
    with_server(|socket| down(&socket).expect("confirmed"));
}

#[test]
fn a_change_of_a_link_is_confirmed_or_refused() {
    with_server(|socket| {
        link(&socket, "lte", "down").expect("confirmed");
        let refusal = link(&socket, "dsl", "rate-limit 20 Mbit/s").expect_err("refused");
        assert_eq!(refusal.to_string(), "no link dsl for rate-limit 20 Mbit/s");
    });
}

#[test]
fn reload_gives_every_error() {
    let error = with_server(|socket| reload(&socket).expect_err("two errors"));
    assert_eq!(error.to_string(), "nc0:1: one\nnc0:2: two");
}

#[test]
fn events_are_told_from_a_number_on_and_waited_for() {
    with_server(|socket| {
        assert_eq!(events(&socket, 1, false).expect("answered"), []);
        let follower = std::thread::spawn({
            let socket = socket.clone();
            move || events(&socket, 1, true).expect("answered")
        });
        // Whether before or after the follower has asked.
        reload(&socket).expect_err("refused");
        let followed = follower.join().expect("no panic");
        assert_eq!((followed.len(), followed[0].number), (1, 1));
        assert_eq!((followed[0].kind.as_str(), followed[0].text.as_str()), ("configuration", "refused"));
        assert_eq!(events(&socket, 1, false).expect("answered"), followed);
        assert_eq!(events(&socket, 2, false).expect("answered"), []);
    });
}

#[test]
fn those_who_wait_for_events_leave_room_for_others() {
    with_server(|socket| {
        let ask = |_| {
            let mut stream = UnixStream::connect(&socket).expect("connected");
            stream.write_all(b"events 1 wait\n").expect("sent");
            stream
        };
        let waiting: Vec<UnixStream> = (0..12).map(ask).collect();
        show(&socket).expect("shown");
        let refusal = events(&socket, 1, true).expect_err("too many").to_string();
        assert!(refusal.contains("others wait"), "{refusal}");
        drop(waiting);
        reload(&socket).expect_err("refused");
        // Their places are free once the server has noticed.
        let told = std::iter::repeat_with(|| events(&socket, 1, true)).find_map(Result::ok);
        assert_eq!(told.map(|events| events.len()), Some(1));
    });
}

#[test]
fn what_is_no_request_is_refused() {
    with_server(|socket| {
        let refusal = "error: the requests are show, events, link, reload, test and down\n";
        assert_eq!(raw(&socket, b"dance\n"), refusal);
        assert_eq!(raw(&socket, b"\xff\n"), refusal);
        assert_eq!(raw(&socket, &[b'x'; 4 * MAX_REQUEST_LEN]), refusal);
    });
}

#[test]
fn a_load_test_tells_how_far_it_is_until_it_is_over() {
    with_server(|socket| {
        let mut told = Vec::new();
        let options = Options { links: vec![1], ..Options::default() };
        let brought = load_test(&socket, &options, |progress| told.push(progress.planned_steps));
        assert_eq!(brought.expect("over").planned_steps, 3);
        assert_eq!(told, [1, 2, 3]);
    });
}

#[test]
fn a_load_test_that_cannot_be_is_refused() {
    with_server(|socket| {
        let refused =
            |options: &Options| load_test(&socket, options, |_| ()).expect_err("refused").to_string();
        assert_eq!(refused(&Options::default()), "no link is up");
        let endless = Options { links: vec![1], step_ms: 1 << 40, ..Options::default() };
        assert!(refused(&endless).contains("bounds"));
        assert!(raw(&socket, b"test dance\n").starts_with("error: the options of the test make no sense"));
        assert!(raw(&socket, b"test\n").starts_with("error: the requests are"));
    });
}

#[test]
fn only_the_owner_may_open_the_socket() {
    let mode = with_server(|socket| {
        let metadata = fs::metadata(&socket).expect("there");
        metadata.permissions().mode() & 0o777
    });
    assert_eq!(mode, 0o600);
}

#[test]
fn silent_clients_delay_others_but_do_not_shut_them_out() {
    with_server(|socket| {
        let started = Instant::now();
        let silent: Vec<UnixStream> =
            (0..20).map(|_| UnixStream::connect(&socket).expect("connected")).collect();
        show(&socket).expect("shown when the first have timed out");
        assert!(started.elapsed() < CLIENT_TIMEOUT + Duration::from_secs(3));
        drop(silent);
    });
}

#[test]
fn a_dead_portals_socket_is_told_apart_and_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("nc0.sock");
    let not_running = |path| show(path).expect_err("nobody").to_string();
    assert_eq!(not_running(&path), "is not running");
    // The standard library's listener leaves its file, as a killed portal does.
    drop(UnixListener::bind(&path).expect("bound"));
    assert_eq!(not_running(&path), "is not running");
    drop(Listener::bind(&path).expect("replaced"));
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("nc0.sock");
    fs::write(&path, "precious").expect("written");
    Listener::bind(&path).expect_err("in the way");
    assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
}
