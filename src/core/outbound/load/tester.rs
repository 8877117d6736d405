//! The portal that makes a load test: which step comes when, and what each brought.

use std::collections::VecDeque;
use std::time::Duration;

use super::UNKNOWN;
use super::fill::Fill;
use crate::core::load_test::{Current, Direction, Measured, Options, Progress, Step};
use crate::core::load_wire::{AllArrivals, Arrivals, LoadReport, Mode, Outcome, Request, Stage};
use crate::core::units::{Instant, LinkId};

/// Time between two requests.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A peer that has not answered for so long does not: it is of an older version, or gone.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a step of ours waits for what the peer received.
const AFTERWARDS: Duration = Duration::from_millis(700);
/// What a step takes at most besides twice its time: to lie idle, to be overfilled on a slow path, and to drain.
const SPARE: Duration = Duration::from_secs(12);

/// A test under way.
pub(super) struct Tester {
    id: u32,
    options: Options,
    plan: VecDeque<Planned>,
    planned: usize,
    current: Option<Running>,
    number: u8,
    serial: u8,
    /// The peer has ever answered.
    answered: bool,
    /// Bytes that may still be sent.
    budget: u64,
    steps: Vec<Step>,
    trouble: Option<String>,
    stopped: bool,
    /// When something is to be done next.
    next: Instant,
}

/// One step to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Planned {
    direction: Direction,
    links: u16,
    together: bool,
}

impl Planned {
    /// Its part of the bytes.
    fn weight(&self) -> u64 {
        self.links.count_ones().into()
    }

    fn ids(self) -> impl Iterator<Item = LinkId> {
        LinkId::among(self.links)
    }
}

/// The step under way.
struct Running {
    planned: Planned,
    bytes: u64,
    begun: Instant,
    heard: Instant,
    next_request: Instant,
    /// Since when our own part is over, and the number of the next request then: its answer tells all.
    filled: Option<(Instant, u8)>,
    is_last_word: bool,
    received: Option<[AllArrivals; 2]>,
    outcomes: Option<Vec<(LinkId, Outcome)>>,
    trouble: Option<String>,
    busy: [Vec<f64>; 2],
}

/// What is to be done for a test.
#[derive(Default)]
pub(super) struct Orders {
    /// What is sent for it ends.
    pub(super) end_fill: bool,
    /// These links are to be filled, so long and with so many bytes, and overfilled at the end.
    pub(super) fill: Option<(u16, (Duration, u64), bool)>,
    /// This is to be asked of the peer; links by our numbers.
    pub(super) request: Option<Request>,
    /// The test is over.
    pub(super) over: bool,
}

impl Tester {
    /// A test of `links`, one by one and, those of the mask `together`, together, both ways.
    pub(super) fn new(now: Instant, links: &[LinkId], together: u16, options: Options) -> Self {
        let mut plan = VecDeque::new();
        for direction in [Direction::Out, Direction::In] {
            let alone = |id: &LinkId| Planned { direction, links: 1 << id.0, together: false };
            plan.extend(links.iter().map(alone));
            if together.count_ones() > 1 {
                plan.push_back(Planned { direction, links: together, together: true });
            }
        }
        Self {
            id: (now.as_nanos() / 1_000) as u32,
            budget: options.bytes,
            options,
            planned: plan.len(),
            plan,
            current: None,
            number: 0,
            serial: 0,
            answered: false,
            steps: Vec::new(),
            trouble: None,
            stopped: false,
            next: now,
        }
    }

    /// It is to end, for this reason if it is none of the asker's.
    pub(super) fn stop(&mut self, trouble: Option<String>) {
        (self.stopped, self.trouble) = (true, trouble.or(self.trouble.take()));
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.next
    }

    /// How far it is.
    pub(super) fn progress(&self, name: impl Fn(LinkId) -> String) -> Progress {
        let current = self.current.as_ref().map(|running| Current {
            direction: running.planned.direction,
            links: running.planned.ids().map(name).collect(),
        });
        Progress {
            running: true,
            trouble: self.trouble.clone(),
            planned_steps: self.planned,
            current,
            steps: self.steps.clone(),
        }
    }

