//! Why is my bond slow? What a load test measured, and what the portal tells of itself, as findings in plain words,
//! each with what to do. Pure: numbers in, words out.
//!
//! The order of the findings is that of what they cost: what holds the whole bond back, then one link, then what is
//! only worth knowing. A finding that explains another takes its place: a busy processor looks like a shared line.

mod shared;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::core::load_test::{Direction, Measured, Progress, Step};
use crate::core::snapshot::{Link, MOST_LOSS, Snapshot};

/// A thread that runs, or waits for a processor, for this share of the time is what a step that falls short waits for:
/// it works in bursts, and stands still between them while the links run dry.
const BUSY: f64 = 0.75;
/// Loss that is no accident any more: a connection by itself, without the bond's repairs, halves its rate for it.
const LOSSY: f64 = 0.005;
/// A queue that lasts longer is felt in calls (ITU-T G.114 wants 150 ms for the whole way).
const BLOATED_MS: f64 = 150.0;
/// A link that carries less than this part of the best one is slow …
const SLOW: f64 = 0.25;
/// … and one that carries less than this part of all others together costs more than it gives: they do not wait
/// for it (see `core`, `outbound::schedule`).
const WORTHLESS: f64 = 0.05;
/// Ethernet carries 1,500, PPPoE 1,492, and tunnels of providers 1,420 and more.
const SMALL_MTU: u32 = 1_400;
/// What arrives that much later than by the fastest link cannot share a conversation with it.
const LATE_MS: f64 = 90.0;
/// Share of datagrams out of order that is worth a word.
const REORDERED: f64 = 0.02;

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A link is not up.
    LinkDown,
    /// The processor of this machine has no time left.
    ProcessorHere,
    /// That of the other portal's has none.
    ProcessorThere,
    /// Several links are one and the same line somewhere.
    SharedBottleneck,
    /// What the other portal sends over all links together is limited: its uplink.
    UplinkThere,
    /// What this portal sends over all links together is limited.
    UplinkHere,
    /// A link loses datagrams.
    LossyLink,
    /// A link carries next to nothing beside the others.
    WorthlessLink,
    /// A link carries much less than the best one.
    SlowLink,
    /// A link carries short packets only.
    SmallMtu,
    /// A link is too late to share conversations.
    LateLink,
    /// A link builds long queues.
    Bufferbloat,
    /// A link delivers out of order.
    Reordering,
    /// Packets cross the interface or leave one by one.
    OffloadOff,
    /// A link went down during the test.
    Interrupted,
    /// A link's rate was still growing.
    TooShort,
    /// Part of the test could not be made.
    Incomplete,
    /// Nothing is the matter.
    AllWell,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub cause: Cause,
    /// Names of the links that it is about.
    pub links: Vec<String>,
    /// What is the matter, a sentence or two.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl Finding {
    fn new(cause: Cause, links: &[&str], what: String, advice: impl Into<String>) -> Self {
        let links = links.iter().map(|name| (*name).to_owned()).collect();
        Self { cause, links, what, advice: advice.into() }
    }
}

/// What is the matter with the bond of the portal that tells `snapshot` of itself, by what was measured. The worst
/// comes first; there is always one.
pub fn diagnose(snapshot: &Snapshot, test: &Progress) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(snapshot.links.iter().filter_map(down));
    findings.extend(processors(test));
    findings.extend(shared::findings(test));
    for link in &snapshot.links {
        let both = [Direction::Out, Direction::In].map(|direction| alone(test, direction, link.number));
        findings.extend(of_link(link, both, test));
    }
    findings.extend(offload(snapshot));
    let step_trouble = test.steps.iter().find_map(|step| step.trouble.as_ref());
    let nothing = test.steps.is_empty().then_some("nothing was measured");
    let trouble = test.trouble.as_ref().or(step_trouble).map(String::as_str).or(nothing);
    findings.extend(trouble.map(|trouble| {
        let advice = "Run the test again when that is mended; install the same version on both sides.";
        Finding::new(
            Cause::Incomplete,
            &[],
            format!("Part of the test could not be made: {trouble}."),
            advice,
        )
    }));
    let noted = |finding: &Finding| finding.cause >= Cause::Reordering;
    if findings.iter().all(noted) && trouble.is_none() {
        findings.push(all_well(test));
    }
    findings
        .sort_by_key(|finding| if finding.cause == Cause::AllWell { Cause::LinkDown } else { finding.cause });
    findings
}

