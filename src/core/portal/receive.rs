//! What comes from the network: the order of the checks that a datagram meets, and what it then does.

use std::sync::MutexGuard;

use super::{Arrival, BATCH, Effects, Entropy, Portal, Sink};
use crate::core::discard::Discard;
use crate::core::headers::Head;
use crate::core::icmp;
use crate::core::inbound::{Delivery, Fresh, Inbound};
use crate::core::load_wire::{LoadReport, Request};
use crate::core::outbound::{Heard, Outbound};
use crate::core::packet::Inner;
use crate::core::session::protection::{Sealed, Verified};
use crate::core::units::{Instant, LinkId};
use crate::core::wire::{Ack, Kind, Probe, Report, read_path_reply};

/// An IPv4 header is that much shorter than one of IPv6.
const V4_SAVES: u16 = 20;

impl Portal {
    /// Takes datagrams that came in together, and decrypts them where they are. What is not right is counted,
    /// never an error.
    pub fn receive<'a>(
        &self,
        now: Instant,
        entropy: &mut dyn Entropy,
        arrival: &Arrival<'_>,
        datagrams: impl Iterator<Item = &'a mut [u8]>,
        sink: Sink<'_>,
    ) -> Effects {
        let mut effects = Effects::default();
        let expected = datagrams.size_hint().1.map_or(BATCH, |most| most.min(BATCH));
        let (mut sealed, mut verified) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
        for datagram in datagrams {
            if Kind::of(datagram) == Some(Kind::Handshake) {
                self.open_sealed(now, arrival, &mut sealed, &mut verified);
                match self.on_handshake(now, entropy, arrival, datagram) {
                    Ok(answer) => effects.answers.extend(answer),
                    Err(reason) => self.discard(arrival, reason),
                }
                continue;
            }
            match Sealed::parse(datagram) {
                Ok(next) => {
                    if sealed.last().is_some_and(|last: &Sealed<'_>| last.epoch() != next.epoch()) {
                        self.open_sealed(now, arrival, &mut sealed, &mut verified);
                    }
                    sealed.push(next);
                }
                Err(reason) => self.discard(arrival, reason),
            }
        }
        self.open_sealed(now, arrival, &mut sealed, &mut verified);
        effects.ready = self.accept(now, arrival, &verified, sink);
        effects
    }

    /// Opens datagrams that name one key, and moves those that are authentic to `verified`.
    fn open_sealed<'a>(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        sealed: &mut Vec<Sealed<'a>>,
        verified: &mut Vec<(Verified<'a>, u64)>,
    ) {
        let Some(number) = sealed.first().map(Sealed::epoch) else { return };
        let ring = self.ring.load();
        let Some(epoch) = ring.keys.receiving(number) else {
            return sealed.drain(..).for_each(|_| self.discard(arrival, Discard::UnknownKey));
        };
        let first = verified.len();
        epoch.open.open_all(sealed.drain(..), |opened| match opened {
            Ok(authentic) => verified.push((authentic, ring.generation)),
            Err(reason) => self.discard(arrival, reason),
        });
        if ring.keys.unconfirmed == Some(number) && verified.len() > first {
            self.confirm(now, number);
            let generation = self.ring.load().generation;
            verified[first..].iter_mut().for_each(|(_, of)| *of = generation);
        }
    }

    /// What is verified passes the replay window, then does what it came for.
    fn accept(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        verified: &[(Verified<'_>, u64)],
        sink: Sink<'_>,
    ) -> u16 {
        let mut heads = vec![Head::default(); verified.len()];
        let mut news = Vec::with_capacity(verified.len());
        let mut deliveries = Vec::with_capacity(verified.len());
        let mut heard: Vec<Heard> = Vec::new();
        let mut acks: Vec<(LinkId, Ack)> = Vec::new();
        {
            let mut inbound = self.inbound();
            for ((authentic, generation), head) in verified.iter().zip(&mut heads) {
                let len = authentic.wire_len();
                match inbound.accept(now, *generation, authentic) {
                    Ok(fresh) => match (fresh.header.kind, fresh.link) {
                        (Kind::Data, Some(link)) => {
                            if let Err(reason) = inbound.order(now, &fresh, head, &mut deliveries) {
                                self.discard(arrival, reason);
                            }
                            note(&mut heard, link, &fresh, len);
                        }
                        _ => news.push((fresh, len)),
                    },
                    Err(reason) => self.discard(arrival, reason),
                }
            }
            if news.is_empty() {
                acks.extend(inbound.take_acks(now));
            }
            inbound.release(now, &mut deliveries);
            self.deliver(now, inbound, deliveries, sink);
        }
        if !news.is_empty() {
            for (fresh, len) in &news {
                match self.on_control(now, arrival, fresh) {
                    Ok(link) => note(&mut heard, link, fresh, *len),
                    Err(reason) => self.discard(arrival, reason),
                }
            }
            acks.extend(self.inbound().take_acks(now));
        }
        let mut outbound = self.outbound();
        for heard in &heard {
            outbound.on_received(now, arrival.socket, arrival.source, heard);
        }
        acks.into_iter().for_each(|(link, ack)| outbound.send_ack(now, link, ack));
        let ready = self.settle(now, &outbound);
        self.bounce(outbound, sink);
        ready
    }

    /// Hands packets to the interface. Its lock is taken before that of the receiving half is given up, so
    /// that no other thread's packets come in between.
    pub(super) fn deliver(
        &self,
        now: Instant,
        inbound: MutexGuard<'_, Inbound>,
        deliveries: Vec<Delivery<'_>>,
        sink: Sink<'_>,
    ) {
        if deliveries.is_empty() {
            return;
        }
        let mut delivered = self.delivery();
        drop(inbound);
        let mut held = Vec::new();
        let mut hand = |packet: Inner<'_>| {
            delivered.add(now, packet.len() as u64);
            sink.take(packet);
        };
        for delivery in deliveries {
            match delivery {
                Delivery::Arrived(packet) => hand(packet),
                Delivery::Held(packet) => {
                    hand((&packet).into());
                    held.push(packet);
                }
            }
        }
        sink.flush();
        drop(delivered);
        if !held.is_empty() {
            let mut inbound = self.inbound();
            held.into_iter().for_each(|packet| inbound.give_back(packet));
        }
    }

    /// Tells the senders of packets that were taken and that the links do not carry any more.
    pub(super) fn bounce(&self, mut outbound: MutexGuard<'_, Outbound>, sink: Sink<'_>) {
        let mut stranded = outbound.take_stranded();
        if stranded.is_empty() {
            return;
        }
        let longest = outbound.longest();
        drop(outbound);
        for packet in &mut stranded {
            if icmp::too_big(packet, longest) {
                sink.take((&*packet).into());
            }
        }
        sink.flush();
        self.give_back(stranded.into_iter());
    }

    /// A fresh datagram that is no data. Gives the link that it belongs to.
    fn on_control(&self, now: Instant, arrival: &Arrival<'_>, fresh: &Fresh<'_>) -> Result<LinkId, Discard> {
        match fresh.header.kind {
            Kind::Ack => {
                let joined = || self.inbound().link_of(fresh.header.link);
                let link = fresh.link.or_else(joined).ok_or(Discard::UnknownLink)?;
                let ack = Ack::read(fresh.body).ok_or(Discard::Malformed)?;
                let (rtt, spacing) = {
                    let mut outbound = self.outbound();
                    outbound.on_ack(now, link, &ack, fresh.header.timestamp);
                    (outbound.rtt(link), outbound.ack_spacing(link))
                };
                if let Some(rtt) = rtt {
                    self.inbound().set_rtt(link, rtt, spacing);
                }
                Ok(link)
            }
            Kind::Probe => {
                let probe = Probe::read(fresh.body).ok_or(Discard::Malformed)?;
                let link = self.join(now, arrival, fresh, &probe)?;
                self.outbound().on_probe(now, link, probe);
                Ok(link)
            }
            Kind::ProbeReply => {
                let reply = Probe::read(fresh.body).ok_or(Discard::Malformed)?;
                let link = self.join(now, arrival, fresh, &reply)?;
                self.outbound().on_probe_reply(now, link, reply);
                Ok(link)
            }
            Kind::Report => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let report = Report::read(fresh.body).ok_or(Discard::Malformed)?;
                self.outbound().on_report(now, link, &report, fresh.queued);
                Ok(link)
            }
            Kind::PathProbe => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                self.outbound().on_path_probe(link, fresh.body.len());
                Ok(link)
            }
            Kind::PathReply => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let len = read_path_reply(fresh.body).ok_or(Discard::Malformed)?;
                self.outbound().on_path_reply(now, link, len);
                Ok(link)
            }
            Kind::Padding => fresh.link.ok_or(Discard::UnknownLink),
            Kind::LoadRequest => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let request = Request::read(fresh.body).ok_or(Discard::Malformed)?;
                let arrivals = self.inbound().arrivals();
                self.outbound().on_load_request(now, link, &request, &arrivals);
                Ok(link)
            }
            Kind::LoadReport => {
                let link = fresh.link.ok_or(Discard::UnknownLink)?;
                let report = LoadReport::read(fresh.body).ok_or(Discard::Malformed)?;
                let arrivals = self.inbound().arrivals();
                self.outbound().on_load_report(now, &report, &arrivals);
                Ok(link)
            }
            Kind::Close => {
                let mut room = self.session();
                room.close(now);
                self.publish(&room);
                drop(room);
                self.outbound().peer_closed(now);
                fresh.link.ok_or(Discard::UnknownLink)
            }
            Kind::Data | Kind::Handshake => Err(Discard::UnknownLink),
        }
    }

    /// Finds our link for a probe or its reply, and makes it one where a listener waits for it.
    fn join(
        &self,
        now: Instant,
        arrival: &Arrival<'_>,
        fresh: &Fresh<'_>,
        probe: &Probe,
    ) -> Result<LinkId, Discard> {
        let number = fresh.header.link;
        // What came together with it may have joined the link.
        let joined = self.inbound().link_of(number);
        let is_probe = fresh.header.kind == Kind::Probe;
        let named = probe.to.map(LinkId).filter(|&link| self.outbound().has_link(link));
        let known = match named {
            // What we know, or what we did not know yet.
            Some(link) => named.filter(|_| joined.is_none_or(|known| known == link)),
            // The peer asks without a name, or does not know yet that a link is no more.
            None => joined.filter(|_| is_probe || probe.to.is_none()),
        };
        let link = match known {
            Some(link) => link,
            None if is_probe => self.find_or_accept(now, arrival)?,
            None => return Err(Discard::UnknownLink),
        };
        if joined != Some(link) {
            self.inbound().join(number, link);
            self.outbound().join(link, number);
        }
        Ok(link)
    }

    fn find_or_accept(&self, now: Instant, arrival: &Arrival<'_>) -> Result<LinkId, Discard> {
        let mut room = self.session();
        let mut outbound = self.outbound();
        if let Some(link) = outbound.unjoined(arrival.socket, arrival.source) {
            return Ok(link);
        }
        let listener = room.listeners.get_mut(&arrival.socket).ok_or(Discard::UnknownLink)?;
        let mut config = listener.config.clone();
        if !listener.links.is_empty() {
            config.name = format!("{}.{}", config.name, listener.links.len() + 1);
        }
        let link = outbound.add_link(now, config).ok_or(Discard::UnknownLink)?;
        listener.links.push(link);
        let shorter_header = if arrival.source.is_ipv4() { V4_SAVES } else { 0 };
        let max_datagram = listener.max_datagram.saturating_add(shorter_header);
        outbound.open(now, link, arrival.socket, Some(arrival.source), max_datagram);
        Ok(link)
    }
}

/// Adds a datagram to what was heard of its link. Mostly there is one link.
fn note(heard: &mut Vec<Heard>, link: LinkId, fresh: &Fresh<'_>, len: usize) {
    let bytes = len as u64;
    let data_bytes = if fresh.header.kind == Kind::Data { bytes } else { 0 };
    let known = heard.iter_mut().find(|known| known.link == link);
    let Some(known) = known else {
        return heard.push(Heard { link, newest: fresh.data_sequence, datagrams: 1, bytes, data_bytes });
    };
    known.newest = known.newest.max(fresh.data_sequence);
    known.datagrams += 1;
    known.bytes += bytes;
    known.data_bytes += data_bytes;
}
