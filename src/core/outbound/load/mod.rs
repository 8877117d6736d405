//! Load tests: why is the bond slow? One portal is asked, and finds out for each link alone and for all together, in
//! both directions, what they carry.
//!
//! What it sends itself it measures itself, see `fill`. For the other direction it asks the peer to do the same, by
//! requests that are repeated as long as the step lasts: a peer that hears no more of them stops, so that nothing
//! goes on when the asking portal is gone. A lost request or report costs a quarter of a second.

mod fill;
mod tester;

use std::time::Duration;

use super::Outbound;
use super::event::Event;
use super::link::{Link, State};
use super::stamp::Stamp;
use super::train::{Train, Trip};
use crate::core::load_test::{Options, Progress};
use crate::core::load_wire::{AllArrivals, LinkReport, LoadReport, Mode, Request, Stage};
use crate::core::units::{Instant, LinkId, MAX_LINKS};
use crate::core::wire::{HEADER_LEN, Kind};
use fill::{Fill, is_uncontrolled};
use tester::{Orders, Tester};

/// A peer that has not asked for so long is gone, or has stopped: it asks four times a second.
const SERVE_FOR: Duration = Duration::from_secs(2);
/// What a peer may ask for in one step: the longest time that can be chosen …
const MOST_TIME: Duration = Duration::from_millis(*Options::STEP_MS.end());
/// … and 2 s of 4 Gbit/s.
const MOST_KIB: u32 = 1 << 20;
/// Percent that says that nobody knows.
const UNKNOWN: u8 = 255;

/// The load tests of a portal: the one that it makes, and the one that it takes part in.
#[derive(Default)]
pub(super) struct Load {
    tester: Option<Tester>,
    /// What the last test brought, once it is over.
    last: Option<Progress>,
    serving: Option<Serving>,
    /// What we send, for either of them.
    fill: Option<Fill>,
    mail: Option<Mail>,
    busy: Option<f64>,
}

/// A test of the peer that we take part in.
struct Serving {
    test: u32,
    step: u8,
    until: Instant,
}

/// A message for the peer, and the links by which it still has to leave, a bit each.
struct Mail {
    kind: Kind,
    body: Vec<u8>,
    links: u16,
}

impl Load {
    /// Whether the link is kept full.
    pub(super) fn fills(&self, id: LinkId) -> bool {
        self.fill.as_ref().is_some_and(|fill| fill.fills(id))
    }

    /// Whether a message waits to leave by the link.
    pub(super) fn has_mail(&self, id: LinkId) -> bool {
        self.mail.as_ref().is_some_and(|mail| mail.links & 1 << id.0 != 0)
    }

    /// The message that has to leave by the link.
    pub(super) fn take_mail(&mut self, id: LinkId) -> Option<(Kind, Vec<u8>)> {
        let mail = self.mail.as_mut().filter(|mail| mail.links & 1 << id.0 != 0)?;
        mail.links &= !(1 << id.0);
        Some((mail.kind, mail.body.clone()))
    }

    /// An answer came on the link after so long.
    pub(super) fn on_rtt(&mut self, now: Instant, id: LinkId, rtt: Option<Duration>) {
        if let (Some(fill), Some(rtt)) = (&mut self.fill, rtt) {
            fill.on_rtt(now, id, rtt);
        }
    }

    /// When something is to be done.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let tester = self.tester.as_ref().map(Tester::next_timeout);
        let fill = self.fill.as_ref().and_then(Fill::next_timeout);
        [tester, fill, self.serving.as_ref().map(|serving| serving.until)].into_iter().flatten().min()
    }
}

impl Outbound {
    /// Begins a load test.
    ///
    /// # Errors
    ///
    /// Why that cannot be, in words.
    pub fn start_load_test(&mut self, now: Instant, options: &Options) -> Result<(), String> {
        if self.load.tester.is_some() {
            return Err("a test is under way already".to_owned());
        }
        if self.load.serving.is_some() {
            return Err("the other portal makes a test: try again when it is over".to_owned());
        }
        if !self.session {
            return Err("there is no session with the other portal; `netcombiner show` tells why".to_owned());
        }
        let candidates =
            self.each().filter(|(_, link)| link.state == State::Up && link.peer_number.is_some());
        let chosen = candidates.filter(|(id, link)| {
            let named = options.links.is_empty() || options.links.contains(&(id.0 + 1));
            named && (options.metered || !link.config.metered)
        });
        let links = chosen.map(|(id, _)| id).collect::<Vec<_>>();
        if links.is_empty() {
            return Err("no link to test is up; `netcombiner show` tells why".to_owned());
        }
        // Those that stand by do not help the others.
        let together = links.iter().filter(|id| self.active & 1 << id.0 != 0);
        let together = together.fold(0, |mask, id| mask | 1 << id.0);
        (self.load.last, self.load.busy) = (None, None);
        self.load.tester = Some(Tester::new(now, &links, together, options.clone()));
        self.events.push(Event::LoadTest { ours: true, begun: true });
        self.tend_load(now);
        Ok(())
    }