/// Bits per second as `12.3 Mbit/s`.
pub fn mbit(bits_per_second: f64) -> String {
    let mbit = bits_per_second / 1e6;
    let decimals = if mbit < 99.95 { 1 } else { 0 };
    format!("{mbit:.decimals$} Mbit/s")
}

/// What all links together carried in a direction; what the only one did, if there is one.
pub fn total(test: &Progress, direction: Direction) -> Option<f64> {
    let steps = || test.steps.iter().filter(|step| step.direction == direction && step.trouble.is_none());
    let together = steps().find(|step| step.together);
    let only = || steps().next().filter(|_| steps().count() == 1);
    together.or_else(only).map(rate)
}

/// What all links of a step carried, bits per second.
fn rate(step: &Step) -> f64 {
    step.links.iter().map(|link| link.rate_bps).sum()
}

/// What a link carried alone.
fn alone(test: &Progress, direction: Direction, number: u8) -> Option<&Measured> {
    let steps = test.steps.iter().filter(|step| step.direction == direction && !step.together);
    steps.flat_map(|step| &step.links).find(|link| link.number == number)
}

/// `when sending`, as the portal that was asked sees it.
const fn when(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "sending",
        Direction::In => "receiving",
    }
}

/// Only one link was tested, so there is nothing to compare it with.
fn alone_in_the_bond(test: &Progress) -> bool {
    !test.steps.iter().any(|step| step.together)
}

fn down(link: &Link) -> Option<Finding> {
    let told = link.reason.as_deref().unwrap_or("no reason is known");
    (link.state != "up").then(|| {
        let what = format!("{} is {}: {told}.", link.name, link.state);
        let advice = "It carries nothing until that is mended: look at its modem, cable and contract, and at \
                      Interface and RemoteHost in its section.";
        Finding::new(Cause::LinkDown, &[&link.name], what, advice)
    })
}

/// Whether the processors, of this portal and of the other, were at their end in a step.
fn is_busy(step: &Step) -> [bool; 2] {
    [step.busy_here, step.busy_there].map(|busy| busy.is_some_and(|busy| busy >= BUSY))
}

fn processors(test: &Progress) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sides =
        [(Cause::ProcessorHere, "this machine"), (Cause::ProcessorThere, "the other portal's machine")];
    for (side, (cause, whose)) in sides.into_iter().enumerate() {
        // A busy processor that the links did not have to wait for is no news.
        let held_back = |step: &&Step| shared::is_short(test, step) || alone_in_the_bond(test);
        let busy = test.steps.iter().filter(|step| is_busy(step)[side]).filter(held_back);
        let Some(most) = busy.map(rate).max_by(f64::total_cmp) else { continue };
        let what = format!(
            "The processor of {whose} has no time left at {}: the busiest thread of netcombiner runs, or waits \
             for a processor, all the time.",
            mbit(most)
        );
        let advice = "Give it a faster processor, or fewer other things to do (top tells what); leave Offload, Gso \
                      and Gro at auto; a CPU without AES instructions is spared by Protection = mac on both sides.";
        findings.push(Finding::new(cause, &[], what, advice));
    }
    findings
}

