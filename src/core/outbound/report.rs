//! What the portals tell each other of what they hear, and the conclusions.
//!
//! A link that is dead in one direction still brings the peer's datagrams, so silence does not show it, and the
//! acknowledgements that are missing may be slow ones. The peer knows: nothing comes in on that link. It says so
//! on the others.

use std::time::Duration;

use super::Outbound;
use super::link::{Link, State};
use crate::core::units::{Instant, LinkId, MAX_LINKS};
use crate::core::wire::Report;

impl Outbound {
    /// Hands over what was heard lately: by the peer's number of each link, the largest sequence number. It goes
    /// on every link that carries data.
    pub fn send_report(&mut self, heard: [Option<u32>; MAX_LINKS]) {
        let report = Report { failed: self.failed_mask(), heard };
        let active = self.active;
        self.give_report(report, |id, _| active & 1 << id.0 != 0);
    }

    /// Tells the peer on every link that is up which ones have failed here.
    pub(super) fn announce_failures(&mut self) {
        let report = Report { failed: self.failed_mask(), ..Report::default() };
        self.give_report(report, |_, link| link.state == State::Up);
    }

    fn give_report(&mut self, report: Report, to: impl Fn(LinkId, &Link) -> bool) {
        for (id, link) in (0..).map(LinkId).zip(&mut self.links) {
            if let Some(link) = link.as_deref_mut().filter(|link| to(id, link)) {
                link.report = Some(report);
            }
        }
    }

    /// Links that this portal cannot use, by the peer's numbers.
    fn failed_mask(&self) -> u16 {
        let failed = self.each().filter(|(_, link)| link.state == State::Down && link.socket.is_none());
        failed.filter_map(|(_, link)| link.peer_number).fold(0, |mask, number| mask | 1 << number)
    }

    /// A report of the peer, which came in on the link `via`.
    pub fn on_report(&mut self, now: Instant, via: LinkId, report: &Report, queued: Duration) {
        // It was true when it left.
        let age = self.rtt(via).unwrap_or_default().0 / 2 + queued;
        // The peer reports while data reaches it.
        self.links.iter_mut().flatten().for_each(|link| link.ask_if_fit(now));
        for id in LinkId::all() {
            let stand_in = self.has_stand_in(id);
            let heard = report.heard[id.index()];
            self.change(now, id, |link| {
                if report.failed & 1 << id.0 != 0 {
                    return link.suspect(now, "the other portal has lost it", stand_in);
                }
                let unheard = link.is_unheard(now, heard?, age);
                if unheard {
                    link.suspect(now, "the other portal hears nothing of it", stand_in)
                } else {
                    None
                }
            });
        }
    }

    /// What was sent on the link could not leave.
    pub fn on_send_errors(&mut self, now: Instant, id: LinkId, reason: String) {
        let stand_in = self.has_stand_in(id);
        self.change(now, id, |link| link.suspect(now, reason, stand_in));
    }
}
