//! What a process has used: processor time and memory.

use std::fs;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// The kernel's ticks in a second (proc_stat(5)).
pub fn ticks_per_second() -> Result<f64> {
    Ok(sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64)
}

/// The processor time of a process in user and kernel mode, of all its threads, in seconds. What the kernel does for
/// it in threads of its own is not in it.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces. After it, utime and stime are the fields
    // 12 and 13 (proc_pid_stat(5) counts them 14 and 15).
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / ticks_per_second()?)
}

/// The same for the threads that live, to the nanosecond: the kernel's ticks of 10 ms tell nothing of a process that
/// sleeps (Documentation/scheduler/sched-stats.rst).
pub fn exact_cpu_seconds(pid: u32) -> Result<f64> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has ended meanwhile is gone.
        let Ok(stat) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let running = stat.split_whitespace().next().and_then(|field| field.parse::<u64>().ok());
        nanos += running.context("schedstat without a number")?;
    }
    Ok(nanos as f64 / 1e9)
}

/// The resident memory of a process in kB.
pub fn rss_kb(pid: u32) -> Result<u64> {
    status_kb(pid, "VmRSS:")
}

/// The most that its resident memory ever was, in kB.
pub fn peak_rss_kb(pid: u32) -> Result<u64> {
    status_kb(pid, "VmHWM:")
}

/// A line of proc_pid_status(5).
fn status_kb(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("process {pid} has no memory: it has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let pid = std::process::id();
        assert!(cpu_seconds(pid).unwrap() >= 0.0 && exact_cpu_seconds(pid).unwrap() > 0.0);
        let (now, peak) = (rss_kb(pid).unwrap(), peak_rss_kb(pid).unwrap());
        assert!(now > 0 && peak > 0);
        assert!(rss_kb(u32::MAX).is_err());
    }
}