/// What is the matter with one link, by what it carried alone when sending and when receiving.
fn of_link(link: &Link, both: [Option<&Measured>; 2], test: &Progress) -> Vec<Finding> {
    let sides = || [Direction::Out, Direction::In].into_iter().zip(both).filter_map(|(d, m)| Some((d, m?)));
    let worst =
        |value: fn(&Measured) -> f64| sides().max_by(|one, other| value(one.1).total_cmp(&value(other.1)));
    let mut findings = Vec::new();
    let name = link.name.as_str();
    findings.extend(worst(|m| m.loss).and_then(|(direction, m)| lossy(link, direction, m)));
    findings.extend(slow(link, sides(), test));
    findings.extend(sides().filter_map(|(_, m)| m.path_mtu_bytes).min().filter(|mtu| *mtu < SMALL_MTU).map(|mtu| {
        let what = format!(
            "{name} carries IP packets of up to {mtu} bytes only (1500 is usual), and the MTU of the interface \
             follows the smallest link."
        );
        let advice = "Look for another tunnel, PPPoE or a wrong MTU on the way of this link; if it must be, leave \
                      the link out, or give it a higher Metric, when it brings little.";
        Finding::new(Cause::SmallMtu, &[name], what, advice)
    }));
    findings.extend(late(name, both, test));
    findings.extend(worst(bloat).and_then(|(direction, m)| bloated(link, direction, m)));
    findings.extend(worst(|m| m.reordered.unwrap_or(0.0)).and_then(|(direction, m)| {
        let share = m.reordered.filter(|share| *share >= REORDERED)?;
        let what = format!("{name} delivers {:.1} % out of order when {}.", share * 100.0, when(direction));
        let advice =
            "Nothing: the other portal puts conversations back in order, which costs a little delay.";
        Some(Finding::new(Cause::Reordering, &[name], what, advice))
    }));
    if sides().any(|(_, m)| m.interrupted) {
        let what = format!("{name} was not up all the time during the test.");
        let advice =
            "Its figures count for little: run the test again; if it happens often, look at its modem.";
        findings.push(Finding::new(Cause::Interrupted, &[name], what, advice));
    } else if sides().any(|(_, m)| m.growing) {
        let what = format!("The rate of {name} was still growing when its time or its bytes were over.");
        let advice = "It can carry more than was measured: test again with more --seconds or --bytes.";
        findings.push(Finding::new(Cause::TooShort, &[name], what, advice));
    }
    findings
}

fn lossy(link: &Link, direction: Direction, m: &Measured) -> Option<Finding> {
    let name = link.name.as_str();
    (m.loss >= LOSSY).then(|| {
        let unused = if m.loss >= MOST_LOSS { "; that much that it carries nothing while others can" } else { "" };
        let what =
            format!("{name} loses {:.1} % of what is sent when {}{unused}.", m.loss * 100.0, when(direction));
        let advice = if link.congestion_control == "newreno" {
            "CongestionControl = newreno takes every loss for a full line: use bbr. And look at its signal, antenna, \
             cable."
        } else {
            "Look at its signal, antenna, cable, or at a provider that polices its rate. The bond repairs losses, \
             which costs rate and delay."
        };
        Finding::new(Cause::LossyLink, &[name], what, advice)
    })
}

fn slow<'a>(
    link: &Link,
    sides: impl Iterator<Item = (Direction, &'a Measured)>,
    test: &Progress,
) -> Option<Finding> {
    let name = link.name.as_str();
    let mut words = Vec::new();
    let mut worthless = false;
    for (direction, m) in sides {
        let steps = test.steps.iter().filter(|step| step.direction == direction && !step.together);
        let others = steps.flat_map(|step| &step.links).filter(|other| other.number != link.number);
        let rates: Vec<f64> = others.map(|other| other.rate_bps).collect();
        let (best, sum) = (rates.iter().copied().fold(0.0, f64::max), rates.iter().sum::<f64>());
        if m.rate_bps < SLOW * best {
            worthless |= m.rate_bps < WORTHLESS * sum;
            words.push(format!("{} when {}, beside {}", mbit(m.rate_bps), when(direction), mbit(sum)));
        }
    }
    if words.is_empty() {
        return None;
    }
    let carried = words.join(", and ");
    Some(if worthless {
        let what = format!("{name} costs more than it gives: it carries {carried} of the others.");
        let advice = "Keep it as a backup: Metric = 1 in its section (or higher than that of the others).";
        Finding::new(Cause::WorthlessLink, &[name], what, advice)
    } else {
        let what = format!("{name} is slow: it carries {carried} of the others.");
        let advice =
            "If its contract promises more, test it without the tunnel; if not, this is all it can bring.";
        Finding::new(Cause::SlowLink, &[name], what, advice)
    })
}

