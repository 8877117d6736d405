//! What fills the wire: TCP connections of a named congestion control, or QUIC.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::lab::{Family, Lab};
use crate::netns::Namespace;
use crate::quic::{QuicCounters, QuicStream};
use crate::stream::{Connection, Progress, Protocol, WatchedStream};
use crate::wan::Direction;

/// The most links that the kernel's Multipath TCP joins.
const MPTCP_LINKS: usize = 8;

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// One TCP connection with cubic.
    One,
    /// Eight TCP connections with cubic.
    Eight,
    /// One TCP connection with BBR.
    Bbr,
    /// One QUIC connection with cubic.
    Quic,
}

/// The two systems between which a load runs. The client connects, whoever sends.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    /// What TCP connections are.
    pub protocol: Protocol,
    /// Connects.
    pub client: &'a Namespace,
    /// Its address.
    pub client_address: IpAddr,
    /// Listens.
    pub server: &'a Namespace,
    /// Its address.
    pub server_address: IpAddr,
}

impl<'a> Ends<'a> {
    /// The portals' systems themselves, over IPv4, with the kernel's Multipath TCP over all links: the
    /// local one joins them from its address on each. Other traffic takes the first link.
    pub fn over_mptcp(lab: &'a Lab) -> Result<Self> {
        let allow = format!("limits set subflows {MPTCP_LINKS} add_addr_accepted {MPTCP_LINKS}");
        let mut lines = String::from("mptcp endpoint flush\n");
        for link in 1..lab.links().len() {
            let (address, interface) = (lab.local_address(link, Family::V4), Lab::wan_interface(link));
            lines += &format!("mptcp endpoint add {address} dev {interface} subflow\n");
        }
        lab.local().ip(&format!("mptcp {allow}\n{lines}"))?;
        lab.remote().ip(&format!("mptcp {allow}\n"))?;
        Ok(Self {
            protocol: Protocol::Mptcp,
            client: lab.local(),
            client_address: lab.local_address(0, Family::V4),
            server: lab.remote(),
            server_address: lab.remote_address(Family::V4),
        })
    }

    /// The lab's client and server, over IPv4.
    pub fn of(lab: &'a Lab) -> Self {
        Self {
            protocol: Protocol::Tcp,
            client: lab.client(),
            client_address: lab.client_address(Family::V4),
            server: lab.server(),
            server_address: lab.server_address(Family::V4),
        }
    }

    /// Who sends, who receives, and the receiver's address.
    pub fn towards(&self, direction: Direction) -> (&'a Namespace, &'a Namespace, IpAddr) {
        match direction {
            Direction::Up => (self.client, self.server, self.server_address),
            Direction::Down => (self.server, self.client, self.client_address),
        }
    }
}

/// A load that runs until [`stop`](Self::stop).
#[derive(Debug)]
pub struct RunningLoad {
    start: Instant,
    streams: Streams,
}

#[derive(Debug)]
enum Streams {
    Tcp(Vec<WatchedStream>),
    Quic(QuicStream),
}

/// What became of a load.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// The progress of all its connections together.
    pub progress: Progress,
    /// What QUIC's sender counted.
    pub quic: Option<QuicCounters>,
}

impl Load {
    /// TCP connections at once and their sender's congestion control, as the kernel calls it.
    fn tcp(self) -> Option<(usize, &'static str)> {
        match self {
            Self::One => Some((1, "cubic")),
            Self::Eight => Some((8, "cubic")),
            Self::Bbr => Some((1, "bbr")),
            Self::Quic => None,
        }
    }

    /// Connects, and starts to send as fast as the connections can.
    pub fn start(self, ends: &Ends<'_>, direction: Direction) -> Result<RunningLoad> {
        let Ends { protocol, client, server, server_address, .. } = *ends;
        let Some((count, congestion)) = self.tcp() else {
            let stream = QuicStream::start(client, server, server_address, direction)?;
            return Ok(RunningLoad { start: Instant::now(), streams: Streams::Quic(stream) });
        };
        let open = || Connection::open(protocol, client, server, server_address, direction, congestion);
        // At once: one after the other, eight would take eight round trips.
        let connections: Vec<Connection> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..count).map(|_| scope.spawn(open)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            opening.into_iter().map(join).collect::<Result<_>>()
        })?;
        let start = Instant::now();
        let streams = connections.into_iter().map(|connection| WatchedStream::over(connection, start));
        Ok(RunningLoad { start, streams: Streams::Tcp(streams.collect::<Result<_>>()?) })
    }
}

impl Display for Load {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::One => "one cubic flow",
            Self::Eight => "eight cubic flows",
            Self::Bbr => "one BBR flow",
            Self::Quic => "one QUIC flow",
        })
    }
}

impl RunningLoad {
    /// The time since the start, on the clock of the progress.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it.
    pub fn stop(self) -> LoadReport {
        match self.streams {
            Streams::Tcp(streams) => {
                let streams: Vec<Progress> = streams.into_iter().map(WatchedStream::stop).collect();
                LoadReport { progress: Progress::sum(&streams), quic: None }
            }
            Streams::Quic(stream) => {
                let (progress, counters) = stream.stop();
                LoadReport { progress, quic: Some(counters) }
            }
        }
    }
}
