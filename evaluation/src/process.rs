//! Child processes with a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Runs a command to its end within `limit`, feeding `input`, and returns what it printed. A
/// command that takes longer is killed, and that is an error.
pub(crate) fn output_within(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    collect(Started(child), limit)
}

/// Waits for a child whose output is piped, at most `limit`, and returns what it printed.
pub(crate) fn collect(mut child: Started, limit: Duration) -> Result<Output> {
    let stdout = child.0.stdout.take();
    let stderr = child.0.stderr.take();
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let status = child.wait_within(limit);
        // Both pipes close with the child: the readers end at once.
        drop(child);
        let stdout = stdout.join().unwrap_or_default();
        let stderr = stderr.join().unwrap_or_default();
        match status? {
            Some(status) => Ok(Output { status, stdout, stderr }),
            None => bail!(
                "still running after {:.1} s, killed; it had said: {}",
                limit.as_secs_f64(),
                String::from_utf8_lossy(&stderr).trim()
            ),
        }
    })
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// A child that is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Started(pub(crate) Child);

impl Started {
    /// Waits for the end at most `limit`; `None` says that the child still runs.
    pub(crate) fn wait_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        let mut nap = Duration::from_micros(200);
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(10));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Fails only for a child that has ended and been reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