    /// What it brought.
    pub(super) fn into_progress(self) -> Progress {
        Progress {
            running: false,
            trouble: self.trouble,
            planned_steps: self.planned,
            current: None,
            steps: self.steps,
        }
    }

    /// This portal is so busy.
    pub(super) fn note_busy_here(&mut self, share: f64) {
        if let Some(running) = &mut self.current {
            running.busy[0].push(share);
        }
    }

    /// The peer answers.
    pub(super) fn on_report(&mut self, now: Instant, report: &LoadReport, arrivals: &AllArrivals) {
        let Some(running) = &mut self.current else { return };
        if (report.test, report.step) != (self.id, self.number) {
            return;
        }
        (self.answered, self.next) = (true, now);
        running.heard = now;
        if report.busy != UNKNOWN {
            running.busy[1].push(f64::from(report.busy) / 100.0);
        }
        let received = match running.planned.direction {
            Direction::In => *arrivals,
            Direction::Out => {
                let mut theirs = AllArrivals::default();
                report.links.iter().for_each(|link| theirs[usize::from(link.link)] = link.arrivals);
                theirs
            }
        };
        running.received.get_or_insert([received; 2])[1] = received;
        running.is_last_word |= running.filled.is_some_and(|(_, serial)| serial == report.serial);
        let refused = match report.stage {
            Stage::Watching | Stage::Filling => return,
            Stage::Done => {
                let outcome = |id: LinkId| {
                    let link = report.links.iter().find(|link| link.link == id.0)?;
                    Some((id, link.outcome))
                };
                running.outcomes = Some(running.planned.ids().filter_map(outcome).collect());
                return;
            }
            Stage::Busy => "the other portal takes part in another test",
            Stage::Metered => "its data are metered at the other portal: --metered tests it",
            Stage::Unable => "the other portal has no such link up",
        };
        if running.planned.direction == Direction::In || report.stage == Stage::Busy {
            running.trouble = Some(refused.to_owned());
        }
    }

    /// Goes on, and says what is to be done. `fill` is what we send.
    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        fill: Option<&Fill>,
        name: impl Fn(LinkId) -> String,
    ) -> Orders {
        let mut orders = Orders::default();
        self.next = now + ASK_EVERY;
        if self.stopped {
            let stop = Request { mode: Mode::Stop, ..self.request(Planned::NONE, 0) };
            return Orders { end_fill: true, request: Some(stop), over: true, ..orders };
        }
        if let Some(running) = &mut self.current {
            running.look(now, fill, self.serial.wrapping_add(1), self.answered, self.options.step_ms);
            if running.is_over(now) {
                orders.end_fill = running.planned.direction == Direction::Out;
                self.conclude(name);
            }
        }
        if self.current.is_none() {
            let Some(planned) = self.plan.pop_front() else {
                self.stopped = true;
                let stop = Request { mode: Mode::Stop, ..self.request(Planned::NONE, 0) };
                return Orders { request: Some(stop), over: true, ..orders };
            };
            self.begin(now, planned, &mut orders);
        }
        let due = self.current.as_mut().filter(|running| now >= running.next_request);
        if let Some((planned, bytes)) = due.map(|running| {
            running.next_request = now + ASK_EVERY;
            (running.planned, running.bytes)
        }) {
            self.serial = self.serial.wrapping_add(1);
            orders.request = Some(self.request(planned, bytes));
        }
        orders
    }

    fn begin(&mut self, now: Instant, planned: Planned, orders: &mut Orders) {
        let left: u64 = self.plan.iter().map(Planned::weight).sum::<u64>() + planned.weight();
        let bytes = self.budget * planned.weight() / left.max(1);
        self.number = self.number.wrapping_add(1);
        if planned.direction == Direction::Out {
            let time = Duration::from_millis(self.options.step_ms);
            orders.fill = Some((planned.links, (time, bytes), !planned.together));
        }
        self.current = Some(Running {
            planned,
            bytes,
            begun: now,
            heard: now,
            next_request: now,
            filled: None,
            is_last_word: false,
            received: None,
            outcomes: None,
            trouble: None,
            busy: Default::default(),
        });
    }

    fn request(&self, planned: Planned, bytes: u64) -> Request {
        Request {
            test: self.id,
            step: self.number,
            serial: self.serial,
            mode: if planned.direction == Direction::In { Mode::Fill } else { Mode::Watch },
            links: planned.links,
            time: Duration::from_millis(self.options.step_ms),
            kib: (bytes / 1024).min(super::MOST_KIB.into()) as u32,
            push: !planned.together,
            metered: self.options.metered,
        }
    }

    /// Writes down what the step brought.
    fn conclude(&mut self, name: impl Fn(LinkId) -> String) {
        let Some(running) = self.current.take() else { return };
        if running.trouble.is_some() && !self.answered {
            // It will not answer the others either.
            self.plan.retain(|planned| planned.direction == Direction::Out);
            self.trouble.clone_from(&running.trouble);
        }
        let received = |id: LinkId| {
            let [first, last] = running.received.as_ref()?.map(|all| all[id.index()]);
            let Arrivals { all, late } = last.since(first);
            (all > 0).then(|| f64::from(late) / f64::from(all))
        };
        let outcomes = running.outcomes.iter().flatten();
        let links: Vec<_> =
            outcomes.map(|(id, outcome)| measured(*id, name(*id), outcome, received(*id))).collect();
        self.budget = self.budget.saturating_sub(links.iter().map(|link| link.bytes).sum());
        let [busy_here, busy_there] = running.busy.map(median);
        self.steps.push(Step {
            direction: running.planned.direction,
            together: running.planned.together,
            trouble: running.trouble,
            links,
            busy_here,
            busy_there,
        });
    }
}

