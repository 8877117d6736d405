//! A run of datagrams that leave in one go.

use std::net::SocketAddr;

use super::link::SocketId;
use crate::core::recent::Sum;
use crate::core::session::protection::Protector;
use crate::core::units::{Instant, LinkId};

/// Bytes of a train's buffer: the largest UDP payload, which is also what one GSO send takes.
const CAPACITY: usize = 65_507;
/// Most datagrams in a train (the kernel's UDP_MAX_SEGMENTS is 64 or 128).
const MAX_DATAGRAMS: usize = 64;

/// Datagrams of one link in one buffer, each with room for its footer, sealed when they are all there.
///
/// Reused from send to send: it allocates once.
pub struct Train {
    buffer: Box<[u8]>,
    /// End of each datagram; it begins where the one before ends.
    ends: Vec<usize>,
    /// Datagrams that are complete as written (handshakes).
    raw: usize,
    /// Datagrams that control the link, before the data.
    controls: usize,
    /// The data may leave in runs.
    in_runs: bool,
    pub(super) tally: Tally,
    /// By which socket, and where to.
    pub(super) socket: Option<SocketId>,
    pub(super) remote: Option<SocketAddr>,
}

/// What of a train is counted in bytes.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    /// Of the datagrams with packets, first copies and others.
    pub(super) data: u64,
    /// Packets that leave for the first time, without what is around them.
    pub(super) taken: Sum,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            ends: Vec::with_capacity(MAX_DATAGRAMS),
            raw: 0,
            controls: 0,
            in_runs: false,
            tally: Tally::default(),
            socket: None,
            remote: None,
        }
    }
}

impl Train {
    /// A train of `data`, which may leave in runs, behind so many datagrams that control the link.
    #[cfg(test)]
    pub fn of(data: &[Vec<u8>], controls: usize) -> Self {
        let mut train = Self::default();
        for (i, datagram) in data.iter().enumerate() {
            if i == controls {
                train.end_controls();
            }
            train.push(datagram.len()).copy_from_slice(datagram);
        }
        train.allow_runs();
        train
    }

    /// Says where it goes.
    #[cfg(test)]
    pub fn lead(&mut self, remote: SocketAddr) {
        self.remote = Some(remote);
    }

    /// Where it goes, for a flow without connection.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The socket by which it leaves.
    pub fn socket(&self) -> Option<SocketId> {
        self.socket
    }

    /// True without a datagram.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of datagrams.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// All its datagrams.
    pub(super) fn sum(&self) -> Sum {
        Sum { count: self.len() as u64, bytes: self.filled() as u64 }
    }

    /// The datagrams in the order of sending.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, &end| Some(&self.buffer[std::mem::replace(start, end)..end]))
    }

    /// The datagrams from number `first` on, in the pieces in which they are to leave.
    pub fn runs(&self, first: usize) -> impl Iterator<Item = Run<'_>> {
        let mut next = first;
        std::iter::from_fn(move || {
            let run = self.run(next)?;
            next += run.count;
            Some(run)
        })
    }

    /// From now on each datagram is a run of its own.
    pub fn separate(&mut self) {
        self.in_runs = false;
    }

    /// The run that begins with datagram `first`.
    fn run(&self, first: usize) -> Option<Run<'_>> {
        let start = first.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        let segment = self.ends.get(first)? - start;
        let mut count = 1;
        if self.in_runs && first >= self.controls && segment > 0 {
            let mut rest = self.ends[first..].windows(2).map(|ends| ends[1] - ends[0]);
            count += rest.clone().take_while(|len| *len == segment).count();
            // A shorter one may be the last.
            count += usize::from(rest.nth(count - 1).is_some_and(|len| len > 0 && len < segment));
        }
        Some(Run { first, count, segment, bytes: &self.buffer[start..self.ends[first + count - 1]] })
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        (self.raw, self.controls, self.in_runs, self.tally) = (0, 0, false, Tally::default());
        (self.socket, self.remote) = (None, None);
    }

    /// What is there controls the link, and each of it leaves alone: it must arrive where runs do not, and shows
    /// that they do not.
    pub(super) fn end_controls(&mut self) {
        self.controls = self.ends.len();
    }

    /// The data may leave in runs.
    pub(super) fn allow_runs(&mut self) {
        self.in_runs = true;
    }

    /// Longest datagram that still finds room.
    pub(super) fn room(&self) -> usize {
        if self.ends.len() < MAX_DATAGRAMS { self.buffer.len() - self.filled() } else { 0 }
    }

    /// Room for a datagram of `len` bytes, to be written by the caller. There must be room.
    pub(super) fn push(&mut self, len: usize) -> &mut [u8] {
        let start = self.filled();
        self.ends.push(start + len);
        &mut self.buffer[start..start + len]
    }

    /// Adds a datagram that needs no sealing. Only before the others.
    pub(super) fn push_raw(&mut self, datagram: &[u8]) {
        debug_assert_eq!(self.raw, self.ends.len());
        self.push(datagram.len()).copy_from_slice(datagram);
        self.raw += 1;
    }

    /// Protects all but what is complete as written.
    pub(in crate::core) fn seal(&mut self, protector: &Protector) {
        let mut start = self.raw.checked_sub(1).map_or(0, |last| self.ends[last]);
        let mut rest = &mut self.buffer[start..];
        protector.seal_all(self.ends[self.raw..].iter().map(|&end| {
            let (datagram, behind) = std::mem::take(&mut rest).split_at_mut(end - start);
            (rest, start) = (behind, end);
            datagram
        }));
    }

    fn filled(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }
}

