//! What a pair of portals carries, over which links.
//!
//! ```text
//! client -- local == wan0: 10 Mbit/s, 10 ms == internet -- remote
//!                 == wan1:  6 Mbit/s, 15 ms ==          -- server
//! ```

use std::time::Duration;

use evaluation::datagrams::DatagramFlow;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Method, Pair, PairOptions};
use evaluation::traffic::Traffic;
use evaluation::wait::until;
use evaluation::wan::Direction;

/// The longest that anything may stand still on a busy machine with nothing wrong.
const PATIENCE: Duration = Duration::from_millis(1_500);

fn two_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0), LinkSpec::mbit(6.0).delay_ms(15.0)]).unwrap()
}

/// What a link has carried so far, in bytes.
fn carried(lab: &Lab, link: usize, direction: Direction) -> u64 {
    lab.wire(link).counters(direction).bytes
}

/// What each link carries in each direction, in bytes, while there is traffic for so long; fails if the
/// traffic does.
fn carry(lab: &Lab, family: Family, time: Duration) -> Vec<[u64; 2]> {
    let count = || {
        let of_link = |link| Direction::BOTH.map(|direction| carried(lab, link, direction));
        (0..lab.links().len()).map(of_link).collect::<Vec<_>>()
    };
    let before = count();
    // Enough that one of them alone does not have to fill both links.
    let traffic = Traffic::with_streams(lab, family, 4).unwrap();
    traffic.run_until(time);
    traffic.survived(PATIENCE).unwrap();
    let difference = |(after, before): ([u64; 2], [u64; 2])| [after[0] - before[0], after[1] - before[1]];
    count().into_iter().zip(before).map(difference).collect()
}

/// Traffic of both inner families over both links, both ways.
fn bonds(options: &PairOptions) {
    let lab = two_links();
    let pair = Pair::start_connected(&lab, options).unwrap();
    for inner in Family::BOTH {
        let bytes = carry(&lab, inner, Duration::from_millis(2_500));
        // A tenth of what the slower link carries in that time; signs of life are far below.
        let least = 6_000_000 / 8 * 5 / 2 / 10;
        assert!(bytes.iter().flatten().all(|&bytes| bytes > least), "{inner:?} inside: {bytes:?}");
    }
    pair.stop().unwrap();
}

#[test]
fn both_families_over_ipv4() {
    if may_build_labs("IPv4 outside") {
        bonds(&PairOptions { outer: Family::V4, ..PairOptions::default() });
    }
}

#[test]
fn both_families_over_ipv6() {
    if may_build_labs("IPv6 outside") {
        bonds(&PairOptions { outer: Family::V6, ..PairOptions::default() });
    }
}

#[test]
fn both_families_over_tcp_links() {
    if may_build_labs("TCP links") {
        for outer in Family::BOTH {
            bonds(&PairOptions { method: Method::Tcp, outer, ..PairOptions::default() });
        }
    }
}

#[test]
fn a_udp_and_a_tcp_link_together() {
    if may_build_labs("UDP and TCP links together") {
        let link_methods = vec![(1, Method::Tcp)];
        bonds(&PairOptions { link_methods, ..PairOptions::default() });
    }
}

#[test]
fn with_every_protection() {
    if may_build_labs("Protection = mac and none") {
        for protection in ["mac", "none"] {
            bonds(&PairOptions { protection: protection.into(), ..PairOptions::default() });
        }
    }
}

#[test]
fn a_higher_metric_carries_data_only_while_the_lower_cannot() {
    if !may_build_labs("metrics") {
        return;
    }
    let lab = two_links();
    let link_lines = vec![(1, "Metric = 5".into())];
    let pair = Pair::start_connected(&lab, &PairOptions { link_lines, ..PairOptions::default() }).unwrap();
    let quiet = |bytes: [u64; 2]| {
        // Signs of life, in 2.5 s; the other link carries a hundred times as much.
        assert!(bytes.iter().all(|&bytes| bytes < 20_000), "a spare link has carried {bytes:?} bytes");
    };
    let busy = |bytes: [u64; 2]| {
        assert!(bytes.iter().all(|&bytes| bytes > 200_000), "a link in use has carried {bytes:?} bytes");
    };
    let time = Duration::from_millis(2_500);
    let bytes = carry(&lab, Family::V4, time);
    busy(bytes[0]);
    quiet(bytes[1]);

    // The lower metric fails while there is traffic …
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(Duration::from_secs(1));
    lab.wire(0).cut(true);
    let before = carried(&lab, 1, Direction::Up);
    until(Duration::from_secs(3), "the spare link takes over", || {
        Ok(carried(&lab, 1, Direction::Up) > before + 100_000)
    })
    .unwrap();
    // … comes back, and has everything again.
    lab.wire(0).cut(false);
    let before = carried(&lab, 0, Direction::Up);
    until(Duration::from_secs(5), "the first link takes back", || {
        Ok(carried(&lab, 0, Direction::Up) > before + 300_000)
    })
    .unwrap();
    traffic.survived(Duration::from_millis(2_500)).unwrap();
    let bytes = carry(&lab, Family::V4, time);
    busy(bytes[0]);
    quiet(bytes[1]);
    pair.stop().unwrap();
}

