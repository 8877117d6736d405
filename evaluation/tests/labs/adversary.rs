//! Ten thousand bad datagrams a second at the remote portal's port, from somebody who sees every good one.
//!
//! ```text
//! client -- local == wan0: 20 Mbit/s, 5 ms == internet [recorder] -- remote
//!                 == wan1: 20 Mbit/s, 5 ms ==                     -- server [flood]
//! ```

use std::sync::Arc;
use std::time::Duration;

use evaluation::adversary::{Flood, Kind, Outcome, Recorder, dropped_at_remote, stranger};
use evaluation::lab::{Family, Lab};
use evaluation::link::LinkSpec;
use evaluation::may_build_labs;
use evaluation::portal::{Pair, PairOptions, Portal};
use evaluation::traffic::Traffic;
use evaluation::wait::until;
use serde_json::Value;

/// Datagrams in a second.
const RATE: u64 = 10_000;
/// How much the daemon's memory may grow meanwhile, in kB: what the allocator keeps.
const GROWTH_KB: u64 = 3_000;

/// All discards of the portal, by reason.
fn discards(shown: &Value) -> Vec<(String, u64)> {
    let discards = shown["discards"].as_object().into_iter().flatten();
    discards.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0))).collect()
}

/// Where the portal sends to.
fn remotes(portal: &Portal) -> Vec<String> {
    let shown = portal.show().unwrap();
    shown["links"].as_array().unwrap().iter().map(|link| link["remote"].to_string()).collect()
}

/// Floods the remote portal for three seconds while there is traffic; gives what was sent and what was
/// counted.
fn flood(kinds: &[Kind]) -> (Outcome, Vec<(String, u64)>) {
    let _alone = crate::alone();
    let links = vec![LinkSpec::mbit(20.0).delay_ms(5.0); 2];
    let lab = Lab::new(&links).unwrap();
    let mut pair = Pair::start_connected(&lab, &PairOptions::default()).unwrap();
    let recorder = Arc::new(Recorder::start(&lab).unwrap());
    let traffic = Traffic::start(&lab, Family::V4).unwrap();
    traffic.run_until(Duration::from_secs(2));
    until(Duration::from_secs(5), "recorded datagrams", || Ok(recorder.ready() > 1_000)).unwrap();

    let portal = pair.remote().unwrap();
    let (shown, memory, addresses) = (portal.show().unwrap(), portal.rss_kb().unwrap(), remotes(portal));
    let sum = |shown: &Value| discards(shown).iter().map(|(_, count)| count).sum::<u64>();
    let (before, dropped) = (sum(&shown), dropped_at_remote(&lab).unwrap());
    let flood = Flood::start(&lab, recorder, kinds, RATE, 7).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let outcome = flood.stop();
    std::thread::sleep(Duration::from_millis(300));

    let shown = portal.show().unwrap();
    let counted = sum(&shown) - before;
    let dropped = dropped_at_remote(&lab).unwrap() - dropped;
    let sent = outcome.total();
    println!(
        "{kinds:?}: {sent} sent in {:.1} s, {counted} counted, {dropped} dropped by the kernel: {:?}",
        outcome.seconds,
        discards(&shown)
    );
    assert!(sent > RATE, "the flood was none: {outcome:?}");
    // Of what the kernel dropped, some may have been good datagrams; and the portals' own repairs may come
    // in vain.
    let repairs = shown["discards"]["duplicate"].as_u64().unwrap_or(0);
    assert!(
        counted <= sent + repairs && counted + dropped >= sent,
        "{sent} sent, {counted} counted: {shown}"
    );
    assert_eq!(outcome.answers, 0, "strangers are answered");
    assert_eq!(remotes(portal), addresses, "an endpoint moved");
    assert!(!shown.to_string().contains(&stranger(&lab).to_string()), "a stranger became a peer: {shown}");
    let grown = portal.rss_kb().unwrap().saturating_sub(memory);
    assert!(grown < GROWTH_KB, "memory grew by {grown} kB");
    let log = portal.log();
    assert!(log.lines().count() < 60, "a line each:\n{log}");
    traffic.survived(Duration::from_millis(1_500)).unwrap();
    let discards = discards(&shown);
    pair.stop().unwrap();
    (outcome, discards)
}

/// Whether all that was counted has one of these reasons.
fn only(discards: &[(String, u64)], reasons: &[&str]) {
    // The portals' own repairs may come in vain.
    let expected = |reason: &str| reason == "duplicate" || reasons.contains(&reason);
    assert!(discards.iter().all(|(reason, _)| expected(reason)), "{discards:?}");
}

#[test]
fn a_mixed_flood_is_counted_and_does_no_harm() {
    if may_build_labs("a mixed flood") {
        flood(&Kind::ALL);
    }
}

#[test]
fn forged_datagrams_do_no_harm() {
    if may_build_labs("forged datagrams") {
        let (_, discards) = flood(&[Kind::Forged]);
        only(&discards, &["forged", "unknown_key", "stale_handshake"]);
    }
}

#[test]
fn replayed_datagrams_do_no_harm() {
    if may_build_labs("replayed datagrams") {
        let (_, discards) = flood(&[Kind::Replayed]);
        only(&discards, &["replayed", "too_old", "unknown_key", "stale_handshake"]);
    }
}

#[test]
fn truncated_datagrams_do_no_harm() {
    if may_build_labs("truncated datagrams") {
        let (_, discards) = flood(&[Kind::Truncated]);
        only(&discards, &["malformed", "forged", "unknown_key", "stale_handshake"]);
    }
}

#[test]
fn oversized_datagrams_do_no_harm() {
    if may_build_labs("oversized datagrams") {
        let (_, discards) = flood(&[Kind::Oversized]);
        only(&discards, &["oversized"]);
    }
}
