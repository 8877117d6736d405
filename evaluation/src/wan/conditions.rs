//! What a direction of a wire does to the packets on it.

use std::time::Duration;

/// The conditions of one direction of a wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// The rate in bit/s of IP packets (a frame without its 14 bytes of Ethernet header);
    /// 0 is without limit.
    pub rate_bps: u64,
    /// The delay of the wire itself, one way. Serialisation and queueing come on top.
    pub delay: Duration,
    /// The drop-tail queue before the wire.
    pub queue: Queue,
    /// Up to this much is added to `delay`, at random. See `reorder` for how.
    pub jitter: Duration,
    /// Whether jitter may reorder packets. If so, each packet's is drawn on its own, uniformly;
    /// if not, it wanders between random values over a few times its range and keeps the order,
    /// at every packet rate.
    pub reorder: bool,
    /// What is lost on the wire, after having taken its share of the rate.
    pub loss: Loss,
    /// Longer IP packets, in bytes, vanish without an ICMP error; `None` if all pass. Unlike the interfaces' MTU,
    /// nobody at either end knows of it.
    pub longest: Option<u32>,
    /// A silent black hole: everything that enters and everything under way is lost, while the
    /// interfaces stay up.
    pub cut: bool,
}

impl Conditions {
    /// A wire of this rate with a queue of 100 ms, and without delay, jitter and loss.
    pub fn of_rate(rate_bps: u64) -> Self {
        Self {
            rate_bps,
            delay: Duration::ZERO,
            queue: Queue::Time(Duration::from_millis(100)),
            jitter: Duration::ZERO,
            reorder: false,
            loss: Loss::None,
            longest: None,
            cut: false,
        }
    }

    /// The bytes that the queue may hold, with the packet that is being sent.
    pub(super) fn queue_limit(&self) -> u64 {
        // A queue shorter than two packets would stop a link now and then without need.
        const LEAST: u64 = 3_000;
        match self.queue {
            _ if self.rate_bps == 0 => u64::MAX,
            Queue::Bytes(bytes) => bytes.max(LEAST),
            Queue::Time(time) => ((self.rate_bps as f64 / 8.0 * time.as_secs_f64()) as u64).max(LEAST),
        }
    }
}

/// The length of a drop-tail queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Queue {
    /// So many bytes of IP packets.
    Bytes(u64),
    /// What the rate sends in this time; follows the rate when that changes.
    Time(Duration),
}

/// What is lost on a wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Nothing.
    None,
    /// Each packet with this probability, whatever happened to others.
    Random(f64),
    /// In bursts.
    Burst(GilbertElliott),
}

/// The Gilbert-Elliott loss model: a good and a bad state, left with a probability per packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GilbertElliott {
    /// The probability to go from good to bad.
    pub good_to_bad: f64,
    /// The probability to go from bad to good.
    pub bad_to_good: f64,
    /// The probability to lose a packet in the good state.
    pub loss_good: f64,
    /// The probability to lose a packet in the bad state.
    pub loss_bad: f64,
}

impl GilbertElliott {
    /// A model that loses the fraction `share` (below 1) of all packets, in runs of `run`
    /// packets (at least 1) on average: all in the bad state, none in the good one.
    pub fn with_runs(share: f64, run: f64) -> Self {
        let bad_to_good = 1.0 / run.max(1.0);
        let share = share.clamp(0.0, 0.99);
        Self {
            good_to_bad: (bad_to_good * share / (1.0 - share)).min(1.0),
            bad_to_good,
            loss_good: 0.0,
            loss_bad: 1.0,
        }
    }
}
