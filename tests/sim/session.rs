//! Sessions: beginning, renewal, restarts, sleep, clocks, and portals that do not fit together.

use std::collections::BTreeSet;

use netcombiner::core::outbound::congestion::Algorithm;
use netcombiner::core::session::protection::Manner;
use netcombiner::sim::End::{Local, Remote};
use netcombiner::sim::scenario::Bound::{AtLeast, AtMost, Exactly};
use netcombiner::sim::scenario::Measure::*;
use netcombiner::sim::scenario::Step::*;
use netcombiner::sim::scenario::{ms, play, s};
use netcombiner::sim::traffic::{FULL, Load};
use netcombiner::sim::wire::{Conditions, Loss};
use netcombiner::sim::{End, Setup, World};

use crate::BULK;

const TRICKLE: Load = Load::Rate { per_second: 50.0, size: 500 };

fn two_links(seed: u64) -> Setup {
    Setup::new(seed, [Conditions::new(10.0, 20.0), Conditions::new(5.0, 30.0)])
}

#[test]
fn both_may_begin_at_once() {
    let setup = Setup { listens: false, ..two_links(1) };
    play(
        setup,
        &[
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(5)),
            Check(Links(Local), Exactly(2.0)),
            Check(Links(Remote), Exactly(2.0)),
            Check(ShareOfSum(Local), AtLeast(0.8)),
            Check(ShareOfSum(Remote), AtLeast(0.8)),
        ],
    );
}

#[test]
fn a_session_begins_over_lossy_links() {
    for seed in 0..20 {
        let lossy = Conditions::new(5.0, 50.0).loss(Loss::Random(0.3));
        let steps = [Within(s(8), LinksUp(Local), AtLeast(1.0)), Within(s(8), LinksUp(Remote), AtLeast(1.0))];
        play(Setup::new(seed, [lossy.clone(), lossy]), &steps);
    }
}

#[test]
fn keys_are_renewed_under_load_without_loss() {
    let manners = [Manner::Aead, Manner::Aead, Manner::Mac];
    for ((listens, from), manner) in [(true, Local), (true, Remote), (false, Local)].into_iter().zip(manners)
    {
        let mut setup = Setup { listens, ..two_links(2) };
        setup.hosts.iter_mut().for_each(|host| host.manner = manner);
        play(
            setup,
            &[
                Start,
                Offer(from, Load::Rate { per_second: 200.0, size: 1_000 }),
                Run(s(400)),
                Hush,
                Run(s(1)),
                Check(Handshakes(Local), AtLeast(3.0)),
                Check(Handshakes(Remote), AtLeast(3.0)),
                Check(Handshakes(Local), AtMost(6.0)),
                Check(Lost(0), Exactly(0.0)),
                Check(DiscardsFor(Local, "unknown_key"), Exactly(0.0)),
                Check(DiscardsFor(Remote, "unknown_key"), Exactly(0.0)),
            ],
        );
    }
}

#[test]
fn a_restarted_portal_is_known_again_within_three_seconds() {
    for end in End::BOTH {
        play(
            two_links(3),
            &[
                Start,
                Offer(Local, TRICKLE),
                Offer(Remote, TRICKLE),
                Offer(Remote, BULK),
                Run(s(3)),
                Restart(end),
                Within(s(3), LinksUp(end), Exactly(2.0)),
                Within(s(3), LinksUp(end.other()), Exactly(2.0)),
                Check(Links(Remote), Exactly(2.0)),
                Mark,
                Run(s(2)),
                Check(ShareOfSum(Remote), AtLeast(0.7)),
                Check(Lost(0), AtMost(0.2)),
            ],
        );
    }
}

#[test]
fn a_restart_begins_to_count_anew() {
    for end in End::BOTH {
        let world = play(
            two_links(4),
            &[Start, Offer(Local, BULK), Offer(Remote, BULK), Run(s(3)), Restart(end), Run(s(3)), Hush],
        );
        for end in End::BOTH {
            let sequence = world.snapshot(end).data_sequence;
            assert!((1_000..6_000).contains(&sequence), "{end:?} goes on at {sequence}");
        }
    }
}

