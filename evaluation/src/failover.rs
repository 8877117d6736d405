//! What a connection notices when links fail, return, flap and change their rate: scripts as data, and what is
//! asked of them.

use serde::Serialize;

use crate::load::Load;
use crate::script::{Change, Event, Script, Trace};
use crate::wan::Direction;

/// Two links, changes of the second one, and what is asked. Times are in seconds since the load's start.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A short name.
    pub name: &'static str,
    /// What happens, in words.
    pub what: &'static str,
    /// The changes of the second link.
    changes: &'static [(f64, Move)],
    /// Changes that follow.
    repeated: Option<Repeated>,
    /// How long it runs.
    pub seconds: f64,
    /// What is asked.
    pub asked: &'static [Asked],
}

/// The links of every scenario, in the words of [`LinkSpec`](crate::link::LinkSpec).
pub const LINKS: [&str; 2] = ["rate=50,delay=20", "rate=50,delay=20"];

/// What both links bring at least, in Mbit/s, before anything happens.
const BOTH: f64 = 80.0;

/// What happens to the link, seen from the load.
#[derive(Clone, Copy, Debug)]
enum Move {
    CarrierLost,
    Hole,
    /// Only the load's data falls into it.
    HoleForData,
    /// Only its acknowledgements do.
    HoleForAcknowledgements,
    Back,
    Rate(f64),
}

/// Moves by turns, so many in all, from a time on and at equal distances.
#[derive(Clone, Copy, Debug)]
struct Repeated {
    from: f64,
    every: f64,
    moves: [Move; 2],
    times: u32,
}

/// What is asked of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// In the two seconds up to a time, the load has this rate in Mbit/s: or the rest means nothing.
    Rate(f64, f64),
    /// From a time on, the load never stands still for longer, in ms.
    Gap(f64, f64),
    /// From a time on, the load's sender has no retransmission timeout.
    NoTimeout(f64),
    /// From a time on, at most this share of a second's segments is lost: sent again, and no duplicate.
    Lost(f64, f64),
    /// From a time on, the call loses at most so many datagrams: of 50 in a second.
    CallLost(f64, u32),
    /// 90 % of an earlier rate are back soon.
    BackWithin {
        /// The time of the return.
        from: f64,
        /// The end of the two seconds that had the earlier rate.
        before: f64,
        /// How soon.
        seconds: f64,
    },
    /// No second is slower than 0.9 × what the stable link brought alone.
    NeverBelowStable {
        /// The first of these seconds.
        from: f64,
        /// The end of the last one.
        to: f64,
        /// The end of the two seconds in which the stable link was alone.
        stable: f64,
    },
    /// Between two times, the 95th percentile of pings is at most so many ms over the median of an idle one's.
    PingP95(f64, f64, f64),
}

/// The answer to what is asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at, with its unit.
    pub what: &'static str,
    /// What it was.
    pub value: f64,
    /// What it may be at most, or must be at least.
    pub bound: f64,
    /// Whether the bound is the least.
    pub least: bool,
}

/// The seconds over which a rate is taken that others compare with.
const BEFORE: f64 = 2.0;

/// Part of the rate that counts as all of it.
const NEARLY: f64 = 0.9;

/// Every scenario.
pub const ALL: [Scenario; 7] = [
    Scenario {
        name: "carrier",
        what: "one of two links loses its carrier",
        changes: &[(5.0, Move::CarrierLost)],
        repeated: None,
        seconds: 10.0,
        asked: &[
            Asked::Rate(5.0, BOTH),
            Asked::Gap(5.0, 150.0),
            Asked::Lost(5.0, 0.02),
            Asked::CallLost(5.0, 1),
        ],
    },
    Scenario {
        name: "black-hole",
        what: "one of two links becomes a silent black hole",
        changes: &[(5.0, Move::Hole)],
        repeated: None,
        seconds: 10.0,
        asked: &[Asked::Rate(5.0, BOTH), Asked::Gap(5.0, 300.0), Asked::NoTimeout(5.0)],
    },
    Scenario {
        name: "one-way-data",
        what: "one of two links becomes a black hole for data only",
        changes: &[(5.0, Move::HoleForData)],
        repeated: None,
        seconds: 10.0,
        asked: &[Asked::Rate(5.0, BOTH), Asked::Gap(5.0, 500.0)],
    },
    Scenario {
        name: "one-way-acks",
        what: "one of two links becomes a black hole for acknowledgements only",
        changes: &[(5.0, Move::HoleForAcknowledgements)],
        repeated: None,
        seconds: 10.0,
        asked: &[Asked::Rate(5.0, BOTH), Asked::Gap(5.0, 500.0)],
    },
    Scenario {
        name: "return",
        what: "one of two links is a black hole for five seconds",
        changes: &[(5.0, Move::Hole), (10.0, Move::Back)],
        repeated: None,
        seconds: 15.0,
        asked: &[Asked::Rate(5.0, BOTH), Asked::BackWithin { from: 10.0, before: 5.0, seconds: 1.5 }],
    },
    Scenario {
        name: "flaps",
        what: "one of two links is a black hole every other two seconds, twenty times",
        changes: &[(3.0, Move::Hole), (8.0, Move::Back)],
        repeated: Some(Repeated { from: 10.0, every: 2.0, moves: [Move::Hole, Move::Back], times: 40 }),
        seconds: 92.0,
        asked: &[Asked::Rate(8.0, BOTH / 2.0), Asked::NeverBelowStable { from: 10.0, to: 90.0, stable: 8.0 }],
    },
    Scenario {
        name: "rate-step",
        what: "one of two links goes from 50 to 10 Mbit/s and back",
        changes: &[(5.0, Move::Rate(10.0)), (10.0, Move::Rate(50.0))],
        repeated: None,
        seconds: 14.0,
        asked: &[Asked::Rate(5.0, BOTH), Asked::PingP95(5.0, 12.0, 60.0)],
    },
];

