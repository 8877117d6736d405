//! What a link did, for `show`.

use std::time::Duration;

use super::State;
use crate::core::recent;

/// Sums since the link was added, and of the last seconds.
#[derive(Debug, Default)]
pub struct Account {
    /// Datagrams with data that were sent lately.
    pub sent: recent::Bytes,
    /// Datagrams with data that were received lately.
    pub received: recent::Bytes,
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
