//! Compressed inner headers: what they spare, and that nothing ever changes a packet. The emulated hosts look at
//! every bit of what arrives.
//!
//! ```text
//!   hosts ── local portal ══ 1 … n emulated links ══ remote portal ── hosts      (virtual time)
//! ```

use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::Setup;
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{Step, ms, play, s};
use netcombiner::sim::traffic::{FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};

use crate::{BULK, CUBIC};

/// A full packet of 1,400 bytes costs 28 of outer headers, 20 of ours and 16 of footer around it; and 39 less
/// when 52 bytes of TCP and IPv4 headers are 13.
#[test]
fn a_full_packet_pays_13_bytes_for_its_headers_and_52_without() {
    let in_full = 1_400.0 / 1_464.0;
    let compressed = 1_400.0 / 1_425.0;
    for (compression, efficiency) in [(false, in_full), (true, compressed)] {
        let mut setup = Setup::new(1, [Conditions::new(20.0, 20.0), Conditions::new(10.0, 40.0)]);
        setup.hosts[0].compression = compression;
        play(
            setup,
            &[
                Start,
                Offer(Local, BULK),
                Run(s(4)),
                Mark,
                Run(s(10)),
                Check(Efficiency(Local), AtLeast(efficiency - 0.004)),
                // What is on the way at the marks counts on one side only.
                Check(Efficiency(Local), AtMost(efficiency + 0.004)),
            ],
        );
    }
}

fn rough(mbit: f64, delay: f64) -> Conditions {
    Conditions::new(mbit, delay).loss(Loss::Random(0.02)).reordering(30.0).duplicate(0.02)
}

/// Conversations of each kind, in both directions, with IPv4 and IPv6.
fn all_kinds() -> Vec<Step> {
    let kinds = [CUBIC, CUBIC, Load::Rate { per_second: 300.0, size: FULL }, Load::Voice, Load::Ping(ms(20))];
    kinds.into_iter().flat_map(|load| [Offer(Local, load), Offer(Remote, load)]).collect()
}

#[test]
fn loss_reordering_and_duplicates_change_no_packet_and_cost_no_other() {
    let mut steps = vec![Start];
    steps.extend(all_kinds());
    steps.push(Run(s(30)));
    for end in [Local, Remote] {
        steps.push(Check(Compressed(end), AtLeast(20_000.0)));
        steps.push(Check(DiscardsFor(end, "unknown_context"), Exactly(0.0)));
        steps.push(Check(DiscardsFor(end, "malformed"), Exactly(0.0)));
    }
    play(Setup::new(2, [rough(20.0, 15.0), rough(10.0, 80.0), rough(5.0, 5.0)]), &steps);
}

#[test]
fn contexts_end_with_the_session_of_either_portal() {
    let mut steps = vec![Start];
    steps.extend(all_kinds());
    for end in [Local, Remote, Local] {
        steps.extend([
            Run(s(4)),
            Restart(end),
            Run(s(6)),
            Check(Compressed(end), AtLeast(1_000.0)),
            Check(DiscardsFor(end.other(), "unknown_context"), Exactly(0.0)),
        ]);
    }
    play(Setup::new(3, [rough(20.0, 15.0), rough(10.0, 40.0)]), &steps);
}

#[test]
fn contexts_outlive_links_and_sleep() {
    let mut steps = vec![Start];
    steps.extend(all_kinds());
    for path in [0, 1] {
        steps.extend([Run(s(3)), Cut(path), Run(s(3)), Rebind(path), Mend(path)]);
    }
    steps.extend([Run(s(3)), Suspend(Remote, s(5)), Run(s(5))]);
    for end in [Local, Remote] {
        steps.push(Check(DiscardsFor(end, "unknown_context"), Exactly(0.0)));
    }
    let mut setup = Setup::new(4, [rough(20.0, 15.0), rough(10.0, 40.0)]);
    setup.hosts.iter_mut().for_each(|host| host.keep_alive = Some(s(1)));
    play(setup, &steps);
}

#[test]
fn a_portal_that_does_not_compress_understands_one_that_does() {
    let mut setup = Setup::new(5, [Conditions::new(20.0, 20.0)]);
    setup.hosts[1].compression = false;
    let mut steps = vec![Start];
    steps.extend(all_kinds());
    steps.extend([
        Run(s(5)),
        Check(Compressed(Local), AtLeast(2_000.0)),
        Check(Compressed(Remote), Exactly(0.0)),
        Check(UnexplainedDiscards, Exactly(0.0)),
    ]);
    play(setup, &steps);
}
