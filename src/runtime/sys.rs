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
