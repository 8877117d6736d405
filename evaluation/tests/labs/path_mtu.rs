//! Paths that swallow long packets without an ICMP error, though their interfaces carry them.
//!
//! ```text
//! client -- local == wan0: 10 Mbit/s, 10 ms, packets of 1,400 bytes == internet -- remote
//!                 == wan1:  6 Mbit/s, 15 ms                         ==          -- server
//! ```

use std::time::Duration;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Pair, PairOptions};
use evaluation::traffic::Traffic;
use evaluation::wait::until;
use evaluation::wan::Direction;
use serde_json::Value;

use crate::secs;

/// What a path carries that is smaller than its interfaces.
const SMALL: u32 = 1_400;
/// Header, footer, UDP and IPv4 around an inner packet.
const AROUND: u64 = 20 + 16 + 28;
/// Until a smaller path is found out, long packets are lost on it: a second or two.
const PATIENCE: Duration = Duration::from_secs(5);

fn fast() -> LinkSpec {
    LinkSpec::mbit(10.0).delay_ms(10.0)
}

fn slow() -> LinkSpec {
    LinkSpec::mbit(6.0).delay_ms(15.0)
}

/// What both portals show of the path of the first link, and of their interfaces.
fn found(pair: &mut Pair) -> [[u64; 2]; 2] {
    let read =
        |shown: Value| [&shown["links"][0]["path_mtu_bytes"], &shown["mtu"]].map(|v| v.as_u64().unwrap());
    [read(pair.local().unwrap().show().unwrap()), read(pair.remote().unwrap().show().unwrap())]
}

fn wait_found(pair: &mut Pair) {
    let wanted = [u64::from(SMALL), u64::from(SMALL) - AROUND];
    let waited = until(secs(6.0), "both portals find out the path's MTU", || Ok(found(pair) == [wanted; 2]));
    if let Err(error) = waited {
        panic!("{error:#}: {:?}\n{}", found(pair), pair.account());
    }
}

/// Traffic of both families, both ways, while nothing is lost for its length any more.
fn carries_whole(lab: &Lab) {
    let too_long = || Direction::BOTH.map(|way| lab.wire(0).counters(way).dropped_length);
    let before = too_long();
    for family in Family::BOTH {
        let carried = Direction::BOTH.map(|way| lab.wire(0).counters(way).bytes);
        let traffic = Traffic::start(lab, family).unwrap();
        traffic.run_until(secs(3.0));
        traffic.survived(secs(1.5)).unwrap();
        for (way, before) in Direction::BOTH.into_iter().zip(carried) {
            let bytes = lab.wire(0).counters(way).bytes - before;
            assert!(bytes > 10_000_000 / 8, "{family:?} {way:?}: {bytes} bytes in 3 s at 10 Mbit/s");
        }
    }
    assert_eq!(too_long(), before, "packets that were too long for the path");
}

#[test]
fn a_path_smaller_than_its_interfaces_carries_tcp_both_ways() {
    if !may_build_labs("a small path MTU") {
        return;
    }
    for links in [vec![fast().longest(SMALL)], vec![fast().longest(SMALL), slow()]] {
        let lab = Lab::new(&links).unwrap();
        let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
        wait_found(&mut pair);
        carries_whole(&lab);
        pair.stop().unwrap();
    }
}

#[test]
fn a_path_that_shrinks_ends_no_connection() {
    if !may_build_labs("a path MTU that shrinks") {
        return;
    }
    for links in [vec![fast()], vec![fast(), slow()]] {
        let lab = Lab::new(&links).unwrap();
        let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
        until(secs(3.0), "the MTU of Ethernet", || Ok(found(&mut pair) == [[1_500, 1_500 - AROUND]; 2]))
            .unwrap();
        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(2.0));
        lab.wire(0).change_both(|conditions| conditions.longest = Some(SMALL));
        traffic.run_until(secs(8.0));
        traffic.survived(PATIENCE).unwrap();
        wait_found(&mut pair);
        carries_whole(&lab);
        let log = pair.local().unwrap().log();
        let changes = log.lines().filter(|line| line.contains("MTU")).collect::<Vec<_>>();
        assert_eq!(changes.len(), 2, "one line for the path, one for the interface: {changes:#?}");
        pair.stop().unwrap();
    }
}
