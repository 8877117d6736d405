//! How a reader waits for more when its last waits were short.

use std::io;
use std::time::Duration;

use super::clock::now;

/// A sleep that was no longer than this is likely to be followed by another such.
const BRIEF: Duration = Duration::from_micros(250);

/// Before it sleeps once more as briefly as the last time, a reader lets others run and looks again: on busy processors
/// much comes meanwhile, and to be woken costs more than to look. On idle ones, and where little comes, it sleeps.
#[derive(Default)]
pub(super) struct Doze {
    brief: bool,
    looked: bool,
}

impl Doze {
    /// There was something to read.
    pub(super) fn on_found(&mut self) {
        self.looked = false;
    }

    /// There was nothing: waits by `sleep`, or not for long. Then it is time to look again.
    pub(super) fn wait(&mut self, sleep: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.looks_again() {
            std::thread::yield_now();
            return Ok(());
        }
        let since = now();
        let result = sleep();
        self.on_slept(now().since(since));
        result
    }

    fn looks_again(&mut self) -> bool {
        self.brief && !std::mem::replace(&mut self.looked, true)
    }

    fn on_slept(&mut self, time: Duration) {
        (self.brief, self.looked) = (time <= BRIEF, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_again_once_after_a_brief_sleep() {
        let mut doze = Doze::default();
        assert!(!doze.looks_again(), "nothing is known yet");
        doze.on_slept(BRIEF);
        assert!(doze.looks_again(), "the last sleep was brief");
        doze.on_found();
        assert!(doze.looks_again(), "and what it looked for came");
        assert!(!doze.looks_again(), "it looked in vain");
        doze.on_slept(BRIEF * 2);
        assert!(!doze.looks_again(), "the last sleep was long");
    }
}