#[test]
fn an_idle_portal_is_found_again_when_the_other_side_restarted() {
    for end in End::BOTH {
        play(
            two_links(5),
            &[
                Start,
                Run(s(60)),
                Restart(end),
                Run(s(60)),
                Offer(end.other(), TRICKLE),
                Within(s(3), LinksUp(end.other()), Exactly(2.0)),
                Mark,
                Run(s(3)),
                // Those that left before the new keys.
                Check(Lost(0), AtMost(0.05)),
            ],
        );
    }
}

#[test]
fn a_clock_that_jumps_back_with_a_restart_keeps_nobody_out() {
    play(
        two_links(6),
        &[
            Start,
            Offer(Remote, TRICKLE),
            Run(s(2)),
            ShiftClock(Local, -1_000_000),
            Restart(Local),
            Within(s(4), LinksUp(Local), Exactly(2.0)),
            Within(s(1), LinksUp(Remote), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_clock_that_jumps_back_with_a_restart_keeps_nobody_out_of_an_idle_portal() {
    play(
        two_links(7),
        &[
            Start,
            Run(s(30)),
            ShiftClock(Local, -1_000_000),
            Restart(Local),
            Within(s(6), LinksUp(Local), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_machine_that_sleeps_finds_its_links_again() {
    for end in End::BOTH {
        play(
            two_links(8),
            &[
                Start,
                Offer(Local, BULK),
                Offer(Remote, BULK),
                Run(s(2)),
                Suspend(end, s(600)),
                Within(s(8), LinksUp(end), Exactly(2.0)),
                Within(s(8), LinksUp(end.other()), Exactly(2.0)),
                Run(s(2)),
                Mark,
                Run(s(3)),
                Check(ShareOfSum(Local), AtLeast(0.6)),
                Check(ShareOfSum(Remote), AtLeast(0.6)),
            ],
        );
    }
}

#[test]
fn another_key_gives_no_session_and_a_reason() {
    let mut setup = two_links(9);
    setup.hosts[1].psk = [8; 32];
    play(
        setup,
        &[
            Run(s(10)),
            Check(Session(Local), Exactly(0.0)),
            Check(Session(Remote), Exactly(0.0)),
            Trouble(Local, "its Key differs"),
            Trouble(Remote, "does not fit the Key"),
            Check(DiscardsFor(Remote, "forged"), AtLeast(10.0)),
            Check(Links(Remote), Exactly(0.0)),
        ],
    );
}

#[test]
fn another_protection_gives_no_session_and_a_reason() {
    let differences = [
        (Manner::Aead, Manner::None, "another Protection than none"),
        (Manner::Aead, Manner::Mac, "another Protection than mac"),
        (Manner::Mac, Manner::Aead, "another Protection than aead"),
    ];
    for (local, remote, told) in differences {
        let mut setup = two_links(10);
        (setup.hosts[0].manner, setup.hosts[1].manner) = (local, remote);
        play(
            setup,
            &[
                Run(s(10)),
                Check(Session(Local), Exactly(0.0)),
                Check(Session(Remote), Exactly(0.0)),
                Trouble(Remote, told),
                Check(Links(Remote), Exactly(0.0)),
            ],
        );
    }
}

#[test]
fn every_protection_carries_the_sum() {
    let ciphers = [(Manner::Aead, true), (Manner::Aead, false), (Manner::Mac, false), (Manner::None, false)];
    for (manner, hardware_aes) in ciphers {
        let mut setup = two_links(12);
        setup.hosts.iter_mut().for_each(|host| host.manner = manner);
        // One CPU without it is enough for the other cipher.
        setup.hosts[1].hardware_aes = hardware_aes;
        let steps = [
            Start,
            Offer(Local, BULK),
            Offer(Remote, BULK),
            Run(s(4)),
            Check(ShareOfSum(Local), AtLeast(0.8)),
            Check(ShareOfSum(Remote), AtLeast(0.8)),
        ];
        let world = play(setup, &steps);
        let cipher = match (manner, hardware_aes) {
            (Manner::Aead, true) => Some("AES-128-GCM"),
            (Manner::Aead, false) => Some("ChaCha20-Poly1305"),
            _ => None,
        };
        for end in End::BOTH {
            assert_eq!(world.snapshot(end).cipher.as_deref(), cipher);
        }
    }
}

#[test]
fn an_hour_without_traffic_is_quiet() {
    let mut setup = two_links(11);
    setup.hosts.iter_mut().for_each(|host| host.keep_alive = Some(s(25)));
    play(
        setup,
        &[
            Start,
            Run(s(5)),
            Mark,
            Run(s(3_600)),
            // Every 25 s and link a probe, its answer and acknowledgements.
            Check(Datagrams, AtMost(2.0 * 144.0 * 4.0)),
            Check(Datagrams, AtLeast(2.0 * 140.0)),
            Check(Timeouts, AtMost(2.0 * 144.0 * 6.0)),
            Check(LinksUp(Local), Exactly(2.0)),
            Check(LinksUp(Remote), Exactly(2.0)),
            Check(Handshakes(Local), Exactly(1.0)),
        ],
    );
}

#[test]
fn an_hour_without_keepalives_is_silent() {
    play(
        two_links(12),
        &[
            Start,
            Run(s(5)),
            Mark,
            Run(s(3_600)),
            Check(Datagrams, AtMost(0.0)),
            Check(Timeouts, AtMost(10.0)),
        ],
    );
}

#[test]
fn an_hour_with_a_dead_link_is_nearly_quiet() {
    play(
        two_links(13),
        &[
            Start,
            Offer(Local, Load::Ping(s(60))),
            Cut(0),
            Run(s(120)),
            Mark,
            Run(s(3_600)),
            Check(Datagrams, AtMost(4_000.0)),
            Check(Timeouts, AtMost(8_000.0)),
            Check(LinkUp(Local, 1), Exactly(1.0)),
        ],
    );
}

#[test]
fn without_congestion_control_the_bottlenecks_still_fill() {
    let mut setup = two_links(14);
    setup.hosts.iter_mut().for_each(|host| host.algorithm = Algorithm::Unlimited);
    play(
        setup,
        &[
            Start,
            Offer(Local, Load::Rate { per_second: 1_500.0, size: FULL }),
            Run(s(1)),
            Mark,
            Run(s(5)),
            Check(Goodput(Local), AtLeast(8.0)),
        ],
    );
}

#[test]
fn a_second_start_of_the_local_portal_from_other_ports_leaves_no_links_behind() {
    play(
        two_links(15),
        &[
            Start,
            Offer(Local, TRICKLE),
            Run(s(2)),
            Restart(Local),
            Rebind(0),
            Rebind(1),
            Within(s(4), LinksUp(Local), Exactly(2.0)),
            Run(ms(500)),
            Check(Links(Remote), Exactly(2.0)),
            Check(LinksUp(Remote), Exactly(2.0)),
        ],
    );
}

#[test]
fn a_portal_that_listens_anew_gets_each_link_by_its_own_path() {
    for seed in 0..100 {
        let delay = [0.1, 1.0, 10.0][seed as usize % 3];
        let paths = [0.1, 2.0, 0.5].map(|jitter| Conditions::new(20.0, delay).jitter(jitter));
        let mut world = World::new(Setup::new(seed, paths));
        let all_up = |end: End| {
            move |world: &World| {
                let links = world.snapshot(end).links;
                let remotes: BTreeSet<_> = links.iter().filter_map(|link| link.remote).collect();
                let up = links.iter().filter(|link| link.state == "up").count();
                (links.len(), up) == (3, 3) && (end == Local || remotes.len() == 3)
            }
        };
        let both = |world: &World| all_up(Local)(world) && all_up(Remote)(world);
        world.run_until(s(5), both).expect("all links are up");
        world.offer(Local, TRICKLE);
        for _ in 0..2 {
            world.relisten();
            world.run(ms(5 + seed % 50));
        }
        world.run(s(2));
        let links = world.snapshot(Remote).links;
        let seen: Vec<_> = links.iter().map(|link| (link.number, &link.state, link.remote)).collect();
        assert!(both(&world), "seed {seed}: {seen:?}");
    }
}
