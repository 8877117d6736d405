//! What a user has under way when a link fails: a transfer and a telephone call, each way.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::datagrams::{DatagramFlow, DatagramReport, RunningDatagrams};
use crate::lab::{Family, Lab};
use crate::netns::Namespace;
use crate::stream::{Progress, WatchedStream};
use crate::wan::Direction;

/// TCP streams and a flow of 50 datagrams per second in each direction, until stopped.
#[derive(Debug)]
pub struct Traffic {
    start: Instant,
    ways: Vec<Way>,
}

#[derive(Debug)]
struct Way {
    direction: Direction,
    streams: Vec<WatchedStream>,
    call: RunningDatagrams,
}

/// What became of one direction.
#[derive(Clone, Debug)]
pub struct WayReport {
    /// From the client to the server, or back.
    pub direction: Direction,
    /// The streams.
    pub streams: Vec<Progress>,
    /// The datagrams.
    pub call: DatagramReport,
}

impl Traffic {
    /// Starts it between the lab's client and server, with one stream each way.
    pub fn start(lab: &Lab, family: Family) -> Result<Self> {
        Self::with_streams(lab, family, 1)
    }

    /// Starts it with so many streams each way.
    pub fn with_streams(lab: &Lab, family: Family, streams: usize) -> Result<Self> {
        let start = Instant::now();
        let ways = Direction::BOTH.map(|direction| {
            let (from, to, address) = ends(lab, direction, family);
            let streams =
                (0..streams).map(|_| WatchedStream::start(from, to, address)).collect::<Result<_>>()?;
            let call = DatagramFlow::default().start(from, to, address)?;
            Ok(Way { direction, streams, call })
        });
        Ok(Self { start, ways: ways.into_iter().collect::<Result<_>>()? })
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Lets it run until so long after its start.
    pub fn run_until(&self, time: Duration) {
        sleep(time.saturating_sub(self.elapsed()));
    }

    /// Ends it.
    pub fn stop(self) -> Vec<WayReport> {
        let stop = |way: Way| WayReport {
            direction: way.direction,
            streams: way.streams.into_iter().map(WatchedStream::stop).collect(),
            call: way.call.stop(),
        };
        self.ways.into_iter().map(stop).collect()
    }

    /// Ends it; an error if it did not [survive](WayReport::survived).
    pub fn survived(self, patience: Duration) -> Result<()> {
        self.stop().iter().try_for_each(|way| way.survived(patience))
    }
}

impl WayReport {
    /// Whether the streams are whole, and all went on: never still for longer than `patience`, and to the
    /// end.
    pub fn survived(&self, patience: Duration) -> Result<()> {
        let Self { direction, streams, call } = self;
        for stream in streams {
            if let Some(fault) = &stream.fault {
                bail!("{direction:?}: TCP: {fault}");
            }
            let still = stream.longest_gap(Duration::ZERO, stream.watched);
            ensure!(
                still <= patience,
                "{direction:?}: TCP stood still for {still:?} of {:?}, {} bytes in all",
                stream.watched,
                stream.bytes()
            );
        }
        ensure!(
            call.longest_gap <= patience,
            "{direction:?}: no datagram for {:?}; lost {} of {}: {:?}",
            call.longest_gap,
            call.lost(),
            call.sent,
            call.lost_runs
        );
        Ok(())
    }
}

/// Who sends to whom, and at what address, in a direction.
pub fn ends(lab: &Lab, direction: Direction, family: Family) -> (&Namespace, &Namespace, IpAddr) {
    match direction {
        Direction::Up => (lab.client(), lab.server(), lab.server_address(family)),
        Direction::Down => (lab.server(), lab.client(), lab.client_address(family)),
    }
}
