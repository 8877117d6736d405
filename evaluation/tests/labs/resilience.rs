//! What a pair of portals survives: links that die and return, addresses that change, portals that crash.
//!
//! ```text
//! client -- local == wan0: 10 Mbit/s, 10 ms == internet -- remote
//!                 == wan1: 10 Mbit/s, 20 ms ==          -- server
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Method, Pair, PairOptions};
use evaluation::traffic::Traffic;
use evaluation::wait::until;
use evaluation::wan::Direction;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::secs;

/// The longest that a stream or a call may stand still around a failure. A link's death is noticed much
/// earlier; what the connections inside then need, and a busy machine, are the rest.
const PATIENCE: Duration = Duration::from_millis(2_500);

fn two_links() -> Lab {
    Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0), LinkSpec::mbit(10.0).delay_ms(20.0)]).unwrap()
}

fn tcp() -> PairOptions {
    PairOptions { method: Method::Tcp, ..PairOptions::default() }
}

/// Waits until a link carries data in both directions, while there is traffic.
fn wait_used(lab: &Lab, link: usize, limit: Duration) -> Result<()> {
    let bytes = || Direction::BOTH.map(|direction| lab.wire(link).counters(direction).bytes);
    let before = bytes();
    until(limit, &format!("link {link} carries data both ways"), || {
        Ok(bytes().iter().zip(before).all(|(now, before)| *now > before + 100_000))
    })?;
    Ok(())
}

/// Ends the traffic, which must have survived.
pub(crate) fn survived(traffic: Traffic, pair: &Pair) {
    if let Err(error) = traffic.survived(PATIENCE) {
        panic!("{error:#}\n{}", pair.account());
    }
}

/// One of the links is cut for good.
fn survives_a_cut(options: &PairOptions) {
    for cut in [0, 1] {
        let lab = two_links();
        let pair = Pair::start_connected(&lab, options).unwrap();
        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(1.5));
        lab.wire(cut).cut(true);
        traffic.run_until(secs(6.0));
        survived(traffic, &pair);
        pair.stop().unwrap();
    }
}

/// Each link is cut and comes back, one after the other.
fn survives_cuts_in_turn(options: &PairOptions) {
    let lab = two_links();
    let pair = Pair::start_connected(&lab, options).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.5));
    for link in [0, 1] {
        lab.wire(link).cut(true);
        std::thread::sleep(secs(2.5));
        lab.wire(link).cut(false);
        wait_used(&lab, link, secs(10.0)).unwrap();
        std::thread::sleep(secs(0.5));
    }
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn connections_survive_the_cut_of_a_udp_link() {
    if may_build_labs("the cut of a UDP link") {
        survives_a_cut(&PairOptions::default());
    }
}

#[test]
fn connections_survive_the_cut_of_a_tcp_link() {
    if may_build_labs("the cut of a TCP link") {
        survives_a_cut(&tcp());
    }
}

#[test]
fn connections_survive_cut_and_return_of_each_udp_link_in_turn() {
    if may_build_labs("cuts of UDP links in turn") {
        survives_cuts_in_turn(&PairOptions::default());
    }
}

#[test]
fn connections_survive_cut_and_return_of_each_tcp_link_in_turn() {
    if may_build_labs("cuts of TCP links in turn") {
        survives_cuts_in_turn(&tcp());
    }
}

#[test]
fn connections_survive_cut_and_return_of_a_udp_and_a_tcp_link_in_turn() {
    if may_build_labs("cuts of mixed links in turn") {
        let link_methods = vec![(1, Method::Tcp)];
        survives_cuts_in_turn(&PairOptions { link_methods, ..PairOptions::default() });
    }
}

#[test]
fn connections_survive_a_carrier_and_an_interface_that_go_and_come() {
    if !may_build_labs("carrier and interface") {
        return;
    }
    for options in [PairOptions::default(), tcp()] {
        let lab = two_links();
        let mut pair = Pair::start_connected(&lab, &options).unwrap();
        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(1.0));
        lab.wire(1).carrier(false).unwrap();
        // The kernel may tell of it a second late; the link is left by then for its silence.
        pair.local().unwrap().wait_reason("link1", "carrier lost on wan1", secs(5.0)).unwrap();
        traffic.run_until(secs(3.0));
        lab.wire(1).carrier(true).unwrap();
        wait_used(&lab, 1, secs(10.0)).unwrap();
        lab.interface_down(0).unwrap();
        pair.local().unwrap().wait_logged(secs(5.0), &["down, interface wan0 is down"]).unwrap();
        std::thread::sleep(secs(2.0));
        lab.interface_up(0).unwrap();
        wait_used(&lab, 0, secs(20.0)).unwrap();
        survived(traffic, &pair);
        pair.stop().unwrap();
    }
}

