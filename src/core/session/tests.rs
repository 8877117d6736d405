use super::*;
use crate::core::session::protection::Sealed;
use crate::core::wire::{HEADER_LEN, Header, Kind, Order};

const PSK: [u8; 32] = [9; 32];

fn session(instance: u64) -> Session {
    Session::new(Instant::ZERO, &PSK, Manner::Aead, true, instance)
}

fn answer(to: &mut Session, seed: u8, alive: bool, message: &[u8]) -> Vec<u8> {
    match to.on_handshake(Instant::ZERO, [seed; 32], alive, message) {
        Ok(Handshaken::Answer(answer)) => answer,
        _ => panic!("a fresh first message is answered"),
    }
}

fn established(to: &mut Session, message: &[u8]) -> bool {
    match to.on_handshake(Instant::ZERO, [0; 32], true, message) {
        Ok(Handshaken::Established { new_peer }) => new_peer,
        _ => panic!("an answer to a pending exchange establishes"),
    }
}

/// A datagram from one session to the other, by their present keys.
fn crosses(from: &Session, to: &Session) -> Result<u8, Discard> {
    let keys = from.ring().sending.expect("the sender has keys");
    let header = Header {
        kind: Kind::Close,
        flags: 0,
        link: 0,
        epoch: keys.send_number,
        timestamp: 0,
        in_flight: 0,
        sequence: 0,
        data_sequence: 0,
        order: Order::default(),
    };
    let mut bytes = vec![0; HEADER_LEN + keys.seal.footer_len()];
    header.write(&mut bytes);
    keys.seal.seal(&mut bytes);
    let sealed = Sealed::parse(&mut bytes)?;
    let number = sealed.epoch();
    let ring = to.ring();
    let epoch = ring.receiving(number).ok_or(Discard::UnknownKey)?;
    epoch.open.open(sealed).map(|_| number)
}

fn join(a: &mut Session, b: &mut Session, wall: u64) -> (bool, bool) {
    let first = a.initiate(wall, [wall as u8; 32]);
    let second = answer(b, wall as u8 ^ 0x80, true, &first);
    let new_at_a = established(a, &second);
    let number = crosses(a, b).expect("the initiator may send at once");
    let new_at_b = b.confirm(Instant::ZERO, number).expect("the first datagram confirms");
    assert!(crosses(b, a).is_ok());
    (new_at_a, new_at_b)
}

#[test]
fn both_sides_agree_and_rekey_without_a_new_peer() {
    let (mut a, mut b) = (session(1), session(2));
    assert_eq!(join(&mut a, &mut b, 10), (true, true));
    assert_eq!(join(&mut a, &mut b, 20), (false, false));
    assert_eq!(join(&mut b, &mut a, 30), (false, false));
    assert_eq!(a.handshakes(), 3);
}

#[test]
fn checksums_are_left_to_a_peer_that_takes_them() {
    for manner in [Manner::Aead, Manner::Mac, Manner::None] {
        let [mut a, mut b] = [1, 2].map(|instance| Session::new(Instant::ZERO, &PSK, manner, true, instance));
        b.allow_unsummed(true);
        let first = a.initiate(10, [10; 32]);
        let second = answer(&mut b, 11, true, &first);
        assert!(established(&mut a, &second));
        let number = crosses(&a, &b).expect("it opens");
        b.confirm(Instant::ZERO, number).expect("the first datagram confirms");
        let leaves = [&a, &b].map(|session| session.ring().sending.expect("keys").takes_unsummed);
        assert_eq!(leaves, [true, false], "{manner:?}");
    }
}

#[test]
fn old_keys_open_for_two_exchanges_more() {
    let (mut a, mut b) = (session(1), session(2));
    join(&mut a, &mut b, 10);
    let old = b.ring().sending.expect("established").send_number;
    join(&mut a, &mut b, 20);
    join(&mut a, &mut b, 30);
    assert!(a.ring().receiving(old).is_some());
    join(&mut a, &mut b, 40);
    assert!(a.ring().receiving(old).is_none());
}

#[test]
fn nothing_on_the_way_is_lost_by_a_renewal_after_both_began_at_once() {
    let (mut a, mut b) = (session(1), session(2));
    let (from_a, from_b) = (a.initiate(10, [1; 32]), b.initiate(10, [2; 32]));
    let (to_a, to_b) = (answer(&mut b, 3, false, &from_a), answer(&mut a, 4, false, &from_b));
    established(&mut a, &to_a);
    established(&mut b, &to_b);
    for (from, to) in [(&a, &b), (&b, &a)] {
        assert!(crosses(from, to).is_ok());
    }
    let (of_a, of_b) = (crosses(&a, &b), crosses(&b, &a));
    b.confirm(Instant::ZERO, of_a.expect("known"));
    a.confirm(Instant::ZERO, of_b.expect("known"));
    let first = a.initiate(20, [5; 32]);
    let second = answer(&mut b, 6, true, &first);
    established(&mut a, &second);
    assert!(crosses(&b, &a).is_ok(), "what b sent before it hears of the new keys");
}

#[test]
fn a_restarted_peer_is_a_new_peer_on_either_side() {
    let (mut a, mut b) = (session(1), session(2));
    join(&mut a, &mut b, 10);
    let mut b = session(3);
    assert_eq!(join(&mut a, &mut b, 20), (true, true));
    let mut a = session(4);
    assert_eq!(join(&mut a, &mut b, 30), (true, true));
}

