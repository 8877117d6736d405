//! Waiting for what takes an unknown time, with a limit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds and returns how long that took. After `limit` it is an error that
/// names `what` was waited for, and the condition's own error if it had one to the end.
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let found = condition();
        if matches!(found, Ok(true)) {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= limit {
            found.with_context(|| format!("{what}: not within {limit:?}"))?;
            bail!("{what}: not within {limit:?}");
        }
        std::thread::sleep(POLL);
    }
}
