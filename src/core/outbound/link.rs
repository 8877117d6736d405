//! One link as this portal sees it: its life (`init → probing → up ⇄ suspect → down → probing`), what it
//! has to say besides data, and its [`Sender`].

mod account;
mod damping;
mod fitness;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::adoption::Measurement;
use super::congestion::Algorithm;
use super::event::Heard;
use super::path_mtu::PathMtu;
use super::segmentation::Segmentation;
use super::sender::Sender;
use crate::core::recent::Sum;
use crate::core::units::{Instant, Rate};
use crate::core::wire::{Ack, Probe, Report};
use damping::Damping;
use fitness::Fitness;

pub(super) use account::Account;
pub use account::Meter;
pub use fitness::MOST_LOSS;
pub(super) use fitness::Verdict;

/// A suspect link that another can stand in for is down after this, or when an answer would have come if that is later.
const SUSPECT_FOR: Duration = Duration::from_millis(300);
/// Shortest silence that makes a link suspect: shorter ones happen on busy machines and radio links.
const MIN_SILENCE: Duration = Duration::from_millis(50);
/// Probe timeouts without an acknowledgement that make it suspect even if something is heard from it.
const DEAF_AFTER: u32 = 3;
/// First wait for the answer to a probe on a link that is joining, doubled up to [`MAX_PROBE_WAIT`].
const JOIN_PROBE_WAIT: Duration = Duration::from_millis(200);
/// First wait between the probes of a suspect or lost link.
const SUSPECT_PROBE_WAIT: Duration = Duration::from_millis(50);
/// First wait between the probes of a lost link: it grows to a 200th of the time since the loss …
const DOWN_PROBE_WAIT: Duration = Duration::from_millis(100);
/// Longest wait between probes.
const MAX_PROBE_WAIT: Duration = Duration::from_secs(2);
/// … up to this.
const MAX_DOWN_PROBE_WAIT: Duration = Duration::from_secs(5);
/// For so long the return of a lost link is expected, and the windows of the senders inside are kept for it.
const AWAY: Duration = Duration::from_secs(30);
/// Answers that a lost link must give before it carries data again.
const REPLIES_TO_RETURN: u8 = 3;
/// Silence after which a hint suffices to ask: who replays recordings makes us send no more than that.
const DOUBT_AFTER: Duration = Duration::from_secs(1);
/// Most probe replies waiting to leave; a peer that asks faster asks in vain.
const MAX_REPLIES: usize = 4;
/// What is told as the longest datagram of a stream: any.
pub const STREAM: u16 = u16::MAX;
/// IP and UDP headers around a datagram.
const V4_HEADERS: u16 = 28;
const V6_HEADERS: u16 = 48;
/// IP and TCP headers around what takes a datagram's place on a connection: about a segment, with timestamps (RFC 7323).
const V4_STREAM_HEADERS: u16 = 52;
const V6_STREAM_HEADERS: u16 = 72;
/// A link of this metric is a last resort: it takes nothing while another link is in use, not even what overflows.
pub const LAST_RESORT: u8 = u8::MAX;
/// Length by which trains are measured where datagrams have no limit, or it is not known yet.
const ASSUMED_DATAGRAM: u16 = 1452;

/// A local socket or connection, numbered by the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(pub u32);

/// What a link is told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// For people.
    pub name: String,
    /// Number of the `[Peer]` section, from 1.
    pub section: usize,
    /// `udp` or `tcp`; for people.
    pub method: &'static str,
    /// Its congestion control.
    pub algorithm: Algorithm,
    /// Links of a lower metric are used first; `None`: as the peer says.
    pub metric: Option<u8>,
    /// Longest silence on an idle link; `None`: it may stay silent.
    pub keep_alive: Option<Duration>,
    /// Datagrams may leave in runs that the system cuts apart (UDP GSO).
    pub gso: bool,
    /// Most that may leave, with IP and UDP headers; `None`: what congestion control allows.
    pub rate_limit: Option<Rate>,
    /// Counts what the link sends and receives on the wire.
    pub meter: Option<Meter>,
    /// Its data cost money or are limited: no load test uses it unasked.
    pub metered: bool,
}