fn late(name: &str, both: [Option<&Measured>; 2], test: &Progress) -> Option<Finding> {
    let idle = |m: &Measured| m.idle_rtt_ms;
    let own = both.into_iter().flatten().filter_map(idle).min_by(f64::total_cmp)?;
    let alone = test.steps.iter().filter(|step| !step.together).flat_map(|step| &step.links);
    let best = alone.filter_map(idle).min_by(f64::total_cmp)?;
    let extra = (own - best) / 2.0;
    (extra > LATE_MS).then(|| {
        let what = format!(
            "{name} arrives {extra:.0} ms after the fastest link, too late to share a conversation: it takes whole \
             long ones only, and only while the other links are full."
        );
        let advice = "A single download does not get faster by it, several do. As a backup it serves in any case.";
        Finding::new(Cause::LateLink, &[name], what, advice)
    })
}

/// The longest queue that was seen, ms.
fn bloat(m: &Measured) -> f64 {
    let loaded = m.loaded_rtt_p95_ms.zip(m.idle_rtt_ms).map_or(0.0, |(loaded, idle)| loaded - idle);
    m.queue_ms.unwrap_or(0.0).max(loaded)
}

fn bloated(link: &Link, direction: Direction, m: &Measured) -> Option<Finding> {
    let (name, queue) = (link.name.as_str(), bloat(m));
    (queue >= BLOATED_MS).then(|| {
        let bound = if m.queue_ms.is_some() && !m.queue_overflowed { "more than " } else { "" };
        let what = format!(
            "{name} has bufferbloat: when {}, its modem or provider lets packets queue for {bound}{queue:.0} ms.",
            when(direction)
        );
        let advice = if link.congestion_control == "bbr" {
            "The tunnel keeps that queue short by itself; what uses the line beside it does not. Send all through the \
             tunnel, or shape the line in the router (SQM, CAKE) to nine tenths of its rate."
        } else {
            "CongestionControl = bbr keeps that queue short and others do not; and what uses the line beside the \
             tunnel is to be shaped in the router (SQM, CAKE)."
        };
        Finding::new(Cause::Bufferbloat, &[name], what, advice)
    })
}

fn offload(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if snapshot.offload.is_empty() {
        let what = "Packets cross the interface one by one: offload is off.".to_owned();
        let advice = "Offload = auto and a Linux of this decade save half of the processor time; below some hundred \
                      Mbit/s it matters little.";
        findings.push(Finding::new(Cause::OffloadOff, &[], what, advice));
    }
    let alone: Vec<&str> =
        snapshot.links.iter().filter(|link| link.gso == Some(false)).map(|link| link.name.as_str()).collect();
    if !alone.is_empty() {
        let reasons = snapshot.links.iter().find_map(|link| link.gso_reason.as_deref());
        let why = reasons.map_or(String::new(), |reason| format!(" ({reason})"));
        let what = format!("The datagrams of {} leave one by one: GSO is off{why}.", alone.join(", "));
        let advice = "Gso = auto, if it was switched off, saves processor time; below some hundred Mbit/s it \
                      matters little.";
        findings.push(Finding::new(Cause::OffloadOff, &alone, what, advice));
    }
    findings
}

fn all_well(test: &Progress) -> Finding {
    let rates = [Direction::Out, Direction::In]
        .map(|direction| total(test, direction).map_or("an unknown rate".to_owned(), mbit));
    let what = format!(
        "All is well: the links give what they have, {} when sending and {} when receiving.",
        rates[0], rates[1]
    );
    let advice = "What is slower than this is slow elsewhere: in the WiFi, the host behind the portal, or the server \
                  that it talks to.";
    Finding::new(Cause::AllWell, &[], what, advice)
}
