//! Offered load: conversations of the hosts behind the portals, and what became of them.

pub mod packet;
pub mod tcp;

use std::time::Duration;

use super::End;
use crate::core::units::Instant;
use packet::{Body, Inner, Protocol};
pub use tcp::Control;

/// A packet for the interface of one end.
pub type Offered = (End, Vec<u8>);

/// What a conversation offers. Sizes are those of the inner IP packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// As much as the portal takes, without any feedback; looks like TCP, so its order matters.
    Bulk {
        /// Bytes of each packet.
        size: usize,
    },
    /// UDP at an even rate.
    Rate {
        /// Packets a second.
        per_second: f64,
        /// Bytes of each packet.
        size: usize,
    },
    /// The same of QUIC.
    Quic {
        /// Packets a second.
        per_second: f64,
        /// Bytes of each packet.
        size: usize,
    },
    /// A TCP connection with data in one direction.
    Tcp {
        /// Its congestion control.
        control: Control,
        /// Segments in all; `None` without end.
        segments: Option<u64>,
    },
    /// Pings, one every so often.
    Ping(Duration),
    /// A telephone call: 50 packets of 200 bytes a second, in one direction.
    Voice,
}

/// Bytes of a full packet of [`Load::Tcp`] and the usual one of [`Load::Bulk`].
pub const FULL: usize = 1_400;
const PING_SIZE: usize = 120;
const VOICE_SIZE: usize = 200;

/// What became of a conversation since the last [`Flow::forget`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packets handed to the interface, in both directions.
    pub offered: u64,
    /// Packets that found the interface's own queue full.
    pub refused: u64,
    /// Packets that arrived, in both directions.
    pub arrived: u64,
    /// Bytes of packets that were of use to the far host: for TCP what its application got.
    pub goodput_bytes: u64,
    /// Packets that arrived after a later one of their conversation and direction, but for bare acknowledgements.
    pub reordered: u64,
    /// The most numbers by which one was late.
    pub worst_reordering: u64,
    /// Delay of each packet of the forward direction, µs; for pings the round-trip time.
    pub delays: Vec<u32>,
    /// Longest time between two arrivals that were of use to the far host.
    pub longest_stall: Duration,
}

impl Report {
    /// Percentile (0 to 100) of the delays, milliseconds.
    pub fn delay_ms(&self, percent: f64) -> f64 {
        let mut delays = self.delays.clone();
        if delays.is_empty() {
            return f64::INFINITY;
        }
        let at = ((delays.len() - 1) as f64 * percent / 100.0).round() as usize;
        f64::from(*delays.select_nth_unstable(at).1) / 1e3
    }
}

/// What one direction of a conversation has sent and received.
#[derive(Default)]
struct Way {
    next: u64,
    /// A bit for each number that arrived.
    seen: Vec<u64>,
    largest: Option<u64>,
}

/// A conversation.
pub struct Flow {
    /// The end whose hosts began it.
    pub from: End,
    /// What it offers.
    pub load: Load,
    /// What became of it.
    pub report: Report,
    number: u16,
    v6: bool,
    ways: [Way; 2],
    /// Longest packet that its hosts send.
    longest: usize,
    stopped: bool,
    /// Next packet of an even rate, or ping.
    due: Option<Instant>,
    tcp: Option<Box<(tcp::Sender, tcp::Receiver)>>,
    /// When something arrived last that was of use to the far host.
    progressed: Instant,
    /// Retransmission timeouts before the last [`Flow::forget`].
    timeouts_before: u64,
    /// The world's timer, see [`Flow::next_timeout`].
    pub(super) armed: Option<Instant>,
}

impl Flow {
    /// A conversation that begins now. The odd ones speak IPv6.
    pub fn new(now: Instant, number: u16, from: End, load: Load) -> Self {
        let tcp = match load {
            Load::Tcp { control, segments } => {
                Some(Box::new((tcp::Sender::new(control, segments), tcp::Receiver::default())))
            }
            _ => None,
        };
        let due = matches!(load, Load::Rate { .. } | Load::Quic { .. } | Load::Ping(_) | Load::Voice)
            .then_some(now);
        Self {
            from,
            load,
            report: Report::default(),
            number,
            v6: number % 2 == 1,
            ways: Default::default(),
            longest: usize::MAX,
            stopped: false,
            due,
            tcp,
            progressed: now,
            timeouts_before: 0,
            armed: None,
        }
    }

