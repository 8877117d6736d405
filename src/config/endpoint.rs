//! Where the other portal is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Address and port of the other portal on one link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Host name or address.
    pub host: RemoteHost,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            RemoteHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// The other portal's host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RemoteHost {
    /// An address of one host.
    Address(IpAddr),
    /// A name for the resolver, in lower case.
    Name(String),
}

impl fmt::Display for RemoteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteHost::Address(address) => address.fmt(f),
            RemoteHost::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for RemoteHost {
    type Err = String;

    /// Reads an address, an IPv6 one with or without brackets, or a host name.
    fn from_str(text: &str) -> Result<RemoteHost, String> {
        let bracketed = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
        let address = match bracketed {
            Some(inner) => inner.parse::<Ipv6Addr>().map(IpAddr::V6),
            None => text.parse::<IpAddr>(),
        };
        match address {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                Err("an address of one host".to_owned())
            }
            Ok(address) => Ok(RemoteHost::Address(address)),
            Err(_) if is_host_name(text) => Ok(RemoteHost::Name(text.to_ascii_lowercase())),
            Err(_) => Err("a host name or an IP address, without port".to_owned()),
        }
    }
}

/// RFC 1123 §2.1, with `_`, which resolvers take. A name whose last part is a number is a
/// mistyped IPv4 address.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let ends_in_number =
        name.rsplit('.').next().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !ends_in_number
}
