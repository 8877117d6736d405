//! A run as a list of sentences: conditions are set, load is offered, time passes, bounds are checked.
//!
//! Each check prints what it measured (`cargo test --test sim_… -- --nocapture`), and says so together with
//! the step's number if the bound does not hold.

use std::fmt;
use std::time::Duration;

use super::adversary::Attack;
use super::traffic::{FULL, Load};
use super::wire::{Conditions, OUTER_HEADERS};
use super::{End, Setup, World};
use crate::core::outbound::Event;
use crate::core::session::protection::Manner;
use crate::core::units::Rate;
use crate::core::wire::HEADER_LEN;

/// How long portals may take to find each other and open all links, see [`Step::Start`].
const START_LIMIT: Duration = Duration::from_secs(10);

/// One sentence of a scenario.
#[derive(Clone, Debug)]
pub enum Step {
    /// Waits until both ends have all links up, then begins to measure.
    Start,
    /// A conversation begins. They are numbered from 0.
    Offer(End, Load),
    /// All conversations end.
    Hush,
    /// Time passes.
    Run(Duration),
    /// All measurements begin anew.
    Mark,
    /// A path gets other conditions, both ways.
    Change(usize, Conditions),
    /// A path gets other conditions from one end only.
    ChangeFrom(End, usize, Conditions),
    /// Nothing passes on a path.
    Cut(usize),
    /// Nothing passes on a path from one end.
    CutFrom(End, usize),
    /// It does again, both ways.
    Mend(usize),
    /// An end's interface of a path loses its carrier, and the portal is told.
    Unplug(End, usize),
    /// It has it again, and the portal is told.
    Plug(End, usize),
    /// The NAT of a path forgets its mapping.
    Rebind(usize),
    /// The user gives a link of an end that opens its links a metric and a rate limit in Mbit/s.
    Configure(End, usize, u8, Option<f64>),
    /// A portal dies and another begins.
    Restart(End),
    /// A machine sleeps.
    Suspend(End, Duration),
    /// A wall clock jumps by seconds.
    ShiftClock(End, i64),
    /// The adversary listens.
    Tap,
    /// The adversary sends.
    Attack(Attack),
    /// A bound holds now.
    Check(Measure, Bound),
    /// A bound holds before so much time has passed.
    Within(Duration, Measure, Bound),
    /// The portal says why there is no session, with these words.
    Trouble(End, &'static str),
    /// An end says with this word what keeps a link from carrying more, and nothing with an empty one. Links have
    /// the numbers of their paths if this end opens them.
    Limit(End, usize, &'static str),
}

/// Something measured, since the last [`Step::Mark`] where it counts or averages.
#[derive(Clone, Copy, Debug)]
pub enum Measure {
    /// Mbit/s that reached the hosts, of conversations that this end's hosts began.
    Goodput(End),
    /// The same as a share of what all paths that are not cut can carry, with inner headers in full.
    ShareOfSum(End),
    /// The same as a share of what the best of them can carry.
    ShareOfBest(End),
    /// Mbit/s that this end sent into a path.
    Carried(End, usize),
    /// Share of a conversation's packets that did not arrive (those on the way among them).
    Lost(usize),
    /// Packets of a conversation, forth and not back, that have not arrived since it began.
    Missing(usize),
    /// Longest time without progress of a conversation at the far host, ms.
    Stall(usize),
    /// Retransmission timeouts of a TCP connection.
    InnerTimeouts(usize),
    /// Percentile of a conversation's delay (one way; round trip for pings), ms.
    Delay(usize, f64),
    /// Share of a conversation's packets that arrived after a later one.
    Reordered(usize),
    /// 1 if a limited transfer is complete.
    Done(usize),
    /// Links that this end has up.
    LinksUp(End),
    /// 1 if this end has this path's link up.
    LinkUp(End, usize),
    /// Links of this end in any state.
    Links(End),
    /// Completed exchanges of this end.
    Handshakes(End),
    /// 1 if this end has a session.
    Session(End),
    /// Datagrams sent by both ends.
    Datagrams,
    /// Timer calls of both ends.
    Timeouts,
    /// Datagrams discarded by this end since it began, for whatever reason.
    Discards(End),
    /// The same for one reason.
    DiscardsFor(End, &'static str),
    /// Datagrams discarded by both ends, minus those that the adversary sent.
    UnexplainedDiscards,
    /// Datagrams of the adversary.
    Injected,
    /// Datagrams that went to the adversary's address.
    AnsweredStrangers,
    /// Packets that an end's portal sent back as too long.
    Bounced(End),
    /// Packets that an end sent with compressed headers since it began.
    Compressed(End),
    /// Bytes of inner packets that the hosts of this end got through, to each byte that it sent.
    Efficiency(End),
    /// Share of a link, by its number from 0, of the data that an end sent lately.
    SentShare(End, usize),
    /// The same of what it received.
    ReceivedShare(End, usize),
    /// What a link sent on the wire lately, as `show` has it, Mbit/s with all headers.
    SendRate(End, usize),
    /// The same of what was received.
    ReceiveRate(End, usize),
    /// What was delivered to an end's hosts lately, as `show` has it, Mbit/s.
    TrafficRate(End),
    /// How much later than over the earliest link datagrams arrive at an end over this one, ms.
    DelayDifference(End, usize),
    /// MTU of an end's interface.
    Mtu(End),
    /// Changes of it so far.
    MtuChanges(End),
    /// 1 if the local end's datagrams leave in runs on this path's link.
    InRuns(usize),
    /// Longest IP packet that the local end knows a path to carry away from it.
    PathMtu(usize),
}

/// What a measure is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
    /// Neither.
    Exactly(f64),
}

impl Bound {
    /// Whether `value` keeps to it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Exactly(bound) => (value - bound).abs() < 1e-9,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "at least {bound:.3}"),
            Self::AtMost(bound) => write!(f, "at most {bound:.3}"),
            Self::Exactly(bound) => write!(f, "exactly {bound}"),
        }
    }
}