    /// Offers nothing new any more.
    pub fn stop(&mut self) {
        (self.stopped, self.due) = (true, None);
        if let Some(tcp) = &mut self.tcp {
            tcp.0.finish();
        }
    }

    /// A limited transfer has arrived in full.
    pub fn is_done(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.0.is_done())
    }

    /// What the sending TCP did, if it is one.
    pub fn tcp_totals(&self) -> Option<tcp::Totals> {
        self.tcp.as_ref().map(|tcp| tcp.0.totals)
    }

    /// Retransmission timeouts of the sending TCP since the last [`Flow::forget`].
    pub fn timeouts(&self) -> u64 {
        self.tcp_totals().map_or(0, |totals| totals.timeouts - self.timeouts_before)
    }

    /// Packets of the forward direction that have not arrived since the conversation began.
    pub fn missing(&self) -> u64 {
        let arrived: u32 = self.ways[0].seen.iter().map(|word| word.count_ones()).sum();
        self.ways[0].next - u64::from(arrived)
    }

    /// Longest time without an arrival of use, the present one included.
    pub fn longest_stall(&self, now: Instant) -> Duration {
        self.report.longest_stall.max(now.since(self.progressed))
    }

    /// The sending TCP's window, segments, if it is one.
    pub fn tcp_window(&self) -> Option<f64> {
        self.tcp.as_ref().map(|tcp| tcp.0.window())
    }

    /// Begins to report anew.
    pub fn forget(&mut self) {
        self.report = Report::default();
        self.timeouts_before = self.tcp_totals().map_or(0, |totals| totals.timeouts);
    }

    /// A packet found the interface's queue full.
    pub fn on_refused(&mut self) {
        self.report.refused += 1;
    }

    /// Its hosts hear that only packets of `mtu` bytes pass.
    pub fn on_too_big(&mut self, mtu: u16) {
        self.longest = self.longest.min(mtu.into());
    }

    /// The portal at `end` would take `count` packets more: the greedy ones give them.
    pub fn refill(&mut self, now: Instant, end: End, count: usize, out: &mut Vec<Offered>) {
        if let Load::Bulk { size } = self.load
            && end == self.from
            && !self.stopped
        {
            out.extend((0..count).map(|_| self.packet(now, false, Protocol::Tcp, Body::Plain, size)));
        }
    }

    /// What can be sent without waiting.
    pub fn start(&mut self, now: Instant, out: &mut Vec<Offered>) {
        self.fill_window(now, out);
    }

    /// When [`Flow::on_timeout`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let tcp = self.tcp.as_ref();
        let sender = tcp.and_then(|tcp| tcp.0.next_timeout());
        [self.due, sender, tcp.and_then(|tcp| tcp.1.next_timeout())].into_iter().flatten().min()
    }

    /// Handles the timers that are due.
    pub fn on_timeout(&mut self, now: Instant, out: &mut Vec<Offered>) {
        while let Some(due) = self.due.filter(|due| *due <= now) {
            let (every, protocol, body, size) = match self.load {
                Load::Rate { per_second, size } => {
                    (Duration::from_secs_f64(1.0 / per_second), Protocol::Udp, Body::Plain, size)
                }
                Load::Quic { per_second, size } => {
                    (Duration::from_secs_f64(1.0 / per_second), Protocol::Quic, Body::Plain, size)
                }
                Load::Ping(every) => {
                    (every, Protocol::Echo, Body::Echo { reply: false, asked: now }, PING_SIZE)
                }
                _ => (Duration::from_millis(20), Protocol::Udp, Body::Plain, VOICE_SIZE),
            };
            self.due = Some(due + every);
            out.push(self.packet(now, false, protocol, body, size));
        }
        if let Some(tcp) = &mut self.tcp {
            let (ack, probe) = (tcp.1.on_timeout(now), tcp.0.on_timeout(now));
            out.extend(ack.map(|ack| self.packet(now, true, Protocol::Tcp, Body::Ack(ack), 0)));
            out.extend(
                probe.map(|segment| self.packet(now, false, Protocol::Tcp, Body::Segment(segment), FULL)),
            );
            self.fill_window(now, out);
        }
    }

    /// A packet of this conversation arrived at `end`. Panics if the bond did what it never may.
    pub fn on_arrived(&mut self, now: Instant, end: End, inner: &Inner, out: &mut Vec<Offered>) {
        let towards = if inner.back { self.from } else { self.from.other() };
        assert_eq!(end, towards, "{inner:?} came out where it went in");
        self.check_number(inner);
        self.report.arrived += 1;
        let before = self.report.goodput_bytes;
        self.take(now, inner, out);
        if self.report.goodput_bytes > before {
            let stall = now.since(std::mem::replace(&mut self.progressed, now));
            self.report.longest_stall = self.report.longest_stall.max(stall);
        }
    }

    /// What the host makes of a packet.
    fn take(&mut self, now: Instant, inner: &Inner, out: &mut Vec<Offered>) {
        let micros = |since: Instant| (now.since(since).as_nanos() / 1_000) as u32;
        if !inner.back {
            self.report.delays.extend((!matches!(self.load, Load::Ping(_))).then(|| micros(inner.sent)));
        }
        match inner.body {
            Body::Plain => self.report.goodput_bytes += inner.size as u64,
            Body::Echo { reply: false, asked } => {
                let answer = Body::Echo { reply: true, asked };
                out.push(self.packet(now, true, Protocol::Echo, answer, inner.size));
            }
            Body::Echo { reply: true, asked } => self.report.delays.push(micros(asked)),
            Body::Segment(segment) => {
                let Some(tcp) = &mut self.tcp else { return };
                let before = tcp.1.delivered();
                let ack = tcp.1.on_segment(now, segment);
                self.report.goodput_bytes += (tcp.1.delivered() - before) * FULL.min(self.longest) as u64;
                out.extend(ack.map(|ack| self.packet(now, true, Protocol::Tcp, Body::Ack(ack), 0)));
            }
            Body::Ack(ack) => {
                let Some(tcp) = &mut self.tcp else { return };
                tcp.0.on_ack(now, &ack);
                self.fill_window(now, out);
            }
        }
    }

    /// INVARIANT: nothing is delivered twice, and nothing that was not sent.
    fn check_number(&mut self, inner: &Inner) {
        let way = &mut self.ways[usize::from(inner.back)];
        assert!(inner.number < way.next, "{inner:?} was never sent");
        let (word, bit) = ((inner.number / 64) as usize, 1 << (inner.number % 64));
        if way.seen.len() <= word {
            way.seen.resize(word + 1, 0);
        }
        assert!(way.seen[word] & bit == 0, "{inner:?} was delivered twice");
        way.seen[word] |= bit;
        // A bare acknowledgement is told nothing new by one that overtook it, and need not wait.
        let free = matches!(inner.body, Body::Ack(_));
        let late = way.largest.filter(|_| !free).map_or(0, |largest| largest.saturating_sub(inner.number));
        self.report.reordered += u64::from(late > 0);
        self.report.worst_reordering = self.report.worst_reordering.max(late);
        way.largest = way.largest.max(Some(inner.number));
    }

    fn fill_window(&mut self, now: Instant, out: &mut Vec<Offered>) {
        while let Some(segment) = self.tcp.as_mut().and_then(|tcp| tcp.0.next_segment(now)) {
            out.push(self.packet(now, false, Protocol::Tcp, Body::Segment(segment), FULL));
        }
    }

    fn packet(&mut self, now: Instant, back: bool, protocol: Protocol, body: Body, size: usize) -> Offered {
        let way = &mut self.ways[usize::from(back)];
        let (flow, v6, number) = (self.number, self.v6, way.next);
        way.next += 1;
        self.report.offered += 1;
        let size = size.min(self.longest);
        let inner = Inner { flow, back, v6, protocol, number, sent: now, body, size };
        (if back { self.from.other() } else { self.from }, inner.to_bytes())
    }
}
