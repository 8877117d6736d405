//! The connection of a TCP flow: datagrams as records, each after its length in two bytes.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::{Protocol, SockRef, TcpKeepalive, Type};

use super::sys;
use super::udp::{Local, bound};
use crate::core::outbound::Train;

/// Bytes that may wait unsent in the kernel: what waits there cannot take a faster link any more. Two
/// milliseconds at 100 Mbit/s.
const UNSENT: u32 = 24 << 10;
/// A connection whose data is not acknowledged for so long is dead.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(15);
const LENGTH: usize = 2;
/// Bytes beyond which no answer is added to what waits.
const MAX_WAITING: usize = 256 << 10;
/// Longest record: what two bytes can say.
const MAX_RECORD: usize = u16::MAX as usize;

/// One connection to the other portal. Belongs to one link.
pub(super) struct TcpFlow {
    stream: TcpStream,
    peer: SocketAddr,
    /// Bytes of records that the kernel did not take yet: at most a train and some answers.
    rest: Mutex<Vec<u8>>,
}

impl TcpFlow {
    /// Takes over a connection.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        sys::limit_unsent(stream.as_fd(), UNSENT)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok(Self { stream, peer, rest: Mutex::default() })
    }

    /// The other portal's end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Own address and port.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    /// Takes `train` as records. What the kernel does not take waits for [`TcpFlow::flush`].
    pub(super) fn send(&self, train: &Train) -> io::Result<()> {
        let mut rest = self.rest();
        let mut lengths = [[0; LENGTH]; super::mmsg::BATCH];
        for (length, datagram) in lengths.iter_mut().zip(train.datagrams()) {
            *length = (datagram.len() as u16).to_be_bytes();
        }
        let mut slices = [IoSlice::new(&[]); super::mmsg::BATCH * 2];
        for ((pair, length), datagram) in
            slices.as_chunks_mut::<2>().0.iter_mut().zip(&lengths).zip(train.datagrams())
        {
            *pair = [IoSlice::new(length), IoSlice::new(datagram)];
        }
        let slices = &slices[..train.len() * 2];
        let mut written = 0;
        if rest.is_empty() {
            written = match (&self.stream).write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            };
        }
        for slice in slices {
            let skip = written.min(slice.len());
            written -= skip;
            rest.extend_from_slice(&slice[skip..]);
        }
        Ok(())
    }

    /// Takes one record outside of any train.
    pub(super) fn answer(&self, datagram: &[u8]) -> io::Result<()> {
        let mut rest = self.rest();
        if rest.len() > MAX_WAITING {
            return Ok(());
        }
        rest.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
        rest.extend_from_slice(datagram);
        write_out(&self.stream, &mut rest).map(|_| ())
    }

    /// Writes what waits. True when nothing does any more.
    pub(super) fn flush(&self) -> io::Result<bool> {
        write_out(&self.stream, &mut self.rest())
    }

    fn rest(&self) -> MutexGuard<'_, Vec<u8>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shuts the connection down, so that whoever reads it notices.
    pub(super) fn shut_down(&self) {
        // It may be closed already, which is just as well.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

impl AsFd for TcpFlow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Writes from the front of `bytes` what the kernel takes. True when that is all.
fn write_out(mut stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Opens a socket for a connection to `remote`, bound as `local` says, not connected yet.
pub(super) fn socket(local: &Local, remote: Option<SocketAddr>) -> io::Result<socket2::Socket> {
    bound(local, remote, Type::STREAM, Protocol::TCP)
}

/// Cuts a stream of bytes into records.
pub(super) struct Records {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Records {
    fn default() -> Self {
        Self { buffer: vec![0; 4 * (MAX_RECORD + LENGTH)].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Records {
    /// Reads what is there. `Ok(0)` is the end of the stream.
    pub(super) fn read(&mut self, mut from: impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let count = from.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// The records that are complete; they count as taken.
    pub(super) fn take(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let complete = complete_len(&self.buffer[self.start..self.end]);
        let mut rest = &mut self.buffer[self.start..self.start + complete];
        self.start += complete;
        std::iter::from_fn(move || {
            let (length, behind) = std::mem::take(&mut rest).split_first_chunk_mut::<LENGTH>()?;
            let (record, next) = behind.split_at_mut_checked(u16::from_be_bytes(*length).into())?;
            rest = next;
            Some(record)
        })
    }
}

/// Length of the complete records at the beginning of `bytes`.
fn complete_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = bytes[at..].first_chunk::<LENGTH>() {
        let end = at + LENGTH + usize::from(u16::from_be_bytes(*length));
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    at
}

impl TcpFlow {
    /// Reads into `records`.
    pub(super) fn read(&self, records: &mut Records) -> io::Result<usize> {
        records.read(&self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_any_cutting(
            sizes in proptest::collection::vec(0usize..3_000, 1..60),
            cuts in proptest::collection::vec(1usize..5_000, 1..200),
        ) {
            let records: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect();
            let stream: Vec<u8> = records.iter().flat_map(|r| [&(r.len() as u16).to_be_bytes()[..], r].concat()).collect();
            let (mut reader, mut got, mut at) = (Records::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == stream.len() { break; }
                let end = (at + cut).min(stream.len());
                let read = reader.read(&stream[at..end]).expect("a slice reads");
                at += read;
                got.extend(reader.take().map(|record| record.to_vec()));
            }
            prop_assert_eq!(got, records);
        }

        #[test]
        fn any_bytes_end_in_records_and_never_in_a_full_buffer(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let mut reader = Records::default();
            for chunk in bytes.chunks(7) {
                prop_assert!(reader.read(chunk).is_ok_and(|count| count == chunk.len()));
                reader.take().for_each(drop);
            }
        }
    }
}
