//! What happened, for people who come later: the last events of a portal, numbered, in words.
//!
//! Whoever has something to tell gives a [`Notice`] to the [`Journal`], which writes it to the log and keeps it as an
//! [`Event`]. `control` hands those out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Events that are kept: a day of links that come and go, in some 200 KiB.
pub const CAPACITY: usize = 1_000;

/// Longest text of an event, bytes; what is longer is cut. A reason may hold what the system or the other portal says.
const MAX_TEXT_LEN: usize = 400;

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1 at the daemon's start, without gaps.
    pub number: u64,
    /// When, by the system's clock: milliseconds since 1970.
    pub unix_ms: u64,
    /// Name of the link that it is about, if it is about one.
    pub link: Option<String>,
    /// What it is about: the name of a [`Kind`].
    pub kind: String,
    /// What happened: one line that needs nothing beside it, such as
    /// `link 2 lte: down, carrier lost on wwan0; 312 packets sent again elsewhere`.
    pub text: String,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A link's state changed: it came, went, or answers are overdue.
    Link,
    /// A link loses too much to be used, or little again.
    Quality,
    /// An address changed, ours or the other portal's.
    Address,
    /// The longest packet that a link's path carries changed.
    PathMtu,
    /// The interface's MTU changed.
    Mtu,
    /// The system's help with runs of packets was given up (GSO, GRO).
    Offload,
    /// The session with the other portal came or went.
    Session,
    /// The configuration was read again, or a link was changed by command.
    Configuration,
    /// A link's data cap.
    Quota,
    /// A load test began or ended.
    LoadTest,
}

impl Kind {
    /// The word that people and programs see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Quality => "quality",
            Self::Address => "address",
            Self::PathMtu => "path-mtu",
            Self::Mtu => "mtu",
            Self::Offload => "offload",
            Self::Session => "session",
            Self::Configuration => "configuration",
            Self::Quota => "quota",
            Self::LoadTest => "load-test",
        }
    }
}

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Something is worse than before.
    Warning,
    /// Something was asked for and is not done.
    Error,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How much to care; for the log.
    pub level: Level,
    /// What it is about.
    pub kind: Kind,
    /// The link, if it is about one.
    pub link: Option<String>,
    /// One line that needs nothing beside it.
    pub text: String,
}

impl Notice {
    /// About the portal as a whole.
    pub fn new(level: Level, kind: Kind, text: impl Into<String>) -> Self {
        Self { level, kind, link: None, text: text.into() }
    }

    /// About one link.
    pub fn of_link(level: Level, kind: Kind, link: impl Into<String>, text: impl Into<String>) -> Self {
        Self { link: Some(link.into()), ..Self::new(level, kind, text) }
    }
}

/// The last [`CAPACITY`] events.
#[derive(Debug)]
pub struct Journal {
    events: Mutex<VecDeque<Event>>,
    /// The number that the next event gets.
    next: watch::Sender<u64>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { events: Mutex::default(), next: watch::Sender::new(1) }
    }
}

impl Journal {
    /// Writes a notice to the log and keeps it. Never blocks for longer than a lock is held.
    pub fn tell(&self, notice: Notice) {
        match notice.level {
            Level::Info => tracing::info!("{}", notice.text),
            Level::Warning => tracing::warn!("{}", notice.text),
            Level::Error => tracing::error!("{}", notice.text),
        }
        self.keep(notice, unix_ms());
    }

    fn keep(&self, notice: Notice, unix_ms: u64) {
        let Notice { kind, link, mut text, .. } = notice;
        text.truncate(text.floor_char_boundary(MAX_TEXT_LEN));
        let mut events = self.events();
        let number = *self.next.borrow();
        if events.len() == CAPACITY {
            events.pop_front();
        }
        events.push_back(Event { number, unix_ms, link, kind: kind.name().to_owned(), text });
        self.next.send_replace(number + 1);
    }

    /// The events with numbers from `since` on that are still kept, the oldest first. A number beyond the next one is
    /// of an earlier run of the daemon: then all of them.
    pub fn since(&self, since: u64) -> Vec<Event> {
        let events = self.events();
        let all = since > *self.next.borrow();
        events.iter().filter(|event| all || event.number >= since).cloned().collect()
    }

    /// Waits until [`Journal::since`] has something to give.
    pub async fn wait(&self, since: u64) {
        let mut next = self.next.subscribe();
        // The sender lives as long as this.
        let _ = next.wait_for(|next| *next > 1 && *next != since).await;
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms() -> u64 {
    // A clock before 1970 is as wrong as one that says so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(text: &str) -> Notice {
        Notice::of_link(Level::Info, Kind::Link, "lte", text)
    }

    #[test]
    fn events_are_numbered_and_the_oldest_are_forgotten() {
        let journal = Journal::default();
        (0..CAPACITY + 5).for_each(|i| journal.keep(notice(&i.to_string()), 7));
        let all = journal.since(0);
        assert_eq!((all.len(), all[0].number), (CAPACITY, 6));
        let last = journal.since(CAPACITY as u64 + 5);
        assert_eq!(last.len(), 1);
        let expected = Event {
            number: CAPACITY as u64 + 5,
            unix_ms: 7,
            link: Some("lte".into()),
            kind: "link".into(),
            text: (CAPACITY + 4).to_string(),
        };
        assert_eq!(last[0], expected);
    }

    #[test]
    fn a_number_of_an_earlier_run_gives_everything() {
        let journal = Journal::default();
        (0..3).for_each(|_| journal.keep(notice("x"), 0));
        assert_eq!(journal.since(4), []);
        assert_eq!(journal.since(5).len(), 3);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let journal = Journal::default();
        journal.keep(notice(&"ä".repeat(MAX_TEXT_LEN)), 0);
        journal.keep(notice(&format!("x{}", "ä".repeat(MAX_TEXT_LEN))), 0);
        let lengths: Vec<usize> = journal.since(1).iter().map(|event| event.text.len()).collect();
        assert_eq!(lengths, [MAX_TEXT_LEN, MAX_TEXT_LEN - 1]);
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_event() {
        let journal = Journal::default();
        let (waited, ()) = tokio::join!(
            async {
                journal.wait(1).await;
                journal.since(1)
            },
            async {
                tokio::task::yield_now().await;
                journal.keep(notice("now"), 0);
            }
        );
        assert_eq!(waited[0].text, "now");
        journal.wait(1).await;
        journal.wait(9).await;
    }
}
