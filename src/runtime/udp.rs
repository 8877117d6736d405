//! The socket of a UDP flow.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::mmsg;
use crate::core::outbound::Train;

/// Kernel buffers: room for 100 ms at 300 Mbit/s, so that a late thread loses nothing.
const BUFFER: usize = 4 << 20;

/// Where a flow begins at this portal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Local {
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) interface: Option<String>,
}

impl Local {
    /// The address to bind for a flow to `remote`, or for one that waits for the peer. The latter takes IPv4
    /// and IPv6.
    pub(super) fn bind_address(&self, remote: Option<SocketAddr>) -> SocketAddr {
        let any = match remote {
            Some(SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(self.address.unwrap_or(any), self.port)
    }
}

/// Opens a socket of `kind`, bound as `local` says.
pub(super) fn bound(
    local: &Local,
    remote: Option<SocketAddr>,
    kind: Type,
    protocol: Protocol,
) -> io::Result<Socket> {
    let try_bind = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        if address.is_ipv6() {
            // One that waits on all addresses serves both families.
            socket.set_only_v6(local.address.is_some() || remote.is_some())?;
        }
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        }
        if let Some(interface) = &local.interface {
            bind_interface(&socket, interface)?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let address = local.bind_address(remote);
    let without_v6 = |error: &io::Error| {
        address.ip().is_unspecified() && remote.is_none() && error.raw_os_error() == Some(libc::EAFNOSUPPORT)
    };
    match try_bind(address) {
        Err(error) if without_v6(&error) => try_bind((Ipv4Addr::UNSPECIFIED, local.port).into()),
        other => other,
    }
}

#[cfg(target_os = "linux")]
fn bind_interface(socket: &Socket, interface: &str) -> io::Result<()> {
    socket.bind_device(Some(interface.as_bytes()))
}

#[cfg(not(target_os = "linux"))]
fn bind_interface(_: &Socket, _: &str) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "Interface is for Linux; use LocalAddress and pf's route-to",
    ))
}

/// The socket of a UDP flow; several links may share one that listens.
pub(super) struct UdpSocket {
    socket: Socket,
    ipv6: bool,
}

impl UdpSocket {
    /// Opens and binds it.
    pub(super) fn open(local: &Local, remote: Option<SocketAddr>) -> io::Result<Self> {
        let socket = bound(local, remote, Type::DGRAM, Protocol::UDP)?;
        grow_buffers(&socket);
        let ipv6 = socket.domain()? == Domain::IPV6;
        Ok(Self { socket, ipv6 })
    }

    /// Sends datagrams of `train` from number `skip` on; gives how many went. `WouldBlock` if none could.
    pub(super) fn send(&self, train: &Train, skip: usize, to: SocketAddr) -> io::Result<usize> {
        mmsg::send(self.socket.as_fd(), train, skip, &self.address(to))
    }

    /// Sends one datagram, if the kernel takes it.
    pub(super) fn send_one(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(datagram, &self.address(to)).map(|_| ())
    }

    /// Own address and port.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    fn address(&self, to: SocketAddr) -> SockAddr {
        match to {
            SocketAddr::V4(v4) if self.ipv6 => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()).into()
            }
            to => to.into(),
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// As root past the system's limit, else up to it.
fn grow_buffers(socket: &Socket) {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::socket::{setsockopt, sockopt};
        let forced = setsockopt(socket, sockopt::RcvBufForce, &BUFFER).is_ok();
        if forced && setsockopt(socket, sockopt::SndBufForce, &BUFFER).is_ok() {
            return;
        }
    }
    // What the system grants is enough to work.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

/// The address from which the kernel would send to `remote` now.
pub(super) fn source_to(local: &Local, remote: SocketAddr) -> Option<IpAddr> {
    let asking = Local { port: 0, ..local.clone() };
    let socket = bound(&asking, Some(remote), Type::DGRAM, Protocol::UDP).ok()?;
    socket.connect(&remote.into()).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

/// The MTU of the path to `remote` as the kernel knows it now, from the interface or what routers told.
pub(super) fn path_mtu(local: &Local, remote: SocketAddr) -> Option<u16> {
    let probe = Local { port: 0, ..local.clone() };
    let socket = bound(&probe, Some(remote), Type::DGRAM, Protocol::UDP).ok()?;
    socket.connect(&remote.into()).ok()?;
    super::sys::connected_mtu(socket.as_fd(), remote.is_ipv6())
}
