//! NewReno as RFC 9002 §7 adapts RFC 6582, paced, with undo of spurious losses.

use super::{Acked, Controller, Lost};
use crate::core::rtt::Rtt;
use crate::core::units::{Instant, Rate};

/// Datagrams in the initial window (RFC 6928).
const INITIAL_WINDOW: u64 = 10;
/// Datagrams in the smallest window (RFC 9002 §7.2).
const MINIMUM_WINDOW: u64 = 2;
/// Pacing over the window's own rate, so that pacing does not become the limit (Linux `tcp_pacing_*_ratio`).
const SLOW_START_GAIN: f64 = 2.0;
const AVOIDANCE_GAIN: f64 = 1.2;

/// The dissertation's baseline.
pub struct NewReno {
    max_datagram: u64,
    window: u64,
    threshold: u64,
    /// Bytes acknowledged towards the next increase in congestion avoidance.
    credit: u64,
    /// Losses of what was sent until then belong to an event that was answered already.
    recovery_start: Option<Instant>,
    /// Window and threshold before the last event, for its undo.
    before: Option<(u64, u64)>,
}

impl NewReno {
    /// In slow start, for datagrams of at most `max_datagram` bytes.
    pub fn new(max_datagram: u64) -> Self {
        Self {
            max_datagram,
            window: INITIAL_WINDOW * max_datagram,
            threshold: u64::MAX,
            credit: 0,
            recovery_start: None,
            before: None,
        }
    }

    fn in_recovery(&self, sent: Instant) -> bool {
        self.recovery_start.is_some_and(|start| sent <= start)
    }
}

impl Controller for NewReno {
    fn on_ack(&mut self, _: Instant, acked: &Acked, _: u64, _: &Rtt) {
        if acked.app_limited || self.in_recovery(acked.newest_sent) {
            return;
        }
        if self.window < self.threshold {
            self.window = (self.window + acked.bytes).min(self.threshold.max(self.window));
            return;
        }
        self.credit += acked.bytes;
        if self.credit >= self.window {
            self.credit -= self.window;
            self.window += self.max_datagram;
        }
    }

    fn on_loss(&mut self, now: Instant, lost: &Lost) {
        if !self.in_recovery(lost.newest_sent) {
            self.before = Some((self.window, self.threshold));
            self.recovery_start = Some(now);
            self.threshold = (self.window / 2).max(MINIMUM_WINDOW * self.max_datagram);
            self.window = self.threshold;
            self.credit = 0;
        }
        if lost.persistent {
            self.before = None;
            self.window = MINIMUM_WINDOW * self.max_datagram;
        }
    }

    fn on_spurious_loss(&mut self, sent: Instant) {
        if self.in_recovery(sent)
            && let Some((window, threshold)) = self.before.take()
        {
            self.window = self.window.max(window);
            self.threshold = self.threshold.max(threshold);
            self.recovery_start = None;
        }
    }

    fn window(&self) -> Option<u64> {
        Some(self.window)
    }

    fn pacing_rate(&self, rtt: &Rtt) -> Option<Rate> {
        let gain = if self.window < self.threshold { SLOW_START_GAIN } else { AVOIDANCE_GAIN };
        Some(Rate::of(self.window, rtt.smoothed())?.scaled(gain))
    }

    fn is_searching(&self) -> bool {
        self.window < self.threshold
    }

    fn is_loss_based(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "newreno"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MAX: u64 = 1_000;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn ack(reno: &mut NewReno, bytes: u64, sent: Instant, app_limited: bool) {
        let acked = Acked {
            bytes,
            newest_sent: sent,
            app_limited,
            rate: None,
            rtt: None,
            one_way: None,
            delivered: 0,
            delivered_when_sent: 0,
        };
        reno.on_ack(sent, &acked, 0, &Rtt::default());
    }

    fn lose(reno: &mut NewReno, now: Instant, sent: Instant, persistent: bool) {
        reno.on_loss(now, &Lost { bytes: MAX, newest_sent: sent, persistent });
    }

    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_a_window() {
        let mut reno = NewReno::new(MAX);
        ack(&mut reno, 10 * MAX, at(1), false);
        assert_eq!(reno.window(), Some(20 * MAX));
        lose(&mut reno, at(10), at(5), false);
        assert_eq!(reno.window(), Some(10 * MAX));
        ack(&mut reno, 9 * MAX, at(11), false);
        assert_eq!(reno.window(), Some(10 * MAX));
        ack(&mut reno, MAX, at(11), false);
        assert_eq!(reno.window(), Some(11 * MAX));
    }

    #[test]
    fn one_event_halves_once() {
        let mut reno = NewReno::new(MAX);
        lose(&mut reno, at(10), at(5), false);
        lose(&mut reno, at(12), at(9), false);
        assert_eq!(reno.window(), Some(5 * MAX));
        ack(&mut reno, 5 * MAX, at(9), false);
        assert_eq!(reno.window(), Some(5 * MAX), "what was sent before the event does not grow the window");
        lose(&mut reno, at(20), at(15), false);
        assert_eq!(reno.window(), Some(2_500));
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(MAX);
        ack(&mut reno, 10 * MAX, at(1), true);
        assert_eq!(reno.window(), Some(10 * MAX));
    }

    #[test]
    fn a_spurious_loss_gives_the_window_back_and_persistent_congestion_does_not() {
        let mut reno = NewReno::new(MAX);
        lose(&mut reno, at(10), at(5), false);
        reno.on_spurious_loss(at(5));
        assert_eq!(reno.window(), Some(10 * MAX));
        lose(&mut reno, at(30), at(25), true);
        reno.on_spurious_loss(at(25));
        assert_eq!(reno.window(), Some(2 * MAX));
    }
}