/// Where a link is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No socket, or no session yet.
    Init,
    /// Waiting for the answer to a first probe.
    Probing,
    /// Carries data.
    Up,
    /// Answers are overdue: carries no new data while another link can.
    Suspect,
    /// Lost: no data; probed, or waiting to be opened.
    Down,
}

impl State {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [Self::Init, Self::Probing, Self::Up, Self::Suspect, Self::Down];

    /// The name that people and programs see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Probing => "probing",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// A change of state that an operator cares about.
pub(super) struct Change {
    pub(super) from: State,
    pub(super) to: State,
}

pub(super) struct Link {
    pub(super) config: LinkConfig,
    pub(super) state: State,
    pub(super) since: Instant,
    pub(super) reason: Option<Cow<'static, str>>,
    pub(super) socket: Option<SocketId>,
    pub(super) remote: Option<SocketAddr>,
    /// Longest datagram that our interface carries on it, or [`STREAM`].
    max_datagram: u16,
    /// Longest that gets there.
    pub(super) path_mtu: PathMtu,
    /// The peer's number of it.
    pub(super) peer_number: Option<u8>,
    /// What the peer told, for a link without a metric of its own.
    peer_metric: u8,
    pub(super) sender: Sender,
    /// Why datagrams do not leave in runs any more.
    pub(super) gso_reason: Option<String>,
    pub(super) last_received: Instant,
    last_sent: Instant,
    /// Data sequence of the newest datagram from it: only a newer one moves its address.
    pub(super) newest: u64,
    probe_id: u16,
    /// The last probe before the present state: answers to it and older ones say nothing of that state.
    stale_probe_id: u16,
    /// Probes since the last answer.
    unanswered: u32,
    replies_seen: u8,
    /// Since when a lost link has answered.
    good_since: Option<Instant>,
    /// What it carried when it was up.
    rate_before: Option<Rate>,
    damping: Damping,
    fitness: Fitness,
    probe_at: Option<Instant>,
    probe_due: bool,
    pub(super) handshake: Option<Vec<u8>>,
    /// An acknowledgement that waits, and since when.
    pub(super) ack: Option<(Instant, Ack)>,
    pub(super) report: Option<Report>,
    pub(super) replies: VecDeque<Probe>,
    /// Length of a path probe of the peer that waits for its answer.
    pub(super) path_reply: Option<u16>,
    pub(super) close_due: bool,
    pub(super) measurement: Measurement,
    pub(super) sent_packets: u64,
    pub(super) sent_bytes: u64,
    pub(super) received_packets: u64,
    pub(super) received_bytes: u64,
    pub(super) account: Account,
}

impl Link {
    pub(super) fn new(now: Instant, config: LinkConfig) -> Self {
        let mut sender = Sender::new(now, config.algorithm, ASSUMED_DATAGRAM.into());
        sender.segmentation = Segmentation::new(config.gso);
        sender.rate_limit = config.rate_limit;
        Self {
            config,
            state: State::Init,
            since: now,
            reason: None,
            socket: None,
            remote: None,
            max_datagram: ASSUMED_DATAGRAM,
            path_mtu: PathMtu::new(ASSUMED_DATAGRAM, V4_HEADERS),
            peer_number: None,
            peer_metric: 0,
            sender,
            gso_reason: None,
            last_received: now,
            last_sent: now,
            newest: 0,
            probe_id: 0,
            stale_probe_id: 0,
            unanswered: 0,
            replies_seen: 0,
            good_since: None,
            rate_before: None,
            damping: Damping::default(),
            fitness: Fitness::default(),
            probe_at: None,
            probe_due: false,
            handshake: None,
            ack: None,
            report: None,
            replies: VecDeque::new(),
            path_reply: None,
            close_due: false,
            measurement: Measurement::default(),
            sent_packets: 0,
            sent_bytes: 0,
            received_packets: 0,
            received_bytes: 0,
            account: Account::default(),
        }
    }

    pub(super) fn metric(&self) -> u8 {
        self.config.metric.unwrap_or(self.peer_metric)
    }

