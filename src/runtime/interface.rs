//! Addresses and MTU of interfaces.

use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockaddrStorage;

#[cfg(target_os = "linux")]
pub(super) use linux::Interfaces;

/// Number of the interface of that name; `None` if there is none.
pub(super) fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// MTU of the interface that has this address.
pub(super) fn mtu_of_address(address: IpAddr) -> Option<u16> {
    let mut interfaces = nix::ifaddrs::getifaddrs().ok()?;
    let has = |found: &SockaddrStorage| match address {
        IpAddr::V4(v4) => found.as_sockaddr_in().is_some_and(|found| found.ip() == v4),
        IpAddr::V6(v6) => found.as_sockaddr_in6().is_some_and(|found| found.ip() == v6),
    };
    let interface = interfaces.find(|interface| interface.address.as_ref().is_some_and(has))?;
    super::sys::interface_mtu(&interface.interface_name)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use rtnetlink::{Handle, LinkUnspec, new_connection};

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