/// What `ping` prints of packets with so many bytes of data that must not be fragmented.
fn ping_whole(lab: &Lab, family: Family, size: u32) -> String {
    let mut ping = lab.client().command("ping");
    ping.env("LC_ALL", "C").args(["-n", "-c", "3", "-i", "0.2", "-W", "1", "-M", "do"]);
    ping.args(["-s", &size.to_string(), &lab.server_address(family).to_string()]);
    let output = ping.output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Packets that are too big come back as ICMP errors, those that just fit arrive; `mtu` is the largest.
fn bounces(lab: &Lab, mtu: u32) {
    for (family, headers, words) in
        [(Family::V4, 28, "Frag needed and DF set (mtu = "), (Family::V6, 48, "Packet too big: mtu=")]
    {
        // First what fits: afterwards the client knows the path's MTU and does not send more at all.
        let fits = ping_whole(lab, family, mtu - headers);
        assert!(fits.contains("3 received"), "{family:?}, {mtu} bytes: {fits}");
        let told = ping_whole(lab, family, 1_500 - headers);
        assert!(told.contains(&format!("{words}{mtu}")), "{family:?}, 1500 bytes: {told}");
        assert!(told.contains(" 0 received"), "{family:?}, 1500 bytes: {told}");
    }
}

#[test]
fn packets_longer_than_the_interface_carries_get_icmp_errors() {
    if !may_build_labs("ICMP errors of the interface") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let mtu = pair.local().unwrap().show().unwrap()["mtu"].as_u64().unwrap() as u32;
    // No more than 20 + 16 bytes are around a packet on a UDP link, with 28 of UDP and IPv4.
    assert!((1_436..1_472).contains(&mtu), "MTU {mtu}");
    bounces(&lab, mtu);
    pair.stop().unwrap();
}

#[test]
fn packets_longer_than_the_links_carry_get_icmp_errors() {
    if !may_build_labs("ICMP errors of the portal") {
        return;
    }
    let lab = two_links();
    let automatic = {
        let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
        pair.local().unwrap().show().unwrap()["mtu"].as_u64().unwrap() as u32
    };
    // The operator insists on an MTU that does not fit the links: the portal itself must bounce.
    let host_lines = vec!["MTU = 1500".to_owned()];
    let options = PairOptions { host_lines, ..PairOptions::default() };
    let pair = Pair::start_connected(&lab, &options).unwrap();
    bounces(&lab, automatic);
    // TCP learns of it from these errors.
    for family in Family::BOTH {
        carry(&lab, family, Duration::from_millis(1_500));
    }
    pair.stop().unwrap();
}

/// Whoever asks once and waits, as DNS does, waits seconds if nobody sends it again.
#[test]
fn what_lossy_links_lose_of_plain_udp_arrives() {
    if !may_build_labs("UDP over lossy links") {
        return;
    }
    let lossy = |delay| LinkSpec::mbit(20.0).delay_ms(delay).loss(0.03);
    let lab = Lab::new(&[lossy(10.0), lossy(15.0)]).unwrap();
    let pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    for inner in Family::BOTH {
        let flows = [DatagramFlow::default(), DatagramFlow { rate: 300, size: 1_100 }].map(|flow| {
            let address = lab.server_address(inner);
            flow.start(lab.client(), lab.server(), address).unwrap()
        });
        std::thread::sleep(Duration::from_secs(6));
        for report in flows.map(|flow| flow.stop()) {
            let (sent, lost) = (report.sent, report.lost());
            assert!(sent >= 200 && lost <= 1 + sent / 500, "{inner:?}: {lost} lost of {sent}");
            assert_eq!(report.duplicates, 0, "{inner:?}");
        }
    }
    pair.stop().unwrap();
}
