//! Somebody who sees every datagram on its way, and sends what he likes to the remote portal's port.
//!
//! ```text
//!  local == links == internet [recorder] -- remote
//!                        |
//!                      server [flood]
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::lab::{Family, Lab};
use crate::portal::PORT;

/// Datagrams kept for later use.
const KEPT: usize = 4_096;
/// A recorded datagram is used after so long only: its original has arrived by then, and newer ones.
const AGE: Duration = Duration::from_millis(100);
/// Longer than any datagram that fits a link, in bytes of payload.
const OVERSIZED: std::ops::Range<usize> = 2_500..4_000;
/// The sender catches up with at most so many datagrams at once.
const BURST: u64 = 500;

/// What a bad datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A recorded datagram with a made-up footer or tag.
    Forged,
    /// A recorded datagram as it was.
    Replayed,
    /// The first bytes of a recorded datagram, at least one less; none at all as well.
    Truncated,
    /// A recorded datagram with one bit the other way.
    BitFlipped,
    /// A recorded datagram with so much behind it that none of the peer's is as long.
    Oversized,
    /// Random bytes.
    Noise,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Forged, Self::Replayed, Self::Truncated, Self::BitFlipped, Self::Oversized, Self::Noise];
}

/// What was recorded and when, the newest first.
type Seen = Mutex<VecDeque<(Instant, Vec<u8>)>>;

/// Records the newest datagrams to the remote portal's port, in the Internet between the portals.
#[derive(Debug)]
pub struct Recorder {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts to record.
    pub fn start(lab: &Lab) -> Result<Self> {
        let packets = lab.internet().enter(|| -> Result<OwnedFd> {
            // Not bound to an interface: it sees each packet of the namespace, coming and going, from
            // its IP header on.
            let (family, kind) = (AddressFamily::Packet, SockType::Datagram);
            let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 50_000))?;
            Ok(fd)
        })??;
        let seen = Arc::new(Seen::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_there, stop_there) = (Arc::clone(&seen), Arc::clone(&stop));
        let stranger = stranger(lab);
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop_there.load(Ordering::Relaxed) {
                let length = recv(packets.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap_or(0);
                // What the flood itself sends comes by here as well.
                let good = datagram_to_remote(&buffer[..length]).filter(|(from, _)| *from != stranger);
                if let Some((_, datagram)) = good {
                    let mut seen = lock(&seen_there);
                    seen.truncate(KEPT - 1);
                    seen.push_front((Instant::now(), datagram.to_vec()));
                }
            }
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// How many datagrams are ready for use.
    pub fn ready(&self) -> usize {
        lock(&self.seen).iter().filter(|(at, _)| at.elapsed() >= AGE).count()
    }

    /// Whether a datagram had these bytes in it, one after the other.
    pub fn saw(&self, bytes: &[u8]) -> bool {
        lock(&self.seen).iter().any(|(_, datagram)| datagram.windows(bytes.len()).any(|part| part == bytes))
    }

    /// One of those that are ready for use, chosen by `number`, the newest more often.
    fn pick(&self, number: u64) -> Option<Vec<u8>> {
        let seen = lock(&self.seen);
        let first = seen.partition_point(|(at, _)| at.elapsed() < AGE);
        let count = (seen.len() - first) as u64;
        // Half of the choices go to the newest sixteenth.
        let range = if number & 1 == 0 { count } else { count.div_ceil(16) };
        let index = first as u64 + (number >> 1).checked_rem(range)?;
        Some(seen[index as usize].1.clone())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no way to panic.
            let _ = thread.join();
        }
    }
}

/// The sender and the payload, if this is an IPv4 packet with a whole UDP datagram to the portals' port.
fn datagram_to_remote(packet: &[u8]) -> Option<(IpAddr, &[u8])> {
    let header = packet.first_chunk::<20>()?;
    let from = <[u8; 4]>::try_from(&header[12..16]).ok()?;
    let udp = packet.get(usize::from(header[0] & 0x0f) * 4..)?;
    let udp_in_v4 = header[0] >> 4 == 4 && header[9] == 17 && header[6] & 0x3f == 0 && header[7] == 0;
    let &[_, _, port_high, port_low, length_high, length_low, _, _] = udp.first_chunk()?;
    let ours = udp_in_v4 && u16::from_be_bytes([port_high, port_low]) == PORT;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    udp.get(8..length).filter(|_| ours).map(|payload| (from.into(), payload))
}

/// Bad datagrams from the server to the remote portal's port, until stopped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome>>,
}

/// What a flood did, and what came of it at its source.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Datagrams sent, by kind.
    pub sent: BTreeMap<Kind, u64>,
    /// How long it took.
    pub seconds: f64,
    /// Answers received: datagrams, or ICMP errors.
    pub answers: u64,
}

impl Outcome {
    /// All datagrams sent.
    pub fn total(&self) -> u64 {
        self.sent.values().sum()
    }
}

