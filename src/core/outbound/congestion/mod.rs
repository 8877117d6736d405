//! Congestion control of one link: events in, a window and a pacing rate out.

mod bbr;
mod losses;
mod newreno;
mod unlimited;

use std::time::Duration;

use crate::core::one_way::Apparent;
use crate::core::rtt::Rtt;
use crate::core::units::{Instant, Rate};

pub use bbr::Bbr;
pub use newreno::NewReno;
pub use unlimited::Unlimited;

/// Which controller a link uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A model of the path's bandwidth and round-trip time: the default.
    Bbr,
    /// RFC 9002 §7 / RFC 6582: halves at loss.
    NewReno,
    /// No limit by us: for TCP flows, whose kernel does it, and for `CongestionControl = none`.
    Unlimited,
}

impl Algorithm {
    /// A fresh controller for datagrams of at most `max_datagram` bytes.
    pub fn controller(self, max_datagram: u64) -> Box<dyn Controller> {
        match self {
            Self::Bbr => Box::new(Bbr::new(max_datagram)),
            Self::NewReno => Box::new(NewReno::new(max_datagram)),
            Self::Unlimited => Box::new(Unlimited),
        }
    }
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Bytes newly acknowledged.
    pub bytes: u64,
    /// When the newest of them was sent.
    pub newest_sent: Instant,
    /// True if less was sent than the window allowed, because there was nothing to send.
    pub app_limited: bool,
    /// How fast the path delivered, if it could be measured.
    pub rate: Option<RateSample>,
    /// A new round-trip time, without the peer's delay.
    pub rtt: Option<Duration>,
    /// The part of it until the peer had the datagram, up to what the clocks differ by.
    pub one_way: Option<Apparent>,
    /// Bytes delivered so far, these included.
    pub delivered: u64,
    /// The same when the newest of these was sent.
    pub delivered_when_sent: u64,
}

/// One sample of the delivery rate (draft-cheng-iccrg-delivery-rate-estimation).
#[derive(Clone, Copy, Debug)]
pub struct RateSample {
    /// Bytes delivered over the interval.
    pub rate: Rate,
    /// Length of the interval.
    pub interval: Duration,
    /// True if the sender had too little to send to show the path's rate.
    pub app_limited: bool,
}

/// What was lost.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    /// Bytes declared lost.
    pub bytes: u64,
    /// When the newest of them was sent.
    pub newest_sent: Instant,
    /// Nothing came through for several probe timeouts (RFC 9002 §7.6).
    pub persistent: bool,
}

/// A congestion controller. All calls come from the link's sender, in the order of events.
pub trait Controller: Send {
    /// New data was acknowledged. `in_flight` is what still is.
    fn on_ack(&mut self, now: Instant, acked: &Acked, in_flight: u64, rtt: &Rtt);

    /// Datagrams were declared lost.
    fn on_loss(&mut self, now: Instant, lost: &Lost);

    /// A datagram that was declared lost arrived after all; it was sent at `sent`.
    fn on_spurious_loss(&mut self, sent: Instant);

    /// Most bytes that may be in flight; `None` without limit.
    fn window(&self) -> Option<u64>;

    /// Rate at which datagrams may leave; `None` without limit.
    fn pacing_rate(&self, rtt: &Rtt) -> Option<Rate>;

    /// The path's bandwidth, as far as the controller has an idea of it.
    fn bandwidth(&self) -> Option<Rate> {
        None
    }

    /// The path's rate is still being found out: a queue before it is no sign that it is full.
    fn is_searching(&self) -> bool;

    /// More is sent than the path has carried so far, to see whether it carries more: what is lost then, or within a
    /// round trip, was too much for a queue.
    fn overfills(&self) -> bool {
        self.is_searching()
    }

    /// Conversations flow over earlier links meanwhile: what waits in a queue of this one holds them up.
    fn set_careful(&mut self, _careful: bool) {}

    /// Every datagram more is a chance more to lose one and to be slowed down by it.
    fn is_loss_based(&self) -> bool {
        false
    }

    /// The name in configuration and `show`.
    fn name(&self) -> &'static str;
}
