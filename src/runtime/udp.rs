//! The socket of a UDP flow.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{mmsg, sys};
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
    bound_after(local, remote, kind, protocol, |_| Ok(()))
}

/// The same; `prepare` has the socket before it is bound.
fn bound_after(
    local: &Local,
    remote: Option<SocketAddr>,
    kind: Type,
    protocol: Protocol,
    prepare: impl Fn(&Socket) -> io::Result<()>,
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
        mark(&socket)?;
        prepare(&socket)?;
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

/// The mark of a link's own packets: rules that lead into the tunnel leave those alone that bear it, so that
/// the tunnel never runs through itself. `LINK` in `scripts/linux/common.sh` is the same bit.
#[cfg(target_os = "linux")]
const LINK_MARK: u32 = 0x4000_0000;

#[cfg(target_os = "linux")]
fn mark(socket: &Socket) -> io::Result<()> {
    match socket.set_mark(LINK_MARK) {
        // Without the capability there is no interface to lead anything into, as in tests.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

#[cfg(not(target_os = "linux"))]
fn mark(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// The socket of a UDP flow; several links may share one that listens.
pub(super) struct UdpSocket {
    socket: Socket,
    /// Where it is bound.
    at: Local,
    ipv6: bool,
    gro: AtomicBool,
}

impl UdpSocket {
    /// Opens and binds it, with GRO if that is wanted and the system has it.
    pub(super) fn open(local: &Local, remote: Option<SocketAddr>, gro: bool) -> io::Result<Self> {
        Self::new(bound(local, remote, Type::DGRAM, Protocol::UDP)?, local.clone(), gro)
    }

    /// One more on the same port, for what comes from `peer`: the system prefers it for that.
    pub(super) fn branch(&self, peer: SocketAddr) -> io::Result<Self> {
        let port = self.local().map_or(self.at.port, |address| address.port());
        let at = Local { port, ..self.at.clone() };
        // For no longer than it takes: as long as one socket of the port does not allow it, no program gets the port by
        // mistake.
        self.socket.set_reuse_port(true)?;
        let socket = bound_after(&at, None, Type::DGRAM, Protocol::UDP, |socket| socket.set_reuse_port(true));
        self.socket.set_reuse_port(false)?;
        let branch = Self::new(socket?, at, self.has_gro())?;
        branch.socket.connect(&branch.address(peer))?;
        Ok(branch)
    }

    fn new(socket: Socket, at: Local, gro: bool) -> io::Result<Self> {
        grow_buffers(&socket);
        let ipv6 = socket.domain()? == Domain::IPV6;
        sys::never_fragment(socket.as_fd(), ipv6)?;
        let gro = gro && sys::set_gro(socket.as_fd(), true).is_ok();
        Ok(Self { socket, at, ipv6, gro: gro.into() })
    }

    /// Whether the kernel hands over datagrams in runs.
    pub(super) fn has_gro(&self) -> bool {
        self.gro.load(Ordering::Relaxed)
    }

    /// Lets the kernel hand over each datagram on its own: a section that shares the socket wants it so.
    pub(super) fn turn_gro_off(&self) {
        if self.has_gro() && sys::set_gro(self.socket.as_fd(), false).is_ok() {
            self.gro.store(false, Ordering::Relaxed);
        }
    }

    /// Sends datagrams of `train` from number `skip` on, in its runs; gives how many went. `WouldBlock` if none
    /// could.
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
pub(super) fn source_towards(local: &Local, remote: SocketAddr) -> Option<IpAddr> {
    let probe = Local { port: 0, ..local.clone() };
    let socket = bound(&probe, Some(remote), Type::DGRAM, Protocol::UDP).ok()?;
    socket.connect(&remote.into()).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::mmsg::Receiver;
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_set_ups_know_the_mark_of_the_links() {
        let scripts = include_str!("../../scripts/linux/common.sh");
        assert!(scripts.contains(&format!("\nLINK={LINK_MARK:#x}\n")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_branch_takes_what_comes_from_its_peer_and_the_trunk_the_rest() {
        let at = |address: Option<IpAddr>| Local { address, port: 0, interface: None };
        let lo = Some(Ipv4Addr::LOCALHOST.into());
        let open = |address| UdpSocket::open(&at(address), None, true).expect("a socket");
        for trunk in [open(lo), open(None)] {
            let port = trunk.local().expect("bound").port();
            let to = (Ipv4Addr::LOCALHOST, port).into();
            let peers = [open(lo), open(lo), open(lo)];
            let [first, second, _] = &peers;
            let address = |peer: &UdpSocket| peer.local().expect("bound");
            let branches = [first, second].map(|peer| trunk.branch(address(peer)).expect("one more socket"));
            assert!(branches.iter().all(UdpSocket::has_gro));
            let taken = UdpSocket::open(&Local { port, ..at(lo) }, None, true).map(drop);
            assert_eq!(taken.expect_err("the port is in use").kind(), io::ErrorKind::AddrInUse);
            for (number, peer) in peers.iter().enumerate() {
                peer.send_one(&[number as u8], to).expect("sent");
            }
            let [one, other] = &branches;
            for (number, socket) in [one, other, &trunk].into_iter().enumerate() {
                let mut receiver = Receiver::new(2_000);
                let count = receiver.receive(socket.as_fd(), true).expect("it is there");
                let datagrams =
                    receiver.received(count).map(|received| received.datagram.map(|bytes| bytes.to_vec()));
                assert_eq!(datagrams.collect::<Vec<_>>(), [Some(vec![number as u8])]);
            }
            // An answer leaves by the trunk, and comes from its address.
            trunk.send_one(b"answer", address(first)).expect("sent");
            let mut receiver = Receiver::new(2_000);
            let count = receiver.receive(first.as_fd(), true).expect("it is there");
            assert_eq!(receiver.received(count).next().map(|received| received.source), Some(to));
        }
    }

    /// Sends `data` over the loopback interface in runs or not; gives what arrives, and in how many messages.
    fn carried(data: &[Vec<u8>], address: IpAddr, gso: bool, gro: bool) -> (Vec<Vec<u8>>, usize) {
        let local = Local { address: Some(address), port: 0, interface: None };
        let open = |gro| UdpSocket::open(&local, None, gro).expect("a socket");
        let (from, to) = (open(false), open(gro));
        assert_eq!(to.has_gro(), gro && cfg!(target_os = "linux"));
        let mut train = Train::of(data, 2);
        if !(gso && sys::has_gso()) {
            train.separate();
        }
        let mut sent = 0;
        while sent < data.len() {
            sent += from.send(&train, sent, to.local().expect("bound")).expect("there is room");
        }
        let mut receiver = Receiver::new(2_000);
        let (mut arrived, mut messages, begun) = (Vec::new(), 0, Instant::now());
        while arrived.len() < data.len() && begun.elapsed() < Duration::from_secs(5) {
            let Ok(count) = receiver.receive(to.as_fd(), to.has_gro()) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            messages += count;
            for received in receiver.received(count) {
                assert_eq!(Some(received.source), from.local());
                arrived.push(received.datagram.expect("not too long").to_vec());
            }
        }
        (arrived, messages)
    }

    #[test]
    fn a_train_arrives_intact_and_in_order_with_and_without_offload() {
        // What controls the link, full packets, the end of a flight, and small ones.
        let lengths = [&[60, 300][..], &[1_400; 36], &[700], &[90, 90, 80]].concat();
        let data: Vec<Vec<u8>> = (0..).zip(lengths).map(|(fill, len)| vec![fill; len]).collect();
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            for (gso, gro) in [(true, true), (true, false), (false, true), (false, false)] {
                let (arrived, messages) = carried(&data, address, gso, gro);
                assert!(arrived == data, "{address} GSO {gso} GRO {gro}: {} arrived", arrived.len());
                if gso && gro && sys::has_gso() {
                    assert_eq!(messages, 4, "two alone and two runs to {address}");
                }
            }
        }
    }

    #[test]
    fn gro_can_be_turned_off() {
        let local = Local { address: Some(Ipv4Addr::LOCALHOST.into()), port: 0, interface: None };
        let socket = UdpSocket::open(&local, None, true).expect("a socket");
        socket.turn_gro_off();
        assert!(!socket.has_gro());
    }

    #[test]
    fn what_is_too_long_is_told_and_the_rest_is_not_lost() {
        let data = [vec![1; 100], vec![2; 5_000], vec![3; 0], vec![4; 2_000]];
        for gro in [true, false] {
            let local = Local { address: Some(Ipv4Addr::LOCALHOST.into()), port: 0, interface: None };
            let to = UdpSocket::open(&local, None, gro).expect("a socket");
            for datagram in &data {
                to.send_one(datagram, to.local().expect("bound")).expect("there is room");
            }
            let mut receiver = Receiver::new(2_000);
            let count = receiver.receive(to.as_fd(), to.has_gro()).expect("they are there");
            let lengths: Vec<_> =
                receiver.received(count).map(|received| received.datagram.map(|bytes| bytes.len())).collect();
            assert_eq!(lengths, [Some(100), None, Some(0), Some(2_000)]);
        }
    }
}
