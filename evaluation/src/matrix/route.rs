//! The way between the two ends of a load.

use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use serde::{Serialize, Serializer};

use crate::lab::Lab;
use crate::load::{Ends, Load};
use crate::portal::{Pair, PairOptions};

/// Over what the traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through the tunnel over all links.
    Bonded,
    /// Through the tunnel over this link only.
    Alone(usize),
    /// Straight over this link, without a tunnel.
    Direct(usize),
    /// Multipath TCP of the kernel between the portals' systems, without a tunnel.
    Mptcp,
}

/// A route in a lab, ready for traffic.
#[derive(Debug)]
pub struct OpenRoute<'a> {
    /// Where it is.
    pub lab: &'a Lab,
    /// Which one.
    pub route: Route,
    /// The ends of loads on it.
    pub ends: Ends<'a>,
    /// The portals, where it goes through their tunnel.
    pub pair: Option<Pair<'a>>,
}

impl Route {
    /// The only link that it uses, if it uses one.
    pub fn link(self) -> Option<usize> {
        match self {
            Self::Bonded | Self::Mptcp => None,
            Self::Alone(link) | Self::Direct(link) => Some(link),
        }
    }

    /// Whether it can carry this load.
    pub fn carries(self, load: Load) -> bool {
        self != Self::Mptcp || load != Load::Quic
    }

    /// Makes it the way of the lab's traffic.
    pub fn open(self, lab: &Lab) -> Result<OpenRoute<'_>> {
        let tunnel = |links| Pair::start_connected(lab, &PairOptions { links, ..PairOptions::default() });
        let pair = match self {
            Self::Bonded => Some(tunnel(Vec::new())?),
            Self::Alone(link) => Some(tunnel(vec![link])?),
            Self::Direct(link) => {
                lab.route_directly(link)?;
                None
            }
            Self::Mptcp => None,
        };
        let ends = if self == Self::Mptcp { Ends::over_mptcp(lab)? } else { Ends::of(lab) };
        Ok(OpenRoute { lab, route: self, ends, pair })
    }
}

impl OpenRoute<'_> {
    /// Ends the portals in good order.
    pub fn close(self) -> Result<()> {
        self.pair.map_or(Ok(()), Pair::stop)
    }
}

impl Display for Route {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bonded => write!(out, "bonded"),
            Self::Alone(link) => write!(out, "link {link} alone"),
            Self::Direct(link) => write!(out, "link {link} without tunnel"),
            Self::Mptcp => write!(out, "MPTCP"),
        }
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
