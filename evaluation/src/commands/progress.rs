//! How far a long command is.

use std::time::{Duration, Instant};

/// Tells on standard error what was done, and how long the rest will take.
pub(super) struct Progress {
    begun: Instant,
    done: Duration,
    all: Duration,
    count: usize,
}

impl Progress {
    /// Begins something that should take so long in all.
    pub(super) fn new(all: Duration) -> Self {
        Self { begun: Instant::now(), done: Duration::ZERO, all, count: 0 }
    }

    /// Notes that a part that should take so long is done, and tells what it brought.
    pub(super) fn did(&mut self, part: Duration, what: &str) {
        self.skip(part);
        self.count += 1;
        let passed = self.begun.elapsed();
        let left = left(passed, self.done, self.all);
        say(&format!("[{}, {} passed, {} left] {what}", self.count, minutes(passed), minutes(left)));
    }

    /// Notes that a part that should have taken so long will not be.
    pub(super) fn skip(&mut self, part: Duration) {
        self.done += part;
    }
}

/// Tells something on standard error.
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// What the rest will take if all parts deviate from what they should take as those before did.
fn left(passed: Duration, done: Duration, all: Duration) -> Duration {
    let rest = all.saturating_sub(done).as_secs_f64();
    let pace = if done.is_zero() { 1.0 } else { passed.as_secs_f64() / done.as_secs_f64() };
    Duration::from_secs_f64(rest * pace)
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_goes_on_at_the_pace_so_far() {
        let seconds = Duration::from_secs;
        assert_eq!(left(seconds(3), seconds(2), seconds(10)), seconds(12));
        assert_eq!(left(seconds(1), seconds(0), seconds(10)), seconds(10));
        assert_eq!(left(seconds(9), seconds(12), seconds(10)), seconds(0));
        assert_eq!(minutes(seconds(125)), "2:05");
    }
}
