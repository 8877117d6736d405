//! What two portals say to each other about a load test. All numbers are in network byte order; unknown bits are
//! refused. Parsers take any bytes and never panic.

use std::time::Duration;

use super::units::{MAX_LINKS, Rate};

/// Length of a [`Request`] on the wire.
pub const REQUEST_LEN: usize = 18;
/// Length of a [`LoadReport`] that tells of no link.
const REPORT_FIXED_LEN: usize = 8;
/// Words of 32 bits that tell of one link.
const WORDS: usize = 11;

/// What the peer is to do. Repeated as long as it is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of the test, chosen by who makes it.
    pub test: u32,
    /// Number of the step.
    pub step: u8,
    /// Number of the request; the answer carries it back.
    pub serial: u8,
    /// What is asked for.
    pub mode: Mode,
    /// Links, by the receiver's numbers, a bit each.
    pub links: u16,
    /// How long they are to be kept full.
    pub time: Duration,
    /// Most bytes to send, KiB.
    pub kib: u32,
    /// A queue is to be forced at the end.
    pub push: bool,
    /// Links whose data are metered may be used.
    pub metered: bool,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Tell what was received.
    Watch = 0,
    /// Fill the links.
    Fill = 1,
    /// The test is over.
    Stop = 2,
}

/// How far the peer is with a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It only tells what it received.
    Watching = 0,
    /// It fills links.
    Filling = 1,
    /// It has; the outcomes are there.
    Done = 2,
    /// It takes part in another test.
    Busy = 3,
    /// A link's data are metered at its end.
    Metered = 4,
    /// It has no such link, or the bounds are beyond its own.
    Unable = 5,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// Of the request.
    pub test: u32,
    /// Of the request.
    pub step: u8,
    /// Of the request.
    pub serial: u8,
    /// How far it is.
    pub stage: Stage,
    /// Percent of the time in which its busiest thread ran or waited for a processor; 255: not known.
    pub busy: u8,
    /// What it knows of each link.
    pub links: Vec<LinkReport>,
}

/// What one portal knows of a link in a load test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkReport {
    /// Number of the link at the receiver of the report.
    pub link: u8,
    /// What was received on it so far.
    pub arrivals: Arrivals,
    /// What became of what was sent on it in this step.
    pub outcome: Outcome,
}

/// What became of what was sent on one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What arrived in the second half of the time.
    pub rate: Rate,
    /// Least round-trip time before it was full.
    pub idle: Option<Duration>,
    /// Median of the round-trip time while it was full.
    pub loaded: Option<Duration>,
    /// Its 95th percentile.
    pub loaded_p95: Option<Duration>,
    /// The longest queue that it could be made to build.
    pub queue: Option<Duration>,
    /// That queue overflowed.
    pub queue_overflowed: bool,
    /// Datagrams of which is known whether they arrived, in the second half.
    pub sent: u32,
    /// Those that did not.
    pub lost: u32,
    /// KiB of padding that was sent.
    pub kib: u32,
    /// Longest IP packet that the path carries; `None` for a stream.
    pub path_mtu: Option<u16>,
    /// The rate was still growing.
    pub growing: bool,
    /// The link was not up all the time.
    pub interrupted: bool,
}

/// Numbered datagrams that came in on a link, modulo 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// All of them.
    pub all: u32,
    /// Those that came after one sent later.
    pub late: u32,
}

/// What is received of each link, by the numbers of the portal that has received it.
pub type AllArrivals = [Arrivals; MAX_LINKS];

impl Arrivals {
    /// Those since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { all: self.all.wrapping_sub(earlier.all), late: self.late.wrapping_sub(earlier.late) }
    }
}

impl Request {
    /// The body as bytes.
    pub fn to_bytes(self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        bytes[..4].copy_from_slice(&self.test.to_be_bytes());
        (bytes[4], bytes[5], bytes[6]) = (self.step, self.serial, self.mode as u8);
        bytes[7] = u8::from(self.push) | u8::from(self.metered) << 1;
        bytes[8..10].copy_from_slice(&self.links.to_be_bytes());
        bytes[10..14].copy_from_slice(&(self.time.as_millis() as u32).to_be_bytes());
        bytes[14..].copy_from_slice(&self.kib.to_be_bytes());
        bytes
    }

    /// Reads a body.
    pub fn read(body: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST_LEN] = body.try_into().ok()?;
        let mode = match bytes[6] {
            0 => Mode::Watch,
            1 => Mode::Fill,
            2 => Mode::Stop,
            _ => return None,
        };
        (bytes[7] < 4).then(|| Self {
            test: word(bytes, 0),
            step: bytes[4],
            serial: bytes[5],
            mode,
            links: u16::from_be_bytes([bytes[8], bytes[9]]),
            time: Duration::from_millis(word(bytes, 10).into()),
            kib: word(bytes, 14),
            push: bytes[7] & 1 != 0,
            metered: bytes[7] & 2 != 0,
        })
    }
}

