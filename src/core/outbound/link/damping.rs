//! Reluctance towards a link that flaps.

use std::time::Duration;

use crate::core::units::Instant;

/// The second loss in a row asks for so long without a fault; it doubles with each one more …
const FIRST_GOOD_TIME: Duration = Duration::from_secs(1);
/// … up to 16 times: longer would waste a link that has recovered.
const MOST_LOSSES: u32 = 6;
/// Being up for so long makes up for one loss.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Counts the losses of a link that are not forgiven yet.
///
/// A link that is lost for once returns at once. One that comes and goes costs the conversations more at each
/// loss than it carries in between.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Damping {
    losses: u32,
    /// When it came up; losses are forgiven from there on.
    up_since: Instant,
}

impl Damping {
    /// The link is lost.
    pub(super) fn on_lost(&mut self, now: Instant) {
        let forgiven = now.since(self.up_since).as_secs() / FORGIVEN_AFTER.as_secs();
        self.losses = (u64::from(self.losses).saturating_sub(forgiven) as u32 + 1).min(MOST_LOSSES);
    }

    /// The link is up again.
    pub(super) fn on_returned(&mut self, now: Instant) {
        self.up_since = now;
    }

    /// How long the lost link must answer without a fault before it is used again.
    pub(super) fn good_time(&self) -> Duration {
        match self.losses {
            0 | 1 => Duration::ZERO,
            losses => FIRST_GOOD_TIME * (1 << (losses - 2)),
        }
    }

    /// Whether that is so long that nothing should be kept ready for the link's return.
    pub(super) fn is_reluctant(&self) -> bool {
        self.good_time() > FIRST_GOOD_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn each_loss_doubles_the_good_time_and_time_without_one_forgives() {
        let mut damping = Damping::default();
        let seconds = (100..110).map(|second| {
            damping.on_returned(at(second));
            damping.on_lost(at(second + 1));
            damping.good_time().as_secs()
        });
        assert_eq!(seconds.collect::<Vec<_>>(), [0, 1, 2, 4, 8, 16, 16, 16, 16, 16]);
        assert!(damping.is_reluctant());
        damping.on_returned(at(200));
        damping.on_lost(at(225));
        assert_eq!(damping.good_time().as_secs(), 8, "two losses forgiven, one more");
        damping.on_returned(at(300));
        damping.on_lost(at(400));
        assert_eq!(damping.good_time(), Duration::ZERO);
        damping.on_returned(at(401));
        damping.on_lost(at(402));
        assert_eq!(damping.good_time(), FIRST_GOOD_TIME);
        assert!(!damping.is_reluctant(), "it may be back in a moment");
    }
}