#[test]
fn a_wrong_key_is_forged_and_answers_nothing() {
    let mut a = session(1);
    let mut b = Session::new(Instant::ZERO, &[8; 32], Manner::Mac, true, 2);
    let first = a.initiate(10, [1; 32]);
    assert!(matches!(b.on_handshake(Instant::ZERO, [2; 32], false, &first), Err(Discard::Forged)));
    assert!(b.ring().unconfirmed.is_none());
}

#[test]
fn another_protection_is_named() {
    let mut a = session(1);
    let mut b = Session::new(Instant::ZERO, &PSK, Manner::None, true, 2);
    let first = a.initiate(10, [1; 32]);
    assert!(matches!(b.on_handshake(Instant::ZERO, [2; 32], false, &first), Err(Discard::OtherProtection)));
}

#[test]
fn a_replayed_first_message_is_stale_and_changes_no_keys() {
    let (mut a, mut b) = (session(1), session(2));
    let first = a.initiate(10, [1; 32]);
    let second = answer(&mut b, 2, true, &first);
    assert_eq!(answer(&mut b, 3, true, &first), second, "a copy on another link gets the same answer");
    established(&mut a, &second);
    let number = crosses(&a, &b).expect("established");
    b.confirm(Instant::ZERO, number);
    for alive in [true, false] {
        let replayed = b.on_handshake(Instant::ZERO, [4; 32], alive, &first);
        assert!(matches!(replayed, Err(Discard::StaleHandshake)), "alive: {alive}");
    }
    assert!(matches!(a.on_handshake(Instant::ZERO, [4; 32], true, &second), Err(Discard::StaleHandshake)));
    assert!(crosses(&a, &b).is_ok());
}

#[test]
fn a_peer_whose_clock_went_backwards_is_let_in_once_it_fell_silent() {
    let (mut a, mut b) = (session(1), session(2));
    join(&mut a, &mut b, 1_000);
    let mut a = session(3);
    let first = a.initiate(5, [1; 32]);
    assert!(matches!(b.on_handshake(Instant::ZERO, [2; 32], true, &first), Err(Discard::StaleHandshake)));
    let second = answer(&mut b, 2, false, &first);
    assert!(established(&mut a, &second));
}

#[test]
fn a_late_answer_to_an_earlier_try_completes() {
    let (mut a, mut b) = (session(1), session(2));
    let first = a.initiate(10, [1; 32]);
    let second = answer(&mut b, 2, true, &first);
    for wall in 11..14 {
        a.initiate(wall, [wall as u8; 32]);
    }
    assert!(established(&mut a, &second));
}

#[test]
fn hundreds_of_tries_never_reuse_a_number_in_use() {
    let (mut a, mut b) = (session(1), session(2));
    join(&mut a, &mut b, 10);
    for wall in 11..300 {
        a.initiate(wall, [wall as u8; 32]);
        assert!(crosses(&b, &a).is_ok());
    }
    assert_eq!(join(&mut a, &mut b, 1_000), (false, false));
}

#[test]
fn simultaneous_exchanges_leave_both_directions_open() {
    let (mut a, mut b) = (session(1), session(2));
    let (first_a, first_b) = (a.initiate(10, [1; 32]), b.initiate(10, [2; 32]));
    let (second_b, second_a) = (answer(&mut b, 3, true, &first_a), answer(&mut a, 4, true, &first_b));
    established(&mut a, &second_b);
    established(&mut b, &second_a);
    for _ in 0..3 {
        let number = crosses(&a, &b).expect("a to b");
        b.confirm(Instant::ZERO, number);
        let number = crosses(&b, &a).expect("b to a");
        a.confirm(Instant::ZERO, number);
    }
}

#[test]
fn no_flipped_bit_of_either_message_is_taken() {
    let (mut a, mut b) = (session(1), session(2));
    let first = a.initiate(10, [1; 32]);
    for bit in 0..first.len() * 8 {
        let mut bad = first.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(b.on_handshake(Instant::ZERO, [2; 32], false, &bad).is_err(), "bit {bit}");
    }
    let second = answer(&mut b, 2, false, &first);
    for bit in 0..second.len() * 8 {
        let mut bad = second.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(a.on_handshake(Instant::ZERO, [2; 32], false, &bad).is_err(), "bit {bit}");
    }
    assert!(established(&mut a, &second));
}

#[test]
fn without_footers_a_restarted_peer_takes_other_numbers_than_before() {
    let none = |instance| Session::new(Instant::ZERO, &PSK, Manner::None, true, instance);
    for instance in 16..32 {
        let (mut a, mut b) = (none(1), none(2));
        join(&mut a, &mut b, 10);
        let before = b.ring().sending.expect("established").send_number;
        let mut restarted = none(instance);
        let numbers = (20..22).filter_map(|wall| {
            let first = restarted.initiate(wall, [wall as u8; 32]);
            let reply = b.on_handshake(Instant::ZERO, [wall as u8; 32], true, &first);
            reply.is_ok().then(|| HandshakeHead::read(&first).expect("well-formed").epoch)
        });
        let numbers: Vec<u8> = numbers.collect();
        assert!(!numbers.is_empty() && !numbers.contains(&before), "{instance}: {numbers:?}");
    }
}