impl LoadReport {
    /// The body as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REPORT_FIXED_LEN + 4 * WORDS * self.links.len());
        bytes.extend(self.test.to_be_bytes());
        bytes.extend([self.step, self.serial, self.stage as u8, self.busy]);
        bytes.extend(self.links.iter().flat_map(LinkReport::words).flat_map(u32::to_be_bytes));
        bytes
    }

    /// Reads a body.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_first_chunk::<REPORT_FIXED_LEN>()?;
        let stage = match head[6] {
            0 => Stage::Watching,
            1 => Stage::Filling,
            2 => Stage::Done,
            3 => Stage::Busy,
            4 => Stage::Metered,
            5 => Stage::Unable,
            _ => return None,
        };
        let links = rest.chunks(4 * WORDS).map(LinkReport::read).collect::<Option<Vec<_>>>()?;
        let fits = links.len() <= MAX_LINKS;
        fits.then(|| Self {
            test: word(head, 0),
            step: head[4],
            serial: head[5],
            stage,
            busy: head[7],
            links,
        })
    }
}

impl LinkReport {
    fn words(&self) -> [u32; WORDS] {
        let Outcome { path_mtu, queue, .. } = self.outcome;
        let flags = u32::from(self.outcome.growing)
            | u32::from(self.outcome.interrupted) << 1
            | u32::from(self.outcome.queue_overflowed) << 2
            | u32::from(queue.is_some()) << 3;
        let micros = |time: Option<Duration>| time.map_or(0, |time| time.as_micros() as u32);
        [
            u32::from(self.link) << 24 | flags << 16 | u32::from(path_mtu.unwrap_or(0)),
            self.arrivals.all,
            self.arrivals.late,
            (self.outcome.rate.bytes_per_second() / 125).min(u32::MAX.into()) as u32,
            micros(self.outcome.idle),
            micros(self.outcome.loaded),
            micros(self.outcome.loaded_p95),
            micros(queue),
            self.outcome.sent,
            self.outcome.lost,
            self.outcome.kib,
        ]
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 4 * WORDS] = bytes.try_into().ok()?;
        let flags = bytes[1];
        if usize::from(bytes[0]) >= MAX_LINKS || flags >= 1 << 4 {
            return None;
        }
        let at = |index: usize| word(bytes, 4 * index);
        let time = |index| Some(Duration::from_micros(at(index).into())).filter(|time| !time.is_zero());
        Some(Self {
            link: bytes[0],
            arrivals: Arrivals { all: at(1), late: at(2) },
            outcome: Outcome {
                path_mtu: Some(u16::from_be_bytes([bytes[2], bytes[3]])).filter(|mtu| *mtu > 0),
                rate: Rate::from_bytes_per_second(u64::from(at(3)) * 125),
                idle: time(4),
                loaded: time(5),
                loaded_p95: time(6),
                queue: (flags & 8 != 0).then(|| Duration::from_micros(at(7).into())),
                queue_overflowed: flags & 4 != 0,
                sent: at(8),
                lost: at(9),
                kib: at(10),
                growing: flags & 1 != 0,
                interrupted: flags & 2 != 0,
            },
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_is_written_alike(
            body in vec(any::<u8>(), 0..200),
            links in 0..5usize,
        ) {
            let mut request = body.clone();
            request.resize(REQUEST_LEN, 1);
            if let Some(read) = Request::read(&request) {
                prop_assert_eq!(&read.to_bytes()[..], &request[..]);
            }
            let mut report = body;
            report.resize(REPORT_FIXED_LEN + links * 4 * WORDS, 3);
            if let Some(read) = LoadReport::read(&report) {
                prop_assert_eq!(LoadReport::read(&read.to_bytes()), Some(read));
            }
        }
    }

    #[test]
    fn a_report_of_all_links_fits_the_shortest_path() {
        let links = vec![LinkReport::default(); MAX_LINKS];
        let report = LoadReport { test: 7, step: 1, serial: 2, stage: Stage::Done, busy: 255, links };
        assert!(report.to_bytes().len() <= 1_000);
        assert_eq!(LoadReport::read(&report.to_bytes()), Some(report));
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let request = Request {
            test: 1,
            step: 2,
            serial: 3,
            mode: Mode::Fill,
            links: 5,
            time: Duration::from_millis(4_000),
            kib: 1 << 20,
            push: true,
            metered: false,
        };
        assert_eq!(Request::read(&request.to_bytes()), Some(request));
        assert_eq!(Request::read(&request.to_bytes()[1..]), None);
        assert_eq!(LoadReport::read(&[0; REPORT_FIXED_LEN + 1]), None);
    }
}
