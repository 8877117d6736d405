//! What one link has used.

use std::time::Duration;

use crate::calendar::Day;

/// A clock must show another period for so long before that is believed: it may be about to be set right.
const BELIEVED_AFTER: Duration = Duration::from_secs(600);

/// The time, as an account needs it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Runs evenly from some start; never goes back.
    pub steady: Duration,
    /// The day that the system's clock shows, if it can be believed.
    pub today: Option<Day>,
}

/// Bytes of one link in its present period, which begins anew when the calendar says so: neither a clock that jumps
/// nor one that was never set takes bytes away, or counts them twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub(super) used: u64,
    /// First day of the period; `None` while no clock could be believed.
    pub(super) since: Option<Day>,
    /// The period before, should it turn out that the clock was wrong: its first day and its bytes.
    pub(super) before: Option<(Day, u64)>,
    pub(super) next: Option<Next>,
    /// Bytes that no file knows of.
    pub(super) unsaved: u64,
}

/// Another period, not believed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    since: Day,
    seen: Duration,
    used: u64,
}

impl Account {
    /// Bytes of the present period.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// First day of the present period.
    pub fn since(&self) -> Option<Day> {
        self.since
    }

    /// Takes `bytes` into account that passed until now. True if a new period began, or it turned out that none had.
    pub fn count(&mut self, clock: Clock, reset_day: u8, bytes: u64) -> bool {
        self.used = self.used.saturating_add(bytes);
        self.unsaved = self.unsaved.saturating_add(bytes);
        let Some(start) = clock.today.map(|today| today.period_start(reset_day)) else {
            self.next = None;
            return false;
        };
        let since = *self.since.get_or_insert(start);
        if start == since {
            self.next = None;
            return false;
        }
        let mut next = self.next.filter(|next| next.since == start).unwrap_or(Next {
            since: start,
            seen: clock.steady,
            used: 0,
        });
        next.used += bytes;
        self.next = Some(next);
        if clock.steady.saturating_sub(next.seen) < BELIEVED_AFTER {
            return false;
        }
        self.turn(since, next);
        true
    }

    /// The clock has shown another period for long enough.
    fn turn(&mut self, since: Day, next: Next) {
        if next.since > since {
            self.before = Some((since, self.used - next.used));
            self.used = next.used;
        } else if let Some((_, used)) = self.before.take_if(|(since, _)| *since == next.since) {
            // The clock was ahead, so there was no new period.
            self.used += used;
        }
        (self.since, self.next) = (Some(next.since), None);
        // Told to the file at once.
        self.unsaved = u64::MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;

    fn clock(minutes: u64, today: &str) -> Clock {
        Clock { steady: Duration::from_secs(60 * minutes), today: today.parse().ok() }
    }

    #[test]
    fn a_new_month_begins_at_nothing_and_loses_no_byte() {
        let mut account = Account::default();
        assert!(!account.count(clock(0, "2026-11-30"), 1, 40 * MB));
        assert!(!account.count(clock(60, "2026-12-01"), 1, MB));
        assert_eq!(account.used(), 41 * MB);
        assert!(!account.count(clock(69, "2026-12-01"), 1, MB));
        assert!(account.count(clock(70, "2026-12-01"), 1, MB));
        assert_eq!((account.used(), account.since()), (3 * MB, "2026-12-01".parse().ok()));
        assert!(!account.count(clock(71, "2026-12-01"), 1, MB));
        assert_eq!(account.used(), 4 * MB);
    }

    #[test]
    fn a_clock_that_jumps_neither_resets_nor_doubles() {
        let mut account = Account::default();
        account.count(clock(0, "2026-11-10"), 1, 40 * MB);
        // Ahead for some minutes, in 1970, far ahead, back again.
        assert!(!account.count(clock(5, "2031-01-01"), 1, MB));
        assert!(!account.count(clock(14, "1970-01-01"), 1, MB));
        assert!(!account.count(clock(16, "2031-01-01"), 1, MB));
        assert!(!account.count(clock(20, "2026-11-10"), 1, MB));
        assert!(!account.count(clock(600, "2026-11-10"), 1, MB));
        assert_eq!((account.used(), account.since()), (45 * MB, "2026-11-01".parse().ok()));
    }

    #[test]
    fn a_clock_that_was_wrong_for_long_is_made_up_for() {
        let mut account = Account::default();
        account.count(clock(0, "2026-11-10"), 1, 40 * MB);
        account.count(clock(1, "2031-01-01"), 1, MB);
        assert!(account.count(clock(20, "2031-01-01"), 1, MB));
        assert_eq!(account.used(), 2 * MB);
        account.count(clock(30, "2026-11-10"), 1, MB);
        assert!(account.count(clock(50, "2026-11-10"), 1, MB));
        assert_eq!((account.used(), account.since()), (44 * MB, "2026-11-01".parse().ok()));
    }

    #[test]
    fn a_first_start_in_the_future_keeps_what_was_counted() {
        let mut account = Account::default();
        account.count(clock(0, "2031-01-01"), 1, 7 * MB);
        account.count(clock(1, "2026-11-10"), 1, MB);
        assert!(account.count(clock(11, "2026-11-10"), 1, MB));
        assert_eq!((account.used(), account.since()), (9 * MB, "2026-11-01".parse().ok()));
    }
}
