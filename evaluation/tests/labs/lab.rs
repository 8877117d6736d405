//! The lab around the emulator: addresses, NAT, interfaces, and what it leaves behind.
//!
//! ```text
//! client -- local == wan0, wan1 == internet -- remote, server
//! ```

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::ping::Ping;
use evaluation::wan::Direction;

fn two_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(50.0).delay_ms(2.0), LinkSpec::mbit(20.0).delay_ms(5.0)]).unwrap()
}

/// The address that the remote portal sees of a datagram from a link's address, if it arrives.
fn seen_from(lab: &Lab, source: &UdpSocket, target: &UdpSocket) -> Option<SocketAddr> {
    source.send_to(b"hello", target.local_addr().unwrap()).unwrap();
    let seen = target.recv_from(&mut [0; 16]).ok()?.1;
    assert_eq!(target.send_to(b"and back", seen).unwrap(), 8);
    let mut answer = [0; 16];
    assert_eq!(source.recv(&mut answer).unwrap(), 8, "no way back in {}", lab.local().name());
    Some(seen)
}

fn socket(namespace: &evaluation::netns::Namespace, address: IpAddr) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

#[test]
fn packets_from_a_links_address_take_that_link_and_meet_its_nat() {
    if !may_build_labs("links and NAT") {
        return;
    }
    let lab = two_links();
    for family in Family::BOTH {
        for link in 0..2 {
            let source = socket(lab.local(), lab.local_address(link, family));
            let target = socket(lab.remote(), lab.remote_address(family));
            let before = lab.wire(link).counters(Direction::Up).packets;
            assert_eq!(seen_from(&lab, &source, &target), Some(source.local_addr().unwrap()));
            assert!(lab.wire(link).counters(Direction::Up).packets > before);
        }
    }
    let sources = Family::BOTH.map(|family| socket(lab.local(), lab.local_address(1, family)));
    let targets = Family::BOTH.map(|family| socket(lab.remote(), lab.remote_address(family)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        lab.rebind_nat(1).unwrap();
        for (source, target) in sources.iter().zip(&targets) {
            seen.push(seen_from(&lab, source, target).unwrap());
        }
    }
    let mut different = seen.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 6, "{seen:?}");
    let own: Vec<SocketAddr> = sources.iter().map(|s| s.local_addr().unwrap()).collect();
    assert!(seen.iter().all(|address| !own.contains(address)), "{seen:?}");
}

#[test]
fn an_interface_that_was_taken_down_serves_again() {
    if !may_build_labs("interfaces") {
        return;
    }
    let lab = two_links();
    let ping = Ping { timeout: Duration::from_millis(200), ..Ping::times(3) };
    lab.interface_down(0).unwrap();
    lab.interface_up(0).unwrap();
    lab.route_directly(0).unwrap();
    for family in Family::BOTH {
        let report = ping.run(lab.client(), lab.server_address(family)).unwrap();
        assert_eq!(report.replies.len(), 3, "{family:?}");
        let source = socket(lab.local(), lab.local_address(0, family));
        let target = socket(lab.remote(), lab.remote_address(family));
        assert!(seen_from(&lab, &source, &target).is_some());
    }
}

#[test]
fn a_link_serves_with_its_new_addresses() {
    if !may_build_labs("new addresses") {
        return;
    }
    let lab = two_links();
    for family in Family::BOTH {
        let old = lab.local_address(1, family);
        lab.change_address(1).unwrap();
        let new = lab.local_address(1, family);
        assert_ne!(old, new);
        let source = socket(lab.local(), new);
        let target = socket(lab.remote(), lab.remote_address(family));
        let before = lab.wire(1).counters(Direction::Up).packets;
        assert_eq!(seen_from(&lab, &source, &target), Some(source.local_addr().unwrap()));
        assert!(lab.wire(1).counters(Direction::Up).packets > before);
        assert!(lab.local().enter(|| UdpSocket::bind((old, 0))).unwrap().is_err());
    }
}

#[test]
fn wires_carry_packets_of_the_mtu_with_right_checksums() {
    if !may_build_labs("MTU") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(100.0).mtu(1_400)]).unwrap();
    // An answer to a whole MTU: 8 bytes of ICMP and 20 of IP are on top.
    let whole = Ping { size: 1_400 - 28, ..Ping::times(2) };
    let report = whole.run(lab.client(), lab.server_address(Family::V4)).unwrap();
    assert_eq!(report.replies.len(), 2);
    let iperf = evaluation::iperf::Iperf::tcp(1);
    iperf.run(&lab).unwrap();
    let counters = lab.wire(0).counters(Direction::Up);
    assert!(counters.bytes / counters.packets > 1_200 && counters.dropped_fault == 0);
    // Wrong checksums would show in the receiver's statistics.
    let statistics = lab.server().run("nstat", &["-asz", "TcpInCsumErrors"]).unwrap();
    let errors = statistics.lines().find(|line| line.starts_with("TcpInCsumErrors")).unwrap();
    assert_eq!(errors.split_whitespace().nth(1), Some("0"));
}

#[test]
fn nothing_stays_behind_even_after_kill_9() {
    if !may_build_labs("cleaning up") {
        return;
    }
    for signal in ["KILL", "TERM", "INT"] {
        // A shell that put us into the background left the interrupt ignored, for our children too.
        let mut shell = Command::new("env")
            .args(["--default-signal=INT", env!("CARGO_BIN_EXE_evaluation")])
            .args(["shell", "rate=10,delay=5", "rate=20"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let directory = first.strip_prefix("files").unwrap().trim().to_owned();
        assert!(Path::new(&directory).is_dir());
        let last = lines.find(|line| line.as_ref().unwrap().starts_with("Ctrl-C"));
        assert!(last.is_some());
        let kill = Command::new("kill").args(["-s", signal, &shell.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let end = Instant::now() + Duration::from_secs(5);
        while shell.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "it goes on after SIG{signal}");
            std::thread::sleep(Duration::from_millis(10));
        }
        while Path::new(&directory).exists() || someone_mentions(&directory) {
            assert!(Instant::now() < end, "{directory} or its processes stay after SIG{signal}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process has the directory among its arguments, as the janitor and daemons do.
fn someone_mentions(directory: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|arguments| String::from_utf8_lossy(&arguments).contains(directory))
}
