//! Why a link carries less than it could, of what this portal sends.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::Outbound;
use super::link::{Link, State, Verdict};
use super::schedule::{AS_GOOD, MAX_REORDER_DELAY, half_rtt};
use crate::core::units::{Instant, LinkId, Rate};

/// A link that carries this share of its bandwidth is in full use: controllers leave some for others and to look
/// for more.
const FULL: f64 = 0.85;
/// A packet that has waited for so long waits for a link (CoDel's usual target, RFC 8289 §4.4).
const STANDING: Duration = Duration::from_millis(5);

/// What holds a link back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// It is not up, for this reason.
    State(State, Cow<'static, str>),
    /// It came up, and is being tried.
    Trial,
    /// It loses so many percent.
    Unfit(u8),
    /// Its metric is higher than that of the links in use.
    Standby {
        /// Its own.
        metric: u8,
        /// That of those in use.
        lowest: u8,
        /// It takes what they have no room for.
        overflow: bool,
    },
    /// It is that much later than the fastest, more than the other portal can bridge.
    TooLate(Duration),
    /// It carries shorter packets than the interface takes.
    Narrow {
        /// Longest packet that it carries, bytes.
        carries: u64,
        /// Longest that is taken.
        longest: u64,
    },
    /// It is that much later than the fastest, and these have the backlog gone by then.
    Later(Duration),
    /// The user allows no more than this.
    Capped(Rate),
    /// Its rate is not known yet.
    Searching,
    /// So many bytes are in flight, and not more are allowed.
    Window(u64),
    /// Nothing waits.
    Application,
}

impl Limit {
    /// The word that programs see.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::State(state, _) => state.name(),
            Self::Trial => "trial",
            Self::Unfit(_) => "unfit",
            Self::Standby { .. } => "standby",
            Self::TooLate(_) => "too-late",
            Self::Narrow { .. } => "narrow",
            Self::Later(_) => "later",
            Self::Capped(_) => "rate-limited",
            Self::Searching => "searching",
            Self::Window(_) => "window-limited",
            Self::Application => "application-limited",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(_, reason) => f.write_str(reason),
            Self::Trial => f.write_str("it is being tried how much it loses"),
            Self::Unfit(percent) => write!(f, "loses {percent} % of what is sent"),
            Self::Standby { metric, lowest, overflow: false } => {
                write!(f, "metric {metric} behind metric {lowest}")
            }
            Self::Standby { metric, lowest, overflow: true } => {
                write!(f, "metric {metric} takes only what metric {lowest} has no room for")
            }
            Self::TooLate(extra) => {
                write!(
                    f,
                    "arrives {} ms after the fastest, too late to share a conversation",
                    extra.as_millis()
                )
            }
            Self::Narrow { carries, longest } => {
                write!(f, "carries packets of up to {carries} bytes, the interface takes {longest}")
            }
            Self::Later(extra) => {
                write!(f, "joins only a backlog that lasts longer than its extra {} ms", extra.as_millis())
            }
            Self::Capped(rate) => {
                write!(f, "held to {} Mbit/s by RateLimit", rate.bits_per_second() / 1e6)
            }
            Self::Searching => f.write_str("its bandwidth is still being found out"),
            Self::Window(bytes) => write!(f, "its congestion window of {bytes} bytes is full"),
            Self::Application => f.write_str("there is nothing more to send"),
        }
    }
}

impl Outbound {
    /// What holds the link back; `None` if it carries what it can.
    pub(super) fn limit(&self, now: Instant, id: LinkId) -> Option<Limit> {
        let link = self.link(id)?;
        let standing = self.standing_limit(id, link);
        // One that takes what others have no room for, or whole conversations, may be full too.
        let held = standing.filter(|limit| {
            let selective = matches!(limit, Limit::Standby { overflow: true, .. } | Limit::TooLate(_));
            !selective || !is_full(now, link)
        });
        if held.is_some() {
            return held;
        }
        if let Some(rate) = link.sender.rate_limit
            && link.account.wire_sent.rate(now) >= rate.scaled(FULL)
        {
            return Some(Limit::Capped(rate));
        }
        if is_full(now, link) {
            return None;
        }
        self.passing_limit(now, id, link)
    }

    /// What lasts, whatever is sent.
    fn standing_limit(&self, id: LinkId, link: &Link) -> Option<Limit> {
        if link.state != State::Up {
            let reason = link.reason.clone().unwrap_or(unnamed(link.state).into());
            return Some(Limit::State(link.state, reason));
        }
        match link.verdict() {
            Verdict::Fit => {}
            Verdict::OnTrial(_) => return Some(Limit::Trial),
            Verdict::Unfit(percent) => return Some(Limit::Unfit(percent)),
        }
        let Some(extra) = self.extra_delay(id, half_rtt) else {
            let lowest = self.active_links().map(Link::metric).min()?;
            let overflow = self.policy.overflow;
            return Some(Limit::Standby { metric: link.metric(), lowest, overflow });
        };
        (extra > MAX_REORDER_DELAY).then_some(Limit::TooLate(extra))
    }

    /// What depends on the load.
    fn passing_limit(&self, now: Instant, id: LinkId, link: &Link) -> Option<Limit> {
        let waiting = self.queue.sojourn(now).is_some_and(|sojourn| sojourn >= STANDING);
        let extra = self.extra_delay(id, half_rtt).filter(|extra| *extra > AS_GOOD);
        if let Some(extra) = extra {
            let earlier = |other: &Link| half_rtt(other) < half_rtt(link);
            let others_full = self.active_links().any(|other| earlier(other) && is_full(now, other));
            if if waiting { !self.is_striped(id) } else { others_full } {
                return Some(Limit::Later(extra));
            }
        }
        let (carries, longest) = (self.carries(id), self.longest as u64);
        if link.path_mtu.is_settled() && carries < longest {
            return Some(Limit::Narrow { carries, longest });
        }
        let controller = link.sender.controller();
        match controller.window() {
            _ if !waiting => Some(Limit::Application),
            Some(_) if controller.is_searching() => Some(Limit::Searching),
            // With a queue on the path it carries all that it can, whatever is believed of its bandwidth.
            Some(window) if window < link.sender.in_flight() + longest && !is_queued(link) => {
                Some(Limit::Window(window))
            }
            _ => None,
        }
    }
}

/// What it sent lately is what its controller believes that it carries; where that has no idea of it, there is a
/// queue on the path too. Without a controller nobody knows.
fn is_full(now: Instant, link: &Link) -> bool {
    let controller = link.sender.controller();
    let known = controller.window().is_some() && !controller.is_searching();
    let believed = known && (controller.bandwidth().is_some() || is_queued(link));
    let bandwidth = link.sender.rate().filter(|_| believed);
    bandwidth.is_some_and(|bandwidth| link.account.sent.rate(now) >= bandwidth.scaled(FULL))
}

/// There is a queue on the path. A little is enough, because one that never drains is in the minimum as well.
fn is_queued(link: &Link) -> bool {
    let rtt = link.sender.rtt();
    rtt.smoothed() > rtt.min() + (rtt.min() / 16).max(STANDING)
}

/// The reason for a state that was entered without one.
const fn unnamed(state: State) -> &'static str {
    match state {
        State::Init => "there is no session with the other portal",
        State::Probing => "waits for the answer to the first probe",
        State::Up => "",
        State::Suspect => "answers are overdue",
        State::Down => "lost",
    }
}
