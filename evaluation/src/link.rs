//! What a link of the lab is like at the start.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result};

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

impl FromStr for LinkSpec {
    type Err = Error;

    /// Reads words joined by commas, such as `rate=50,delay=20,loss=0.5`: what `evaluation shell --help`
    /// explains.
    fn from_str(text: &str) -> Result<Self> {
        let mut link = Self::mbit(50.0);
        let (mut up, mut loss, mut run) = (None, None, None);
        for word in text.split(',') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            if (key, value) == ("reorder", "") {
                link = link.reorder();
                continue;
            }
            let number: f64 = value.parse().with_context(|| format!("{word:?} has no number"))?;
            anyhow::ensure!(number >= 0.0, "{word:?} is below 0");
            link = match key {
                "rate" => link
                    .up(|c| c.rate_bps = (number * 1e6) as u64)
                    .down(|c| c.rate_bps = (number * 1e6) as u64),
                "delay" => link.delay_ms(number),
                "queue" => link.queue_ms(number),
                "jitter" => link.jitter_ms(number),
                "mtu" => link.mtu(number as u32),
                "up" => {
                    up = Some(number);
                    link
                }
                "loss" => {
                    loss = Some(number / 100.0);
                    link
                }
                "run" => {
                    run = Some(number);
                    link
                }
                _ => anyhow::bail!(
                    "{key:?} is none of rate, up, delay, queue, jitter, reorder, loss, run, mtu"
                ),
            };
        }
        if let Some(up) = up {
            link = link.up(|c| c.rate_bps = (up * 1e6) as u64);
        }
        Ok(match (loss, run) {
            (Some(share), Some(run)) => link.burst_loss(share, run),
            (Some(share), None) => link.loss(share),
            (None, Some(_)) => anyhow::bail!("run needs loss"),
            (None, None) => link,
        })
    }
}

impl Display for LinkSpec {
    /// Mbit/s and ms one way as `50/20`, and what else a link has.
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { up, down, .. } = self;
        let mbit = |conditions: &Conditions| conditions.rate_bps as f64 / 1e6;
        write!(out, "{}", mbit(down))?;
        if up.rate_bps != down.rate_bps {
            write!(out, " down {} up", mbit(up))?;
        }
        write!(out, "/{}", down.delay.as_secs_f64() * 1e3)?;
        if !down.jitter.is_zero() {
            write!(out, " jitter {}", down.jitter.as_secs_f64() * 1e3)?;
        }
        if down.reorder {
            write!(out, " reordering")?;
        }
        match down.loss {
            Loss::None => Ok(()),
            Loss::Random(share) => write!(out, " loss {} %", share * 100.0),
            Loss::Burst(_) => write!(out, " loss in bursts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_words() {
        let link: LinkSpec = "rate=100,up=40,delay=30,loss=1,mtu=1492".parse().unwrap();
        let meant = LinkSpec::mbit(100.0).delay_ms(30.0).loss(0.01).mtu(1_492);
        assert_eq!(link, meant.up(|up| up.rate_bps = 40_000_000));
        let errors = ["speed=1", "rate=x", "rate", "delay=-1", "run=8"];
        assert!(errors.iter().all(|text| text.parse::<LinkSpec>().is_err()));
    }

    #[test]
    fn links_are_told_in_short() {
        let told = |text: &str| text.parse::<LinkSpec>().unwrap().to_string();
        assert_eq!(told("rate=50,delay=20"), "50/20");
        assert_eq!(told("rate=100,up=2,delay=20"), "100 down 2 up/20");
        assert_eq!(
            told("rate=40,delay=30,jitter=5,reorder,loss=0.5"),
            "40/30 jitter 5 reordering loss 0.5 %"
        );
    }
}