#[test]
fn the_other_portal_hears_of_a_lost_carrier() {
    if !may_build_labs("word of a lost carrier") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.0));
    lab.wire(0).carrier(false).unwrap();
    let words = ["suspect, the other portal has lost it"];
    pair.remote().unwrap().wait_logged(secs(5.0), &words).unwrap();
    traffic.run_until(secs(3.0));
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn a_link_whose_address_goes_and_comes_is_followed() {
    if !may_build_labs("an address that goes and comes") {
        return;
    }
    let lab = two_links();
    let address = lab.local_address(1, Family::V4);
    let link_lines = vec![(1, format!("LocalAddress = {address}"))];
    let options = PairOptions { link_lines, ..PairOptions::default() };
    let mut pair = Pair::start_connected(&lab, &options).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.0));
    lab.local().ip(&format!("addr del {address}/24 dev wan1\n")).unwrap();
    let words = format!("down, address {address} is gone");
    pair.local().unwrap().wait_logged(secs(5.0), &[&words]).unwrap();
    traffic.run_until(secs(3.0));
    lab.local().ip(&format!("addr add {address}/24 dev wan1\n")).unwrap();
    lab.interface_up(1).unwrap();
    wait_used(&lab, 1, secs(10.0)).unwrap();
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn connections_survive_a_link_that_works_one_way_only() {
    if !may_build_labs("a link that works one way only") {
        return;
    }
    for (direction, cut) in [(Direction::Up, 0), (Direction::Down, 1)] {
        let lab = two_links();
        let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(1.5));
        lab.wire(cut).change(direction, |conditions| conditions.cut = true);
        let name = format!("link{cut}");
        pair.local().unwrap().wait_state(&name, "down", secs(5.0)).unwrap();
        pair.remote().unwrap().wait_logged(secs(5.0), &[": suspect, "]).unwrap();
        traffic.run_until(secs(5.0));
        lab.wire(cut).cut(false);
        wait_used(&lab, cut, secs(10.0)).unwrap();
        survived(traffic, &pair);
        pair.stop().unwrap();
    }
}

#[test]
fn a_link_that_may_not_send_is_left_and_taken_again() {
    if !may_build_labs("a firewall before a link") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.0));
    let rules =
        "table inet wall {\nchain out {\ntype filter hook output priority 0\noifname wan1 drop\n}\n}\n";
    lab.local().run_with_input("nft", &["-f", "-"], rules).unwrap();
    pair.local().unwrap().wait_logged(secs(5.0), &["suspect, cannot send: "]).unwrap();
    traffic.run_until(secs(3.0));
    lab.local().run("nft", &["delete", "table", "inet", "wall"]).unwrap();
    wait_used(&lab, 1, secs(10.0)).unwrap();
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn a_portal_that_stood_still_blames_no_link() {
    if !may_build_labs("a portal that stands still") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.5));
    let local = pair.local().unwrap();
    for _ in 0..8 {
        let process = Pid::from_raw(local.pid() as i32);
        kill(process, Signal::SIGSTOP).unwrap();
        std::thread::sleep(secs(0.15));
        kill(process, Signal::SIGCONT).unwrap();
        std::thread::sleep(secs(0.35));
    }
    let events = local.events().unwrap();
    // Without it, one at least in each turn; a machine that is busy with other tests may starve the threads.
    let blamed = events.matches("suspect").count();
    assert!(blamed <= 3, "what came meanwhile was not read before:\n{events}");
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn a_new_nat_mapping_is_followed() {
    if !may_build_labs("NAT rebinding") {
        return;
    }
    let lab = two_links();
    lab.rebind_nat(0).unwrap();
    lab.rebind_nat(1).unwrap();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.0));
    for link in [1, 0] {
        lab.rebind_nat(link).unwrap();
        wait_used(&lab, link, secs(10.0)).unwrap();
    }
    survived(traffic, &pair);
    let log = pair.remote().unwrap().log();
    assert!(log.contains("the other portal is at "), "the remote portal has not told of it:\n{log}");
    pair.stop().unwrap();
}

