//! `evaluation shell`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use evaluation::lab::Lab;
use evaluation::link::LinkSpec;
use evaluation::wan::Direction;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A link: words joined by commas, from rate=50 (Mbit/s), up=10 (Mbit/s from the local
    /// portal), delay=20 (ms, one way), queue=100 (ms), jitter=5 (ms), reorder, loss=1 (%),
    /// run=8 (packets in a burst of loss), mtu=1500.
    #[arg(required = true)]
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
