//! One timer for all of a portal's deadlines.

use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::core::units::Instant;
use crate::runtime::clock;

/// Fires at the earliest time that it was armed for. Any thread arms, one waits.
pub(super) struct Alarm {
    timer: TimerFd,
    /// Nanoseconds of the time it is armed for.
    armed: Mutex<u64>,
}

impl Alarm {
    /// An alarm that is not armed.
    pub(super) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, armed: Mutex::new(u64::MAX) })
    }

    /// Lets it fire at `at` or earlier.
    pub(super) fn arm(&self, at: Instant) {
        let nanos = at.as_nanos();
        let mut armed = self.armed();
        if *armed > nanos {
            *armed = nanos;
            // Zero would disarm it.
            let wait = at.since(clock::now()).max(Duration::from_nanos(1));
            let once = Expiration::OneShot(TimeSpec::from_duration(wait));
            // It can only fail for a bad descriptor or value, of which there are none.
            let _ = self.timer.set(once, TimerSetTimeFlags::empty());
        }
    }

    /// It fired, or may have: takes note that it is armed for nothing any more.
    pub(super) fn acknowledge(&self) {
        let mut armed = self.armed();
        let mut count = [0; 8];
        let _ = nix::unistd::read(self.timer.as_fd(), &mut count);
        *armed = u64::MAX;
    }

    /// Held while the timer is set, so that what is noted and what is set agree.
    fn armed(&self) -> MutexGuard<'_, u64> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes readable when it fires.
    pub(super) fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.timer.as_fd()
    }
}