impl Flood {
    /// Starts to send `rate` datagrams in a second, the kinds in turns. The same `seed` makes the same
    /// choices.
    pub fn start(lab: &Lab, recorder: Arc<Recorder>, kinds: &[Kind], rate: u64, seed: u64) -> Result<Self> {
        anyhow::ensure!(!kinds.is_empty() && rate > 0, "such a flood sends nothing");
        let source = lab.server().enter(|| UdpSocket::bind(("0.0.0.0", 0)))??;
        let target = SocketAddr::new(lab.remote_address(Family::V4), PORT);
        // So ICMP errors are told too, and only the portal's answers come.
        source.connect(target).with_context(|| format!("connecting to {target}"))?;
        source.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_there, kinds) = (Arc::clone(&stop), kinds.to_vec());
        let thread = std::thread::Builder::new().name("flood".into()).spawn(move || {
            let sender = Sender { source, recorder, random: Random(seed | 1), outcome: Outcome::default() };
            sender.run(&stop_there, &kinds, rate)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it.
    pub fn stop(mut self) -> Outcome {
        self.finish()
    }

    fn finish(&mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map(|thread| thread.join().expect("the flood does not panic")).unwrap_or_default()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Sender {
    source: UdpSocket,
    recorder: Arc<Recorder>,
    random: Random,
    outcome: Outcome,
}

impl Sender {
    fn run(mut self, stop: &AtomicBool, kinds: &[Kind], rate: u64) -> Outcome {
        let start = Instant::now();
        let (mut due_before, mut turn) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
            let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
            for _ in 0..(due - due_before).min(BURST) {
                let kind = kinds[turn % kinds.len()];
                turn += 1;
                let Some(datagram) = self.make(kind) else { continue };
                // What the kernel refuses, as for an ICMP error of an earlier one, was not sent.
                match self.source.send(&datagram) {
                    Ok(_) => *self.outcome.sent.entry(kind).or_default() += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                        self.outcome.answers += 1;
                    }
                    Err(_) => {}
                }
            }
            due_before = due;
            while self.source.recv(&mut [0; 2_048]).is_ok() {
                self.outcome.answers += 1;
            }
        }
        self.outcome.seconds = start.elapsed().as_secs_f64();
        self.outcome
    }

    /// A datagram of a kind; `None` while nothing was recorded to make it of.
    fn make(&mut self, kind: Kind) -> Option<Vec<u8>> {
        let random = &mut self.random;
        if kind == Kind::Noise {
            return Some((0..random.below(1_400)).map(|_| random.next() as u8).collect());
        }
        let mut datagram = self.recorder.pick(random.next())?;
        match kind {
            Kind::Replayed | Kind::Noise => {}
            Kind::Forged => {
                let footer = datagram.len().saturating_sub(16);
                datagram[footer..].iter_mut().for_each(|byte| *byte ^= 1 + random.below(255) as u8);
            }
            Kind::Truncated => datagram.truncate(random.below(datagram.len() as u64) as usize),
            Kind::BitFlipped => {
                let bit = random.below(datagram.len() as u64 * 8) as usize;
                *datagram.get_mut(bit / 8)? ^= 1 << (bit % 8);
            }
            Kind::Oversized => {
                let span = (OVERSIZED.end - OVERSIZED.start) as u64;
                datagram.resize(OVERSIZED.start + random.below(span) as usize, 0x5a);
            }
        }
        Some(datagram)
    }
}

/// A xorshift generator (Marsaglia): choices, not secrets.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 3
    }

    /// Below `end`; 0 if that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }
}

/// Datagrams that the kernel dropped at the remote portal's port because its socket was full: nobody
/// else can count them.
pub fn dropped_at_remote(lab: &Lab) -> Result<u64> {
    let tables = lab.remote().enter(|| -> std::io::Result<String> {
        let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        Ok(read("udp")? + &read("udp6")?)
    })??;
    let port = format!(":{PORT:04X}");
    let ours = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = ours.filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&port)));
    Ok(ours.filter_map(|fields| fields.last()?.parse::<u64>().ok()).sum())
}

/// The address from which the flood comes.
pub fn stranger(lab: &Lab) -> IpAddr {
    lab.server_address(Family::V4)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has left whole datagrams.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datagrams_to_the_portal_are_recorded() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2];
        let [high, low] = PORT.to_be_bytes();
        packet.extend([9, 9, high, low, 0, 11, 0, 0]);
        packet.extend(b"abc");
        let expected = Some((IpAddr::from([1, 1, 1, 1]), &b"abc"[..]));
        assert_eq!(datagram_to_remote(&packet), expected);
        packet.extend(b"padding");
        assert_eq!(datagram_to_remote(&packet), expected);
        assert_eq!(datagram_to_remote(&packet[..30]), None);
        packet[9] = 6;
        assert_eq!(datagram_to_remote(&packet), None);
    }
}
