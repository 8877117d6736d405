//! `evaluation shell`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::wan::Direction;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A link: words joined by commas, from rate=50 (Mbit/s), up=10 (Mbit/s from the local
    /// portal), delay=20 (ms, one way), queue=100 (ms), jitter=5 (ms), reorder, loss=1 (%),
    /// run=8 (packets in a burst of loss), mtu=1500, longest=1400 (longer packets vanish).
    #[arg(required = true, value_parser = parse_link)]
    links: Vec<LinkSpec>,
    /// Put this link, counted from 0, behind NAT. May be given again.
    #[arg(long)]
    nat: Vec<usize>,
    /// End after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let lab = Lab::new(&arguments.links)?;
    for &link in &arguments.nat {
        anyhow::ensure!(link < arguments.links.len(), "there is no link {link}");
        lab.rebind_nat(link)?;
    }
    println!("files     {}", lab.directory().display());
    for namespace in lab.namespaces() {
        println!("{:<9} nsenter --net={}", namespace.name(), namespace.path());
    }
    println!("Ctrl-C ends it.");
    let mut seconds = 0;
    while arguments.seconds.is_none_or(|end| seconds < end) {
        std::thread::sleep(Duration::from_secs(1));
        seconds += 1;
        if seconds % 10 == 0 {
            print_counters(&lab, seconds);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_counters(lab: &Lab, seconds: u64) {
    for (link, wire) in lab.wan().wires().iter().enumerate() {
        for direction in Direction::BOTH {
            let counters = wire.counters(direction);
            if counters.packets > 0 {
                eprintln!("{seconds} s, link {link}, {direction:?}: {counters:?}");
            }
        }
    }
}

pub(super) fn parse_link(text: &str) -> Result<LinkSpec> {
    let mut link = LinkSpec::mbit(50.0);
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
            "rate" => {
                link.up(|c| c.rate_bps = (number * 1e6) as u64).down(|c| c.rate_bps = (number * 1e6) as u64)
            }
            "delay" => link.delay_ms(number),
            "queue" => link.queue_ms(number),
            "jitter" => link.jitter_ms(number),
            "mtu" => link.mtu(number as u32),
            "longest" => link.longest(number as u32),
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
                "{key:?} is none of rate, up, delay, queue, jitter, reorder, loss, run, mtu, longest"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_words() {
        let link = parse_link("rate=100,up=40,delay=30,loss=1,mtu=1492,longest=1400").unwrap();
        let meant = LinkSpec::mbit(100.0).delay_ms(30.0).loss(0.01).mtu(1_492).longest(1_400);
        assert_eq!(link, meant.up(|up| up.rate_bps = 40_000_000));
        let errors = ["speed=1", "rate=x", "rate", "delay=-1", "run=8"];
        assert!(errors.iter().all(|text| parse_link(text).is_err()));
    }
}
