//! One step of a load test at the portal that sends: the links lie idle for a moment, are kept full with padding, and
//! last, where congestion control keeps queues short, one is overfilled until its longest queue is known.
//!
//! Ordinary traffic goes first all the time; what it carries counts like padding.

use std::time::Duration;

use crate::core::load_wire::Outcome;
use crate::core::outbound::congestion::Algorithm;
use crate::core::outbound::link::{Link, State};
use crate::core::units::{Instant, LinkId, MAX_LINKS, Rate};

/// How often is looked what arrived: 10 marks in the shortest step.
const LOOK: Duration = Duration::from_millis(50);
/// Links lie idle for so long, and for two round trips, so that what was in their queues is gone …
const IDLE: Duration = Duration::from_millis(400);
/// … but no longer than this.
const MAX_IDLE: Duration = Duration::from_secs(2);
/// Each step goes on until a link's queue was not overfilled by congestion control for this part of it.
const STEADY_SHARE: u32 = 4;
/// Time between two samples of the round-trip time that are kept: 3,000 in the longest step.
const SAMPLE_EVERY: Duration = Duration::from_millis(10);
/// A link is overfilled at so many times what it carries, so that its queue grows by half of the time …
const PUSH_GAIN: f64 = 1.5;
/// … until the queue is as long as this, which no application bears, …
const PUSH_QUEUE: Duration = Duration::from_millis(300);
/// … so many datagrams were lost, …
const PUSH_LOSSES: u64 = 8;
/// … or so much time and four round trips have passed: a queue of 300 ms takes 600 to grow, and one to be seen.
const PUSH_TIME: Duration = Duration::from_millis(1_000);
/// Part of the bytes that is kept for that.
const PUSH_SHARE: u64 = 5;
/// Longest wait for a queue to drain.
const MAX_DRAIN: Duration = Duration::from_secs(1);

/// One step.
pub(super) struct Fill {
    phase: Phase,
    until: Instant,
    time: Duration,
    push: bool,
    /// Bytes of padding that may still be sent, and how many of them are kept for the end.
    budget: u64,
    kept_back: u64,
    next_look: Instant,
    tracks: Vec<Track>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Load { since: Instant },
    Push,
    Drain,
    Done,
}

/// What is seen of one link.
struct Track {
    link: LinkId,
    idle: Option<Duration>,
    /// When congestion control had found out what the path carries, and what of that was lost was known: it
    /// overfills queues to see how much they take.
    steady_since: Option<Instant>,
    /// For how long that was so, in all.
    steady: Duration,
    marks: Vec<Mark>,
    rtts: Vec<(Instant, Duration)>,
    /// Longest round-trip time since it was overfilled, and losses before.
    longest: Duration,
    lost_before: u64,
    bytes: u64,
    outcome: Outcome,
}

/// The sums of a link at one time.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    delivered: u64,
    acked: u64,
    lost: u64,
}

impl Mark {
    fn of(now: Instant, link: &Link) -> Self {
        let totals = link.sender.totals();
        let lost = totals.lost.saturating_sub(totals.spurious);
        Self { at: now, delivered: link.sender.delivered(), acked: totals.acked, lost }
    }
}

impl Fill {
    /// Begins a step for `links`, a bit each: they are kept full for `time` with at most `bytes`, and if `push`
    /// overfilled at the end.
    pub(super) fn new(
        now: Instant,
        links: u16,
        (time, bytes): (Duration, u64),
        push: bool,
        all: &mut [Option<Box<Link>>; MAX_LINKS],
    ) -> Self {
        let mut tracks = Vec::new();
        let mut idle = IDLE;
        for (id, link) in (0..).map(LinkId).zip(all).filter(|(id, _)| links & 1 << id.0 != 0) {
            let Some(link) = link.as_deref_mut() else { continue };
            idle = idle.max(link.sender.rtt().smoothed() * 2);
            if is_uncontrolled(link) {
                // Nobody else would find out what it carries.
                link.sender.renew(now, Algorithm::Bbr);
            }
            tracks.push(Track {
                link: id,
                idle: None,
                steady_since: None,
                steady: Duration::ZERO,
                marks: Vec::new(),
                rtts: Vec::new(),
                longest: Duration::ZERO,
                lost_before: 0,
                bytes: 0,
                outcome: Outcome::default(),
            });
        }
        Self {
            phase: Phase::Idle,
            until: now + idle.min(MAX_IDLE),
            time,
            push,
            budget: bytes,
            kept_back: if push { bytes / PUSH_SHARE } else { 0 },
            next_look: now,
            tracks,
        }
    }

