//! The way between the two ends of a load.

use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use serde::{Serialize, Serializer};

use crate::lab::Lab;
use crate::load::Ends;
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
}

/// A route in a lab, ready for traffic.
#[derive(Debug)]
pub struct OpenRoute<'a> {
    /// Where it is.
    pub lab: &'a Lab,
    /// Which one.
    pub route: Route,
    /// The portals, where it goes through their tunnel.
    pub pair: Option<Pair<'a>>,
}

impl Route {
    /// The only link that it uses, if it uses one.
    pub fn link(self) -> Option<usize> {
        match self {
            Self::Bonded => None,
            Self::Alone(link) | Self::Direct(link) => Some(link),
        }
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
        };
        Ok(OpenRoute { lab, route: self, pair })
    }
}

impl OpenRoute<'_> {
    /// The ends of loads on it.
    pub fn ends(&self) -> Ends<'_> {
        Ends::of(self.lab)
    }

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
        }
    }
}

impl Serialize for Route {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
