//! What somebody on the way can read.
//!
//! ```text
//! client -- local == wan0: 20 Mbit/s, 5 ms == internet [recorder] -- remote
//!                 == wan1: 20 Mbit/s, 5 ms ==                     -- server
//! ```

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use evaluation::adversary::Recorder;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Pair, PairOptions};
use evaluation::wait::until;

/// What the client tells the server.
const MARKER: &[u8] = b"a secret that only the server shall read";
const TIMES: usize = 200;

fn v4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => panic!("not IPv4: {address}"),
    }
}

/// What of the marker, the inner addresses and the inner ports is seen on the way.
fn seen_with(protection: &str) -> [bool; 3] {
    let lab = Lab::new(&[LinkSpec::mbit(20.0).delay_ms(5.0), LinkSpec::mbit(20.0).delay_ms(5.0)]).unwrap();
    // Without compression each datagram would have the inner addresses.
    let options = PairOptions {
        protection: protection.into(),
        host_lines: vec!["Compression = off".into()],
        ..PairOptions::default()
    };
    let mut pair = Pair::start_connected(&lab, &options).unwrap();
    let shown = pair.local().unwrap().show().unwrap();
    assert_eq!(shown["protection"], if protection.is_empty() { "aead" } else { protection });
    assert_eq!(shown["cipher"].is_string(), protection.is_empty(), "{shown}");

    let [client, server] = [lab.client_address(Family::V4), lab.server_address(Family::V4)];
    let recorder = Recorder::start(&lab).unwrap();
    let receiver = lab.server().enter(|| UdpSocket::bind((server, 0))).unwrap().unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let sender = lab.client().enter(|| UdpSocket::bind((client, 0))).unwrap().unwrap();
    let to = receiver.local_addr().unwrap();
    let mut buffer = [0; 100];
    for _ in 0..TIMES {
        sender.send_to(MARKER, to).unwrap();
        let (len, from) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.ip()), (MARKER, client));
    }
    until(Duration::from_secs(5), "recorded datagrams", || Ok(recorder.ready() >= TIMES)).unwrap();
    let ports = [sender.local_addr().unwrap().port(), to.port()].map(u16::to_be_bytes).concat();
    let seen = [MARKER, &[v4(client), v4(server)].concat(), &ports].map(|bytes| recorder.saw(bytes));
    pair.stop().unwrap();
    seen
}

#[test]
fn with_aead_nothing_inside_can_be_read() {
    if may_build_labs("what can be read with aead") {
        assert_eq!(seen_with(""), [false; 3]);
    }
}

#[test]
fn with_mac_and_none_everything_can_be_read() {
    if may_build_labs("what can be read with mac and none") {
        assert_eq!(seen_with("mac"), [true; 3]);
        assert_eq!(seen_with("none"), [true; 3]);
    }
}