    /// It is over, and [`Fill::outcomes`] are complete.
    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// What became of what was sent on each link.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = (LinkId, Outcome)> {
        self.tracks.iter().map(|track| (track.link, track.outcome))
    }

    /// Whether the link is to be kept full now.
    pub(super) fn fills(&self, id: LinkId) -> bool {
        let left = match self.phase {
            Phase::Load { .. } => self.budget > self.kept_back,
            Phase::Push => self.budget > 0,
            Phase::Idle | Phase::Drain | Phase::Done => false,
        };
        left && self.tracks.iter().any(|track| track.link == id)
    }

    /// A datagram of padding left.
    pub(super) fn on_padded(&mut self, id: LinkId, bytes: u64) {
        self.budget = self.budget.saturating_sub(bytes);
        if let Some(track) = self.tracks.iter_mut().find(|track| track.link == id) {
            track.bytes += bytes;
        }
    }

    /// The path of a link took so long there and back.
    pub(super) fn on_rtt(&mut self, now: Instant, id: LinkId, rtt: Duration) {
        let Some(track) = self.tracks.iter_mut().find(|track| track.link == id) else { return };
        match self.phase {
            Phase::Idle => track.idle = Some(track.idle.map_or(rtt, |least| least.min(rtt))),
            Phase::Load { .. } => {
                if track.rtts.last().is_none_or(|(at, _)| now.since(*at) >= SAMPLE_EVERY) {
                    track.rtts.push((now, rtt));
                }
            }
            Phase::Push | Phase::Drain => track.longest = track.longest.max(rtt),
            Phase::Done => {}
        }
    }

    /// When [`Fill::on_timeout`] wants to be called.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        (!self.is_done()).then_some(self.next_look)
    }

    /// Looks what arrived, and goes on to the next phase when it is time to.
    pub(super) fn on_timeout(&mut self, now: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) {
        if self.is_done() || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for track in &mut self.tracks {
            let Some(link) = links[track.link.index()].as_deref_mut() else {
                track.outcome.interrupted = true;
                continue;
            };
            track.outcome.interrupted |= link.state != State::Up;
            match self.phase {
                Phase::Idle => {
                    // A lone probe shows no rate of the path.
                    link.sender.on_app_limited(now);
                    link.ask();
                }
                Phase::Load { .. } => track.look(now, link),
                Phase::Push | Phase::Drain | Phase::Done => {}
            }
        }
        match self.phase {
            Phase::Idle if now >= self.until => {
                (self.phase, self.until) = (Phase::Load { since: now }, now + self.time);
            }
            Phase::Load { since } if now >= self.until || self.budget <= self.kept_back => {
                self.end_load(now, since, links);
            }
            Phase::Push if now >= self.until || self.budget == 0 || self.is_pushed(links) => {
                self.release(now, links);
                let longest = self.tracks.iter().map(|track| track.longest).max().unwrap_or_default();
                (self.phase, self.until) = (Phase::Drain, now + longest.clamp(LOOK * 2, MAX_DRAIN));
            }
            Phase::Drain if now >= self.until => self.finish(now, links),
            _ => {}
        }
    }

    /// Gives the links back to their own congestion control.
    pub(super) fn release(&self, now: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) {
        for track in &self.tracks {
            if let Some(link) = links[track.link.index()].as_deref_mut() {
                link.sender.release(now);
            }
        }
    }

    /// Gives them back what the test had replaced too.
    pub(super) fn restore(&self, now: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) {
        self.release(now, links);
        for track in &self.tracks {
            if let Some(link) = links[track.link.index()].as_deref_mut().filter(|link| is_uncontrolled(link))
            {
                link.sender.renew(now, link.config.algorithm);
            }
        }
    }

    /// The links were full for long enough, unless their rate still grows or was found out only now: then once more as
    /// long.
    fn end_load(&mut self, now: Instant, since: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) {
        let mut grows = false;
        for track in &mut self.tracks {
            let Some(link) = links[track.link.index()].as_deref() else { continue };
            track.outcome.growing = link.sender.controller().is_searching();
            grows |= track.outcome.growing || track.steady < self.time / STEADY_SHARE;
        }
        if grows && self.budget > self.kept_back && now.since(since) < self.time * 2 {
            self.until = since + self.time * 2;
            return;
        }
        self.tracks.iter_mut().for_each(Track::conclude);
        if !(self.push && self.overfill(now, links)) {
            self.finish(now, links);
        }
    }

    /// Begins to send more than the link carries. False if its queue is full anyway, or nothing is known of it.
    fn overfill(&mut self, now: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) -> bool {
        let [track] = &mut self.tracks[..] else { return false };
        let Some(link) = links[track.link.index()].as_deref_mut() else { return false };
        let controller = link.sender.controller();
        let keeps_short = controller.bandwidth().is_some() && !controller.is_loss_based();
        let rtt = track.idle.unwrap_or(link.sender.rtt().min());
        let rate = track.outcome.rate;
        if !keeps_short || rate.bytes_per_second() == 0 || link.state != State::Up {
            return false;
        }
        track.lost_before = link.sender.totals().lost;
        let window = rate.bytes_in(rtt + PUSH_QUEUE * 2);
        link.sender.force(now, rate.scaled(PUSH_GAIN), window);
        (self.phase, self.until) = (Phase::Push, now + PUSH_TIME.max(rtt * 4));
        true
    }

    /// The queue is as long as it can be, or as it is to be.
    fn is_pushed(&self, links: &[Option<Box<Link>>; MAX_LINKS]) -> bool {
        self.tracks.iter().all(|track| {
            let lost = links[track.link.index()].as_deref().map_or(0, |link| link.sender.totals().lost);
            let idle = track.idle.unwrap_or(track.longest);
            track.longest >= idle + PUSH_QUEUE || lost - track.lost_before.min(lost) >= PUSH_LOSSES
        })
    }

    fn finish(&mut self, now: Instant, links: &mut [Option<Box<Link>>; MAX_LINKS]) {
        for track in &mut self.tracks {
            track.outcome.kib = (track.bytes / 1024) as u32;
            let Some(link) = links[track.link.index()].as_deref() else { continue };
            track.outcome.path_mtu = link.path_mtu.ip_packet();
            if track.longest > Duration::ZERO {
                track.outcome.queue = Some(track.longest.saturating_sub(track.idle.unwrap_or(track.longest)));
                let lost = link.sender.totals().lost.saturating_sub(track.lost_before);
                track.outcome.queue_overflowed = lost >= PUSH_LOSSES;
            }
        }
        self.restore(now, links);
        self.phase = Phase::Done;
    }
}

