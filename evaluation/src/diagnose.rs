//! Does `netcombiner test` find the cause? Each case makes a lab with one thing wrong, asks the local portal, and
//! compares the first finding with what was done.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::Lab;
use crate::link::LinkSpec;
use crate::portal::{Pair, PairOptions, local_config, random_key, remote_config};

/// A tick of the quota in the case of a slow processor, µs: the shortest that keeps links from looking dead …
const QUOTA_PERIOD: u32 = 20_000;
/// … and what the portal may have of each: a twentieth of a processor.
const QUOTA: u32 = 1_000;

/// One thing that is wrong.
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What is wrong, for people.
    pub condition: &'static str,
    /// What the first finding has to be.
    pub cause: &'static str,
    /// The links of the lab.
    links: fn() -> Vec<LinkSpec>,
    /// What is done besides.
    fault: Fault,
}

/// What is done to a lab besides its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A second link of the portals over the lab's only one.
    TwoOverOne,
    /// What the remote portal sends is limited to so many Mbit/s.
    RemoteUplink(u32),
    /// The local portal's processor time is limited.
    Processor,
}

fn clean() -> Vec<LinkSpec> {
    vec![LinkSpec::mbit(20.0).delay_ms(15.0), LinkSpec::mbit(15.0).delay_ms(25.0)]
}

fn second(change: impl FnOnce(LinkSpec) -> LinkSpec) -> Vec<LinkSpec> {
    vec![LinkSpec::mbit(20.0).delay_ms(15.0), change(LinkSpec::mbit(15.0).delay_ms(25.0))]
}

/// All cases.
pub const CASES: [Case; 11] = [
    Case { name: "well", condition: "20/15 + 15/25", cause: "all-well", links: clean, fault: Fault::None },
    Case {
        name: "slow",
        condition: "the second has 3 Mbit/s",
        cause: "slow-link",
        links: || second(|_| LinkSpec::mbit(3.0).delay_ms(25.0)),
        fault: Fault::None,
    },
    Case {
        name: "worthless",
        condition: "the second has 0.5 Mbit/s",
        cause: "worthless-link",
        links: || second(|_| LinkSpec::mbit(0.5).delay_ms(25.0)),
        fault: Fault::None,
    },
    Case {
        name: "lossy",
        condition: "the second loses 2 %",
        cause: "lossy-link",
        links: || second(|link| link.loss(0.02)),
        fault: Fault::None,
    },
    Case {
        name: "bloated",
        condition: "the second queues for 500 ms",
        cause: "bufferbloat",
        links: || second(|link| link.queue_ms(500.0)),
        fault: Fault::None,
    },
    Case {
        name: "shared",
        condition: "both over one of 20 Mbit/s",
        cause: "shared-bottleneck",
        links: || vec![LinkSpec::mbit(20.0).delay_ms(15.0)],
        fault: Fault::TwoOverOne,
    },
    Case {
        name: "small-mtu",
        condition: "the second carries 1320 bytes",
        cause: "small-mtu",
        links: || second(|link| link.longest(1_320)),
        fault: Fault::None,
    },
    Case {
        name: "uplink",
        condition: "the remote portal sends 20 Mbit/s",
        cause: "uplink-there",
        links: clean,
        fault: Fault::RemoteUplink(20),
    },
    Case {
        name: "late",
        condition: "the second is a satellite, 300 ms",
        cause: "late-link",
        links: || second(|link| link.delay_ms(300.0)),
        fault: Fault::None,
    },
    Case {
        name: "down",
        condition: "the second is cut",
        cause: "link-down",
        links: clean,
        fault: Fault::None,
    },
    Case {
        name: "processor",
        condition: "a twentieth of a processor, 2 x 200",
        cause: "processor-here",
        links: || vec![LinkSpec::mbit(200.0).delay_ms(10.0), LinkSpec::mbit(200.0).delay_ms(10.0)],
        fault: Fault::Processor,
    },
];

/// What the portal said.
pub struct Outcome {
    /// The cause of its first finding.
    pub cause: String,
    /// Its words.
    pub what: String,
    /// All that it printed.
    pub report: Value,
}

impl Case {
    /// The case of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Makes the lab, asks the portal to test with steps of so many seconds, and removes everything. `None` if this
    /// system cannot make the condition.
    pub fn run(&self, seconds: u32) -> Result<Option<Outcome>> {
        let lab = Lab::new(&(self.links)())?;
        let options = PairOptions::default();
        let key = random_key()?;
        let mut local = local_config(&lab, &options, &key);
        if self.fault == Fault::TwoOverOne {
            let section = local
                .split_once("\n[Peer]")
                .context("a section")?
                .1
                .replace("link0", "link1\nLocalPort = 7001");
            local += &format!("\n[Peer]{section}");
        }
        let mut pair = Pair::start_with(&lab, &options, [local, remote_config(&options, &key)])?;
        pair.wait_connected(PATIENCE)?;
        pair.wait_all_up(PATIENCE)?;
        if let Fault::RemoteUplink(mbit) = self.fault {
            let rate = format!("{mbit}mbit");
            let shaper = [
                "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "20k", "latency",
                "100ms",
            ];
            lab.remote().run("tc", &shaper)?;
        }
        if self.cause == "link-down" {
            lab.wire(1).cut(true);
            pair.local()?.wait_state("link1", "down", PATIENCE)?;
        }
        let quota = match self.fault {
            Fault::Processor => match Quota::on(pair.local()?.pid()) {
                Some(quota) => Some(quota),
                None => return Ok(None),
            },
            _ => None,
        };
        let report = pair.local()?.test(&["--seconds", &seconds.to_string()])?;
        drop(quota);
        pair.stop()?;
        let first = &report["findings"][0];
        let word = |key: &str| first[key].as_str().unwrap_or_default().to_owned();
        Ok(Some(Outcome { cause: word("cause"), what: word("what"), report }))
    }
}

/// How long portals may take to find each other on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// A control group that limits a process; dropping it lets the process go.
struct Quota {
    group: PathBuf,
}

impl Quota {
    /// Limits the process to a twentieth of a processor; `None` where there are no such groups.
    fn on(pid: u32) -> Option<Self> {
        let name = format!("netcombiner-evaluation-{}", std::process::id());
        let limits = [
            (
                Path::new("/sys/fs/cgroup/cpu"),
                vec![
                    ("cpu.cfs_period_us", QUOTA_PERIOD.to_string()),
                    ("cpu.cfs_quota_us", QUOTA.to_string()),
                ],
            ),
            (Path::new("/sys/fs/cgroup"), vec![("cpu.max", format!("{QUOTA} {QUOTA_PERIOD}"))]),
        ];
        limits.into_iter().find_map(|(root, files)| {
            let group = root.join(&name);
            fs::create_dir(&group).ok()?;
            let quota = Self { group };
            let write = |(file, text): (&str, String)| fs::write(quota.group.join(file), text);
            let limited = files.into_iter().try_for_each(write);
            limited.and_then(|()| fs::write(quota.group.join("cgroup.procs"), pid.to_string())).ok()?;
            Some(quota)
        })
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let processes = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        let parent = self.group.parent().unwrap_or(Path::new("/"));
        for process in processes.lines() {
            // One that has ended meanwhile is gone anyway.
            let _ = fs::write(parent.join("cgroup.procs"), process);
        }
        let _ = fs::remove_dir(&self.group);
    }
}
