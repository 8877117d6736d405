//! A portal's work on more than two processors.
//!
//! On one or two it is cheapest when the thread that has an event runs it to completion. On more, two threads would be
//! at their limit long before the processors are, and share their work:
//!
//! - The reader of a socket that several links come in by. Each of these gets a *branch* of it: a socket on the same
//!   port, connected to the peer's address, which the kernel prefers, with a reader of its own. The portal knows nothing
//!   of it: what is read there counts as read from the trunk, and what is sent leaves by the trunk.
//! - The reader of the interface. While it has a lot to read, it asks the links' readers to send for them. It comes by
//!   again, and sends itself what nobody has begun to send by then, so that nothing waits for a thread that is late.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use super::{Engine, FlowSocket};
use crate::core::outbound::SocketId;
use crate::core::units::{LinkId, MAX_LINKS};

/// Processors on which nothing of this is worth its cost.
pub(super) const FEW: usize = 2;

/// The branches by trunk and peer.
#[derive(Default)]
pub(super) struct Branches(HashMap<(SocketId, SocketAddr), Arc<FlowSocket>>);

/// What each link arrives by, if its reader may be asked to send for it.
pub(super) type Helpers = [ArcSwapOption<FlowSocket>; MAX_LINKS];

impl Branches {
    /// The branches of a trunk.
    pub(super) fn of(&self, trunk: SocketId) -> impl Iterator<Item = Arc<FlowSocket>> {
        self.0.iter().filter(move |((of, _), _)| *of == trunk).map(|(_, branch)| Arc::clone(branch))
    }

    fn retain(&mut self, keeps: impl Fn(&(SocketId, SocketAddr), &FlowSocket) -> bool) {
        self.0.retain(|key, branch| {
            let keep = keeps(key, branch);
            if !keep {
                branch.close();
            }
            keep
        });
    }
}

impl Engine {
    /// The branches, and who may be asked to send for a link, follow the links. To be called when these have changed.
    pub(in crate::runtime) fn spread(self: &Arc<Self>) {
        if !self.spreads {
            return;
        }
        let ways = self.portal.ways();
        let several = |trunk: SocketId| ways.iter().filter(|(_, socket, _)| *socket == trunk).count() > 1;
        let wanted: Vec<_> =
            ways.iter().filter(|way| several(way.1)).map(|&(_, socket, peer)| (socket, peer)).collect();
        let mut branches = self.branches();
        branches.retain(|key, branch| wanted.contains(key) && !branch.is_closing());
        for key in wanted {
            if let Entry::Vacant(place) = branches.0.entry(key)
                && let Some(branch) = self.open_branch(key)
            {
                place.insert(branch);
            }
        }
        for (number, helper) in self.helpers.iter().enumerate() {
            let way = ways.iter().find(|(link, ..)| link.index() == number);
            let socket = way.and_then(|&(_, trunk, peer)| {
                branches.0.get(&(trunk, peer)).cloned().or_else(|| self.socket(trunk))
            });
            helper.store(socket);
        }
    }

    /// A branch and its reader; `None` if there can be none, and the trunk goes on for all.
    fn open_branch(self: &Arc<Self>, (trunk, peer): (SocketId, SocketAddr)) -> Option<Arc<FlowSocket>> {
        let opened = self.socket(trunk)?.branch(peer).and_then(|branch| {
            let Some(branch) = branch.map(Arc::new) else { return Ok(None) };
            self.spawn_reader(trunk, Arc::clone(&branch))?;
            Ok(Some(branch))
        });
        opened.unwrap_or_else(|error| {
            tracing::debug!("no socket of its own for {peer}: {error}");
            None
        })
    }

    /// Closes the branches of the trunks for which `which` says so, and lets go of all that are closed, as of links'
    /// other sockets: nothing is to keep a port in use, or to receive what nobody reads.
    pub(super) fn draw_in(&self, which: impl Fn(SocketId) -> bool) {
        self.branches().retain(|(trunk, _), branch| !which(*trunk) && !branch.is_closing());
        let closed = |helper: &Arc<FlowSocket>| helper.is_closing();
        let stale = self.helpers.iter().filter(|helper| helper.load().as_ref().is_some_and(closed));
        stale.for_each(|helper| helper.store(None));
    }

    pub(super) fn branches(&self) -> MutexGuard<'_, Branches> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others send for the links of `ready`, or sends where one is asked in vain.
    pub(super) fn entrust(&self, ready: u16) {
        for link in LinkId::among(ready) {
            let late = !self.lanes.leave_word(link);
            match &*self.helpers[link.index()].load() {
                Some(socket) if !late => socket.ask(link),
                _ => self.send(1 << link.0),
            }
        }
        self.tend();
    }

    /// Sends for the links for which the reader of `socket` is asked to, if nobody did so meanwhile.
    pub(super) fn help(&self, socket: &FlowSocket) {
        let waits = |link: &LinkId| self.lanes.has_word(*link);
        let left = LinkId::among(socket.take_asked()).filter(waits).fold(0, |mask, link| mask | 1 << link.0);
        if left != 0 {
            self.settle(left);
        }
    }
}
