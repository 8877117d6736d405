//! How busy the threads of this process are: the share of the time in which the busiest one runs, or waits for a
//! processor that somebody else has. A quota of a container counts as waiting, too.

#[cfg(target_os = "linux")]
use std::{collections::HashMap, fs, path::Path};

use crate::core::units::Instant;

/// Compares the threads' times with those of the last call.
#[derive(Default)]
pub(super) struct BusyMeter {
    /// When it was looked last, and the time that each thread had run and waited by then, ns.
    #[cfg(target_os = "linux")]
    last: Option<(Instant, HashMap<String, u64>)>,
}

impl BusyMeter {
    /// The share since the last call, 0 to 1; `None` at the first, and where the system does not tell.
    #[cfg(target_os = "linux")]
    pub(super) fn sample(&mut self, now: Instant) -> Option<f64> {
        let times = thread_times(Path::new("/proc/self/task"));
        let (since, before) = self.last.replace((now, times.clone()))?;
        let passed = now.since(since).as_nanos() as f64;
        let spent = times.iter().filter_map(|(thread, time)| Some(time.saturating_sub(*before.get(thread)?)));
        let most = spent.max().filter(|_| passed > 0.0)?;
        Some((most as f64 / passed).min(1.0))
    }

    /// Nobody tells.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn sample(&mut self, _: Instant) -> Option<f64> {
        None
    }
}

/// By thread, how long it ran and waited for a processor, ns (`schedstat` in proc(5)).
#[cfg(target_os = "linux")]
fn thread_times(tasks: &Path) -> HashMap<String, u64> {
    let threads = fs::read_dir(tasks).into_iter().flatten().flatten();
    let time = |thread: &fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut numbers = text.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some(numbers.next()? + numbers.next()?)
    };
    threads.filter_map(|thread| Some((thread.file_name().into_string().ok()?, time(&thread)?))).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::clock::now;
    use super::*;

    #[test]
    fn a_thread_that_spins_is_busy() {
        let mut meter = BusyMeter::default();
        assert_eq!(meter.sample(now()), None);
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(60) {}
        // Some systems do not keep these times.
        if let Some(share) = meter.sample(now()).filter(|share| *share > 0.0) {
            assert!(share > 0.8, "{share}");
        }
    }
}