    /// Takes another metric, rate limit, meter, word on its data's price, or place in the file; nothing else of it
    /// changes.
    pub(super) fn configure(&mut self, config: &LinkConfig) {
        // The peer learns the metric by a probe.
        self.probe_due |= self.config.metric != config.metric && self.is_open() && self.state == State::Up;
        let LinkConfig { section, metric, metered, rate_limit, ref meter, .. } = *config;
        (self.config.section, self.config.metric, self.config.rate_limit) = (section, metric, rate_limit);
        self.config.metered = metered;
        self.config.meter.clone_from(meter);
        self.sender.rate_limit = rate_limit;
    }

    /// Has somewhere to send to.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some() && self.remote.is_some()
    }

    /// Its socket is there. With a session the link starts to join.
    pub(super) fn open(
        &mut self,
        now: Instant,
        socket: SocketId,
        remote: Option<SocketAddr>,
        max_datagram: u16,
        session: bool,
    ) -> Option<Change> {
        if (self.remote, self.max_datagram) != (remote, max_datagram) {
            self.set_path(remote, max_datagram);
        }
        (self.socket, self.remote) = (Some(socket), remote);
        if self.state != State::Down {
            return if session { self.join(now) } else { None };
        }
        (self.probe_at, self.unanswered) = (Some(now), 0);
        None
    }

    /// It takes another path, of which only the interface's limit is known.
    fn set_path(&mut self, remote: Option<SocketAddr>, max_datagram: u16) {
        self.max_datagram = max_datagram;
        let stream = max_datagram == STREAM;
        let headers = if remote.is_some_and(|remote| remote.is_ipv6()) { V6_HEADERS } else { V4_HEADERS };
        self.path_mtu = if stream { PathMtu::stream() } else { PathMtu::new(max_datagram, headers) };
        let (longest, headers) = if stream { (ASSUMED_DATAGRAM, 0) } else { (max_datagram, headers) };
        self.sender.set_max_datagram(longest.into(), headers.into());
    }

    /// A session began: ask the peer for this link.
    pub(super) fn join(&mut self, now: Instant) -> Option<Change> {
        (self.unanswered, self.replies_seen) = (0, 0);
        self.probe_at = self.is_open().then_some(now);
        if self.state == State::Down || !self.is_open() {
            return None;
        }
        self.enter(now, State::Probing, None)
    }

    /// Its socket is gone, or it is known to lead nowhere.
    pub(super) fn fail(&mut self, now: Instant, reason: Cow<'static, str>) -> Option<Change> {
        (self.socket, self.probe_at, self.probe_due) = (None, None, false);
        self.lose(now, reason)
    }

    /// All sequence numbers begin anew with a (re)started peer.
    pub(super) fn reset(&mut self, now: Instant) -> Option<Change> {
        self.sender.restart(now, self.config.algorithm);
        self.sender.continue_from(0);
        (self.peer_number, self.newest, self.ack) = (None, 0, None);
        self.replies.clear();
        self.path_reply = None;
        self.join(now)
    }

    /// The session is void.
    pub(super) fn wait_for_session(&mut self, now: Instant) -> Option<Change> {
        self.sender.abandon();
        (self.peer_number, self.ack, self.probe_at, self.probe_due) = (None, None, None, false);
        if self.state == State::Down && self.socket.is_none() {
            return None;
        }
        self.enter(now, State::Init, Some("waiting for the other portal".into()))
    }

    /// Authentic datagrams came in on it.
    pub(super) fn on_received(&mut self, now: Instant, heard: &Heard) {
        self.last_received = now;
        self.received_packets += heard.datagrams;
        self.received_bytes += heard.bytes;
        let on_wire = heard.bytes + heard.datagrams * self.headers();
        self.account.wire_received.add_all(now, Sum { count: heard.datagrams, bytes: on_wire });
        self.meter(on_wire);
        self.account.received.add(now, heard.data_bytes);
    }

