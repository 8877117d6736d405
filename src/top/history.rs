//! The rates of the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back the graphs reach.
pub(super) const SPAN: Duration = Duration::from_secs(300);

/// Both directions at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    /// Since the program began.
    pub(super) at: Duration,
    /// Bits per second.
    pub(super) sent: f64,
    /// Bits per second.
    pub(super) received: f64,
}

/// The points of one link, or of all.
#[derive(Clone, Debug, Default)]
pub(super) struct History(VecDeque<Point>);

impl History {
    pub(super) fn push(&mut self, point: Point) {
        self.0.push_back(point);
        self.forget(point.at);
    }

    /// Drops what is older than the graphs show at `now`; `true` if nothing is left.
    pub(super) fn forget(&mut self, now: Duration) -> bool {
        while self.0.front().is_some_and(|first| first.at + SPAN < now) {
            self.0.pop_front();
        }
        self.0.is_empty()
    }

    /// For a graph: seconds before `now`, negative, and one direction.
    pub(super) fn line(&self, now: Duration, rate: fn(&Point) -> f64) -> Vec<(f64, f64)> {
        self.0.iter().map(|point| (point.at.as_secs_f64() - now.as_secs_f64(), rate(point))).collect()
    }

    /// One direction as `columns` averages, the oldest first; `None` where there is no point.
    pub(super) fn columns(&self, now: Duration, columns: usize, rate: fn(&Point) -> f64) -> Vec<Option<u64>> {
        let mut sums = vec![(0.0, 0_u32); columns];
        let column = SPAN.as_secs_f64() / columns.max(1) as f64;
        for (age, rate) in self.line(now, rate) {
            let back = (-age / column) as usize;
            if let Some((sum, count)) = columns.checked_sub(back + 1).and_then(|index| sums.get_mut(index)) {
                *sum += rate;
                *count += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| (sum / f64::from(count)) as u64)).collect()
    }

    /// The highest rate of either direction.
    pub(super) fn most(&self) -> f64 {
        self.0.iter().map(|point| point.sent.max(point.received)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(points: impl IntoIterator<Item = (u64, f64)>) -> History {
        let mut history = History::default();
        for (second, sent) in points {
            let at = Duration::from_secs(second);
            history.push(Point { at, sent, received: 0.0 });
        }
        history
    }

    #[test]
    fn is_bounded_in_time() {
        let mut history = history((0..1000).map(|second| (second, 1.0)));
        assert_eq!(history.0.len(), 301);
        assert!(history.forget(Duration::from_secs(2000)));
    }

    #[test]
    fn columns_are_averages_and_gaps_stay_empty() {
        let now = Duration::from_secs(600);
        let history = history([(301, 1000.0), (450, 100.0), (451, 300.0), (600, 8.0)]);
        let columns = history.columns(now, 10, |point| point.sent);
        let mut expected = vec![None; 10];
        (expected[0], expected[9], expected[5]) = (Some(1000), Some(8), Some(300));
        expected[4] = Some(100);
        assert_eq!(columns, expected);
        assert_eq!(history.columns(now, 0, |point| point.sent), []);
    }
}
