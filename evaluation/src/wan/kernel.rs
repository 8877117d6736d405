//! What the emulator asks of the kernel: packet sockets, interface flags, scheduling.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{Error, ErrorKind};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use nix::sys::prctl::set_timerslack;

use super::frame::{Frame, Pool};
use crate::netns::Namespace;

/// Frames per system call.
pub(super) const BATCH: usize = 32;

/// Socket buffers: a second of 100 Mbit/s, should the thread not run for a while.
const SOCKET_BUFFER: libc::c_int = 16 << 20;

/// A raw packet socket bound to one interface. It sees what the interface receives, not what
/// it sends.
pub(super) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    pub(super) fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace
            .enter(|| Self::open_here(interface))?
            .with_context(|| format!("{}: packet socket on {interface}", namespace.name()))
    }

    fn open_here(interface: &str) -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let fd = unsafe {
            // Protocol 0 receives nothing until bind names both protocol and interface.
            let fd = libc::socket(libc::AF_PACKET, kind, 0);
            if fd < 0 {
                return Err(Error::last_os_error().into());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let socket = Self { fd };
        socket.set_option(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER)?;
        socket.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER)?;
        // The time of arrival, however late the thread comes to look.
        socket.set_option(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        socket.bind(if_nametoindex(interface)?)?;
        Ok(socket)
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> Result<()> {
        // SAFETY: the value is a c_int that lives during the call, and its size is given.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        check(result).context("setsockopt")
    }

    fn bind(&self, index: u32) -> Result<()> {
        // SAFETY: sockaddr_ll is plain data, valid when zero; it lives during the call.
        let result = unsafe {
            let mut address: libc::sockaddr_ll = zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index as i32;
            libc::bind(
                self.fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        check(result).context("bind")
    }

    /// Receives up to [`BATCH`] frames into `batch` and returns how many; the first so many of
    /// the batch then hold a frame each, with its length set.
    pub(super) fn receive(&self, batch: &mut [Frame; BATCH]) -> usize {
        // SAFETY: iovec and mmsghdr are plain data, valid when zero. Every pointer set below is
        // to a buffer of `batch` or to an entry of `parts` or `controls`; all outlive the calls,
        // and each length is its buffer's.
        let received = unsafe {
            let mut parts: [libc::iovec; BATCH] = zeroed();
            let mut headers: [libc::mmsghdr; BATCH] = zeroed();
            let mut controls = [Control([0; 8]); BATCH];
            for (control, header) in controls.iter_mut().zip(&mut headers) {
                header.msg_hdr.msg_control = (&raw mut control.0).cast();
                header.msg_hdr.msg_controllen = size_of::<Control>() as _;
            }
            for ((frame, part), header) in batch.iter_mut().zip(&mut parts).zip(&mut headers) {
                part.iov_base = frame.buffer.as_mut_ptr().cast();
                part.iov_len = frame.buffer.len();
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
            }
            let received = libc::recvmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            );
            for (frame, header) in batch.iter_mut().zip(&headers).take(received.max(0) as usize) {
                frame.length = header.msg_len as usize;
                frame.arrived = arrival(&header.msg_hdr);
            }
            received
        };
        // Nothing there, or the interface went down: both mean no frames now.
        received.max(0) as usize
    }

    /// How many frames found the socket's buffer full since the last call (packet(7), PACKET_STATISTICS).
    pub(super) fn take_missed(&self) -> u64 {
        // SAFETY: tpacket_stats is plain data; the kernel writes at most its size, which is given.
        let (result, stats) = unsafe {
            let mut stats: libc::tpacket_stats = zeroed();
            let mut size = size_of::<libc::tpacket_stats>() as libc::socklen_t;
            let result = libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut size,
            );
            (result, stats)
        };
        if result == 0 { stats.tp_drops.into() } else { 0 }
    }

    /// Sends frames, at most [`BATCH`], in one call. Returns how many of the first ones were
    /// sent; the one after them, if any, could not be.
    pub(super) fn send(&self, frames: &[Frame]) -> Sent {
        let count = frames.len().min(BATCH);
        // SAFETY: as in `receive`; the kernel only reads what `msg_iov` of a sent message
        // points to.
        let sent = unsafe {
            let mut parts: [libc::iovec; BATCH] = zeroed();
            let mut headers: [libc::mmsghdr; BATCH] = zeroed();
            for ((frame, part), header) in frames.iter().zip(&mut parts).zip(&mut headers) {
                part.iov_base = frame.buffer.as_ptr().cast_mut().cast();
                part.iov_len = frame.length;
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
            }
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if sent >= 0 {
            return Sent::Frames(sent as usize);
        }
        match Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Sent::Frames(0),
            error if error.kind() == ErrorKind::NetworkDown => Sent::NoCarrier,
            _ => Sent::Failed,
        }
    }
}

/// Room for one control message with a `timespec`, aligned as these are.
#[derive(Clone, Copy)]
struct Control([u64; 8]);

/// When a message arrived, if the kernel said so.
///
/// # Safety
/// `recvmmsg` must have filled the message in, and its control buffer must still be there.
unsafe fn arrival(message: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the header is the first in the control buffer, if that holds a whole one; its type
    // tells that a timespec follows, which is read without regard to its alignment.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(message);
        let header = header.as_ref()?;
        let stamp = (header.cmsg_level, header.cmsg_type);
        if stamp != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            return None;
        }
        let time: libc::timespec = libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned();
        Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

/// The outcome of [`PacketSocket::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many of the first frames went out.
    Frames(usize),
    /// The interface is down: the first frame did not go out.
    NoCarrier,
    /// The first frame did not go out for another reason.
    Failed,
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Buffers for one call of [`PacketSocket::receive`].
pub(super) fn receive_batch(pool: &mut Pool) -> Result<[Frame; BATCH]> {
    let frames: Vec<Frame> = std::iter::from_fn(|| pool.take()).take(BATCH).collect();
    frames.try_into().ok().context("the pool of frames is too small for one batch")
}

/// A socket inside a namespace by which interfaces there are set up and down.
#[derive(Debug)]
pub(super) struct InterfaceControl {
    fd: OwnedFd,
}

impl InterfaceControl {
    pub(super) fn open(namespace: &Namespace) -> Result<Self> {
        let socket = namespace.enter(|| std::net::UdpSocket::bind("0.0.0.0:0"))??;
        Ok(Self { fd: socket.into() })
    }

    /// Sets an interface up or down; its peer sees that as carrier.
    pub(super) fn set_up(&self, interface: &str, up: bool) -> Result<()> {
        let name = CString::new(interface)?;
        let name = name.as_bytes_with_nul();
        anyhow::ensure!(name.len() <= libc::IFNAMSIZ, "interface name {interface} is too long");
        // SAFETY: ifreq is plain data, valid when zero, with a name that ends in 0; the kernel
        // reads and writes it during the calls only. SIOCGIFFLAGS has set the flags read after.
        let result = unsafe {
            let mut request: libc::ifreq = zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(name) {
                *to = *from as libc::c_char;
            }
            let fd = self.fd.as_raw_fd();
            match libc::ioctl(fd, libc::SIOCGIFFLAGS as _, &raw mut request) {
                0 => {
                    let flag = libc::IFF_UP as libc::c_short;
                    let flags = request.ifr_ifru.ifru_flags;
                    request.ifr_ifru.ifru_flags = if up { flags | flag } else { flags & !flag };
                    libc::ioctl(fd, libc::SIOCSIFFLAGS as _, &raw mut request)
                }
                failed => failed,
            }
        };
        check(result).with_context(|| format!("setting {interface} {}", if up { "up" } else { "down" }))
    }
}

/// Makes the calling thread's waits exact and lets it run before others, as a wire does not wait
/// for a processor. Says whether the latter was granted.
pub(super) fn be_punctual() -> bool {
    // A thread of real-time priority has no timer slack; this is for the case of a refusal.
    let _ = set_timerslack(1);
    // SAFETY: sched_param is plain data and lives during the call; 0 is the calling thread.
    unsafe {
        let mut parameters: libc::sched_param = zeroed();
        parameters.sched_priority = 1;
        let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        libc::sched_setscheduler(0, policy, &raw const parameters) == 0
    }
}

fn check(result: libc::c_int) -> Result<()> {
    if result < 0 { Err(Error::last_os_error().into()) } else { Ok(()) }
}
