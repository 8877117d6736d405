//! A run of datagrams that leave in one go.

use std::net::SocketAddr;

use super::link::SocketId;
use crate::core::session::protection::Protector;

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
    /// By which socket, and where to.
    pub(super) socket: Option<SocketId>,
    pub(super) remote: Option<SocketAddr>,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            ends: Vec::with_capacity(MAX_DATAGRAMS),
            raw: 0,
            socket: None,
            remote: None,
        }
    }
}

impl Train {
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

    /// The datagrams in the order of sending.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().scan(0, |start, &end| Some(&self.buffer[std::mem::replace(start, end)..end]))
    }

    pub(super) fn clear(&mut self) {
        self.ends.clear();
        (self.raw, self.socket, self.remote) = (0, None, None);
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

/// Which epoch a train is written for.
#[derive(Clone, Copy, Debug)]
pub struct Sealing {
    /// The peer's number of the epoch.
    pub epoch: u8,
    /// Bytes to leave free behind each datagram.
    pub footer_len: usize,
}