impl Scenario {
    /// The script for a load in this direction.
    pub fn script(&self, direction: Direction) -> Script {
        let mut moves = self.changes.to_vec();
        if let Some(Repeated { from, every, moves: turns, times }) = self.repeated {
            moves.extend((0..times).map(|n| (from + every * f64::from(n), turns[n as usize % turns.len()])));
        }
        // What comes back is the carrier where that was lost.
        let carrier = moves.iter().any(|(_, what)| matches!(what, Move::CarrierLost));
        let event = |(at, what): (f64, Move)| {
            let change = match what {
                Move::CarrierLost => Change::Carrier(false),
                Move::Hole => Change::Hole(true),
                Move::HoleForData => Change::HoleIn(direction, true),
                Move::HoleForAcknowledgements => Change::HoleIn(direction.opposite(), true),
                Move::Back if carrier => Change::Carrier(true),
                Move::Back => Change::Hole(false),
                Move::Rate(mbit) => Change::Rate(mbit),
            };
            Event { at, link: 1, change }
        };
        Script {
            load: Load::One,
            direction,
            events: moves.into_iter().map(event).collect(),
            seconds: self.seconds,
        }
    }
}

impl Asked {
    /// What the trace says to it. `idle_ms` is the round trip of an idle ping.
    pub fn answer(&self, trace: &Trace, seconds: f64, idle_ms: f64) -> Finding {
        let at_most = |what, value, bound| Finding { what, value, bound, least: false };
        match *self {
            Self::Rate(to, bound) => {
                let value = trace.mbit(to - BEFORE, to);
                Finding { what: "rate before, Mbit/s", value, bound, least: true }
            }
            Self::Gap(from, most) => {
                at_most("longest gap of TCP, ms", trace.longest_gap_ms(from, seconds), most)
            }
            Self::NoTimeout(from) => {
                let timeouts = trace.tcp_between(from, seconds).timeouts;
                at_most("retransmission timeouts of TCP", timeouts as f64, 0.0)
            }
            Self::Lost(from, most) => {
                let before = trace.tcp_between(0.0, from);
                let each_second = before.sent as f64 / from.max(1e-6);
                let after = trace.tcp_between(from, seconds);
                let lost = after.retransmitted.saturating_sub(after.duplicates_told) as f64;
                at_most("segments lost, % of one second's", lost / each_second.max(1.0) * 100.0, most * 100.0)
            }
            Self::CallLost(from, most) => {
                at_most("datagrams of the call lost", trace.call_lost(from) as f64, most.into())
            }
            Self::BackWithin { from, before, seconds: within } => {
                let rate = trace.mbit(before - BEFORE, before) * NEARLY;
                let after = trace.reached_after(from, rate).unwrap_or(f64::INFINITY);
                at_most("90 % of the rate are back after, s", after, within)
            }
            Self::NeverBelowStable { from, to, stable } => {
                let bound = trace.mbit(stable - BEFORE, stable) * NEARLY;
                let value = trace.slowest_second_mbit(from, to);
                Finding { what: "slowest second, Mbit/s", value, bound, least: true }
            }
            Self::PingP95(from, to, most) => {
                let p95 = trace.ping_percentile_ms(from, to, 95.0).unwrap_or(f64::INFINITY);
                at_most("p95 of ping over idle, ms", p95 - idle_ms, most)
            }
        }
    }
}

impl Finding {
    /// Whether the bound is kept.
    pub fn met(&self) -> bool {
        if self.least { self.value >= self.bound } else { self.value <= self.bound }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_in_order_and_speak_of_the_load() {
        for scenario in ALL {
            let script = scenario.script(Direction::Down);
            assert!(script.events.is_sorted_by(|a, b| a.at <= b.at), "{}", scenario.name);
            assert!(script.events.last().is_some_and(|event| event.at < script.seconds), "{}", scenario.name);
        }
        let named = |name| ALL.iter().find(|scenario| scenario.name == name).unwrap();
        let acks = named("one-way-acks").script(Direction::Down);
        assert_eq!(acks.events[0].change, Change::HoleIn(Direction::Up, true));
        let flaps = named("flaps").script(Direction::Up);
        let holes =
            flaps.events.iter().filter(|event| event.at >= 10.0 && event.change == Change::Hole(true));
        assert_eq!(holes.count(), 20);
        assert_eq!(
            flaps.events.last().map(|event| (event.at, event.change)),
            Some((88.0, Change::Hole(false)))
        );
    }

    #[test]
    fn bounds_are_kept_from_above_or_below() {
        let finding = |value, least| Finding { what: "", value, bound: 10.0, least }.met();
        assert!(finding(9.0, false) && !finding(11.0, false));
        assert!(finding(11.0, true) && !finding(9.0, true));
    }
}
