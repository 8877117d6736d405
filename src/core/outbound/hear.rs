//! What the peer says: acknowledgements, probes and their answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::Outbound;
use super::event::{Event, Heard};
use super::link::SocketId;
use super::sender::Sender;
use crate::core::rtt::MAX_ACK_DELAY;
use crate::core::units::{Instant, LinkId};
use crate::core::wire::{Ack, Probe};

/// Acknowledgements may take this share of a link that is full: one of 100 Mbit/s down and 2 up must reach its 100.
const ACK_SHARE: f64 = 0.02;
/// Bytes of a usual one on the wire.
const ACK_BYTES: u64 = 96;

impl Outbound {
    /// Ties the peer's number of a link to ours.
    pub fn join(&mut self, id: LinkId, peer_number: u8) {
        for (slot, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            if slot == id.index() {
                link.peer_number = Some(peer_number);
            } else if link.peer_number == Some(peer_number) {
                link.peer_number = None;
            }
        }
    }

    /// Authentic datagrams came in on a link, from `source` to `socket`. The peer's address is learned from
    /// them if one is newer than all before.
    pub fn on_received(&mut self, now: Instant, socket: SocketId, source: SocketAddr, heard: &Heard) {
        let id = heard.link;
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        link.on_received(now, heard);
        if heard.newest < link.newest {
            return;
        }
        link.newest = heard.newest;
        if link.remote == Some(source) && link.socket == Some(socket) {
            return;
        }
        let known = link.remote.replace(source).is_some();
        link.socket = Some(socket);
        if known {
            link.path_mtu.doubt();
            self.events.push(Event::Moved { link: id, name: link.config.name.clone(), remote: source });
        } else if self.session {
            self.change(now, id, |link| link.join(now));
        }
    }

    /// An acknowledgement of what was sent on the link.
    pub fn on_ack(&mut self, now: Instant, id: LinkId, ack: &Ack, timestamp: u32) {
        let mut rtt = None;
        self.change(now, id, |link| {
            let change = link.on_ack(now, ack, timestamp);
            rtt = link.sender.path_rtt();
            change
        });
        self.load.on_rtt(now, id, rtt);
        self.judge(now, id);
        self.collect(now, id, false);
        self.tell_careful();
        self.tune_queue(now);
        self.drop_stranded_copies();
    }

    /// Sees whether the link is of use, by what became of its datagrams.
    pub(super) fn judge(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links[id.index()].as_deref_mut() else { return };
        let was_unfit = link.reason.is_some();
        let separate = link.judge_runs(now);
        if separate {
            self.events.extend(Self::runs_given_up(id, link));
        }
        if !link.judge(now) && !separate {
            return;
        }
        let (name, reason) = (link.config.name.clone(), link.reason.clone());
        if was_unfit || reason.is_some() {
            self.events.push(Event::Judged { link: id, name, reason });
        }
        self.refresh(now);
    }

    /// A probe: it will be answered.
    pub fn on_probe(&mut self, now: Instant, id: LinkId, probe: Probe) {
        self.change(now, id, |link| {
            link.on_probe(now, probe);
            None
        });
    }

    /// An answer to a probe.
    pub fn on_probe_reply(&mut self, now: Instant, id: LinkId, reply: Probe) {
        let stand_in = self.has_stand_in(id);
        self.change(now, id, |link| link.on_probe_reply(now, reply, stand_in));
    }

    /// A path probe whose body has so many bytes: it will be answered.
    pub fn on_path_probe(&mut self, id: LinkId, body_len: usize) {
        let len = u16::try_from(body_len + self.overhead());
        if let (Some(link), Ok(len)) = (self.links[id.index()].as_deref_mut(), len) {
            link.path_reply = Some(len);
        }
    }

    /// A path probe of so many bytes arrived.
    pub fn on_path_reply(&mut self, now: Instant, id: LinkId, len: u16) {
        self.change(now, id, |link| {
            link.on_path_reply(now, len);
            None
        });
    }

    /// Hands over an acknowledgement of what was received on the link.
    pub fn send_ack(&mut self, now: Instant, id: LinkId, mut ack: Ack) {
        if let Some(link) = self.links[id.index()].as_deref_mut() {
            // One that could not leave yet must not be lost: what no acknowledgement speaks of counts as such.
            if let Some((_, earlier)) = &link.ack {
                ack.include(earlier);
            }
            link.ack = Some((now, ack));
        }
    }

    /// Shortest time between two acknowledgements on the link, so that they take at most [`ACK_SHARE`] of what it
    /// carries. A link with room to spare needs none.
    pub fn ack_spacing(&self, id: LinkId) -> Duration {
        let full = self.link(id).map(|link| &link.sender).filter(|sender| !sender.is_app_limited());
        let rate = full.and_then(Sender::rate).map(|rate| rate.scaled(ACK_SHARE));
        rate.map_or(Duration::ZERO, |rate| rate.duration_of(ACK_BYTES)).min(MAX_ACK_DELAY)
    }

    /// The link's round-trip time, smoothed and least, once measured.
    pub fn rtt(&self, id: LinkId) -> Option<(Duration, Duration)> {
        let measured = self.link(id).map(|link| link.sender.rtt()).filter(|rtt| rtt.is_measured());
        measured.map(|rtt| (rtt.smoothed(), rtt.min()))
    }
}
