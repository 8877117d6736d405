//! A sender that is told what arrived.

use super::*;
use crate::core::packet::Packet;
use crate::core::wire::{ACK_MAX_WORDS, Ack, Order};

const SIZE: usize = 1_000;

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn sender() -> Sender {
    Sender::new(at(0), Algorithm::NewReno, SIZE as u64)
}

fn send(sender: &mut Sender, now: Instant, count: usize) {
    for _ in 0..count {
        let mut packet = Packet::of(SIZE, &[]);
        packet.departure.order = Order { bucket: 1, position: 0 };
        sender.on_sent(now, SIZE, Some(packet));
    }
}

fn ack(sender: &mut Sender, now: Instant, largest: u32, missing: &[u64]) -> Outcome {
    let mut ack = Ack { largest, delay: 0, ce: 0, words: 1, nack: [0; ACK_MAX_WORDS] };
    missing.iter().for_each(|&number| ack.set_missing(u64::from(largest) - number));
    // What was never sent is missing too.
    (u64::from(largest) + 1..=32).for_each(|below| ack.set_missing(below));
    sender.on_ack(now, &ack, now.micros24())
}

#[test]
fn an_ack_frees_the_window_and_measures() {
    let mut s = sender();
    send(&mut s, at(0), 4);
    assert_eq!((s.in_flight(), s.has_ordered_in_flight()), (4_000, true));
    assert_eq!(ack(&mut s, at(40), 3, &[]), Outcome { acked: 4, lost: 0 });
    assert_eq!((s.in_flight(), s.has_ordered_in_flight()), (0, false));
    assert_eq!(s.rtt().smoothed(), Duration::from_millis(40));
    assert_eq!(s.delivery_rate(), Rate::of(4_000, Duration::from_millis(40)));
    assert_eq!(s.next_timeout(), None, "nothing in flight, nothing to wait for");
}

#[test]
fn three_later_ones_make_a_loss_and_two_a_timer() {
    let mut s = sender();
    send(&mut s, at(0), 5);
    assert_eq!(ack(&mut s, at(40), 2, &[0]).lost, 0);
    assert!(s.next_timeout().is_some_and(|due| due > at(40) && due <= at(51)));
    assert_eq!(ack(&mut s, at(41), 3, &[0]).lost, 1);
}

#[test]
fn the_time_threshold_finds_a_loss_at_the_tail() {
    let mut s = sender();
    send(&mut s, at(0), 2);
    ack(&mut s, at(40), 1, &[0]);
    let due = s.next_timeout().expect("a loss timer");
    s.on_timeout(due);
    assert_eq!((s.totals().lost, s.in_flight()), (1, 0));
}

#[test]
fn a_late_arrival_undoes_the_cut_and_widens_the_window() {
    let mut s = sender();
    send(&mut s, at(0), 8);
    let before = s.controller().window();
    assert_eq!(ack(&mut s, at(40), 4, &[0]).lost, 1);
    assert!(s.controller().window() < before);
    ack(&mut s, at(44), 5, &[]);
    assert_eq!(s.totals().spurious, 1);
    assert!(s.controller().window() >= before);
    send(&mut s, at(50), 8);
    assert_eq!(ack(&mut s, at(90), 13, &[8]).lost, 0, "three later ones prove nothing any more");
}

#[test]
fn silence_asks_for_probes_with_back_off() {
    let mut s = sender();
    send(&mut s, at(0), 1);
    ack(&mut s, at(40), 0, &[]);
    send(&mut s, at(100), 1);
    let first = s.next_timeout().expect("a probe timer");
    assert!(!s.on_timeout(first - Duration::from_millis(1)));
    assert!(s.on_timeout(first));
    let second = s.next_timeout().expect("a second one");
    assert_eq!(second.since(at(100)), first.since(at(100)) * 2);
    assert_eq!(s.pto_count(), 1);
}

