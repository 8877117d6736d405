//! The receiving half of a portal: the anti-replay window that all links share, and what each link has
//! received.
//!
//! Contract: the owner calls [`Inbound::accept`] with every verified datagram, then acts on the
//! [`Fresh`] one that it gives; [`Inbound::take_acks`] and [`Inbound::take_report`] no earlier than
//! [`Inbound::next_timeout`], the former after every batch too. A `now` never goes backwards.

mod describe;
mod receiver;
mod resequencer;

use std::time::Duration;

use super::discard::Discard;
use super::headers::{Decompressor, Head};
use super::load_wire::AllArrivals;
use super::one_way::{Apparent, OneWayDelay};
use super::packet::{Inner, Packet};
use super::replay::{Refused, ReplayWindow};
use super::session::protection::Verified;
use super::units::{Instant, LinkId, MAX_LINKS, expand32};
use super::wire::{Ack, Header, Kind, flags};
use receiver::Receiver;
use resequencer::Resequencer;

pub use resequencer::Delivery;

/// While data comes in, the peer is told this often what is heard of each link: a link that is dead in its
/// direction only is found within two such times.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Reports go on for so long after the last data, which may have ended because its link died.
const REPORTS_LAST: Duration = Duration::from_millis(500);

/// The receiving half of a portal. See the module for the calling contract.
pub struct Inbound {
    /// Counts the sessions with (re)started peers: what was verified under an older one is void.
    generation: u64,
    window: ReplayWindow,
    /// By the peer's number of the link.
    peer_links: [PeerLink; MAX_LINKS],
    decompressor: Decompressor,
    resequencer: Resequencer,
    buffer_size: usize,
    /// When data came in last, and when the next report is due.
    data_at: Instant,
    report_at: Option<Instant>,
}

#[derive(Default)]
struct PeerLink {
    receiver: Receiver,
    delay: OneWayDelay,
    /// Our link that is the same.
    link: Option<LinkId>,
}

/// An authentic datagram that was not seen before.
pub struct Fresh<'a> {
    /// Its header.
    pub header: Header,
    /// Its body.
    pub body: &'a [u8],
    /// Its data sequence number in full.
    pub data_sequence: u64,
    /// Our link that it belongs to; `None` if that was not agreed on when it was accepted. Never for data.
    pub link: Option<LinkId>,
    /// How much longer it took than others of its link: in queues, or unread at our end.
    pub queued: Duration,
}

impl Inbound {
    /// Nothing received yet; inner packets have at most `buffer_size` bytes.
    pub fn new(buffer_size: usize) -> Self {
        Self {
            generation: 0,
            window: ReplayWindow::default(),
            peer_links: Default::default(),
            decompressor: Decompressor::default(),
            resequencer: Resequencer::new(buffer_size),
            buffer_size,
            data_at: Instant::ZERO,
            report_at: None,
        }
    }

    /// A session with a (re)started peer began. What waited for its turn is void.
    pub fn reset(&mut self, generation: u64) {
        *self = Self { generation, ..Self::new(self.buffer_size) };
    }

