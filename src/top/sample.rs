//! What the portal is asked each second.

use std::path::{Path, PathBuf};

use crate::control::{self, ClientError};
use crate::core::snapshot::Snapshot;
use crate::journal::Event;

/// What the portal said.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) snapshot: Snapshot,
    /// Those that were not told before, the oldest first.
    pub(super) events: Vec<Event>,
}

/// Asks the portal, and remembers which events it has told.
pub(super) struct Sampler {
    socket: PathBuf,
    /// The number of the next event.
    next: u64,
    uptime_seconds: f64,
}

impl Sampler {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), next: 0, uptime_seconds: 0.0 }
    }

    pub(super) fn take(&mut self) -> Result<Sample, ClientError> {
        let snapshot = control::show(&self.socket)?;
        if snapshot.uptime_seconds < self.uptime_seconds {
            // Another run, which numbers its events anew.
            self.next = 0;
        }
        self.uptime_seconds = snapshot.uptime_seconds;
        let events = control::events(&self.socket, self.next, false)?;
        self.next = events.last().map_or(self.next, |event| event.number + 1);
        Ok(Sample { snapshot, events })
    }
}
