//! What may be changed of a link while it runs, without the file.

use std::fmt;
use std::str::FromStr;

use super::{BitRate, value};

/// One such change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It is used again.
    Up,
    /// It is closed until [`LinkChange::Up`].
    Down,
    /// Its `Metric`.
    Metric(u8),
    /// Its `RateLimit`; `None`: none.
    RateLimit(Option<BitRate>),
}

impl FromStr for LinkChange {
    type Err = String;

    /// `up`, `down`, `metric 10`, `rate-limit 20 Mbit/s` or `rate-limit off`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (what, to) = text.split_once(' ').unwrap_or((text, ""));
        match (what, to.trim()) {
            ("up", "") => Ok(Self::Up),
            ("down", "") => Ok(Self::Down),
            ("metric", metric) => value::number(metric, 0, u8::MAX).map(Self::Metric),
            ("rate-limit", rate) => rate_limit(rate).map(Self::RateLimit),
            _ => Err("up, down, metric N or rate-limit R".to_owned()),
        }
    }
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("down"),
            Self::Metric(metric) => write!(f, "metric {metric}"),
            Self::RateLimit(Some(rate)) => write!(f, "rate-limit {rate}"),
            Self::RateLimit(None) => f.write_str("rate-limit off"),
        }
    }
}

/// A rate, or `off`.
pub(super) fn rate_limit(text: &str) -> Result<Option<BitRate>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|allowed: String| format!("off or {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_as_they_are_written() {
        for text in ["up", "down", "metric 10", "rate-limit 20 Mbit/s", "rate-limit off"] {
            assert_eq!(text.parse::<LinkChange>().expect(text).to_string(), text);
        }
        for text in ["", "sideways", "up 1", "metric", "metric 256", "rate-limit", "rate-limit 20"] {
            assert!(text.parse::<LinkChange>().is_err(), "{text}");
        }
    }
}