impl Planned {
    const NONE: Self = Self { direction: Direction::Out, links: 0, together: false };
}

impl Running {
    /// Takes note of what has ended, or will not come. `serial` is the number of the next request.
    fn look(&mut self, now: Instant, fill: Option<&Fill>, serial: u8, answered: bool, step_ms: u64) {
        let late = now.since(self.begun) > Duration::from_millis(step_ms) * 2 + SPARE;
        match self.planned.direction {
            Direction::Out => {
                let done = fill.is_none_or(Fill::is_done);
                if done && self.filled.is_none() {
                    self.filled = Some((now, serial));
                    self.next_request = now;
                    self.outcomes = fill.map(|fill| fill.outcomes().collect());
                }
            }
            Direction::In if now.since(self.heard) >= SILENCE && self.trouble.is_none() => {
                let words =
                    if answered { "any more" } else { "requests of this kind: is it of an older version?" };
                self.trouble = Some(format!("the other portal does not answer {words}"));
            }
            Direction::In => {}
        }
        if late && self.trouble.is_none() {
            self.trouble = Some("it took too long".to_owned());
        }
    }

    /// Nothing more is to come.
    fn is_over(&self, now: Instant) -> bool {
        let told = match self.filled {
            Some((since, _)) => self.is_last_word || now.since(since) >= AFTERWARDS,
            None => self.planned.direction == Direction::In && self.outcomes.is_some(),
        };
        told || self.trouble.is_some()
    }
}

fn measured(id: LinkId, name: String, outcome: &Outcome, reordered: Option<f64>) -> Measured {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Measured {
        number: id.0 + 1,
        name,
        rate_bps: outcome.rate.bits_per_second(),
        idle_rtt_ms: outcome.idle.map(millis),
        loaded_rtt_ms: outcome.loaded.map(millis),
        loaded_rtt_p95_ms: outcome.loaded_p95.map(millis),
        queue_ms: outcome.queue.map(millis),
        queue_overflowed: outcome.queue_overflowed,
        loss: f64::from(outcome.lost) / f64::from(outcome.sent.max(1)),
        reordered,
        path_mtu_bytes: outcome.path_mtu.map(u32::from),
        bytes: u64::from(outcome.kib) * 1024,
        growing: outcome.growing,
        interrupted: outcome.interrupted,
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
