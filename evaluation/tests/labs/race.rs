//! The race lets portals and another tunnel have their turn, and leaves nothing behind.
//!
//! ```text
//!  local   .1  wire0 ======== wire0  .2   remote
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;

use evaluation::may_build_labs;
use evaluation::netns::Namespace;
use evaluation::race::contestant::Contestant;
use evaluation::race::measure::{Congestion, Plan, Racer, Turn};

const PLAN: Plan = Plan {
    congestion: Congestion::Cubic,
    rounds: 1,
    seconds: 1,
    small_rounds: 0,
    minutes: 0,
    idle_seconds: 1,
};

/// A tunnel without a program of its own: the kernel's.
const TUNNEL: &str = "#!/bin/sh
set -e
ip link add \"$INTERFACE\" type vxlan id 1 local \"$OUTER_LOCAL\" remote \"$OUTER_REMOTE\" dstport 4789
ip addr add \"$ADDRESS\" dev \"$INTERFACE\"
ip link set \"$INTERFACE\" up
exec sleep 60
";

fn turn(racer: &Racer) -> Turn {
    let mut turn = Turn::default();
    for heat in PLAN.heats(0) {
        racer.run(heat, &PLAN, &mut turn).unwrap();
    }
    assert_eq!(turn.tcp.len(), 4);
    assert!(turn.tcp.iter().all(|run| run.goodput_bps > 1e6), "{turn:?}");
    assert!(turn.rtt_ms.unwrap() > 0.0);
    turn
}

#[test]
fn portals_have_their_turn_while_others_stand_ready() {
    if !may_build_labs("a race") {
        return;
    }
    let named =
        |name: &str| Contestant::usual().into_iter().find(|contestant| contestant.name.ends_with(name));
    let racers = ["aead", "two paths"].map(|name| Racer::start(&named(name).unwrap()).unwrap());
    let turn = racers.each_ref().map(turn)[0].clone();
    assert!(turn.idle.unwrap().cpu_seconds.iter().all(|seconds| *seconds < 1.0), "{turn:?}");
    let peak = turn.peak_rss_kb.unwrap();
    assert!(peak.iter().all(|kb| *kb > 0), "{peak:?}");
    assert!(turn.tcp.iter().all(|run| run.cpu_per_gb.is_some() && run.machine_per_gb > 0.0), "{turn:?}");
    racers.into_iter().for_each(|racer| racer.stop().unwrap());
}

#[test]
fn so_does_a_tunnel_that_a_program_starts() {
    if !may_build_labs("a race with another tunnel") {
        return;
    }
    let probe =
        ["link", "add", "probe", "type", "vxlan", "id", "1", "remote", "192.0.2.1", "dstport", "4789"];
    if Namespace::new("probe").unwrap().run("ip", &probe).is_err() {
        return eprintln!("SKIPPED: a race with another tunnel: this kernel has no VXLAN");
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("tunnel");
    fs::write(&program, TUNNEL).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let racer = Racer::start(&Contestant::peer("vxlan", program)).unwrap();
    turn(&racer);
    racer.stop().unwrap();
}
