//! Keeps the data caps of the links: counts, saves, and demotes those that near theirs.

use std::path::Path;
use std::time::Duration;

use super::clock;
use super::keeper::Kept;
use crate::calendar::Day;
use crate::config::{Quota, QuotaAction};
use crate::core::snapshot;
use crate::core::units::Instant;
use crate::journal::{Journal, Kind, Level, Notice};
use crate::quota::{Clock, Ledger};

/// How often the meters are read: what passes in between must be little beside the rest of a cap.
pub(super) const READ_EVERY: Duration = Duration::from_secs(2);

/// Part of the cap, in percent, from which on the link is spared: the rest is for what keeps it open.
const NEAR_PERCENT: u64 = 95;

/// The caps of all links.
pub(super) struct Caps {
    ledger: Ledger,
    /// By link: what its meter showed when it was read last.
    read: Vec<(String, u64)>,
    /// Whether the last try to save failed, which is told once.
    failing: bool,
}

impl Caps {
    /// With what the file in `directory` says was used.
    pub(super) fn open(directory: &Path, journal: &Journal) -> Self {
        let (ledger, trouble) = Ledger::open(directory);
        if let Some(trouble) = trouble {
            let text = format!("{trouble}; what was used of data caps is not known");
            journal.tell(Notice::new(Level::Warning, Kind::Quota, text));
        }
        Self { ledger, read: Vec::new(), failing: false }
    }

    /// Reads the meters, draws the conclusions and saves what is due.
    pub(super) fn tend(&mut self, kept: &mut [Kept], journal: &Journal) {
        let clock = now();
        self.read.retain(|(name, _)| kept.iter().any(|link| link.peer().name == *name));
        for link in kept.iter_mut() {
            if let Some(quota) = link.peer().quota {
                self.tend_one(link, quota, clock, journal);
            }
        }
        let cap = |name: &str| {
            let link = kept.iter().find(|link| link.peer().name == name);
            link.and_then(|link| link.peer().quota).map_or(u64::MAX, |quota| quota.volume.bytes())
        };
        if self.ledger.wants_save(clock.steady, cap) {
            self.save(kept, journal);
        }
    }

    fn tend_one(&mut self, link: &mut Kept, quota: Quota, clock: Clock, journal: &Journal) {
        let name = link.peer().name.clone();
        let bytes = self.passed(&name, link.metered());
        let account = self.ledger.account(&name);
        let new_period = account.count(clock, quota.reset_day, bytes);
        let (used, cap) = (account.used(), quota.volume.bytes());
        let tell = |level, text: String| {
            journal.tell(Notice::of_link(level, Kind::Quota, &name, format!("link {name}: {text}")));
        };
        let near = used / 100 >= cap / 100 * NEAR_PERCENT / 100;
        if link.demote(near.then_some(quota.action)) {
            if near {
                let what = match quota.action {
                    QuotaAction::Backup => "a last resort only",
                    QuotaAction::Off => "closed",
                };
                let until = until(account.since(), quota.reset_day);
                let percent = used / (cap / 100);
                tell(Level::Warning, format!("{percent} % of its {} used: {what}{until}", quota.volume));
            } else {
                tell(Level::Info, format!("within its {} again: used as before", quota.volume));
            }
        } else if new_period {
            tell(Level::Info, format!("another month of its {}", quota.volume));
        }
    }

    /// Bytes that passed since the meter was read last.
    fn passed(&mut self, name: &str, shows: u64) -> u64 {
        match self.read.iter_mut().find(|(known, _)| known == name) {
            // A link that was made anew has a new meter.
            Some((_, last)) => {
                let before = std::mem::replace(last, shows);
                shows.checked_sub(before).unwrap_or(shows)
            }
            None => {
                self.read.push((name.to_owned(), shows));
                shows
            }
        }
    }

    /// Saves what is not in the file yet, at the end of the portal.
    pub(super) fn close(&mut self, kept: &mut [Kept], journal: &Journal) {
        self.tend(kept, journal);
        if self.ledger.is_unsaved() {
            self.save(kept, journal);
        }
    }

    fn save(&mut self, kept: &[Kept], journal: &Journal) {
        let capped = kept.iter().map(Kept::peer).filter(|peer| peer.quota.is_some());
        self.ledger.retain(&capped.map(|peer| peer.name.as_str()).collect::<Vec<_>>());
        let outcome = self.ledger.save(now().steady);
        if let (Err(error), false) = (&outcome, self.failing) {
            let text = format!("cannot save what was used of data caps: {error}");
            journal.tell(Notice::new(Level::Warning, Kind::Quota, text));
        }
        self.failing = outcome.is_err();
    }

    /// What `show` says of a link's cap.
    pub(super) fn describe(&mut self, link: &Kept) -> Option<snapshot::Quota> {
        let quota = link.peer().quota?;
        let account = self.ledger.account(&link.peer().name);
        Some(snapshot::Quota {
            used_bytes: account.used(),
            limit_bytes: quota.volume.bytes(),
            since: account.since().map(|since| since.to_string()),
            reset_day: quota.reset_day,
            action: quota.action.name().to_owned(),
            reached: link.demotion().is_some(),
        })
    }
}

/// ` until 2026-12-01`, if the day is known.
fn until(since: Option<Day>, reset_day: u8) -> String {
    since.map(|since| format!(" until {}", since.next_period(reset_day))).unwrap_or_default()
}

fn now() -> Clock {
    Clock {
        steady: clock::now().since(Instant::ZERO),
        today: Some(Day::of(clock::wall_ms())).filter(|day| day.is_credible()),
    }
}
