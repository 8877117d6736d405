//! Whatever crosses the portals' interfaces, together or alone, arrives as it was sent.
//!
//! ```text
//! client -- local (nc0) == plain0: a veth pair at full speed == (nc0) remote -- server
//! ```

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::portal::{Pair, PairOptions, local_config, random_key, remote_config};
use evaluation::stream::WatchedStream;
use evaluation::traffic::ends;
use evaluation::wan::Direction;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

/// Longer than any packet that crosses alone.
const ALONE: f64 = 1_500.0;
/// The payload of datagrams; two make more than a packet.
const DATAGRAM: usize = 1_100;

/// Two portals joined by a plain veth pair, where one packet seldom comes alone.
fn start<'a>(lab: &'a Lab, local: &str, remote: &str) -> Pair<'a> {
    let (interface, address) = lab.add_plain_link().unwrap();
    let [options, peer] = [local, remote].map(|offload| PairOptions {
        host_lines: vec![format!("Offload = {offload}")],
        ..PairOptions::default()
    });
    let key = random_key().unwrap();
    let local = local_config(lab, &options, &key)
        .replace("Interface = wan0", &format!("Interface = {interface}"))
        .replace(&lab.remote_address(Family::V4).to_string(), &address.to_string());
    let mut pair = Pair::start_with(lab, &options, [local, remote_config(&peer, &key)]).unwrap();
    pair.wait_connected(Duration::from_secs(10)).unwrap();
    pair.wait_all_up(Duration::from_secs(10)).unwrap();
    pair
}

/// Bytes of the average packet that the portal gave to the system in `namespace`, and that it was given.
fn average_packets(namespace: &Namespace) -> [f64; 2] {
    let shown = namespace.run("ip", &["-j", "-s", "link", "show", "nc0"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    ["rx", "tx"].map(|way| {
        let counters = &shown[0]["stats64"][way];
        let [bytes, packets] = ["bytes", "packets"].map(|what| counters[what].as_f64().unwrap());
        bytes / packets.max(1.0)
    })
}

/// Streams of both families, both ways.
fn streams_pass(lab: &Lab) {
    for family in Family::BOTH {
        Direction::BOTH.into_iter().for_each(|direction| two_streams_pass(lab, family, direction));
    }
}

/// Two streams as fast as they go, every byte of which is looked at.
pub(crate) fn two_streams_pass(lab: &Lab, family: Family, direction: Direction) {
    let (from, to, address) = ends(lab, direction, family);
    let streams = [0, 1].map(|_| WatchedStream::start(from, to, address).unwrap());
    std::thread::sleep(Duration::from_millis(1_500));
    for stream in streams {
        let progress = stream.stop();
        assert_eq!(progress.fault, None, "{family:?} {direction}");
        let bytes = progress.bytes();
        assert!(bytes > 2_000_000, "{family:?} {direction}: only {bytes} bytes in 1.5 s");
    }
}

/// A socket in `from`, and the one at `address` in `to` that it is connected to.
pub(crate) fn connected_sockets(from: &Namespace, to: &Namespace, address: IpAddr) -> (UdpSocket, UdpSocket) {
    let target = to.enter(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    target.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let source = from.enter(|| UdpSocket::bind(any)).unwrap().unwrap();
    source.connect(target.local_addr().unwrap()).unwrap();
    (source, target)
}

/// Datagrams that the sender's kernel cuts as late as it can, and others; each arrives whole, once and in order.
fn datagrams_pass(lab: &Lab) {
    for family in Family::BOTH {
        for direction in Direction::BOTH {
            let (from, to, address) = ends(lab, direction, family);
            let (source, target) = connected_sockets(from, to, address);
            for segment in [DATAGRAM as i32, 0] {
                setsockopt(&source, UdpGsoSegment, &segment).unwrap();
                for round in 0..20_u8 {
                    let byte = |number: usize, at: usize| (number * 31 + at) as u8 ^ round;
                    // The last is shorter.
                    let sizes = [[DATAGRAM; 19].as_slice(), &[DATAGRAM / 2]].concat();
                    let sent: Vec<Vec<u8>> = (0..)
                        .zip(sizes)
                        .map(|(number, size)| (0..size).map(|at| byte(number, at)).collect())
                        .collect();
                    if segment == 0 {
                        sent.iter().for_each(|datagram| _ = source.send(datagram).unwrap());
                    } else {
                        source.send(&sent.concat()).unwrap();
                    }
                    let mut buffer = [0; 2_000];
                    for (number, datagram) in sent.iter().enumerate() {
                        let len = target.recv(&mut buffer).unwrap_or_else(|error| {
                            panic!("{family:?} {direction}, {round}, datagram {number}: {error}")
                        });
                        assert!(buffer[..len] == datagram[..], "{family:?} {direction}, {round}, {number}");
                    }
                }
            }
        }
    }
}

/// What the local portal shows of its offload.
fn offload(pair: &mut Pair<'_>) -> String {
    pair.local().unwrap().show().unwrap()["offload"].to_string()
}

#[test]
fn everything_passes_intact_together() {
    if !may_build_labs("offload at the interface") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(50.0)]).unwrap();
    let mut pair = start(&lab, "auto", "auto");
    let shown = offload(&mut pair);
    for word in ["tso4", "coalesced tcp", "partial checksums"] {
        assert!(shown.contains(word), "{shown}");
    }
    streams_pass(&lab);
    for namespace in [lab.local(), lab.remote()] {
        let averages = average_packets(namespace);
        assert!(averages.iter().all(|bytes| *bytes > ALONE), "{}: {averages:?}", namespace.name());
    }
    datagrams_pass(&lab);
    let still = offload(&mut pair);
    assert_eq!(still, shown, "{}", pair.account());
    pair.stop().unwrap();
}

#[test]
fn everything_passes_intact_to_a_portal_that_takes_it_alone() {
    if !may_build_labs("offload at one of the interfaces") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(50.0)]).unwrap();
    let mut pair = start(&lab, "auto", "off");
    let shown = offload(&mut pair);
    assert!(shown.contains("tso4") && !shown.contains("partial checksums"), "{shown}");
    streams_pass(&lab);
    datagrams_pass(&lab);
    pair.stop().unwrap();
}

#[test]
fn everything_passes_intact_alone() {
    if !may_build_labs("packets one at a time") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(50.0)]).unwrap();
    let mut pair = start(&lab, "off", "off");
    let shown = pair.local().unwrap().show_text().unwrap();
    assert!(shown.contains("offload: off"), "{shown}");
    streams_pass(&lab);
    datagrams_pass(&lab);
    for namespace in [lab.local(), lab.remote()] {
        let averages = average_packets(namespace);
        assert!(averages.iter().all(|bytes| *bytes <= ALONE), "{}: {averages:?}", namespace.name());
    }
    pair.stop().unwrap();
}