    /// Somebody says that the peer is not what it was: find out, if it has been silent. A lost link that
    /// answers may be wanted now.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.probe_due |= self.good_since.is_some() && self.is_open();
        if self.state == State::Up && self.is_open() && now.since(self.last_received) >= DOUBT_AFTER {
            self.probe_due = true;
        }
    }

    /// Sends a probe soon, if it is up: its round-trip time is wanted.
    pub(super) fn ask(&mut self) {
        self.probe_due |= self.state == State::Up && self.is_open();
    }

    /// The peer asks whether the link works.
    pub(super) fn on_probe(&mut self, now: Instant, probe: Probe) {
        self.hear(probe);
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back(probe);
        }
        // It works in one direction; find out about the other without waiting.
        if matches!(self.state, State::Init | State::Probing | State::Down | State::Suspect) && self.is_open()
        {
            self.probe_at = Some(self.probe_at.map_or(now, |at| at.min(now + SUSPECT_PROBE_WAIT)));
        }
    }

    /// An answer to a probe of ours. `stand_in`: another link is up.
    pub(super) fn on_probe_reply(&mut self, now: Instant, reply: Probe, stand_in: bool) -> Option<Change> {
        self.hear(reply);
        // Not only to the last one: on a long path others leave before the answer comes.
        let asked = self.probe_id.wrapping_sub(self.stale_probe_id);
        if reply.id.wrapping_sub(self.stale_probe_id).wrapping_sub(1) >= asked {
            return None;
        }
        self.unanswered = 0;
        self.replies_seen = self.replies_seen.saturating_add(1);
        match self.state {
            State::Init | State::Probing => self.enter(now, State::Up, None),
            State::Suspect => self.enter(now, State::Up, None),
            State::Down => {
                let good_for = now.since(*self.good_since.get_or_insert(now));
                let trusted = good_for >= self.damping.good_time() || !stand_in;
                if self.replies_seen >= REPLIES_TO_RETURN && trusted {
                    return self.enter(now, State::Up, None);
                }
                if self.replies_seen < REPLIES_TO_RETURN {
                    self.probe_at = Some(now);
                }
                None
            }
            State::Up => None,
        }
    }

    fn hear(&mut self, probe: Probe) {
        self.peer_metric = probe.metric;
        self.path_mtu.set_longest(self.max_datagram.min(probe.max_datagram));
    }

    /// Takes an acknowledgement of what was sent on it, which left the peer at `timestamp` by its clock.
    pub(super) fn on_ack(&mut self, now: Instant, ack: &Ack, timestamp: u32) -> Option<Change> {
        self.sender.length_in_doubt = self.path_mtu.is_in_doubt();
        let outcome = self.sender.on_ack(now, ack, timestamp);
        self.follow_suspicion();
        let news = outcome.acked > 0 && self.state == State::Suspect;
        if news { self.enter(now, State::Up, None) } else { None }
    }

    /// What it is good for, by its losses.
    pub(super) fn verdict(&self) -> Verdict {
        self.fitness.verdict()
    }

    /// It is known not to lose so much that it is of no use.
    pub(super) fn is_fit(&self) -> bool {
        self.verdict() == Verdict::Fit
    }

    /// Judges it by what became of its datagrams. True if it became unfit, or fit.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        if self.state != State::Up || !self.is_judged() {
            return false;
        }
        let changed = self.fitness.judge(now, self.sender.rtt().min(), self.sender.totals());
        if changed {
            self.reason = self.unfitness();
            if matches!(self.verdict(), Verdict::OnTrial(_)) {
                self.sender.excuse(now);
                self.probe_due = true;
            }
        }
        changed
    }

    /// Sees by what became of them whether runs arrive. True if they will not be used any more.
    pub(super) fn judge_runs(&mut self, now: Instant) -> bool {
        let Some((in_runs, alone)) = self.sender.segmentation.judge(now) else { return false };
        self.gso_reason =
            Some(format!("the path lost {in_runs:.0} % of what left in runs and {alone:.0} % of the rest"));
        // What was lost to that tells nothing of the capacity, nor of the path.
        self.sender.renew(now, self.config.algorithm);
        self.try_anew(now);
        true
    }

    /// What it lost was not its fault: finds out anew whether it is of use.
    fn try_anew(&mut self, now: Instant) {
        if self.state == State::Up && self.is_judged() {
            self.fitness.retry(now, self.sender.totals());
            (self.reason, self.probe_due) = (None, true);
        }
    }

    /// The system does not take runs. True if that is news.
    pub(super) fn on_runs_refused(&mut self, reason: String) -> bool {
        let news = self.sender.segmentation.turn_off();
        if news {
            self.gso_reason = Some(reason);
        }
        news
    }

    /// Why it is not used although it is up.
    fn unfitness(&self) -> Option<Cow<'static, str>> {
        let Verdict::Unfit(percent) = self.fitness.verdict() else { return None };
        Some(format!("loses {percent} % of what is sent: not used while others can be").into())
    }

    /// Its losses say something of it. Without a window they are our own doing.
    fn is_judged(&self) -> bool {
        self.sender.controller().window().is_some()
    }

    /// Packets flow over other links: find out whether this one is of use again.
    pub(super) fn ask_if_fit(&mut self, now: Instant) {
        self.probe_due |= self.state == State::Up && self.is_open() && self.fitness.wants_probe(now);
    }

    /// Handles its timers. `stand_in`: another link is up.
    pub(super) fn on_timeout(&mut self, now: Instant, stand_in: bool) -> Option<Change> {
        self.sender.length_in_doubt = self.path_mtu.is_in_doubt();
        let overdue = self.sender.on_timeout(now);
        self.follow_suspicion();
        self.path_mtu.on_timeout(now, self.last_received);
        let mut change = None;
        self.probe_due |= overdue && self.state == State::Up;
        let deaf = overdue && self.sender.pto_count() >= DEAF_AFTER;
        match self.state {
            State::Up if deaf || self.silent_at().is_some_and(|at| now >= at) => {
                change = self.suspect(now, "no answer", stand_in);
            }
            State::Up if self.keep_alive_at().is_some_and(|at| now >= at) => self.probe_due = true,
            State::Suspect if stand_in && now >= self.since + self.suspect_for() => {
                change = self.lose(now, "no answer".into());
            }
            _ => {}
        }
        if self.probe_at.is_some_and(|at| now >= at) {
            self.probe_due = true;
        }
        change
    }

    /// There is reason to think that nothing passes: what is in flight goes over the others.
    pub(super) fn suspect(
        &mut self,
        now: Instant,
        reason: impl Into<Cow<'static, str>>,
        stand_in: bool,
    ) -> Option<Change> {
        if self.state != State::Up {
            return None;
        }
        self.rate_before = self.sender.rate();
        if stand_in {
            self.sender.hand_over();
        }
        self.enter(now, State::Suspect, Some(reason.into()))
    }

    /// What the peer said `age` ago that it had `heard` shows that what was sent does not arrive.
    pub(super) fn is_unheard(&self, now: Instant, heard: u32, age: Duration) -> bool {
        let patience = self.patience() + age;
        now.since(self.since) >= patience && self.sender.is_unheard(now, heard, patience)
    }

    /// How long it is only suspect: an answer takes a round trip.
    fn suspect_for(&self) -> Duration {
        SUSPECT_FOR.max(self.sender.rtt().probe_timeout())
    }

    /// When [`Link::on_timeout`] wants to be called.
    pub(super) fn next_timeout(&self, stand_in: bool) -> Option<Instant> {
        let by_state = match self.state {
            State::Up => {
                let keep_alive = self.keep_alive_at().filter(|_| !self.probe_due);
                [self.silent_at(), keep_alive, self.fitness.next_timeout()].into_iter().flatten().min()
            }
            State::Suspect if stand_in => Some(self.since + self.suspect_for()),
            _ => None,
        };
        let probe = self.probe_at.filter(|_| !self.probe_due);
        let path = self.path_mtu.next_timeout();
        [self.sender.next_timeout(), by_state, probe, path].into_iter().flatten().min()
    }

    /// Long datagrams seem not to arrive any more, or do again.
    fn follow_suspicion(&mut self) {
        match self.sender.suspicion.verdict(self.path_mtu.limit()) {
            Some(true) => self.path_mtu.doubt(),
            Some(false) => self.path_mtu.reassure(),
            None => {}
        }
    }

    /// Longest IP packet of the path before and now, if the search found that it has changed.
    pub(super) fn take_path_news(&mut self, now: Instant) -> Option<(u16, u16)> {
        if self.path_mtu.take_regained() {
            // What was too long was lost to that, and what was short was little: neither tells the capacity.
            self.sender.renew(now, self.config.algorithm);
        }
        let news = self.path_mtu.news();
        if news.is_some_and(|(from, to)| to < from) {
            // What was too long was lost to that.
            if self.is_fit() {
                self.fitness.forgive(now, self.sender.totals());
            } else {
                self.try_anew(now);
            }
        }
        news
    }

    /// A path probe of so many bytes arrived.
    pub(super) fn on_path_reply(&mut self, now: Instant, bytes: u16) {
        self.path_mtu.on_answer(now, bytes);
        self.sender.suspicion.on_acked(bytes.into());
    }

    /// A path probe is to be sent: only while short datagrams get through.
    pub(super) fn wants_path_probe(&self) -> bool {
        self.state == State::Up && self.path_mtu.wants_probe()
    }

    /// Length of the path probe to send now, if one is due. Whoever asks must send it.
    pub(super) fn take_path_probe(&mut self, now: Instant) -> Option<u16> {
        if !self.wants_path_probe() {
            return None;
        }
        // Its loss says something only of a link that works, which a short probe after it shows if need be.
        self.probe_due |= self.path_mtu.wants_company();
        self.path_mtu.take_probe(now, self.sender.rtt().probe_timeout())
    }

    /// The probe to send now, if one is due. Whoever asks must send it.
    pub(super) fn take_probe(&mut self, now: Instant) -> Option<Probe> {
        if !std::mem::take(&mut self.probe_due) {
            return None;
        }
        self.probe_id = self.probe_id.wrapping_add(1);
        self.probe_at = match self.state {
            State::Init => None,
            State::Up => self.fitness.on_probe(now),
            _ => Some(now + self.probe_wait(now)),
        };
        self.unanswered += 1;
        if self.unanswered > self.most_unanswered() {
            (self.good_since, self.replies_seen) = (None, 0);
        }
        Some(self.probe(self.probe_id))
    }

    /// A probe or reply with this number.
    pub(super) fn probe(&self, id: u16) -> Probe {
        Probe { id, to: self.peer_number, metric: self.metric(), max_datagram: self.max_datagram }
    }

    /// A train leaves by the link: so many datagrams, and bytes of those of them with packets.
    pub(super) fn on_sent(&mut self, now: Instant, all: Sum, data: u64) {
        let Sum { count, bytes } = all;
        self.last_sent = now;
        self.sent_packets += count;
        self.sent_bytes += bytes;
        let on_wire = bytes + count * self.headers();
        self.account.wire_sent.add_all(now, Sum { count, bytes: on_wire });
        self.account.sent.add(now, data);
        self.meter(on_wire);
    }

    fn meter(&self, bytes: u64) {
        if let Some(meter) = &self.config.meter {
            meter.add(bytes);
        }
    }

    /// IP and UDP headers around each datagram, or about what TCP puts there.
    fn headers(&self) -> u64 {
        let v6 = self.remote.is_some_and(|remote| remote.is_ipv6());
        let headers = match (self.max_datagram == STREAM, v6) {
            (false, false) => V4_HEADERS,
            (false, true) => V6_HEADERS,
            (true, false) => V4_STREAM_HEADERS,
            (true, true) => V6_STREAM_HEADERS,
        };
        headers.into()
    }

    /// Has something to send that needs neither window nor pacing.
    pub(super) fn has_control(&self) -> bool {
        self.is_open()
            && (self.handshake.is_some()
                || self.ack.is_some()
                || self.report.is_some()
                || self.probe_due
                || self.close_due
                || self.path_reply.is_some()
                || self.wants_path_probe()
                || !self.replies.is_empty())
    }

    /// Probes without an answer that are no fault: those whose answers are under way, and a lost one or two.
    fn most_unanswered(&self) -> u32 {
        3 + self.sender.rtt().smoothed().div_duration_f64(DOWN_PROBE_WAIT) as u32
    }

    fn probe_wait(&self, now: Instant) -> Duration {
        let doubled = |first: Duration| first * (1 << self.unanswered.min(6));
        match self.state {
            State::Probing => doubled(JOIN_PROBE_WAIT).min(MAX_PROBE_WAIT),
            State::Suspect => {
                doubled(SUSPECT_PROBE_WAIT.max(self.sender.rtt().smoothed() / 2)).min(MAX_PROBE_WAIT)
            }
            _ if self.good_since.is_some() => DOWN_PROBE_WAIT,
            _ => (now.since(self.since) / 200).clamp(DOWN_PROBE_WAIT, MAX_DOWN_PROBE_WAIT),
        }
    }

    fn keep_alive_at(&self) -> Option<Instant> {
        Some(self.last_sent.max(self.last_received) + self.config.keep_alive?)
    }

    /// An acknowledgement should have come, and nothing else was heard for so long that it is about to be suspect.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let owing = self.sender.pto_count() > 0 || self.sender.is_overdue(now);
        self.state == State::Up && owing && now >= self.patient_until()
    }

    /// When an answer that is overdue is so for longer than the path explains, and nothing else was heard.
    fn silent_at(&self) -> Option<Instant> {
        (self.sender.pto_count() > 0).then(|| self.patient_until())
    }

    /// When its silence is longer than the path explains.
    fn patient_until(&self) -> Instant {
        self.last_received + self.patience()
    }

    /// Longest time without an answer that the path explains.
    fn patience(&self) -> Duration {
        if matches!(self.fitness.verdict(), Verdict::Unfit(_)) {
            return fitness::PATIENCE;
        }
        let rtt = self.sender.rtt();
        (rtt.smoothed() * 3 / 2 + rtt.variation() * 4).max(MIN_SILENCE)
    }

    /// What it carries as far as is known: a link that was away carries what it did before, until it has shown more.
    pub(super) fn known_rate(&self) -> Option<Rate> {
        let before = self.rate_before.filter(|_| self.sender.controller().is_searching());
        self.sender.rate().max(before)
    }

    /// What a link carried that is away for a moment only, as far as one can hope.
    pub(super) fn absent_rate(&self, now: Instant) -> Option<Rate> {
        let away = match self.state {
            State::Suspect => now.since(self.since) < AWAY,
            State::Down => now.since(self.since) < AWAY && !self.damping.is_reluctant(),
            // Back, and about to carry data again.
            State::Up => matches!(self.fitness.verdict(), Verdict::OnTrial(_)),
            State::Init | State::Probing => false,
        };
        self.rate_before.filter(|_| away)
    }

    fn lose(&mut self, now: Instant, reason: Cow<'static, str>) -> Option<Change> {
        if self.state == State::Up {
            self.rate_before = self.sender.rate();
        }
        self.sender.restart(now, self.config.algorithm);
        (self.replies_seen, self.unanswered, self.good_since) = (0, 0, None);
        (self.ack, self.report) = (None, None);
        if self.socket.is_some() {
            self.probe_at = Some(now + DOWN_PROBE_WAIT);
        }
        if self.state != State::Down {
            self.damping.on_lost(now);
        }
        let good_time = self.damping.good_time();
        let reason = match good_time.as_secs() {
            0 => reason,
            seconds => format!("{reason}; it flaps, so it must be good for {seconds} s to return").into(),
        };
        self.enter(now, State::Down, Some(reason))
    }

    fn enter(&mut self, now: Instant, to: State, reason: Option<Cow<'static, str>>) -> Option<Change> {
        self.reason = reason;
        let from = std::mem::replace(&mut self.state, to);
        if from == to {
            return None;
        }
        let lasted = now.since(std::mem::replace(&mut self.since, now));
        self.account.on_left(from, lasted);
        self.stale_probe_id = self.probe_id;
        match to {
            State::Up => {
                (self.probe_at, self.unanswered) = (None, 0);
                self.reason = self.unfitness();
                if from == State::Down {
                    self.damping.on_returned(now);
                }
                // What an outage did to the estimates is not what the path is like.
                if from != State::Suspect || lasted > self.suspect_for() {
                    self.sender.renew(now, self.config.algorithm);
                    self.path_mtu.doubt();
                    if self.is_judged() {
                        self.fitness.restart(now, self.sender.totals());
                        self.probe_due = true;
                    }
                }
            }
            State::Suspect => (self.probe_at, self.unanswered) = (Some(now), 0),
            _ => {}
        }
        Some(Change { from, to })
    }
}
