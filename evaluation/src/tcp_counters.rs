//! What the kernel counts of TCP in a namespace: segments sent again, timeouts, copies that were not needed.

use std::ops::Sub;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::netns::Namespace;

/// The counters of one namespace at one moment, or what they rose by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TcpCounters {
    /// Segments sent.
    pub sent: u64,
    /// Segments sent again (`RetransSegs`).
    pub retransmitted: u64,
    /// Retransmission timeouts (`TCPTimeouts`).
    pub timeouts: u64,
    /// Duplicates that receivers told of (`TCPDSACKRecv`): what was sent again without need.
    pub duplicates_told: u64,
}

impl TcpCounters {
    /// Reads them.
    pub fn of(namespace: &Namespace) -> Result<Self> {
        let tables = namespace.enter(|| -> std::io::Result<String> {
            let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            Ok(read("snmp")? + &read("netstat")?)
        })??;
        Self::parse(&tables).with_context(|| format!("{}: TCP's counters", namespace.name()))
    }

    fn parse(tables: &str) -> Option<Self> {
        Some(Self {
            sent: counter(tables, "Tcp:", "OutSegs")?,
            retransmitted: counter(tables, "Tcp:", "RetransSegs")?,
            timeouts: counter(tables, "TcpExt:", "TCPTimeouts")?,
            duplicates_told: counter(tables, "TcpExt:", "TCPDSACKRecv")?,
        })
    }
}

impl Sub for TcpCounters {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            retransmitted: self.retransmitted - earlier.retransmitted,
            timeouts: self.timeouts - earlier.timeouts,
            duplicates_told: self.duplicates_told - earlier.duplicates_told,
        }
    }
}

/// Finds a counter: a line of names that begins with the table's name, and below it one of values.
fn counter(tables: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = tables.lines().filter(|line| line.split(' ').next() == Some(table));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split(' ').position(|known| known == name)?;
    values.split(' ').nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_names() {
        let tables = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
            Tcp: RtoMin OutSegs RetransSegs\nTcp: 200 70 6\n\
            TcpExt: TCPTimeouts TCPDSACKRecv\nTcpExt: 2 1\n";
        let counters = TcpCounters::parse(tables).unwrap();
        assert_eq!(counters, TcpCounters { sent: 70, retransmitted: 6, timeouts: 2, duplicates_told: 1 });
        assert_eq!(counters - counters, TcpCounters::default());
        assert_eq!(TcpCounters::parse("Tcp: OutSegs\nTcp: 1\n"), None);
    }
}
