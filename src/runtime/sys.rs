//! Socket options that no crate wraps.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// MTU of the path of a connected socket.
#[cfg(target_os = "linux")]
pub(super) fn connected_mtu(socket: BorrowedFd<'_>, ipv6: bool) -> Option<u16> {
    let (level, name) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU) } else { (libc::IPPROTO_IP, libc::IP_MTU) };
    let mut mtu: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `mtu`, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(&mut mtu).cast(), &mut len)
    };
    if result == 0 { u16::try_from(mtu.min(u16::MAX.into())).ok() } else { None }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn connected_mtu(_: BorrowedFd<'_>, _: bool) -> Option<u16> {
    None
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

/// Lets at most `bytes` of a TCP connection wait unsent in the kernel.
pub(super) fn limit_unsent(socket: BorrowedFd<'_>, bytes: u32) -> std::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        // SAFETY: the option takes an int of that size, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_NOTSENT_LOWAT,
                std::ptr::from_ref(&bytes).cast(),
                size_of::<u32>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    let _ = (socket, bytes);
    Ok(())
}
