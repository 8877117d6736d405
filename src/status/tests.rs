//! A page and its readers over real connections.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::serve;
use crate::config::Status;
use crate::control::Handler;
use crate::core::load_test::{Options, Progress};
use crate::core::snapshot::{Link, Queue, Quota, Session, Snapshot, Traffic};
use crate::journal::{Event, Journal, Kind, Level, Notice};

/// A portal with one good link and one that is down.
pub(super) fn snapshot() -> Snapshot {
    let dsl = Link {
        number: 1,
        name: "dsl".into(),
        method: "udp".into(),
        interface: Some("eth0".into()),
        state: "up".into(),
        since_seconds: 42.0,
        state_seconds: BTreeMap::from([("up".into(), 42.0), ("probing".into(), 0.5)]),
        srtt_ms: Some(23.1),
        min_rtt_ms: Some(20.0),
        bandwidth_bps: Some(14.5e6),
        sent_share: Some(1.0),
        carries: true,
        loss_share: Some(0.01),
        send_rate_bps: 12.3e6,
        sent_packets: 1000,
        wire_sent_bytes: 1_200_000,
        received_packets: 500,
        wire_received_bytes: 40_000,
        lost_packets: 10,
        ..Link::default()
    };
    let lte = Link {
        number: 2,
        name: "lte".into(),
        method: "udp".into(),
        state: "down".into(),
        limit: Some("down".into()),
        reason: Some("carrier lost on wwan0".into()),
        quota: Some(Quota { used_bytes: 12_000_000_000, limit_bytes: 50_000_000_000, ..Quota::default() }),
        discards: BTreeMap::from([("forged".into(), 3)]),
        ..Link::default()
    };
    Snapshot {
        interface: "nc0".into(),
        version: "0.1.0".into(),
        uptime_seconds: 100.5,
        mtu: 1420,
        protection: "aead".into(),
        cipher: Some("AES-128-GCM".into()),
        session: Session { state: "established".into(), handshakes: 1, ..Session::default() },
        queue: Queue { delay_dropped_packets: 2, sojourn_p95_ms: Some(3.0), ..Queue::default() },
        traffic: Traffic { sent_bytes: 1_100_000, send_rate_bps: 11.5e6, ..Traffic::default() },
        links: vec![dsl, lte],
        ..Snapshot::default()
    }
}

pub(super) fn event() -> Event {
    Event {
        number: 1,
        unix_ms: 1_795_261_639_500,
        link: Some("lte".into()),
        kind: "link".into(),
        text: "link 2 lte: down, carrier lost; 312 packets sent again elsewhere".into(),
    }
}

#[derive(Default)]
struct Portal {
    journal: Journal,
}

impl Handler for Portal {
    fn snapshot(&self) -> Snapshot {
        snapshot()
    }

    async fn reload(&self) -> Result<(), String> {
        Ok(())
    }

    fn change_link(&self, _name: &str, _change: &str) -> Result<(), String> {
        Ok(())
    }

    fn journal(&self) -> &Journal {
        &self.journal
    }

    fn start_load_test(&self, _: &Options) -> Result<(), String> {
        Ok(())
    }

    fn load_test(&self) -> Option<Progress> {
        None
    }

    fn stop_load_test(&self) {}

    fn stop(&self) {}
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

/// Runs `read` beside a server of the page; the sender changes where it is served.
fn with_page<T: Send + 'static>(
    status: Option<Status>,
    read: impl FnOnce(watch::Sender<Option<Status>>) -> T + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let portal = Arc::new(Portal::default());
        for text in ["one", "two"] {
            portal.journal.tell(Notice::new(Level::Info, Kind::Session, text));
        }
        let (sender, wanted) = watch::channel(status);
        let done = Arc::new(Notify::new());
        let reading = tokio::task::spawn_blocking(move || read(sender));
        tokio::select! {
            never = serve(wanted, portal) => match never {},
            result = reading => {
                done.notify_one();
                result.expect("no panic")
            }
        }
    })
}

/// Connects, however long the server takes to listen.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = (0..200).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(address).ok()
    });
    let stream = stream.expect("a server");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// The whole answer to `request`, whose lines end in `|`.
fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.replace('|', "\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1|Host: localhost|Connection: close||"))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a body").1
}

#[test]
fn serves_page_metrics_and_json() {
    let address = free_address();
    with_page(Some(Status::new(address, None)), move |_sender| {
        let page = get(address, "/");
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{page}");
        assert!(page.contains("x-content-type-options: nosniff\r\n"), "{page}");
        assert!(page.contains("<h1>nc0</h1>") && page.ends_with("</html>\n"), "{page}");
        assert!(body(&get(address, "/live")).starts_with("<main id=\"live\""));

        let metrics = get(address, "/metrics");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{metrics}");
        assert!(metrics.contains("\nnetcombiner_links{interface=\"nc0\"} 2\n"), "{metrics}");

        let status =
            |query| serde_json::from_str::<serde_json::Value>(body(&get(address, query))).expect("JSON");
        let whole = status("/status.json");
        assert_eq!(whole["snapshot"]["links"][1]["name"], "lte");
        assert_eq!(whole["events"].as_array().map(Vec::len), Some(2));
        assert_eq!(status("/status.json?since=2")["events"][0]["text"], "two");
    });
}

#[test]
fn what_is_not_there_or_not_asked_for_by_reading_is_refused() {
    let address = free_address();
    with_page(Some(Status::new(address, None)), move |_sender| {
        assert!(get(address, "/etc/passwd").starts_with("HTTP/1.1 404 "));
        assert!(get(address, "/../metrics").starts_with("HTTP/1.1 404 "));
        let post = ask(address, "POST / HTTP/1.1|Host: localhost|Content-Length: 0|Connection: close||");
        assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
        let foreign = ask(address, "GET / HTTP/1.1|Host: evil.example|Connection: close||");
        assert!(foreign.starts_with("HTTP/1.1 421 "), "{foreign}");
        let head = ask(address, "HEAD / HTTP/1.1|Host: localhost|Connection: close||");
        assert!(head.starts_with("HTTP/1.1 200 ") && body(&head).is_empty(), "{head}");
        let long = format!("GET /{} HTTP/1.1|Host: localhost||", "x".repeat(20_000));
        let mut stream = connect(address);
        // The server may refuse before it was told everything.
        let _ = stream.write_all(long.replace('|', "\r\n").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        assert!(ask(address, "nonsense||").starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn a_password_is_asked_for() {
    let address = free_address();
    let password = Some("correct-horse".parse().expect("a password"));
    with_page(Some(Status::new(address, password)), move |_sender| {
        let given =
            |header: &str| ask(address, &format!("GET /metrics HTTP/1.1|{header}Connection: close||"));
        for refused in ["", "Authorization: Basic YTp3cm9uZw==|"] {
            let answer = given(refused);
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            assert!(
                answer.contains("www-authenticate: Basic realm=\"netcombiner\"") && !answer.contains("nc0")
            );
        }
        let answer = given("Authorization: Basic YTpjb3JyZWN0LWhvcnNl|");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

#[test]
fn the_page_follows_the_configuration() {
    let (first, second) = (free_address(), free_address());
    with_page(None, move |sender| {
        assert!(TcpStream::connect(first).is_err(), "off by default");
        sender.send_replace(Some(Status::new(first, None)));
        assert!(get(first, "/metrics").starts_with("HTTP/1.1 200 "));
        let mut kept = connect(first);
        sender.send_replace(Some(Status::new(second, None)));
        assert!(get(second, "/metrics").starts_with("HTTP/1.1 200 "));
        assert!(TcpStream::connect(first).is_err(), "the old address is given up");
        assert!(matches!(kept.read(&mut [0; 1]), Ok(0) | Err(_)), "and its connections too");
    });
}

#[test]
fn silent_readers_do_not_keep_others_out_for_good() {
    let address = free_address();
    with_page(Some(Status::new(address, None)), move |_sender| {
        let silent: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
        let started = std::time::Instant::now();
        assert!(get(address, "/metrics").starts_with("HTTP/1.1 200 "));
        assert!(started.elapsed() < super::CONNECTION_TIME);
        drop(silent);
    });
}
