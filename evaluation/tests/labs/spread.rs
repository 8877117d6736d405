//! Portals that spread their work over four processors, whether there are as many or not.

use std::path::PathBuf;

use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{PORT, Pair, PairOptions, Portal, local_config, random_key, remote_config};
use evaluation::traffic::{Traffic, ends};
use evaluation::wait::until;
use evaluation::wan::Direction;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::offload::{connected_sockets, two_streams_pass};
use crate::resilience::survived;
use crate::secs;

fn options(processors: u16) -> PairOptions {
    PairOptions { host_lines: vec![format!("Processors = {processors}")], ..PairOptions::default() }
}

/// The peers' addresses for which the remote portal has a socket of its own.
fn branches(lab: &Lab) -> Vec<String> {
    let arguments = ["-Hnu", "state", "established", "sport", "=", &format!(":{PORT}")];
    let sockets = lab.remote().run("ss", &arguments).unwrap();
    sockets.lines().filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect()
}

fn wait_branches(lab: &Lab, what: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let seen = until(secs(10.0), what, || {
        found = branches(lab);
        Ok(found.len() == count)
    });
    if let Err(error) = seen {
        panic!("{error:#}: {found:?}");
    }
    found
}

#[test]
fn each_of_several_links_has_a_socket_of_its_own() {
    if !may_build_labs("sockets of several links") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0), LinkSpec::mbit(10.0).delay_ms(20.0)]).unwrap();
    lab.rebind_nat(0).unwrap();
    lab.rebind_nat(1).unwrap();
    let pair = Pair::start_connected(&lab, &options(4)).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    let before = wait_branches(&lab, "both links have one", 2);
    traffic.run_until(secs(1.0));
    lab.rebind_nat(1).unwrap();
    until(secs(10.0), "the new address has one, too", || {
        let now = branches(&lab);
        Ok(now.len() == 2 && now != before)
    })
    .unwrap();
    lab.wire(0).cut(true);
    wait_branches(&lab, "the last link needs none", 0);
    std::thread::sleep(secs(0.5));
    lab.wire(0).cut(false);
    wait_branches(&lab, "both links have one again", 2);
    std::thread::sleep(secs(0.5));
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn a_port_that_is_left_is_free_at_once() {
    if !may_build_labs("another port") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(10.0), LinkSpec::mbit(10.0)]).unwrap();
    let key = random_key().unwrap();
    let configs = [local_config(&lab, &options(4), &key), remote_config(&options(4), &key)];
    let mut pair = Pair::start_with(&lab, &options(4), configs.clone()).unwrap();
    pair.wait_connected(secs(10.0)).unwrap();
    wait_branches(&lab, "both links have one", 2);
    let remote = pair.remote().unwrap();
    remote.reload(&configs[1].replace(&PORT.to_string(), "7009")).unwrap();
    until(secs(2.0), "the port is free", || {
        let sockets = lab.remote().run("ss", &["-Hnua", "sport", "=", &format!(":{PORT}")])?;
        Ok(sockets.trim().is_empty())
    })
    .unwrap();
    remote.reload(&configs[1]).unwrap();
    wait_branches(&lab, "both links have one again", 2);
    assert!(!remote.log().contains("in use"), "{}", remote.log());
    pair.stop().unwrap();
}

#[test]
fn on_two_processors_the_links_share_a_socket_and_the_sockets_a_thread() {
    if !may_build_labs("one thread for all sockets") {
        return;
    }
    let lab = two_fast_links();
    let mut pair = Pair::start_connected(&lab, &options(2)).unwrap();
    streams_use_both_links(&lab);
    assert_eq!(branches(&lab), [""; 0]);
    assert_eq!(readers(pair.local().unwrap()), ["sockets"]);
    assert_eq!(readers(pair.remote().unwrap()), ["sockets"]);
    pair.stop().unwrap();
}

#[test]
fn on_two_processors_the_sockets_thread_reads_what_little_comes_by_the_interface() {
    if !may_build_labs("who reads the interface") {
        return;
    }
    let lab = two_fast_links();
    let mut pair = Pair::start_connected(&lab, &options(2)).unwrap();
    let (from, to, address) = ends(&lab, Direction::Up, Family::V4);
    let (source, target) = connected_sockets(from, to, address);
    let arrive = |count: usize, len: usize| {
        (0..count).for_each(|_| assert_eq!(target.recv(&mut [0; 2_000]).unwrap(), len));
    };
    let one_by_one = |count: usize| {
        (0..count).for_each(|_| {
            source.send(&[1; 100]).unwrap();
            arrive(1, 100);
        });
    };
    one_by_one(50);
    let before = times_run(pair.local().unwrap(), "tun");
    one_by_one(50);
    assert_eq!(times_run(pair.local().unwrap(), "tun"), before, "it was left to the sockets' thread");
    // More than a train in one piece, as the kernel hands it over.
    setsockopt(&source, UdpGsoSegment, &1_000).unwrap();
    source.send(&[2; 50_000]).unwrap();
    arrive(50, 1_000);
    assert!(times_run(pair.local().unwrap(), "tun") > before, "it took over");
    setsockopt(&source, UdpGsoSegment, &0).unwrap();
    one_by_one(50);
    pair.stop().unwrap();
}

#[test]
fn what_others_send_for_the_interface_arrives_intact() {
    if !may_build_labs("readers that send") {
        return;
    }
    let lab = two_fast_links();
    let mut pair = Pair::start_connected(&lab, &options(4)).unwrap();
    streams_use_both_links(&lab);
    assert_eq!(readers(pair.local().unwrap()).len(), 2, "one for each link");
    assert_eq!(readers(pair.remote().unwrap()).len(), 3, "the trunk's and two branches'");
    pair.stop().unwrap();
}

fn two_fast_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(150.0).delay_ms(3.0), LinkSpec::mbit(100.0).delay_ms(5.0)]).unwrap()
}

fn streams_use_both_links(lab: &Lab) {
    for family in Family::BOTH {
        for direction in Direction::BOTH {
            let before = [0, 1].map(|link| lab.wire(link).counters(direction).bytes);
            two_streams_pass(lab, family, direction);
            for (link, before) in before.into_iter().enumerate() {
                let carried = lab.wire(link).counters(direction).bytes - before;
                assert!(carried > 1_000_000, "{family:?} {direction}: link {link} carried {carried} bytes");
            }
        }
    }
}

/// The portal's threads that read sockets.
fn readers(portal: &Portal) -> Vec<String> {
    threads(portal).map(|(name, _)| name).filter(|name| name.starts_with("socket")).collect()
}

/// How often a thread of the portal got a processor (Documentation/scheduler/sched-stats.rst).
fn times_run(portal: &Portal, wanted: &str) -> u64 {
    let (_, thread) = threads(portal).find(|(name, _)| name == wanted).expect("it has such a thread");
    let stat = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    stat.split_whitespace().nth(2).expect("three numbers").parse().unwrap()
}

/// The portal's threads by name, and where the kernel tells of each.
fn threads(portal: &Portal) -> impl Iterator<Item = (String, PathBuf)> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", portal.pid())).unwrap();
    threads.map(|thread| {
        let path = thread.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap();
        (name.trim().to_owned(), path)
    })
}
