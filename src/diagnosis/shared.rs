//! Links that are one and the same line somewhere: together they carry much less than each alone in turn.

use super::{Cause, Finding, is_busy, mbit, rate};
use crate::core::load_test::{Direction, Progress, Step};

/// Together the links carry less than this share of what they carry one by one …
const SHORTFALL: f64 = 0.8;
/// … and those that carry less than this share of their own are the ones.
const AFFECTED: f64 = 0.85;

/// What is missing in one direction.
struct Shortfall<'a> {
    step: &'a Step,
    /// Bits per second of all links one by one, and together.
    sum: f64,
    got: f64,
    /// Numbers of the links that carry less, and those of all.
    affected: Vec<u8>,
}

impl Shortfall<'_> {
    fn is_of_all(&self) -> bool {
        self.affected.len() == self.step.links.len()
    }

    fn names(&self) -> Vec<&str> {
        let affected = self.step.links.iter().filter(|link| self.affected.contains(&link.number));
        affected.map(|link| link.name.as_str()).collect()
    }

    fn words(&self, direction: Direction) -> String {
        format!("{} and not {} when {}", mbit(self.got), mbit(self.sum), super::when(direction))
    }
}

/// What is limited for several links together.
pub(super) fn findings(test: &Progress) -> Option<Finding> {
    let [out, back] = [Direction::Out, Direction::In].map(|direction| shortfall(test, direction));
    match (out, back) {
        (Some(out), Some(back)) => {
            let words = format!("{}, and {}", out.words(Direction::Out), back.words(Direction::In));
            Some(one_line(&out, &words))
        }
        (Some(out), None) if out.is_of_all() => Some(uplink(Cause::UplinkHere, &out, Direction::Out)),
        (None, Some(back)) if back.is_of_all() => Some(uplink(Cause::UplinkThere, &back, Direction::In)),
        (Some(one), None) => Some(one_line(&one, &one.words(Direction::Out))),
        (None, Some(one)) => Some(one_line(&one, &one.words(Direction::In))),
        (None, None) => None,
    }
}

/// Whether all links together carried much less in this step than one by one.
pub(super) fn is_short(test: &Progress, step: &Step) -> bool {
    step.together && rate(step) < SHORTFALL * sum(test, step)
}

/// What the links of a step carried one by one, bits per second.
fn sum(test: &Progress, step: &Step) -> f64 {
    let alone = |number| super::alone(test, step.direction, number).map_or(0.0, |link| link.rate_bps);
    step.links.iter().map(|link| alone(link.number)).sum()
}

fn shortfall(test: &Progress, direction: Direction) -> Option<Shortfall<'_>> {
    let step = test.steps.iter().find(|step| step.direction == direction && step.together)?;
    // Busy processors explain it too, and links that went down.
    if is_busy(step).contains(&true) || step.links.iter().any(|link| link.interrupted) {
        return None;
    }
    let alone = |number: u8| super::alone(test, direction, number).map_or(0.0, |link| link.rate_bps);
    if !is_short(test, step) {
        return None;
    }
    let (sum, got) = (sum(test, step), rate(step));
    let less = step.links.iter().filter(|link| link.rate_bps < AFFECTED * alone(link.number));
    let mut affected: Vec<u8> = less.map(|link| link.number).collect();
    if step.links.len() == 2 {
        // Nobody else can have what is missing.
        affected = step.links.iter().map(|link| link.number).collect();
    }
    (affected.len() > 1).then_some(Shortfall { step, sum, got, affected })
}

fn one_line(shortfall: &Shortfall<'_>, words: &str) -> Finding {
    let names = shortfall.names();
    let what =
        format!("{} share a bottleneck: together with all links they bring {words}.", names.join(" and "));
    let advice = "They are one line somewhere: the same modem, mast or provider, or the line of the other portal's \
                  machine if it is all of them. A second line must be one of another provider; here one of them would \
                  do.";
    Finding::new(Cause::SharedBottleneck, &names, what, advice)
}

fn uplink(cause: Cause, shortfall: &Shortfall<'_>, direction: Direction) -> Finding {
    let names = shortfall.names();
    let whose = if cause == Cause::UplinkThere { "The other portal's" } else { "This portal's" };
    let what = format!(
        "{whose} uplink is the limit: each link alone brings more than its share, all together {}, and the other \
         direction is whole.",
        shortfall.words(direction)
    );
    let advice = "Rent more bandwidth for that machine, or look for a limit on its interface (a provider's, or a \
                  shaper of its own). If it has enough, the links share a line in this direction.";
    Finding::new(cause, &names, what, advice)
}