impl Track {
    /// Takes note of what has arrived by now, and of what was lost of it though the link was just full.
    fn look(&mut self, now: Instant, link: &Link) {
        let mark = Mark::of(now, link);
        let known_after = self.idle.unwrap_or(link.sender.rtt().smoothed()) * 2;
        if link.sender.controller().overfills() {
            self.steady_since = None;
        } else if now >= *self.steady_since.get_or_insert(now + known_after)
            && let Some(before) = self.marks.last()
        {
            let lost = mark.lost.saturating_sub(before.lost) as u32;
            self.steady += now.since(before.at);
            self.outcome.lost += lost;
            self.outcome.sent += mark.acked.saturating_sub(before.acked) as u32 + lost;
        }
        self.marks.push(mark);
    }

    /// Works out what the second half of the time brought.
    fn conclude(&mut self) {
        self.outcome.idle = self.idle;
        let (Some(first), Some(last)) = (self.marks.first(), self.marks.last()) else { return };
        let half = first.at + last.at.since(first.at) / 2;
        let Some(middle) = self.marks.iter().find(|mark| mark.at >= half) else { return };
        let bytes = last.delivered.saturating_sub(middle.delivered);
        self.outcome.rate = Rate::of(bytes, last.at.since(middle.at)).unwrap_or_default();
        let mut rtts: Vec<Duration> =
            self.rtts.iter().filter(|(at, _)| *at >= half).map(|(_, rtt)| *rtt).collect();
        rtts.sort_unstable();
        let percentile = |percent: usize| rtts.get(rtts.len() * percent / 100).copied();
        (self.outcome.loaded, self.outcome.loaded_p95) = (percentile(50), percentile(95));
    }
}

/// Whether nothing keeps it from taking more than the path carries: a UDP link without congestion control.
pub(super) fn is_uncontrolled(link: &Link) -> bool {
    link.config.algorithm == Algorithm::Unlimited && !link.path_mtu.is_stream()
}
