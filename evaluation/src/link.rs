//! What a link of the lab is like at the start.

use std::time::Duration;

use crate::wan::{Conditions, GilbertElliott, Loss, Queue};

/// One link between the local portal and the Internet. Built up from a rate; each step sets both
/// directions, and [`up`](Self::up) and [`down`](Self::down) change one of them.
///
/// ```
/// use evaluation::link::LinkSpec;
/// let dsl = LinkSpec::mbit(50.0).delay_ms(20.0).up(|up| up.rate_bps = 10_000_000);
/// assert_eq!(dsl.down.rate_bps, 50_000_000);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LinkSpec {
    /// From the local portal to the Internet.
    pub up: Conditions,
    /// From the Internet to the local portal.
    pub down: Conditions,
    /// The MTU of the interfaces at both ends, in bytes of IP packet.
    pub mtu: u32,
}

impl LinkSpec {
    /// A link of so many Mbit/s of IP packets each way, with a queue of 100 ms, without delay,
    /// jitter and loss, with an MTU of 1,500.
    pub fn mbit(rate: f64) -> Self {
        let conditions = Conditions::of_rate((rate * 1e6) as u64);
        Self { up: conditions.clone(), down: conditions, mtu: 1_500 }
    }

    /// The delay of the wire one way: a round trip takes twice as long.
    pub fn delay_ms(self, delay: f64) -> Self {
        self.both(|c| c.delay = Duration::from_secs_f64(delay / 1e3))
    }

    /// The length of the drop-tail queue in time at the link's rate.
    pub fn queue_ms(self, queue: f64) -> Self {
        self.both(|c| c.queue = Queue::Time(Duration::from_secs_f64(queue / 1e3)))
    }

    /// Delay added at random, up to this much.
    pub fn jitter_ms(self, jitter: f64) -> Self {
        self.both(|c| c.jitter = Duration::from_secs_f64(jitter / 1e3))
    }

    /// Lets jitter reorder packets.
    pub fn reorder(self) -> Self {
        self.both(|c| c.reorder = true)
    }

    /// Random loss of this fraction of the packets (0 to 1) in each direction.
    pub fn loss(self, share: f64) -> Self {
        self.both(|c| c.loss = Loss::Random(share))
    }

    /// Loss of this fraction of the packets in runs of `run` packets on average.
    pub fn burst_loss(self, share: f64, run: f64) -> Self {
        self.both(|c| c.loss = Loss::Burst(GilbertElliott::with_runs(share, run)))
    }

    /// Lets longer IP packets vanish without a word, though the interfaces' MTU is another.
    pub fn longest(self, bytes: u32) -> Self {
        self.both(|c| c.longest = Some(bytes))
    }

    /// The MTU, at least 1,280 as IPv6 wants it.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu.max(1_280);
        self
    }

    /// Changes the direction from the local portal to the Internet.
    pub fn up(mut self, change: impl FnOnce(&mut Conditions)) -> Self {
        change(&mut self.up);
        self
    }

    /// Changes the direction from the Internet to the local portal.
    pub fn down(mut self, change: impl FnOnce(&mut Conditions)) -> Self {
        change(&mut self.down);
        self
    }

    fn both(self, change: impl Fn(&mut Conditions)) -> Self {
        self.up(&change).down(&change)
    }
}