#[test]
fn a_silence_of_hours_and_a_sleep_ask_for_few_timeouts() {
    for step in [Duration::ZERO, Duration::from_secs(600)] {
        let mut s = sender();
        send(&mut s, at(0), 1);
        ack(&mut s, at(40), 0, &[]);
        send(&mut s, at(100), 1);
        let (mut now, mut calls) = (at(100), 0);
        while now < at(3_600_000) {
            now = s.next_timeout().expect("a probe timer").max(now) + step;
            assert!(s.on_timeout(now));
            calls += 1;
        }
        assert!(calls < 60, "{calls}");
    }
}

#[test]
fn the_sleep_of_the_peer_is_no_round_trip_time() {
    let mut s = sender();
    send(&mut s, at(0), 1);
    ack(&mut s, at(40), 0, &[]);
    send(&mut s, at(100), 1);
    assert_eq!(ack(&mut s, at(600_100), 1, &[]).acked, 1);
    assert_eq!(
        (s.rtt().smoothed(), s.rtt().latest()),
        (Duration::from_millis(40), Duration::from_millis(40))
    );
}

#[test]
fn an_ack_of_what_was_never_sent_is_ignored() {
    let mut s = sender();
    send(&mut s, at(0), 1);
    assert_eq!(ack(&mut s, at(40), 7, &[]), Outcome::default());
    assert_eq!(s.in_flight(), 1_000);
}

#[test]
fn a_repeated_ack_is_no_news() {
    let mut s = sender();
    send(&mut s, at(0), 4);
    ack(&mut s, at(40), 3, &[2]);
    assert_eq!(ack(&mut s, at(45), 3, &[2]).acked, 0);
    assert_eq!(s.rtt().smoothed(), Duration::from_millis(40));
}

#[test]
fn a_restart_keeps_the_numbers_and_nothing_else() {
    let mut s = sender();
    send(&mut s, at(0), 4);
    s.restart(at(10), Algorithm::NewReno);
    assert_eq!((s.in_flight(), s.next_sequence(), s.totals().lost), (0, 4, 4));
    assert_eq!(s.lost.len(), 4, "the packets go over another link");
    send(&mut s, at(10), 1);
    assert_eq!(ack(&mut s, at(50), 4, &[]).acked, 1);
}

#[test]
fn a_silent_link_hands_over_its_packets_once_and_may_still_deliver_them() {
    let mut s = sender();
    send(&mut s, at(0), 4);
    s.hand_over();
    s.hand_over();
    assert_eq!((s.lost.len(), s.in_flight(), s.has_ordered_in_flight()), (4, 4_000, false));
    assert_eq!(ack(&mut s, at(400), 3, &[]).acked, 4);
    assert_eq!((s.done.len(), s.in_flight()), (0, 0));
}

#[test]
fn what_was_lost_before_the_link_came_up_does_not_slow_it() {
    let mut s = sender();
    for ms in [0, 1_000, 2_000, 4_000, 8_000] {
        send(&mut s, at(ms), 1);
    }
    s.renew(at(8_040), Algorithm::NewReno);
    let fresh = s.controller().window();
    assert_eq!(ack(&mut s, at(8_040), 4, &[0, 1, 2, 3]), Outcome { acked: 1, lost: 4 });
    assert!(s.controller().window() >= fresh, "{:?}", s.controller().window());
}

#[test]
fn an_outage_is_no_measure_of_the_rate() {
    let mut s = sender();
    send(&mut s, at(0), 4);
    s.renew(at(5_000), Algorithm::Bbr);
    ack(&mut s, at(5_000), 3, &[]);
    assert_eq!((s.delivery_rate(), s.controller().bandwidth()), (None, None));
    send(&mut s, at(5_000), 4);
    ack(&mut s, at(5_040), 7, &[]);
    assert_eq!(s.controller().bandwidth(), Rate::of(4_000, Duration::from_millis(40)));
}

#[test]
fn memory_is_bounded_by_what_is_undecided() {
    let mut s = sender();
    for round in 0..1_000u64 {
        send(&mut s, at(round * 10), 10);
        let top = (round * 10 + 9) as u32;
        ack(&mut s, at(round * 10 + 5), top, &[u64::from(top) - 5]);
    }
    assert!(s.sent.len() < 400, "{}", s.sent.len());
}
