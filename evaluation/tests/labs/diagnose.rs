//! `netcombiner test` through real daemons: it says what is wrong, leaves no load behind, and ends with its client.
//!
//! ```text
//! client -- local == wan0: 20 Mbit/s, 15 ms          == internet -- remote
//!                 == wan1: 15 Mbit/s, 25 ms, 2 % lost ==         -- server
//! ```

use std::time::{Duration, Instant};

use evaluation::diagnose::Case;
use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Pair, PairOptions};
use evaluation::wait::until;
use evaluation::wan::Direction;

#[test]
fn the_lossy_link_is_found() {
    if !may_build_labs("the lossy link is found") {
        return;
    }
    let case = Case::named("lossy").expect("a case");
    let outcome = case.run(1).unwrap().expect("no more than a lab is needed");
    // On a busy machine that may be the worst that is found; the loss is found in any case.
    let findings = outcome.report["findings"].as_array().expect("findings");
    let lossy = findings.iter().find(|finding| finding["cause"] == case.cause);
    assert_eq!(lossy.expect("the loss")["links"][0], "link1", "{:#}", outcome.report);
    assert_eq!(outcome.report["test"]["steps"].as_array().map(Vec::len), Some(6));
}

#[test]
fn a_test_whose_client_is_killed_ends_at_both_portals() {
    if !may_build_labs("a test whose client is killed ends at both portals") {
        return;
    }
    let lab = Lab::new(&[LinkSpec::mbit(10.0).delay_ms(10.0)]).unwrap();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let bytes = |direction| lab.wire(0).counters(direction).bytes;
    let local = pair.local().unwrap();
    let mut client = local.start_test(&["--seconds", "2"]).unwrap();
    let filled = |direction| {
        let before = bytes(direction);
        until(Duration::from_secs(20), "padding", || Ok(bytes(direction) > before + 200_000)).unwrap();
    };
    // First what this portal sends, then what the other one does.
    filled(Direction::Up);
    filled(Direction::Down);
    client.kill().unwrap();
    client.wait().unwrap();
    let quiet = || {
        let (before, begun) = (bytes(Direction::Down), Instant::now());
        std::thread::sleep(Duration::from_millis(500));
        // Less than a twentieth of the link.
        Ok(bytes(Direction::Down) - before < begun.elapsed().as_millis() as u64 * 60)
    };
    until(Duration::from_secs(10), "quiet", quiet).unwrap();
    pair.stop().unwrap();
}
