//! The ways out: who sends for a link.
//!
//! On more than two processors each link has a lane of its own, so that several threads send at once. On one or two
//! there is one lane for all links. Busy processors interrupt a thread for milliseconds, also between drawing a train
//! and sending it; trains that others drew later would overtake it on other links, and the other portal had to hold them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, TryLockError};

use super::{Engine, Notice};
use crate::core::outbound::SocketId;
use crate::core::units::{LinkId, MAX_LINKS};
use crate::runtime::clock::now;
use crate::runtime::socket::{Cargo, Flow};

/// Trains that a link sends in a row before others of its lane have their turn: about what may be in flight at gigabits
/// beyond a path's own delay.
const TRAINS_IN_A_ROW: usize = 16;
/// Send errors in a row after which a link is not trusted any more.
const ERRORS_TO_SUSPECT: u32 = 2;

/// One for each link, or one for all.
pub(super) struct Lanes(Vec<Lane>);

/// A way out. Whoever holds the cargos sends; others only leave word.
#[derive(Default)]
struct Lane {
    /// Links for which word was left, a bit each.
    due: AtomicU16,
    cargos: Mutex<HashMap<LinkId, Cargo>>,
}

impl Lanes {
    /// `apart`: one for each link.
    pub(super) fn new(apart: bool) -> Self {
        let count = if apart { MAX_LINKS } else { 1 };
        Self((0..count).map(|_| Lane::default()).collect())
    }

    fn of(&self, link: LinkId) -> &Lane {
        &self.0[link.index() % self.0.len()]
    }

    /// Leaves word that the link has something to send. False if that is known already.
    pub(super) fn leave_word(&self, link: LinkId) -> bool {
        let bit = 1 << link.0;
        self.of(link).due.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    /// Word was left for the link, and nobody has begun to send for it.
    pub(super) fn has_word(&self, link: LinkId) -> bool {
        self.of(link).due.load(Ordering::Acquire) & 1 << link.0 != 0
    }
}

impl Engine {
    /// Sends for the links of `ready`. Where another thread is at it, that one goes on.
    pub(super) fn send(&self, ready: u16) {
        for link in LinkId::among(ready) {
            self.lanes.leave_word(link);
        }
        LinkId::among(ready).for_each(|link| self.serve(self.lanes.of(link)));
    }

    fn serve(&self, lane: &Lane) {
        while lane.due.load(Ordering::Acquire) != 0 {
            let mut cargos = match lane.cargos.try_lock() {
                Ok(cargos) => cargos,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            loop {
                let due = lane.due.swap(0, Ordering::AcqRel);
                if due == 0 {
                    break;
                }
                for link in LinkId::among(due) {
                    if !self.drain(link, cargos.entry(link).or_default()) {
                        self.lanes.leave_word(link);
                    }
                }
            }
        }
    }

    /// Sends until the link has nothing more, or the socket takes nothing more. False if it is another link's turn
    /// before that.
    fn drain(&self, link: LinkId, cargo: &mut Cargo) -> bool {
        let sockets = self.sockets.load();
        for _ in 0..TRAINS_IN_A_ROW {
            if !cargo.loaded {
                if !self.portal.pull(now(), link, &mut cargo.train) {
                    return true;
                }
                (cargo.loaded, cargo.sent, cargo.refused) = (true, 0, None);
            }
            let socket = cargo.train.socket().and_then(|id| Some((id, sockets.get(&id)?)));
            let Some((id, socket)) = socket else {
                // The socket was closed meanwhile: what was pulled is lost.
                cargo.loaded = false;
                continue;
            };
            match socket.dispatch(cargo) {
                Ok(true) => {
                    (cargo.loaded, cargo.errors) = (false, 0);
                    if let Some(error) = cargo.refused.take() {
                        self.portal.on_runs_refused(now(), link, format!("the system refuses runs: {error}"));
                    }
                }
                Ok(false) => {
                    socket.block(link);
                    return true;
                }
                Err(error) => self.on_send_error(link, id, cargo, &error),
            }
        }
        false
    }

    fn on_send_error(&self, link: LinkId, id: SocketId, cargo: &mut Cargo, error: &io::Error) {
        cargo.loaded = false;
        // A full device queue is loss like any other; congestion control sees to it.
        if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) {
            return;
        }
        if self.socket(id).is_some_and(|socket| matches!(socket.flow, Flow::Tcp(_))) {
            return self.notice(Notice::SocketFailed(id, error.to_string()));
        }
        cargo.errors += 1;
        if cargo.errors == ERRORS_TO_SUSPECT {
            // No route, a firewall, no device: that may pass, so the socket stays and the link is probed.
            cargo.errors = 0;
            let ready = self.portal.on_send_errors(now(), link, format!("cannot send: {error}"));
            self.settle(ready & !(1 << link.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_left_for_each_link_in_its_lane_or_in_that_of_all() {
        for apart in [false, true] {
            let lanes = Lanes::new(apart);
            assert_eq!(std::ptr::eq(lanes.of(LinkId(1)), lanes.of(LinkId(2))), !apart);
            assert!(lanes.leave_word(LinkId(1)), "apart: {apart}");
            assert!(!lanes.leave_word(LinkId(1)), "apart: {apart}");
            let known = LinkId::all().filter(|&link| lanes.has_word(link));
            assert_eq!(known.collect::<Vec<_>>(), [LinkId(1)], "apart: {apart}");
        }
    }
}
