//! What fills the wire: TCP connections of a named congestion control.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::lab::{Family, Lab};
use crate::netns::Namespace;
use crate::stream::{Connection, Progress, WatchedStream};
use crate::wan::Direction;

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
}

/// The two systems between which a load runs. The client connects, whoever sends.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
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
    /// The lab's client and server, over IPv4.
    pub fn of(lab: &'a Lab) -> Self {
        Self {
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
    streams: Vec<WatchedStream>,
}

impl Load {
    /// Connections at once.
    pub fn connections(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::One | Self::Bbr => 1,
        }
    }

    /// The sender's congestion control, as the kernel calls it.
    pub fn congestion(self) -> &'static str {
        match self {
            Self::One | Self::Eight => "cubic",
            Self::Bbr => "bbr",
        }
    }

    /// Connects, and starts to send as fast as the connections can.
    pub fn start(self, ends: &Ends<'_>, direction: Direction) -> Result<RunningLoad> {
        let Ends { client, server, server_address, .. } = *ends;
        let open = || Connection::open(client, server, server_address, direction, self.congestion());
        // At once: one after the other, eight would take eight round trips.
        let connections: Vec<Connection> = std::thread::scope(|scope| {
            let opening: Vec<_> = (0..self.connections()).map(|_| scope.spawn(open)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            opening.into_iter().map(join).collect::<Result<_>>()
        })?;
        let start = Instant::now();
        let streams = connections.into_iter().map(|connection| WatchedStream::over(connection, start));
        Ok(RunningLoad { start, streams: streams.collect::<Result<_>>()? })
    }
}

impl Display for Load {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::One => "one cubic flow",
            Self::Eight => "eight cubic flows",
            Self::Bbr => "one BBR flow",
        })
    }
}

impl RunningLoad {
    /// The time since the start, on the clock of the progress.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends it and returns the progress of all its connections together.
    pub fn stop(self) -> Progress {
        let streams: Vec<Progress> = self.streams.into_iter().map(WatchedStream::stop).collect();
        Progress::sum(&streams)
    }
}
