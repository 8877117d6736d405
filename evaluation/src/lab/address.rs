//! The addresses of the lab, all from private and documentation prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Lab;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The option by which programs choose it.
    pub(crate) fn ip_flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }
}

/// A subnet of each family: an IPv4 /24 and an IPv6 /64.
pub(super) struct Network {
    v4: [u8; 3],
    v6: u16,
}

pub(super) const CLIENT_NETWORK: Network = Network { v4: [192, 168, 100], v6: 0x100 };
pub(super) const REMOTE_NETWORK: Network = Network { v4: [198, 51, 100], v6: 0x51 };
pub(super) const PLAIN_NETWORK: Network = Network { v4: [192, 0, 2], v6: 0x200 };
pub(super) const SERVER_NETWORK: Network = Network { v4: [203, 0, 113], v6: 0x113 };

/// The subnet of a link.
pub(super) fn link_network(link: usize) -> Network {
    // Both stay clear of the other networks: an emulator has 32 wires at most.
    Network { v4: [192, 168, link as u8 + 1], v6: link as u16 + 1 }
}

/// The hardware address at host number `host` of a link, from the locally administered ones.
pub(super) fn link_mac(link: usize, host: u8) -> String {
    format!("02:4e:43:00:{link:02x}:{host:02x}")
}

impl Network {
    /// The address of a host.
    pub(super) fn host(&self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(self.v4[0], self.v4[1], self.v4[2], host).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, self.v6, 0, 0, 0, 0, host.into()).into(),
        }
    }

    /// The address of a host with the prefix length.
    pub(super) fn host_with_length(&self, family: Family, host: u8) -> String {
        let length = if family == Family::V4 { 24 } else { 64 };
        format!("{}/{length}", self.host(family, host))
    }

    /// The subnet itself.
    pub(super) fn prefix(&self, family: Family) -> String {
        self.host_with_length(family, 0)
    }
}

impl Lab {
    /// The client's address.
    pub fn client_address(&self, family: Family) -> IpAddr {
        CLIENT_NETWORK.host(family, 2)
    }

    /// The server's address.
    pub fn server_address(&self, family: Family) -> IpAddr {
        SERVER_NETWORK.host(family, 2)
    }

    /// The remote portal's only, public address.
    pub fn remote_address(&self, family: Family) -> IpAddr {
        REMOTE_NETWORK.host(family, 2)
    }

    /// The local portal's present address on a link.
    pub fn local_address(&self, link: usize, family: Family) -> IpAddr {
        link_network(link).host(family, self.host_on(link))
    }

    /// The Internet's address on a link, the local portal's gateway there.
    pub fn gateway(&self, link: usize, family: Family) -> IpAddr {
        link_network(link).host(family, 1)
    }

    /// The local portal's interface on a link.
    pub fn wan_interface(link: usize) -> String {
        format!("wan{link}")
    }
}