    /// Checks that `verified` is new and takes note of it. `generation` is that of the key it was verified
    /// with.
    pub fn accept<'a>(
        &mut self,
        now: Instant,
        generation: u64,
        verified: &Verified<'a>,
    ) -> Result<Fresh<'a>, Discard> {
        if generation != self.generation {
            return Err(Discard::UnknownKey);
        }
        let header = *verified.header();
        let data_sequence = expand32(self.window.next(), header.data_sequence);
        let peer_link = &mut self.peer_links[usize::from(header.link)];
        let tracked = matches!(header.kind, Kind::Data | Kind::Probe | Kind::Padding);
        let refused = self.window.accept(data_sequence).err();
        let again =
            refused == Some(Refused::Duplicate) && tracked && peer_link.receiver.is_new(header.sequence);
        match refused {
            // A packet and its repair both arrived: the later one is acknowledged like any other transmission.
            Some(_) if again => {}
            Some(Refused::Duplicate) => return Err(Discard::Replayed),
            Some(Refused::TooOld) => return Err(Discard::TooOld),
            None => {}
        }
        self.resequencer.on_progress(now, &header, data_sequence);
        let apparent = Apparent::of(header.timestamp, now.micros24());
        peer_link.delay.take(now, apparent);
        let queued = peer_link.delay.least(now).map_or(0, |least| apparent.beyond(least).max(0));
        let queued = Duration::from_micros(queued as u64);
        self.resequencer.set_queued(header.link, queued);
        if tracked {
            peer_link.receiver.on_received(now, header.sequence, header.flags & flags::ACK_NOW != 0);
        }
        // What is acknowledged was taken note of: the peer relies on it.
        if header.kind == Kind::Data && header.flags & flags::DEFINES != 0 {
            self.decompressor.define(header.context(), data_sequence, verified.body());
        }
        if again {
            return Err(Discard::Duplicate);
        }
        // What is no data may come together with the probe or reply by which the link is agreed on.
        if peer_link.link.is_none() && header.kind == Kind::Data {
            return Err(Discard::UnknownLink);
        }
        if header.kind == Kind::Data {
            self.data_at = now;
            self.report_at.get_or_insert(now + REPORT_EVERY);
        }
        Ok(Fresh { header, body: verified.body(), data_sequence, link: peer_link.link, queued })
    }

    /// Gives a fresh packet its turn, and adds to `out` what can be delivered now. If its headers must be restored, that
    /// is done in `head`.
    pub fn order<'a>(
        &mut self,
        now: Instant,
        fresh: &Fresh<'a>,
        head: &'a mut Head,
        out: &mut Vec<Delivery<'a>>,
    ) -> Result<(), Discard> {
        let Fresh { header, body, data_sequence, .. } = *fresh;
        let mut packet = if header.flags & flags::COMPRESSED != 0 {
            self.decompressor.restore(header.context(), data_sequence, body, head)?
        } else {
            Inner::from(body)
        };
        if packet.len() > self.buffer_size {
            return Err(Discard::Oversized);
        }
        packet.unsummed = header.flags & flags::UNSUMMED != 0;
        self.resequencer.insert(now, &header, data_sequence, packet, out);
        Ok(())
    }

    /// Adds to `out` what has waited long enough. After every batch, and at [`Inbound::next_timeout`].
    pub fn release(&mut self, now: Instant, out: &mut Vec<Delivery<'_>>) {
        self.resequencer.release(now, out);
    }

    /// Takes back the buffer of a packet that had waited.
    pub fn give_back(&mut self, packet: Packet) {
        self.resequencer.give_back(packet);
    }

    /// Buffers that are not at home: packets that wait.
    pub fn buffers_out(&self) -> usize {
        self.resequencer.buffers_out()
    }

    /// The peer's link `number` is our `link`.
    pub fn join(&mut self, number: u8, link: LinkId) {
        self.leave(link);
        self.peer_links[usize::from(number)].link = Some(link);
    }

    /// Our link that the peer's link `number` is; `None` if that was not agreed on.
    pub fn link_of(&self, number: u8) -> Option<LinkId> {
        self.peer_links.get(usize::from(number))?.link
    }

    /// Our link is no more.
    pub fn leave(&mut self, link: LinkId) {
        for peer_link in self.peer_links.iter_mut().filter(|peer_link| peer_link.link == Some(link)) {
            peer_link.link = None;
        }
    }

    /// Tells a link's round-trip time, smoothed and least, by which its acknowledgements and repairs are timed.
    pub fn set_rtt(&mut self, link: LinkId, (rtt, least): (Duration, Duration), ack_spacing: Duration) {
        for (number, peer_link) in (0..).zip(&mut self.peer_links) {
            if peer_link.link == Some(link) {
                peer_link.receiver.set_rtt(rtt, ack_spacing);
                self.resequencer.set_rtt(number, rtt, least);
            }
        }
    }

    /// The acknowledgements that are due, each for the link it is to travel on.
    pub fn take_acks(&mut self, now: Instant) -> impl Iterator<Item = (LinkId, Ack)> {
        self.peer_links
            .iter_mut()
            .filter_map(move |peer_link| Some((peer_link.link?, peer_link.receiver.take_ack(now)?)))
    }

    /// What was heard of each of the peer's links, by its numbers, if it is time to report that: the largest
    /// sequence number. Of a single link there is nobody to tell.
    pub fn take_report(&mut self, now: Instant) -> Option<[Option<u32>; MAX_LINKS]> {
        self.report_at.take_if(|at| *at <= now)?;
        if now.since(self.data_at) < REPORTS_LAST {
            self.report_at = Some(now + REPORT_EVERY);
        }
        let joined = self.peer_links.each_ref().map(|peer_link| peer_link.link.map(|_| &peer_link.receiver));
        let several = joined.iter().flatten().count() > 1;
        several.then(|| joined.map(|receiver| receiver.and_then(Receiver::largest)))
    }

    /// What was received on each link, by our numbers.
    pub fn arrivals(&self) -> AllArrivals {
        let mut arrivals = AllArrivals::default();
        for peer_link in &self.peer_links {
            if let Some(link) = peer_link.link {
                arrivals[link.index()] = peer_link.receiver.arrivals();
            }
        }
        arrivals
    }

    /// When an acknowledgement or a report is due next, or a packet has waited long enough.
    pub fn next_timeout(&mut self, now: Instant) -> Option<Instant> {
        let known = self.peer_links.iter().filter(|peer_link| peer_link.link.is_some());
        let ack = known.filter_map(|peer_link| peer_link.receiver.due()).min();
        [ack, self.report_at, self.resequencer.next_timeout(now)].into_iter().flatten().min()
    }
}