/// Plays `steps` in the world of `setup`, then lets it settle. Panics where a bound does not hold.
pub fn play(setup: Setup, steps: &[Step]) -> World {
    let mut world = World::new(setup);
    for (number, step) in steps.iter().enumerate() {
        let told = world.take(step);
        if let Err(failure) = told {
            panic!("step {number}, {step:?}: {failure}\n{}", world.portrait());
        }
    }
    world.settle();
    world
}

impl World {
    /// Does what `step` says; or says what did not hold.
    pub fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Start => {
                let links = self.net.paths.len() as f64;
                let up = |end| move |world: &Self| world.measure(Measure::LinksUp(end)) == links;
                let both = |world: &Self| up(End::Local)(world) && up(End::Remote)(world);
                let took = self.run_until(START_LIMIT, both).ok_or("not all links came up")?;
                self.print("start", took.as_secs_f64() * 1e3, "ms until all links are up");
                self.mark();
            }
            Step::Offer(from, load) => {
                self.offer(*from, *load);
            }
            Step::Hush => self.hush(),
            Step::Run(time) => self.run(*time),
            Step::Mark => self.mark(),
            Step::Change(path, conditions) => {
                for from in End::BOTH {
                    self.change(*path, from, |wire| *wire = conditions.clone());
                }
            }
            Step::ChangeFrom(from, path, conditions) => {
                self.change(*path, *from, |wire| *wire = conditions.clone());
            }
            Step::Cut(path) => self.cut(*path, true),
            Step::CutFrom(from, path) => self.change(*path, *from, |wire| wire.cut = true),
            Step::Mend(path) => self.cut(*path, false),
            Step::Unplug(end, path) => self.unplug(*end, *path),
            Step::Plug(end, path) => self.plug(*end, *path),
            Step::Rebind(path) => self.net.rebind(*path),
            Step::Configure(end, link, metric, mbit) => {
                let rate = mbit.map(|mbit| Rate::from_bytes_per_second((mbit * 125_000.0) as u64));
                self.configure(*end, *link, *metric, rate);
            }
            Step::Restart(end) => self.restart(*end),
            Step::Suspend(end, time) => self.suspend(*end, *time),
            Step::ShiftClock(end, seconds) => self.hosts[*end as usize].shift_wall(*seconds),
            Step::Tap => self.adversary.listen(),
            Step::Attack(attack) => self.attack(*attack),
            Step::Check(measure, bound) => {
                let value = self.measure(*measure);
                self.print(&format!("{measure:?}"), value, &bound.to_string());
                if !bound.holds(value) {
                    return Err(format!("it is {value:.4}"));
                }
            }
            Step::Within(limit, measure, bound) => {
                let holds = |world: &Self| bound.holds(world.measure(*measure));
                let Some(took) = self.run_until(*limit, holds) else {
                    return Err(format!("it is {:.4} by then", self.measure(*measure)));
                };
                let what = format!("ms until {measure:?} is {bound}, at most {}", limit.as_millis());
                self.print("within", took.as_secs_f64() * 1e3, &what);
            }
            Step::Trouble(end, words) => {
                let trouble = self.snapshot(*end).session.trouble;
                if !trouble.as_deref().is_some_and(|trouble| trouble.contains(words)) {
                    return Err(format!("it says {trouble:?}"));
                }
            }
            Step::Limit(end, link, word) => {
                let link = self.snapshot(*end).links.swap_remove(*link);
                if link.limit.as_deref().unwrap_or_default() != *word {
                    return Err(format!("it is {:?}: {:?}", link.limit, link.reason));
                }
                println!(
                    "{:9.3} s  link {}: {word}: {:?}",
                    self.now().as_nanos() as f64 / 1e9,
                    link.number,
                    link.reason
                );
            }
        }
        Ok(())
    }

    /// The value of `measure` now.
    pub fn measure(&self, measure: Measure) -> f64 {
        let truth = |is| f64::from(u8::from(is));
        match measure {
            Measure::Goodput(from) => self.goodput(from),
            Measure::ShareOfSum(from) => self.goodput(from) / self.capacities(from).sum::<f64>(),
            Measure::ShareOfBest(from) => self.goodput(from) / self.capacities(from).fold(0.0, f64::max),
            Measure::Carried(from, path) => {
                let bytes = self.net.paths[path].wires[from as usize].tally.offered_bytes;
                self.mbit(bytes)
            }
            Measure::Lost(flow) => {
                let report = &self.flows[flow].report;
                1.0 - report.arrived as f64 / report.offered.max(1) as f64
            }
            Measure::Missing(flow) => self.flows[flow].missing() as f64,
            Measure::Stall(flow) => self.flows[flow].longest_stall(self.now()).as_secs_f64() * 1e3,
            Measure::InnerTimeouts(flow) => self.flows[flow].timeouts() as f64,
            Measure::Delay(flow, percent) => self.flows[flow].report.delay_ms(percent),
            Measure::Reordered(flow) => {
                let report = &self.flows[flow].report;
                report.reordered as f64 / report.arrived.max(1) as f64
            }
            Measure::Done(flow) => truth(self.flows[flow].is_done()),
            Measure::LinksUp(end) => {
                self.snapshot(end).links.iter().filter(|link| link.state == "up").count() as f64
            }
            Measure::LinkUp(end, path) => {
                let of = &self.net.paths[path];
                let remote = if end == End::Local { of.remote } else { of.mapped };
                let snapshot = self.snapshot(end);
                // All links of a local portal may lead to one address: there the number tells.
                let mut links = snapshot.links.iter().filter(|link| {
                    link.remote == Some(remote)
                        && (end == End::Remote || usize::from(link.number) == path + 1)
                });
                truth(links.any(|link| link.state == "up"))
            }
            Measure::Links(end) => self.snapshot(end).links.len() as f64,
            Measure::Handshakes(end) => self.snapshot(end).session.handshakes as f64,
            Measure::Session(end) => truth(self.snapshot(end).session.state == "established"),
            Measure::Datagrams => self.net.sent as f64,
            Measure::Timeouts => self.hosts.iter().map(|host| host.timeouts).sum::<u64>() as f64,
            Measure::Discards(end) => self.snapshot(end).discards.values().sum::<u64>() as f64,
            Measure::DiscardsFor(end, reason) => {
                self.snapshot(end).discards.get(reason).copied().unwrap_or(0) as f64
            }
            Measure::UnexplainedDiscards => {
                let discarded = End::BOTH.map(|end| self.measure(Measure::Discards(end)));
                discarded.iter().sum::<f64>() - self.measure(Measure::Injected)
            }
            Measure::Injected => self.adversary.injected.iter().sum::<u64>() as f64,
            Measure::AnsweredStrangers => self.net.to_strangers as f64,
            Measure::Bounced(end) => self.hosts[end as usize].bounced as f64,
            Measure::Compressed(end) => self.snapshot(end).compression.packets as f64,
            Measure::Efficiency(from) => {
                let paths = 0..self.net.paths.len();
                self.goodput(from) / paths.map(|path| self.measure(Measure::Carried(from, path))).sum::<f64>()
            }
            Measure::SentShare(end, link) => self.snapshot(end).links[link].sent_share.unwrap_or(0.0),
            Measure::ReceivedShare(end, link) => self.snapshot(end).links[link].received_share.unwrap_or(0.0),
            Measure::DelayDifference(end, link) => {
                self.snapshot(end).links[link].delay_difference_ms.unwrap_or(f64::NAN)
            }
            Measure::SendRate(end, link) => self.snapshot(end).links[link].send_rate_bps / 1e6,
            Measure::ReceiveRate(end, link) => self.snapshot(end).links[link].receive_rate_bps / 1e6,
            Measure::TrafficRate(end) => self.snapshot(end).traffic.receive_rate_bps / 1e6,
            Measure::Mtu(end) => self.hosts[end as usize].portal.mtu().into(),
            Measure::MtuChanges(end) => {
                let events = self.hosts[end as usize].events.iter();
                events.filter(|(_, event)| matches!(event, Event::Mtu { .. })).count() as f64
            }
            Measure::InRuns(path) => {
                let snapshot = self.snapshot(End::Local);
                truth(snapshot.links.get(path).is_some_and(|link| link.gso == Some(true)))
            }
            Measure::PathMtu(path) => {
                let snapshot = self.snapshot(End::Local);
                let link = snapshot.links.get(path).and_then(|link| link.path_mtu_bytes);
                link.map_or(f64::INFINITY, f64::from)
            }
        }
    }

    /// The portals and what they carried, for a failure's message.
    pub fn portrait(&self) -> String {
        let mut lines = Vec::new();
        for end in End::BOTH {
            let snapshot = self.snapshot(end);
            lines.push(format!(
                "{end:?}: {:?} {:?} {:?}",
                snapshot.session, snapshot.queue, snapshot.discards
            ));
            for link in &snapshot.links {
                lines.push(format!(
                    "  {} {} ({:?}) srtt {:?} min {:?} cwnd {:?} in flight {} rate {:?} sent {} lost {} spurious {}",
                    link.name, link.state, link.reason, link.srtt_ms, link.min_rtt_ms, link.cwnd_bytes,
                    link.in_flight_bytes, link.delivery_rate_bps, link.sent_packets, link.lost_packets,
                    link.spurious_losses
                ));
            }
            let events = &self.hosts[end as usize].events;
            for (at, event) in events.iter().skip(events.len().saturating_sub(12)) {
                lines.push(format!("  {:.3} s {event:?}", at.as_nanos() as f64 / 1e9));
            }
        }
        for (i, path) in self.net.paths.iter().enumerate() {
            lines.push(format!("path {i}: {:?}", path.wires.each_ref().map(|wire| wire.tally)));
        }
        for (i, flow) in self.flows.iter().enumerate() {
            let report = &flow.report;
            lines.push(format!(
                "flow {i}: {:?} offered {} refused {} arrived {} reordered {} by up to {} {:?}",
                flow.load,
                report.offered,
                report.refused,
                report.arrived,
                report.reordered,
                report.worst_reordering,
                flow.tcp_totals()
            ));
        }
        lines.join("\n")
    }

    fn goodput(&self, from: End) -> f64 {
        self.mbit(
            self.flows.iter().filter(|flow| flow.from == from).map(|flow| flow.report.goodput_bytes).sum(),
        )
    }

    fn mbit(&self, bytes: u64) -> f64 {
        bytes as f64 * 8e-6 / self.since_mark().as_secs_f64().max(1e-9)
    }

    fn capacities(&self, from: End) -> impl Iterator<Item = f64> {
        let footer = if self.snapshot(from).protection == Manner::None.name() { 0 } else { 16 };
        let wires = self.net.paths.iter().map(move |path| &path.wires[from as usize].conditions);
        let around = (FULL + HEADER_LEN + footer + OUTER_HEADERS) as f64;
        wires.filter(|wire| !wire.cut).map(move |wire| {
            wire.rate.bits_per_second() / 1e6 * (FULL as f64 / around) * (1.0 - wire.loss.share())
        })
    }

    fn print(&self, what: &str, value: f64, bound: &str) {
        println!("{:9.3} s  {what}: {value:.3} ({bound})", self.now().as_nanos() as f64 / 1e9);
    }
}

/// So many seconds.
pub const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
