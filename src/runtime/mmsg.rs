//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

use crate::core::outbound::Train;

/// Datagrams per call; a train has at most as many.
pub(super) const BATCH: usize = 64;

/// Buffers and headers of one receiving thread.
pub(super) struct Receiver {
    buffer: Box<[u8]>,
    slot: usize,
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    lengths: [usize; BATCH],
    flags: [libc::c_int; BATCH],
}

/// One received datagram.
pub(super) struct Received<'a> {
    pub(super) source: SocketAddr,
    /// `None` if it was longer than a slot.
    pub(super) datagram: Option<&'a mut [u8]>,
}

impl Receiver {
    /// For datagrams of at most `slot` bytes.
    pub(super) fn new(slot: usize) -> Self {
        // SAFETY: sockaddr_storage is plain old data, for which all zeroes are valid.
        let addresses = Box::new(unsafe { zeroed() });
        Self {
            buffer: vec![0; slot * BATCH].into_boxed_slice(),
            slot,
            addresses,
            lengths: [0; BATCH],
            flags: [0; BATCH],
        }
    }

    /// Receives what is there, without waiting; gives how many.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let slots = self.buffer.chunks_exact_mut(self.slot);
        let mut vectors: [MaybeUninit<libc::iovec>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        // SAFETY: mmsghdr is plain old data, for which all zeroes are valid.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for (((slot, vector), header), address) in
            slots.zip(&mut vectors).zip(&mut headers).zip(self.addresses.iter_mut())
        {
            let vector =
                vector.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
            header.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to a name and a vector that live until the end of this function, and
        // every vector to a slot of `self.buffer`, which is borrowed mutably.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (i, header) in headers[..count].iter().enumerate() {
            self.lengths[i] = header.msg_len as usize;
            self.flags[i] = header.msg_hdr.msg_flags;
        }
        Ok(count)
    }

    /// The first `count` datagrams of the last call. One without a usable source is left out.
    pub(super) fn received(&mut self, count: usize) -> impl Iterator<Item = Received<'_>> {
        let slots = self.buffer.chunks_exact_mut(self.slot).take(count);
        let about = self.addresses.iter().zip(&self.lengths).zip(&self.flags);
        slots.zip(about).filter_map(|(slot, ((source, &length), flags))| {
            let whole = flags & libc::MSG_TRUNC == 0;
            let datagram = whole.then(|| &mut slot[..length]);
            Some(Received { source: address(source)?, datagram })
        })
    }
}

/// The address in `storage`. An IPv4 address that a dual-stack socket shows as `::ffff:a.b.c.d` is IPv4.
fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let at = std::ptr::from_ref(storage);
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is large and aligned enough, holds this type.
            let v4 = unsafe { &*at.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            match ip.to_canonical() {
                IpAddr::V4(v4) => Some(SocketAddr::new(v4.into(), port)),
                IpAddr::V6(_) => Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into()),
            }
        }
        _ => None,
    }
}

/// Sends the datagrams of `train` from number `skip` on to `to`, without waiting; gives how many went.
pub(super) fn send(fd: BorrowedFd<'_>, train: &Train, skip: usize, to: &SockAddr) -> io::Result<usize> {
    let mut vectors: [MaybeUninit<libc::iovec>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
    // SAFETY: mmsghdr is plain old data, for which all zeroes are valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut count = 0;
    for ((datagram, vector), header) in train.datagrams().skip(skip).zip(&mut vectors).zip(&mut headers) {
        let vector = vector
            .write(libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() });
        header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = to.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: the first `count` headers point to the address and to vectors that live until the end of this
    // function; the vectors point into `train`, which is borrowed, and sendmmsg only reads from it.
    let sent =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
