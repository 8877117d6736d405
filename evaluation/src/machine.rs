//! What measures: the machine's kernel and processors, and how busy they are.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::usage;

/// The machine, for the record.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// Whether the measuring program is a development build, whose figures are for nobody.
    pub development_build: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Result<Self> {
        Ok(Self {
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            development_build: cfg!(debug_assertions),
        })
    }
}

/// The processors' time since the machine's start, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    busy: u64,
    all: u64,
}

impl CpuTime {
    /// Reads it.
    pub fn now() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no line of all processors")
    }

    /// The share of the time since an earlier reading in which processors worked.
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        (self.busy - earlier.busy) as f64 / (self.all - earlier.all).max(1) as f64
    }

    /// The time since an earlier reading in which processors worked, in seconds, of all of them together.
    pub fn busy_seconds_since(&self, earlier: &Self) -> Result<f64> {
        Ok((self.busy - earlier.busy) as f64 / usage::ticks_per_second()?)
    }

    /// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.get(3)? + ticks.get(4)?;
        Some(Self { busy: all - idle, all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_work() {
        let at = |stat| CpuTime::parse(stat).unwrap();
        let before = at("cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 2 3\n");
        let after = at("cpu  20 5 20 90 20 2 2 1 5 0\n");
        assert_eq!(after.busy_since(&before), 0.5);
        assert_eq!(CpuTime::parse("intr 1\n"), None);
    }
}
