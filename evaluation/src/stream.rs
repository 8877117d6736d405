//! A TCP stream whose progress is watched to the millisecond: how long it stood still when a link
//! failed, how fast it was when, and whether every byte arrived as it was sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};
use serde::Serialize;
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;
use crate::wan::Direction;

/// The longest that connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Room for the handshakes of all links of Multipath TCP.
const BACKLOG: i32 = 16;

/// The longest stream that is recorded; bounds the record to 8 MB.
const LONGEST: Duration = Duration::from_secs(1_000);

/// The stream repeats itself after so many bytes, a prime: bytes that are missing, or come twice, by whole
/// packets shift it, and that is seen.
const PATTERN: usize = 65_521;

/// What carries a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// Multipath TCP (RFC 8684) of the kernel.
    Mptcp,
}

/// Both ends of a TCP connection that sends in one direction.
#[derive(Debug)]
pub struct Connection {
    sender: TcpStream,
    receiver: TcpStream,
    /// Multipath TCP's further links join where the first one was accepted.
    listener: TcpListener,
}

impl Connection {
    /// Connects from one namespace to an address of another one. `direction` says who sends: up is from
    /// the one that connects. The sender's congestion control is one that the kernel knows.
    pub fn open(
        protocol: Protocol,
        client: &Namespace,
        server: &Namespace,
        address: IpAddr,
        direction: Direction,
        congestion: &str,
    ) -> Result<Self> {
        let listener = server
            .enter(|| listen(protocol, address))?
            .with_context(|| format!("{}: listening at {address}", server.name()))?;
        let target: SocketAddr = listener.local_addr()?;
        let outgoing = client
            .enter(|| connect(protocol, target))?
            .with_context(|| format!("{}: connecting to {target}", client.name()))?;
        // The handshake is complete: the connection is in the listener's queue or on its way.
        let (incoming, _) = listener.accept()?;
        let (sender, receiver) = match direction {
            Direction::Up => (outgoing, incoming),
            Direction::Down => (incoming, outgoing),
        };
        setsockopt(&sender, TcpCongestion, &congestion.into())
            .with_context(|| format!("choosing {congestion}"))?;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        sender.set_write_timeout(Some(Duration::from_millis(50)))?;
        Ok(Self { sender, receiver, listener })
    }
}

impl Protocol {
    fn socket(self, address: IpAddr) -> std::io::Result<Socket> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let protocol = match self {
            Self::Tcp => socket2::Protocol::TCP,
            Self::Mptcp => socket2::Protocol::MPTCP,
        };
        Socket::new(domain, Type::STREAM, Some(protocol))
    }
}

fn listen(protocol: Protocol, address: IpAddr) -> std::io::Result<TcpListener> {
    let socket = protocol.socket(address)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn connect(protocol: Protocol, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = protocol.socket(target.ip())?;
    socket.connect_timeout(&target.into(), CONNECT_LIMIT)?;
    Ok(socket.into())
}

/// A stream that sends as fast as TCP lets it until [`stop`](Self::stop).
#[derive(Debug)]
pub struct WatchedStream {
    start: Instant,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// A second handle of the sender's socket, to end a write that blocks.
    socket: TcpStream,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<Progress>>,
    _listener: TcpListener,
}

/// The bytes that arrived in each millisecond since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// One entry for each millisecond, up to the last one in which something arrived.
    pub bytes_by_ms: Vec<u64>,
    /// How long the stream was watched.
    pub watched: Duration,
    /// What went wrong, if anything did: the connection broke, or a byte was another one than was sent.
    pub fault: Option<String>,
}

impl Progress {
    /// The longest time in which nothing arrived, between these two times after the start.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let (from, to) = self.range(from, to);
        let (mut longest, mut gap) = (0, 0);
        for ms in from..to {
            let still = self.bytes_by_ms.get(ms).is_none_or(|&bytes| bytes == 0);
            gap = if still { gap + 1 } else { 0 };
            longest = longest.max(gap);
        }
        Duration::from_millis(longest)
    }

    /// The goodput in bit/s between these two times after the start.
    pub fn goodput_bps(&self, from: Duration, to: Duration) -> f64 {
        let (from, to) = self.range(from, to);
        let bytes: u64 = self.bytes_by_ms.iter().take(to).skip(from).sum();
        bytes as f64 * 8.0 / ((to - from).max(1) as f64 / 1e3)
    }

    /// The goodput in bit/s of each step of this length since the start, but for a last one that is not
    /// whole.
    pub fn steps_bps(&self, step: Duration) -> Vec<f64> {
        let step = step.max(Duration::from_millis(1));
        let count = (self.watched.as_millis() / step.as_millis()) as u32;
        (0..count).map(|index| self.goodput_bps(step * index, step * (index + 1))).collect()
    }

    /// The progress of several streams, which count from the same time, together.
    pub fn sum<'a>(streams: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for stream in streams {
            let length = sum.bytes_by_ms.len().max(stream.bytes_by_ms.len());
            sum.bytes_by_ms.resize(length, 0);
            sum.bytes_by_ms.iter_mut().zip(&stream.bytes_by_ms).for_each(|(sum, bytes)| *sum += bytes);
            sum.watched = sum.watched.max(stream.watched);
            sum.fault = sum.fault.or_else(|| stream.fault.clone());
        }
        sum
    }

    /// All bytes that arrived.
    pub fn bytes(&self) -> u64 {
        self.bytes_by_ms.iter().sum()
    }

    /// So many bytes arrived at this time after the start.
    pub(crate) fn count(&mut self, at: Duration, bytes: usize) {
        let ms = at.min(LONGEST).as_millis() as usize;
        if self.bytes_by_ms.len() <= ms {
            self.bytes_by_ms.resize(ms + 1, 0);
        }
        self.bytes_by_ms[ms] += bytes as u64;
    }

    fn range(&self, from: Duration, to: Duration) -> (usize, usize) {
        let to = to.min(self.watched).as_millis() as usize;
        ((from.as_millis() as usize).min(to), to)
    }
}