/// Datagrams of one length, but for the last, which may be shorter: the kernel or the network card cuts them apart
/// (UDP GSO, `UDP_SEGMENT` in udp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// Number of its first datagram in the train.
    pub first: usize,
    /// How many, 1 or more.
    pub count: usize,
    /// Length of each, bytes.
    pub segment: usize,
    /// All of them.
    pub bytes: &'a [u8],
}

/// Which epoch a train is written for.
#[derive(Clone, Copy, Debug)]
pub struct Sealing {
    /// The peer's number of the epoch.
    pub epoch: u8,
    /// Bytes to leave free behind each datagram.
    pub footer_len: usize,
}

/// What the datagrams of one train have in common.
#[derive(Clone, Copy)]
pub(super) struct Trip {
    pub(super) now: Instant,
    pub(super) link: LinkId,
    pub(super) sealing: Sealing,
    /// Bit `n`: our link `n`, which is another one, may hold unacknowledged ordered data of conversations that no link
    /// has adopted.
    pub(super) elsewhere: u16,
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn train(controls: &[usize], data: &[usize]) -> Train {
        let lengths = controls.iter().chain(data);
        let datagrams: Vec<_> = (0..).zip(lengths).map(|(fill, len)| vec![fill; *len]).collect();
        Train::of(&datagrams, controls.len())
    }

    fn counts(train: &Train, first: usize) -> Vec<usize> {
        train.runs(first).map(|run| run.count).collect()
    }

    #[test]
    fn equal_ones_go_together_and_a_shorter_one_ends_them() {
        assert_eq!(counts(&train(&[], &[9, 9, 9, 4, 4, 9, 5, 6]), 0), [4, 1, 2, 1]);
        assert_eq!(counts(&train(&[], &[9, 9, 9]), 1), [2]);
        assert!(counts(&train(&[], &[9, 9, 9]), 3).is_empty());
        assert!(counts(&train(&[], &[]), 0).is_empty());
        assert_eq!(counts(&train(&[], &[1_000; 64]), 0), [64]);
    }

    #[test]
    fn what_controls_the_link_goes_alone() {
        assert_eq!(counts(&train(&[9, 9, 9], &[9, 9]), 0), [1, 1, 1, 2]);
        let mut separate = train(&[], &[9, 9]);
        separate.separate();
        assert_eq!(counts(&separate, 0), [1, 1]);
    }

    proptest! {
        #[test]
        fn the_runs_are_the_datagrams(
            controls in vec(0..4usize, 0..4),
            data in vec(0..4usize, 0..60),
            first in 0..64usize,
        ) {
            let train = train(&controls, &data);
            let whole: Vec<&[u8]> = train.datagrams().skip(first).collect();
            let mut at = first;
            let mut together: Vec<&[u8]> = Vec::new();
            for run in train.runs(first) {
                prop_assert_eq!(run.first, at);
                at += run.count;
                match run.count {
                    1 => together.push(run.bytes),
                    _ => together.extend(run.bytes.chunks(run.segment)),
                }
                prop_assert_eq!(together.len(), at - first);
            }
            prop_assert_eq!(together, whole);
        }
    }
}
