//! Addresses, MTU and carrier of interfaces.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use tokio::sync::watch;

use super::sys::interface_mtu;

#[cfg(target_os = "linux")]
pub(super) use linux::Interfaces;

/// Counts the changes of interfaces and addresses that the system told of.
pub(super) type Changes = watch::Receiver<u64>;

/// Number of the interface of that name; `None` if there is none.
pub(super) fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// MTU of the interface that has this address.
pub(super) fn mtu_of_address(address: IpAddr) -> Option<u16> {
    let entry = getifaddrs().ok()?.find(|entry| address_of(entry) == Some(address))?;
    interface_mtu(&entry.interface_name)
}

/// Waits for the next change; for ever where nobody tells.
pub(super) async fn changed(changes: &mut Changes) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Says why nothing can be sent by `interface`, from `address`, if that is so; what is `None` does not matter.
pub(super) fn fault(interface: Option<&str>, address: Option<IpAddr>) -> Option<String> {
    // What cannot be asked is taken for well: the links find out by themselves.
    let entries: Vec<_> = getifaddrs().ok()?.collect();
    if let Some(name) = interface {
        let fault = fault_of(name, &entries);
        if fault.is_some() {
            return fault;
        }
    }
    let address = address?;
    let with_address = entries.iter().find(|entry| {
        address_of(entry) == Some(address) && interface.is_none_or(|name| name == entry.interface_name)
    });
    match with_address {
        None => Some(format!("address {address} is gone")),
        Some(entry) => fault_of(&entry.interface_name, &entries),
    }
}

fn fault_of(name: &str, entries: &[InterfaceAddress]) -> Option<String> {
    let Some(entry) = entries.iter().find(|entry| entry.interface_name == name) else {
        return Some(format!("interface {name} is gone"));
    };
    match entry.flags {
        flags if !flags.contains(InterfaceFlags::IFF_UP) => Some(format!("interface {name} is down")),
        flags if !flags.contains(InterfaceFlags::IFF_RUNNING) => Some(format!("carrier lost on {name}")),
        _ => None,
    }
}

fn address_of(entry: &InterfaceAddress) -> Option<IpAddr> {
    let address = entry.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use rtnetlink::{Handle, LinkUnspec, MulticastGroup, new_connection, new_multicast_connection};

    /// Packets that wait in the kernel before we read them: after a hole was filled, a sender's whole window
    /// comes at once, and a drop here would be a loss to it. What waits too long is our own queue's business.
    const QUEUE_LENGTH: u32 = 4_096;

    /// Changes interfaces through netlink.
    #[derive(Clone)]
    pub(in crate::runtime) struct Interfaces(Handle);

    impl Interfaces {
        /// Must be called within a tokio runtime.
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            let (connection, handle, _) = new_connection()?;
            tokio::spawn(connection);
            Ok(Self(handle))
        }

        /// Lets the kernel tell when a carrier, an interface or an address comes or goes.
        pub(in crate::runtime) fn changes() -> io::Result<Changes> {
            let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
            let (connection, _, mut messages) = new_multicast_connection(&groups)?;
            tokio::spawn(connection);
            let (count, changes) = watch::channel(0);
            tokio::spawn(async move {
                while messages.recv().await.is_ok() {
                    count.send_modify(|count| *count += 1);
                }
            });
            Ok(changes)
        }

        /// Sets the MTU and brings the interface up.
        pub(in crate::runtime) async fn up(&self, index: u32, mtu: u16) -> io::Result<()> {
            let message =
                LinkUnspec::new_with_index(index).mtu(mtu.into()).txqueuelen(QUEUE_LENGTH).up().build();
            self.0.link().set(message).execute().await.map_err(io::Error::other)
        }

        /// Adds an address.
        pub(in crate::runtime) async fn add_address(
            &self,
            index: u32,
            address: IpAddr,
            prefix: u8,
        ) -> io::Result<()> {
            self.0.address().add(index, address, prefix).execute().await.map_err(io::Error::other)
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use other::Interfaces;

#[cfg(not(target_os = "linux"))]
mod other {
    use super::*;
    use tokio::process::Command;

    /// Changes interfaces with `ifconfig`.
    #[derive(Clone)]
    pub(in crate::runtime) struct Interfaces;

    impl Interfaces {
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            Ok(Self)
        }

        /// Nobody tells here; who waits looks from time to time.
        pub(in crate::runtime) fn changes() -> io::Result<Changes> {
            Ok(watch::channel(0).1)
        }

        /// Sets the MTU and brings the interface up.
        pub(in crate::runtime) async fn up(&self, index: u32, mtu: u16) -> io::Result<()> {
            ifconfig(&[&name(index)?, "mtu", &mtu.to_string(), "up"]).await
        }

        /// Adds an address.
        pub(in crate::runtime) async fn add_address(
            &self,
            index: u32,
            address: IpAddr,
            prefix: u8,
        ) -> io::Result<()> {
            let family = if address.is_ipv6() { "inet6" } else { "inet" };
            let mut arguments = vec![name(index)?, family.to_owned(), format!("{address}/{prefix}")];
            if let IpAddr::V4(v4) = address {
                // A point-to-point interface wants the other end; its own address does as such.
                arguments.push(v4.to_string());
            }
            arguments.push("alias".to_owned());
            ifconfig(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
        }
    }

    fn name(index: u32) -> io::Result<String> {
        let name = nix::net::if_::if_indextoname(index)?;
        name.into_string().map_err(io::Error::other)
    }

    async fn ifconfig(arguments: &[&str]) -> io::Result<()> {
        let output = Command::new("/sbin/ifconfig").args(arguments).output().await?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
