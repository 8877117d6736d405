//! What a link did, for `show`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::State;
use crate::core::recent;

/// Counts the bytes on the wire, both directions, of all links that share it. Clones are the same meter.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Bytes since it was made.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds bytes that were sent or received.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl PartialEq for Meter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Meter {}

/// Sums since the link was added, and of the last seconds.
#[derive(Debug, Default)]
pub struct Account {
    /// Datagrams with data that were sent lately.
    pub sent: recent::Bytes,
    /// Datagrams with data that were received lately.
    pub received: recent::Bytes,
    /// Datagrams of all kinds that were sent, with the headers around them.
    pub wire_sent: recent::Volume,
    /// The same of those received that were authentic.
    pub wire_received: recent::Volume,
    /// Packets sent over it again that had been lost, or that a failed link had in flight.
    pub repairs_sent: u64,
    /// Packets sent over it, and then again over any link.
    pub repairs_caused: u64,
    /// Packets sent over it besides, while another link carried them too.
    pub copies_sent: u64,
    spent: [Duration; State::ALL.len()],
}

impl Account {
    /// The link left `state`, in which it was for so long.
    pub fn on_left(&mut self, state: State, lasted: Duration) {
        self.spent[state as usize] += lasted;
    }

    /// Time spent in `state` before the present one was entered.
    pub fn spent_in(&self, state: State) -> Duration {
        self.spent[state as usize]
    }
}