    /// Ends our load test, if there is one, before it is complete.
    pub fn stop_load_test(&mut self, now: Instant) {
        if let Some(tester) = &mut self.load.tester {
            tester.stop(None);
            self.tend_load(now);
        }
    }

    /// How far our load test is, or what the last one brought; `None` if there was none.
    pub fn load_test(&self) -> Option<Progress> {
        let name = |id: LinkId| self.link(id).map_or_else(String::new, |link| link.config.name.clone());
        let running = self.load.tester.as_ref().map(|tester| tester.progress(name));
        running.or_else(|| self.load.last.clone())
    }

    /// This portal makes a load test or takes part in one.
    pub fn is_load_tested(&self) -> bool {
        self.load.tester.is_some() || self.load.serving.is_some()
    }

    /// The busiest thread ran, or waited for a processor, for this share of the time lately.
    pub fn note_busy(&mut self, share: f64) {
        self.load.busy = Some(share);
        if let Some(tester) = &mut self.load.tester {
            tester.note_busy_here(share);
        }
    }

    /// The peer, a restarted one maybe, knows nothing of tests any more.
    pub(super) fn abandon_load(&mut self, now: Instant) {
        if let Some(tester) = &mut self.load.tester {
            tester.stop(Some("the other portal stopped or was restarted".to_owned()));
        }
        self.end_fill(now);
        self.stop_serving();
        self.tend_load(now);
    }

    /// A request of the peer; it is answered on the link `via`, which it came by.
    pub fn on_load_request(&mut self, now: Instant, via: LinkId, request: &Request, arrivals: &AllArrivals) {
        let known = self.load.serving.as_ref().is_some_and(|serving| serving.test == request.test);
        if request.mode == Mode::Stop {
            if known {
                self.end_fill(now);
                self.stop_serving();
            }
            return;
        }
        let refused = if self.load.tester.is_some() || self.load.serving.is_some() && !known {
            Some(Stage::Busy)
        } else {
            self.serve(now, request, known)
        };
        let report = self.load_report(request, refused, arrivals);
        self.load.mail = Some(Mail { kind: Kind::LoadReport, body: report.to_bytes(), links: 1 << via.0 });
    }

    /// Does what the request asks for, if it is a new step. Says why not.
    fn serve(&mut self, now: Instant, request: &Request, known: bool) -> Option<Stage> {
        let until = now + SERVE_FOR;
        if !known {
            self.events.push(Event::LoadTest { ours: false, begun: true });
        }
        let step = self.load.serving.as_ref().filter(|_| known).map(|serving| serving.step);
        // What comes late speaks of a step that is over.
        if step.is_some_and(|step| request.step < step) {
            return None;
        }
        self.load.serving = Some(Serving { test: request.test, step: request.step, until });
        if step == Some(request.step) {
            return None;
        }
        self.end_fill(now);
        if request.mode != Mode::Fill {
            return None;
        }
        let link = |id: u8| self.link(LinkId(id)).filter(|link| link.state == State::Up);
        let asked = || (0..MAX_LINKS as u8).filter(|id| request.links & 1 << id != 0);
        if asked().any(|id| link(id).is_some_and(|link| link.config.metered)) && !request.metered {
            return Some(Stage::Metered);
        }
        if asked().all(|id| link(id).is_none()) || request.time > MOST_TIME || request.kib > MOST_KIB {
            return Some(Stage::Unable);
        }
        let bounds = (request.time, u64::from(request.kib) * 1024);
        self.load.fill = Some(Fill::new(now, request.links, bounds, request.push, &mut self.links));
        None
    }

