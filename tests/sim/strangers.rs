//! Those who do not know the key: whatever they send is counted, answered by nobody and changes nothing.

use std::time::Duration;

use netcombiner::core::session::protection::Manner;
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::adversary::{Attack, Forgery};
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::{self, *};
use netcombiner::sim::scenario::{ms, play, s};
use netcombiner::sim::wire::Conditions;
use netcombiner::sim::{End, Setup};

use crate::BULK;

fn two_links(seed: u64) -> Setup {
    Setup::new(seed, [Conditions::new(5.0, 20.0), Conditions::new(3.0, 30.0)])
}

fn attack(forgery: Forgery, to: End, every: Duration, spoofed: bool) -> Step {
    Step::Attack(Attack { forgery, to, path: 0, every, spoofed })
}

/// Load both ways, then the attacks; in the end all is as it was.
fn under(seed: u64, manner: Manner, attacks: impl Iterator<Item = Step>) {
    let mut steps = vec![Tap, Start, Offer(Local, BULK), Offer(Remote, BULK), Run(s(3)), Mark];
    steps.extend(attacks);
    steps.extend([
        Run(s(5)),
        Check(Injected, AtLeast(500.0)),
        Check(AnsweredStrangers, Exactly(0.0)),
        // The copy of the first message by the other link is stale when the faster one was answered.
        Check(UnexplainedDiscards, AtLeast(0.0)),
        Check(UnexplainedDiscards, AtMost(2.0)),
        Check(ShareOfSum(Local), AtLeast(0.8)),
        Check(ShareOfSum(Remote), AtLeast(0.8)),
        Check(Links(Remote), Exactly(2.0)),
        Check(Handshakes(Local), Exactly(1.0)),
        Check(Handshakes(Remote), Exactly(1.0)),
    ]);
    let mut setup = Setup { coalesce: Duration::ZERO, ..two_links(seed) };
    setup.hosts.iter_mut().for_each(|host| host.manner = manner);
    play(setup, &steps);
}

#[test]
fn every_kind_of_forgery_is_counted_and_does_nothing() {
    for (seed, forgery) in (1..).zip(Forgery::ALL) {
        for manner in [Manner::Aead, Manner::Mac] {
            under(seed, manner, End::BOTH.into_iter().map(|to| attack(forgery, to, ms(5), false)));
        }
    }
}

#[test]
fn the_right_address_makes_no_forgery_better() {
    under(20, Manner::Aead, Forgery::ALL.into_iter().map(|forgery| attack(forgery, Remote, ms(10), true)));
    under(21, Manner::Aead, Forgery::ALL.into_iter().map(|forgery| attack(forgery, Local, ms(10), true)));
}

#[test]
fn a_flood_of_all_of_them_does_not_slow_the_bond() {
    let every = Duration::from_micros(500);
    under(30, Manner::Aead, Forgery::ALL.into_iter().map(|forgery| attack(forgery, Remote, every, false)));
}

#[test]
fn a_portal_without_session_is_silent_to_strangers() {
    let mut steps: Vec<Step> = vec![Tap, Cut(0), Cut(1)];
    let strange = [Forgery::Garbage, Forgery::ForeignHandshake];
    steps.extend(strange.map(|forgery| attack(forgery, Remote, ms(1), false)));
    steps.extend([
        Run(s(3)),
        Check(AnsweredStrangers, Exactly(0.0)),
        Check(UnexplainedDiscards, Exactly(0.0)),
        Check(Links(Remote), Exactly(0.0)),
        Mend(0),
        Mend(1),
        Within(s(3), LinksUp(Remote), Exactly(2.0)),
    ]);
    play(two_links(40), &steps);
}

#[test]
fn recorded_handshakes_do_not_disturb_a_restart() {
    for end in End::BOTH {
        let mut steps = vec![Tap, Start, Offer(Local, BULK), Offer(Remote, BULK), Run(s(1))];
        steps.extend(End::BOTH.map(|to| attack(Forgery::ReplayedHandshake, to, ms(20), false)));
        steps.extend([
            Run(s(2)),
            Restart(end),
            Within(s(5), LinksUp(end), Exactly(2.0)),
            Within(s(5), LinksUp(end.other()), Exactly(2.0)),
            Run(s(1)),
            Mark,
            Run(s(3)),
            Check(ShareOfSum(Remote), AtLeast(0.8)),
        ]);
        play(two_links(50), &steps);
    }
}
