//! What the sending half tells, and what it is told of arrivals.

use std::borrow::Cow;
use std::net::SocketAddr;

use super::link::State;
use crate::core::units::LinkId;

/// What happened that an operator cares about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link changed its state.
    Link {
        /// Its number.
        link: LinkId,
        /// Its name.
        name: String,
        /// The state before.
        from: State,
        /// The state now.
        to: State,
        /// Why, if it is known.
        reason: Option<Cow<'static, str>>,
        /// Packets that it had in flight and that other links send again.
        handed_over: usize,
    },
    /// A link turned out to lose too much to be of use, or to be of use again.
    Judged {
        /// Its number.
        link: LinkId,
        /// Its name.
        name: String,
        /// What is wrong with it; `None`: nothing any more.
        reason: Option<Cow<'static, str>>,
    },
    /// A link's datagrams leave one by one from now on.
    RunsGivenUp {
        /// Its number.
        link: LinkId,
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// The peer is reached at another address than before.
    Moved {
        /// Number of the link.
        link: LinkId,
        /// Its name.
        name: String,
        /// The new address.
        remote: SocketAddr,
    },
    /// The search found that a link's path carries another length than was known.
    PathMtu {
        /// Number of the link.
        link: LinkId,
        /// Its name.
        name: String,
        /// Longest IP packet before, bytes.
        from: u16,
        /// The same now.
        to: u16,
    },
    /// The interface is to have another MTU.
    Mtu {
        /// Before, bytes.
        from: u16,
        /// From now on.
        to: u16,
    },
    /// Keys were agreed on with a portal that has (re)started.
    Joined,
    /// The peer said that it stops.
    PeerClosed,
    /// A load test begins or ends.
    LoadTest {
        /// This portal makes it, not the other one.
        ours: bool,
        /// It begins.
        begun: bool,
    },
    /// There is no session, and this is what is known of the reason.
    Trouble(String),
}

/// What came in on one link at one time.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The link.
    pub link: LinkId,
    /// The largest data sequence number among them.
    pub newest: u64,
    /// How many.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those among them that carry data.
    pub data_bytes: u64,
}