    fn load_report(&self, request: &Request, refused: Option<Stage>, arrivals: &AllArrivals) -> LoadReport {
        let fill = self.load.fill.as_ref().filter(|_| request.mode == Mode::Fill);
        let stage = refused.unwrap_or(match fill {
            None if request.mode == Mode::Fill => Stage::Unable,
            None => Stage::Watching,
            Some(fill) if fill.is_done() => Stage::Done,
            Some(_) => Stage::Filling,
        });
        let of = |id: LinkId| {
            let outcome = fill.and_then(|fill| fill.outcomes().find(|(link, _)| *link == id));
            outcome.map_or_else(Default::default, |(_, outcome)| outcome)
        };
        let known = |(id, link): (LinkId, &Link)| {
            let link = link.peer_number?;
            Some(LinkReport { link, arrivals: arrivals[id.index()], outcome: of(id) })
        };
        LoadReport {
            test: request.test,
            step: request.step,
            serial: request.serial,
            stage,
            busy: self.load.busy.map_or(UNKNOWN, |share| (share * 100.0).clamp(0.0, 100.0) as u8),
            links: self.each().filter_map(known).collect(),
        }
    }

    /// An answer of the peer to our test.
    pub fn on_load_report(&mut self, now: Instant, report: &LoadReport, arrivals: &AllArrivals) {
        if let Some(tester) = &mut self.load.tester {
            tester.on_report(now, report, arrivals);
            self.tend_load(now);
        }
    }

    /// Does what is due.
    pub(super) fn tend_load(&mut self, now: Instant) {
        if let Some(fill) = &mut self.load.fill {
            fill.on_timeout(now, &mut self.links);
        }
        if self.load.serving.as_ref().is_some_and(|serving| now >= serving.until) {
            self.end_fill(now);
            self.stop_serving();
        }
        let Some(tester) = &mut self.load.tester else { return };
        let orders = tester.on_timeout(now, self.load.fill.as_ref(), |id| {
            self.links[id.index()].as_deref().map(|link| link.config.name.clone()).unwrap_or_default()
        });
        self.carry_out(now, orders);
    }

    fn carry_out(&mut self, now: Instant, orders: Orders) {
        if orders.end_fill {
            self.end_fill(now);
        }
        if let Some((links, bounds, push)) = orders.fill {
            self.load.fill = Some(Fill::new(now, links, bounds, push, &mut self.links));
        }
        if let Some(request) = orders.request {
            let numbers = self.each().filter(|(id, _)| request.links & 1 << id.0 != 0);
            let theirs = numbers.filter_map(|(_, link)| link.peer_number);
            let request = Request { links: theirs.fold(0, |mask, number| mask | 1 << number), ..request };
            let up = self.each().filter(|(_, link)| link.state == State::Up);
            let links = up.fold(0, |mask, (id, _)| mask | 1 << id.0);
            self.load.mail = Some(Mail { kind: Kind::LoadRequest, body: request.to_bytes().to_vec(), links });
        }
        if orders.over
            && let Some(tester) = self.load.tester.take()
        {
            self.load.last = Some(tester.into_progress());
            self.events.push(Event::LoadTest { ours: true, begun: false });
        }
    }

    fn end_fill(&mut self, now: Instant) {
        if let Some(fill) = self.load.fill.take() {
            fill.restore(now, &mut self.links);
        }
    }

    fn stop_serving(&mut self) {
        if self.load.serving.take().is_some() {
            self.events.push(Event::LoadTest { ours: false, begun: false });
        }
    }

    /// Sends one datagram of padding, if there is room.
    pub(super) fn pad_for_test(&mut self, trip: Trip, train: &mut Train, room: u64) -> bool {
        let Trip { now, link: id, sealing, .. } = trip;
        let longest = self.carries(id).min(self.longest as u64);
        let Some(link) = self.links[id.index()].as_deref_mut() else { return false };
        let unbounded = is_uncontrolled(link) && link.sender.controller().window().is_none();
        if room < longest || unbounded || !self.load.fills(id) {
            return false;
        }
        let bytes = HEADER_LEN + longest as usize + sealing.footer_len;
        let mut stamp = Stamp::new(trip, 0, &mut self.data_sequence);
        stamp.control(train, link, Kind::Padding, 0, longest as usize).fill(0);
        link.sender.on_sent(now, bytes, None);
        if let Some(fill) = &mut self.load.fill {
            fill.on_padded(id, bytes as u64);
        }
        true
    }
}
