//! Calls of the system that no crate wraps.
#![allow(unsafe_code)]

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The options, and their values, by which a socket neither fragments nor heeds what ICMP says of the path.
#[cfg(target_os = "linux")]
const WHOLE_V4: (libc::c_int, libc::c_int) = (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE);
#[cfg(target_os = "linux")]
const WHOLE_V6: (libc::c_int, libc::c_int) = (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE);
#[cfg(not(target_os = "linux"))]
const WHOLE_V4: (libc::c_int, libc::c_int) = (libc::IP_DONTFRAG, 1);
#[cfg(not(target_os = "linux"))]
const WHOLE_V6: (libc::c_int, libc::c_int) = (libc::IPV6_DONTFRAG, 1);

/// One heap for all threads, so that what one frees is there for the others: they allocate too seldom to get in each
/// other's way.
pub(super) fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number. It fails only for numbers that it does not know, and then nothing is lost.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Lets the datagrams of a socket leave whole or not at all: the portals find out by themselves what a path carries.
pub(super) fn never_fragment(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, WHOLE_V6)?;
    }
    // A socket of IPv6 may carry IPv4, for which only Linux lets it have the option.
    if !ipv6 || cfg!(target_os = "linux") {
        set_option(socket, libc::IPPROTO_IP, WHOLE_V4)?;
    }
    Ok(())
}

/// Whether the system cuts runs of datagrams apart (UDP GSO). The network card need not know how to.
pub(super) fn has_gso() -> bool {
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        // A length for all that a socket sends; what we set is one for each message.
        let option = (libc::UDP_SEGMENT, 1_000);
        socket.is_ok_and(|socket| set_option(socket.as_fd(), libc::SOL_UDP, option).is_ok())
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Lets a socket take datagrams that belong together as one message (UDP GRO), or not any more.
pub(super) fn set_gro(socket: BorrowedFd<'_>, enabled: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        set_option(socket, libc::SOL_UDP, (libc::UDP_GRO, enabled.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, enabled);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Makes the kernel refuse runs on an IPv4 socket, as it does where the network card cannot compute checksums.
#[cfg(all(test, target_os = "linux"))]
pub(super) fn refuse_runs(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, (libc::SO_NO_CHECK, 1))
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    (name, value): (libc::c_int, libc::c_int),
) -> io::Result<()> {
    // SAFETY: the options used here take an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// MTU of an interface.
#[cfg(target_os = "linux")]
pub(super) fn interface_mtu(name: &str) -> Option<u16> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).ok()?;
    // SAFETY: ifreq is plain old data, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero: it ends the name.
    let (_, room) = request.ifr_name.split_last_mut()?;
    for (to, from) in room.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the request asks for the MTU of the interface it names, and outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &mut request) };
    // SAFETY: a successful call wrote this member.
    let mtu = (result == 0).then_some(unsafe { request.ifr_ifru.ifru_mtu })?;
    u16::try_from(mtu.min(u16::MAX.into())).ok()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn interface_mtu(_: &str) -> Option<u16> {
    None
}

/// Lets the kernel hand over several packets of TCP, and of UDP, as one, and leave checksums to us.
///
/// # Errors
///
/// EINVAL if it does not know of one of them.
#[cfg(target_os = "linux")]
pub(super) fn set_tun_offloads(tun: BorrowedFd<'_>, tcp: bool, udp: bool) -> io::Result<()> {
    // From linux/if_tun.h.
    const CSUM: u32 = 0x01;
    const TSO4_TSO6_ECN: u32 = 0x02 | 0x04 | 0x08;
    const USO4_USO6: u32 = 0x20 | 0x40;
    nix::ioctl_write_int!(tun_set_offload, b'T', 208);
    let mut flags = 0;
    if tcp {
        flags |= CSUM | TSO4_TSO6_ECN;
    }
    if udp {
        flags |= CSUM | USO4_USO6;
    }
    // SAFETY: the call takes the flags by value.
    unsafe { tun_set_offload(tun.as_raw_fd(), flags.into()) }?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn set_tun_offloads(_: BorrowedFd<'_>, _: bool, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Lets at most `bytes` of a TCP connection wait unsent in the kernel.
pub(super) fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    set_option(socket, libc::IPPROTO_TCP, (libc::TCP_NOTSENT_LOWAT, bytes as libc::c_int))?;
    let _ = (socket, bytes);
    Ok(())
}
