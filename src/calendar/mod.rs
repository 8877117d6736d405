//! Days and times of the system's clock in words, and the months of data caps. All of it is UTC.

use std::fmt;
use std::str::FromStr;

const DAY_MS: u64 = 86_400_000;

/// 2025-01-01. A clock that shows an earlier day was never set: routers without a battery begin in 1970.
const FIRST_CREDIBLE: Day = Day(20_089);
/// 9999-12-31: four digits are enough for a year.
const LAST: Day = Day(2_932_896);

/// A day of the Gregorian calendar, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(u32);

impl Day {
    /// The day of a time in milliseconds since 1970, or the last one of the year 9999.
    pub fn of(unix_ms: u64) -> Self {
        u32::try_from(unix_ms / DAY_MS).map_or(LAST, Self).min(LAST)
    }

    /// A clock that shows it was set.
    pub fn is_credible(self) -> bool {
        (FIRST_CREDIBLE..LAST).contains(&self)
    }

    /// The last day not after this one that is number `reset_day` (1 to 28) of its month.
    pub fn period_start(self, reset_day: u8) -> Self {
        let (_, _, day) = self.date();
        let reset_day = u32::from(reset_day);
        if day >= reset_day {
            return Self(self.0 - (day - reset_day));
        }
        let last_of_previous = Self(self.0 - day);
        Self(last_of_previous.0 - (last_of_previous.date().2 - reset_day))
    }

    /// The first day after this one that is number `reset_day` (1 to 28) of its month.
    pub fn next_period(self, reset_day: u8) -> Self {
        // 31 days after the start of a period the next one has begun, and not the one after it.
        Self(self.period_start(reset_day).0 + 31).period_start(reset_day)
    }

    /// Year, month from 1, and day from 1 ("days from civil", H. Hinnant, backwards).
    fn date(self) -> (u32, u32, u32) {
        let days = self.0 + 719_468;
        let (era, of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (era * 400 + year_of_era + u32::from(month <= 2), month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = ();

    /// What [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, ()> {
        // There are 3 million days with four digits to the year: no need for the formula in the other direction.
        let year: u32 = text.get(..4).and_then(|year| year.parse().ok()).ok_or(())?;
        let first = year.checked_sub(1970).ok_or(())? * 365;
        let near = (first..first + 366 + year / 4).map(Self);
        near.filter(|day| *day <= LAST).find(|day| day.to_string() == text).ok_or(())
    }
}

/// `2026-11-21 11:57:42`, of a time in milliseconds since 1970.
pub fn time(unix_ms: u64) -> String {
    let seconds = unix_ms % DAY_MS / 1000;
    format!("{} {:02}:{:02}:{:02}", Day::of(unix_ms), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().expect(text)
    }

    #[test]
    fn days_are_read_and_written() {
        for (unix_ms, text) in [
            (1_735_689_600_000, "2025-01-01"),
            (1_709_164_800_000 + 366 * DAY_MS, "2025-03-01"),
            (1_835_395_199_999, "2028-02-28"),
            (1_835_395_200_000, "2028-02-29"),
            (4_107_542_400_000, "2100-03-01"),
        ] {
            let day = Day::of(unix_ms);
            assert_eq!((day.to_string().as_str(), text.parse(), day.is_credible()), (text, Ok(day), true));
        }
        assert_eq!((Day::of(0).to_string().as_str(), Day::of(0).is_credible()), ("1970-01-01", false));
        assert_eq!(
            (Day::of(u64::MAX).to_string().as_str(), Day::of(u64::MAX).is_credible()),
            ("9999-12-31", false)
        );
        assert_eq!(time(1_795_262_262_999), "2026-11-21 11:57:42");
        for text in ["", "2026-13-01", "2026-1-1", "99999-01-01", "2026-02-29", "äöü"] {
            assert_eq!(text.parse::<Day>(), Err(()), "{text}");
        }
    }

    #[test]
    fn periods_begin_on_their_day_of_the_month() {
        for (today, reset_day, start, next) in [
            ("2026-11-21", 1, "2026-11-01", "2026-12-01"),
            ("2026-11-21", 21, "2026-11-21", "2026-12-21"),
            ("2026-11-21", 22, "2026-10-22", "2026-11-22"),
            ("2027-01-05", 28, "2026-12-28", "2027-01-28"),
            ("2027-03-01", 28, "2027-02-28", "2027-03-28"),
            ("2027-02-10", 10, "2027-02-10", "2027-03-10"),
        ] {
            assert_eq!(day(today).period_start(reset_day), day(start), "{today} {reset_day}");
            assert_eq!(day(today).next_period(reset_day), day(next), "{today} {reset_day}");
        }
    }
}