impl WatchedStream {
    /// Connects from one namespace to an address of another one and starts to send, with cubic.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let connection = Connection::open(Protocol::Tcp, from, to, address, Direction::Up, "cubic")?;
        Self::over(connection, Instant::now())
    }

    /// Starts to send over a connection. Times of the progress count from `start`.
    pub fn over(connection: Connection, start: Instant) -> Result<Self> {
        let Connection { sender: socket, receiver: incoming, listener } = connection;
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let mut outgoing = socket.try_clone()?;
        let sender = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new().name("stream-out".into()).spawn(move || {
                let block = pattern();
                let mut at = 0;
                while !stop.load(Ordering::Relaxed) {
                    match outgoing.write(&block[at..]) {
                        Ok(written) => at = (at + written) % PATTERN,
                        Err(error) if is_timeout(&error) => {}
                        Err(_) => return,
                    }
                }
            })?
        };
        let receiver = {
            let (stop, received) = (Arc::clone(&stop), Arc::clone(&received));
            std::thread::Builder::new()
                .name("stream-in".into())
                .spawn(move || watch(incoming, &stop, &received, start))?
        };
        let (sender, receiver) = (Some(sender), Some(receiver));
        Ok(Self { start, received, stop, socket, sender, receiver, _listener: listener })
    }

    /// The time since the start, on the clock of the progress.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The bytes that have arrived so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the stream and returns its progress.
    pub fn stop(mut self) -> Progress {
        self.finish()
    }

    fn finish(&mut self) -> Progress {
        self.stop.store(true, Ordering::Relaxed);
        // A connection that has broken is shut down already.
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(sender) = self.sender.take() {
            // Neither thread has a way to panic.
            let _ = sender.join();
        }
        self.receiver.take().and_then(|receiver| receiver.join().ok()).unwrap_or_default()
    }
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.finish();
    }
}

fn watch(mut incoming: TcpStream, stop: &AtomicBool, received: &AtomicU64, start: Instant) -> Progress {
    let mut progress = Progress::default();
    // Any part of the stream of up to PATTERN bytes is somewhere in two of it.
    let expected = [pattern(), pattern()].concat();
    let mut buffer = vec![0; PATTERN];
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) && start.elapsed() < LONGEST {
        match incoming.read(&mut buffer) {
            Ok(0) => {
                progress.fault = Some("the connection was closed".into());
                break;
            }
            Ok(length) => {
                if buffer[..length] != expected[at..at + length] {
                    let bytes = received.load(Ordering::Relaxed);
                    progress.fault = Some(format!("other bytes than were sent, after {bytes}"));
                    break;
                }
                at = (at + length) % PATTERN;
                progress.count(start.elapsed(), length);
                received.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => {
                progress.fault = Some(format!("the connection broke: {error}"));
                break;
            }
        }
    }
    if stop.load(Ordering::Relaxed) {
        // Its end was asked for.
        progress.fault = progress.fault.filter(|fault| fault.starts_with("other bytes"));
    }
    // A stream that broke stands still until it is stopped.
    while !stop.load(Ordering::Relaxed) && start.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(1));
    }
    progress.watched = start.elapsed();
    progress
}

/// What the stream repeats: no two parts of it are alike for long (a multiplicative generator, Lehmer's).
fn pattern() -> Vec<u8> {
    let mut state: u64 = 1;
    let next = |_| {
        state = state * 48_271 % 0x7fff_ffff;
        (state >> 8) as u8
    };
    (0..PATTERN).map(next).collect()
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_within_the_range_asked_for() {
        let ms = Duration::from_millis;
        let bytes_by_ms = vec![0, 5, 0, 0, 5, 0, 0, 0, 5];
        let progress = Progress { bytes_by_ms, watched: ms(20), fault: None };
        assert_eq!(progress.longest_gap(ms(0), ms(9)), ms(3));
        assert_eq!(progress.longest_gap(ms(0), ms(5)), ms(2));
        assert_eq!(progress.longest_gap(ms(0), ms(100)), ms(11));
        assert_eq!(progress.goodput_bps(ms(0), ms(10)), 15.0 * 8.0 * 100.0);
        assert_eq!(progress.bytes(), 15);
    }

    #[test]
    fn streams_add_up_and_are_told_in_steps() {
        let ms = Duration::from_millis;
        let progress = |bytes_by_ms: &[u64], watched, fault: Option<&str>| Progress {
            bytes_by_ms: bytes_by_ms.to_vec(),
            watched: ms(watched),
            fault: fault.map(str::to_owned),
        };
        let sum = Progress::sum(&[progress(&[1, 2], 5, None), progress(&[0, 1, 4], 4, Some("broke"))]);
        assert_eq!(sum, progress(&[1, 3, 4], 5, Some("broke")));
        assert_eq!(sum.steps_bps(ms(2)), [4.0 * 4000.0, 4.0 * 4000.0]);
    }
}