#[test]
fn a_new_nat_mapping_of_the_only_link_is_followed() {
    if !may_build_labs("NAT rebinding of the only link") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0)]).unwrap();
    lab.rebind_nat(0).unwrap();
    let pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(secs(1.0));
    lab.rebind_nat(0).unwrap();
    wait_used(&lab, 0, secs(10.0)).unwrap();
    survived(traffic, &pair);
    pair.stop().unwrap();
}

#[test]
fn a_link_with_another_address_is_followed() {
    if !may_build_labs("changed addresses") {
        return;
    }
    for options in
        [PairOptions::default(), tcp(), PairOptions { outer: Family::V6, ..PairOptions::default() }]
    {
        let lab = two_links();
        let mut pair = Pair::start_connected(&lab, &options).unwrap();
        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(1.0));
        lab.change_address(1).unwrap();
        let new = lab.local_address(1, options.outer).to_string();
        let remote = pair.remote().unwrap();
        until(secs(15.0), &format!("{options:?}: the remote portal is at {new}"), || {
            let shown = remote.show()?;
            let links = shown["links"].as_array().into_iter().flatten();
            Ok(links
                .filter(|link| link["state"] == "up")
                .any(|link| link["remote"].to_string().contains(&new)))
        })
        .unwrap();
        wait_used(&lab, 1, secs(10.0)).unwrap();
        survived(traffic, &pair);
        pair.stop().unwrap();
    }
}

#[test]
fn a_link_without_its_interface_is_retried_while_the_other_carries() {
    if !may_build_labs("a missing interface") {
        return;
    }
    for options in [PairOptions::default(), tcp()] {
        let lab = two_links();
        lab.local().ip("link set wan1 down\nlink set wan1 name away1\n").unwrap();
        let mut pair = Pair::start(&lab, &options).unwrap();
        pair.wait_connected(secs(10.0)).unwrap();
        let link = pair.local().unwrap().link("link1").unwrap();
        assert!(link["state"] != "up" && link["reason"].to_string().contains("wan1"), "{link}");

        let traffic = Traffic::start(&lab, Family::V4).unwrap();
        traffic.run_until(secs(2.0));
        lab.local().ip("link set away1 name wan1\n").unwrap();
        lab.interface_up(1).unwrap();
        pair.local().unwrap().wait_state("link1", "up", secs(20.0)).unwrap();
        wait_used(&lab, 1, secs(10.0)).unwrap();
        survived(traffic, &pair);
        pair.stop().unwrap();
    }
}

#[test]
fn traffic_is_back_within_3_s_of_the_restart_of_a_killed_portal() {
    if !may_build_labs("kill -9") {
        return;
    }
    for options in [PairOptions::default(), tcp()] {
        let lab = two_links();
        let mut pair = Pair::start_connected(&lab, &options).unwrap();
        // Each twice, so that a session that was taken over from the one before is killed as well, and
        // each at once as well as after the other one has noticed.
        for (local, pause) in [(false, 0.0), (true, 0.0), (false, 2.0), (true, 2.0)] {
            let portal = if local { pair.take_local() } else { pair.take_remote() };
            portal.unwrap().kill();
            std::thread::sleep(secs(pause));
            let restart = Instant::now();
            if local { pair.start_local() } else { pair.start_remote() }.unwrap();
            pair.wait_connected(secs(20.0)).unwrap();
            let took = restart.elapsed();
            // 3 s are promised; one more is for a busy machine and for ping, which asks every half second.
            assert!(took < secs(4.0), "{:?} link, local {local}, pause {pause}: {took:?}", options.method);
        }
        pair.wait_all_up(secs(20.0)).unwrap();
        pair.stop().unwrap();
    }
}

#[test]
fn a_portal_that_stopped_in_good_order_is_joined_again() {
    if !may_build_labs("a stop and a start") {
        return;
    }
    let lab = two_links();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    for local in [false, true] {
        let portal = if local { pair.take_local() } else { pair.take_remote() };
        portal.unwrap().stop().unwrap();
        let other = if local { pair.remote() } else { pair.local() };
        other.unwrap().wait_logged(secs(5.0), &["the other portal stopped"]).unwrap();
        let restart = Instant::now();
        if local { pair.start_local() } else { pair.start_remote() }.unwrap();
        pair.wait_connected(secs(20.0)).unwrap();
        assert!(restart.elapsed() < secs(4.0), "local {local}: {:?}", restart.elapsed());
    }
    pair.stop().unwrap();
}
