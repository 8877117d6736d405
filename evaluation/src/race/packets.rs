//! How many small packets in a second pass a tunnel without loss, as of many calls or games at once.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::netns::Namespace;

/// Payload of a packet of 100 bytes with its headers of IPv4 and UDP.
const PAYLOAD: usize = 72;
/// Conversations that take turns.
const CONVERSATIONS: usize = 16;
/// Loss that still counts as none.
const LOSS: f64 = 1e-3;
/// How long each rate is tried.
const TRIAL: Duration = Duration::from_secs(1);
/// The lowest rate that is tried, in packets per second, and by what it grows until there is loss.
const LOWEST: f64 = 20_000.0;
const GROWTH: f64 = 1.5;
/// The highest.
const HIGHEST: f64 = 3e6;
/// Halvings of the step between the last rate without loss and the first one with it: 3 % are left of it.
const HALVINGS: usize = 4;
/// Tries at each rate: a shared machine stands still now and then.
const TRIES: usize = 2;
/// How long the sender sleeps, and the receiver lets packets gather.
const NAP: Duration = Duration::from_micros(200);
/// The most that the sender makes up for at once when it slept longer.
const BURST: Duration = Duration::from_millis(1);
/// Room for what comes while the receiver sleeps.
const RECEIVE_BUFFER: usize = 32 << 20;
/// How long packets may be on the way.
const TAIL: Duration = Duration::from_millis(200);

/// The highest rate found at which no packet is lost, in packets per second; 0 if there is none.
pub fn rate_without_loss(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<f64> {
    let ends = Ends::open(from, to, address)?;
    search(|rate| {
        let trials = (0..TRIES).map(|_| ends.trial(rate));
        trials.into_iter().find_map(Result::transpose).transpose()
    })
}

/// The highest rate for which `passes` tells what passed.
fn search(mut passes: impl FnMut(f64) -> Result<Option<f64>>) -> Result<f64> {
    let (mut best, mut good, mut bad) = (0.0, 0.0, LOWEST);
    while bad < HIGHEST {
        let Some(passed) = passes(bad)? else { break };
        (best, good, bad) = (passed, bad, bad * GROWTH);
    }
    for _ in 0..HALVINGS {
        let middle = (good + bad) / 2.0;
        match passes(middle)? {
            Some(passed) => (best, good) = (passed, middle),
            None => bad = middle,
        }
    }
    Ok(best)
}

struct Ends {
    sources: Vec<UdpSocket>,
    target: UdpSocket,
}

impl Ends {
    fn open(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let target = to.enter(|| UdpSocket::bind((address, 0)))?.context("receiving small packets")?;
        setsockopt(&target, RcvBufForce, &RECEIVE_BUFFER)?;
        target.set_nonblocking(true)?;
        let to = target.local_addr()?;
        let source = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            Ok(socket)
        };
        let sources = from.enter(|| (0..CONVERSATIONS).map(|_| source()).collect::<io::Result<_>>())??;
        Ok(Self { sources, target })
    }

    /// What passed in a second of this rate; `None` if some was lost, or the sender itself could not keep up.
    fn trial(&self, rate: f64) -> Result<Option<f64>> {
        let over = AtomicBool::new(false);
        let ((sent, took), received) = thread::scope(|scope| {
            let receiver = scope.spawn(|| self.receive(&over));
            let sent = self.send(rate);
            thread::sleep(TAIL);
            over.store(true, Ordering::Relaxed);
            let received = receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (sent, received)
        });
        let received = received?;
        let lost = 1.0 - received as f64 / sent.max(1) as f64;
        let kept_up = sent as f64 >= 0.9 * rate * TRIAL.as_secs_f64();
        Ok((kept_up && lost <= LOSS).then(|| received as f64 / took.as_secs_f64()))
    }

    /// Sends at a rate, in steps as fine as naps are; gives how many, and in what time.
    fn send(&self, rate: f64) -> (u64, Duration) {
        let begun = Instant::now();
        let burst = (rate * BURST.as_secs_f64()) as u64 + 1;
        let (mut sent, mut missed) = (0, 0);
        while begun.elapsed() < TRIAL {
            let mut due = (begun.elapsed().as_secs_f64() * rate) as u64 - missed;
            // What was slept through is left out: no load of many sends it all at once.
            let late = due.saturating_sub(sent + burst);
            (missed, due) = (missed + late, due - late);
            while sent < due {
                // What the system refuses is lost.
                let _ = self.sources[sent as usize % CONVERSATIONS].send(&[0; PAYLOAD]);
                sent += 1;
            }
            thread::sleep(NAP);
        }
        (sent, begun.elapsed())
    }

    fn receive(&self, over: &AtomicBool) -> Result<u64> {
        let (mut received, mut buffer) = (0, [0; 2 * PAYLOAD]);
        loop {
            match self.target.recv(&mut buffer) {
                Ok(_) => received += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if over.load(Ordering::Relaxed) {
                        return Ok(received);
                    }
                    thread::sleep(NAP);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_found_to_a_few_percent() {
        for limit in [25_000.0, 150_000.0, 1e6] {
            let found = search(|rate| Ok((rate <= limit).then_some(rate))).unwrap();
            assert!(found <= limit && found > 0.96 * limit, "{found} for {limit}");
        }
        assert!(search(|rate| Ok((rate <= 3_000.0).then_some(rate))).unwrap() <= 3_000.0);
        assert_eq!(search(|_| Ok(None)).unwrap(), 0.0);
    }
}
