//! The clocks and the randomness that `core` has none of.

use nix::time::{ClockId, clock_gettime};

use crate::core::portal::Entropy;
use crate::core::units::Instant;

/// Time that goes on during suspend, so that what is overdue after it is seen at once.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::CLOCK_MONOTONIC;

/// The present.
pub(super) fn now() -> Instant {
    Instant::from_nanos(read(STEADY))
}

/// Milliseconds since 1970, however wrong.
pub(super) fn wall_ms() -> u64 {
    read(ClockId::CLOCK_REALTIME) / 1_000_000
}

/// Wall clock and randomness of the system.
pub(super) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn wall_nanos(&mut self) -> u64 {
        read(ClockId::CLOCK_REALTIME)
    }

    fn random(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        // It fails only where the system call does not exist, where no key could be made either.
        getrandom::fill(&mut bytes).expect("the system gives random bytes");
        bytes
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("the clock exists on every supported system");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    seconds * 1_000_000_000 + time.tv_nsec() as u64
}
