//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`, and under Linux many in one message of these, which
//! the kernel cuts apart (UDP GSO) or has put together (UDP GRO), see udp(7).
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

use crate::core::outbound::Train;

/// Messages per call; a train has at most as many datagrams.
pub(super) const BATCH: usize = 64;
/// Room for a message of a socket with GRO: the largest UDP payload.
const WHOLE: usize = 1 << 16;
/// Messages per call of such a socket: a MiB of room in all, of which only what is received takes memory.
const WHOLE_BATCH: usize = 16;

/// Buffers and headers of one receiving thread.
pub(super) struct Receiver {
    buffer: Box<[u8]>,
    /// Room for each message of the last call.
    slot: usize,
    longest: usize,
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    messages: [Message; BATCH],
}

/// What is known of one received message.
#[derive(Clone, Copy, Default)]
struct Message {
    len: usize,
    /// It was longer than its slot.
    cut: bool,
    /// Length of the datagrams it consists of, but for the last; `None`: it is one.
    segment: Option<usize>,
}

/// One received datagram.
pub(super) struct Received<'a> {
    pub(super) source: SocketAddr,
    /// `None` if it was longer than any that is expected.
    pub(super) datagram: Option<&'a mut [u8]>,
}

impl Receiver {
    /// For datagrams of at most `longest` bytes.
    pub(super) fn new(longest: usize) -> Self {
        let slot = WHOLE.max(longest);
        // SAFETY: sockaddr_storage is plain old data, for which all zeroes are valid.
        let addresses = Box::new(unsafe { zeroed() });
        let messages = [Message::default(); BATCH];
        Self { buffer: vec![0; slot * WHOLE_BATCH].into_boxed_slice(), slot, longest, addresses, messages }
    }

    /// Receives what a socket with GRO or without has, without waiting; gives how many messages.
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>, gro: bool) -> io::Result<usize> {
        self.slot = if gro { WHOLE.max(self.longest) } else { self.longest };
        let slots = self.buffer.chunks_exact_mut(self.slot);
        let most = slots.len().min(BATCH);
        let mut vectors: [MaybeUninit<libc::iovec>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
        // SAFETY: mmsghdr and Control are plain old data, for which all zeroes are valid.
        let (mut headers, mut controls): ([libc::mmsghdr; BATCH], [Control<libc::c_int>; BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for ((((slot, vector), header), address), control) in
            slots.zip(&mut vectors).zip(&mut headers).zip(self.addresses.iter_mut()).zip(&mut controls)
        {
            let vector =
                vector.write(libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() });
            header.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            control.attach(&mut header.msg_hdr);
        }
        // SAFETY: every header points to a name, a vector and a control message that live until the end of this
        // function, and every vector to a slot of `self.buffer`, which is borrowed mutably.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                most as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for ((message, header), control) in self.messages.iter_mut().zip(&headers[..count]).zip(&controls) {
            *message = Message {
                len: (header.msg_len as usize).min(self.slot),
                cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
                segment: control.gro_segment(&header.msg_hdr),
            };
        }
        Ok(count)
    }

    /// The datagrams of the first `count` messages of the last call. One without a usable source is left out.
    pub(super) fn received(&mut self, count: usize) -> impl Iterator<Item = Received<'_>> {
        let slots = self.buffer.chunks_exact_mut(self.slot);
        let messages = self.messages.iter().zip(slots).zip(&*self.addresses);
        let longest = self.longest;
        messages.take(count).flat_map(move |((message, slot), storage)| {
            let datagrams = address(storage).map(|source| {
                message.datagrams(slot, longest).map(move |datagram| Received { source, datagram })
            });
            datagrams.into_iter().flatten()
        })
    }
}

impl Message {
    /// The datagrams, of which none is expected to be longer than `longest`.
    fn datagrams(self, slot: &mut [u8], longest: usize) -> impl Iterator<Item = Option<&mut [u8]>> {
        let bytes = &mut slot[..self.len];
        // What is of no use as a length is none.
        let segment = self.segment.filter(|&segment| segment > 0 && !self.cut);
        let segment = segment.unwrap_or(bytes.len()).max(1);
        let nothing = bytes.is_empty().then(<&mut [u8]>::default);
        let whole = move |datagram: &&mut [u8]| !self.cut && datagram.len() <= longest;
        nothing.into_iter().chain(bytes.chunks_mut(segment)).map(move |datagram| Some(datagram).filter(whole))
    }
}

/// A control message with one value, and room for what its end must be aligned to.
#[repr(C)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no such message"))]
struct Control<T> {
    header: libc::cmsghdr,
    value: T,
    _padding: libc::c_int,
}

impl<T> Control<T> {
    /// Makes it the control message of `message`, which must not outlive it.
    #[cfg(target_os = "linux")]
    fn attach(&mut self, message: &mut libc::msghdr) {
        message.msg_control = std::ptr::from_mut(self).cast();
        message.msg_controllen = size_of::<Self>() as _;
    }

    #[cfg(not(target_os = "linux"))]
    fn attach(&mut self, _: &mut libc::msghdr) {}
}

impl Control<libc::c_int> {
    /// Length of the datagrams that the received `message`, whose control message this is, consists of; `None` if
    /// it does not say.
    #[cfg(target_os = "linux")]
    #[allow(clippy::unnecessary_cast, reason = "the C libraries differ in the lengths' types")]
    fn gro_segment(&self, message: &libc::msghdr) -> Option<usize> {
        let header = &self.header;
        let there = message.msg_controllen as usize >= cmsg_len::<libc::c_int>();
        let says = (header.cmsg_level, header.cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO)
            && header.cmsg_len as usize >= cmsg_len::<libc::c_int>();
        if there && says { usize::try_from(self.value).ok() } else { None }
    }

    #[cfg(not(target_os = "linux"))]
    fn gro_segment(&self, _: &libc::msghdr) -> Option<usize> {
        None
    }
}

#[cfg(target_os = "linux")]
impl Control<u16> {
    /// Lets the kernel cut `message` into datagrams of so many bytes.
    fn cut(&mut self, message: &mut libc::msghdr, segment: u16) {
        self.header.cmsg_level = libc::SOL_UDP;
        self.header.cmsg_type = libc::UDP_SEGMENT;
        self.header.cmsg_len = cmsg_len::<u16>() as _;
        self.value = segment;
        self.attach(message);
    }
}

/// Length of a control message with a value of this type (CMSG_LEN in cmsg(3)).
#[cfg(target_os = "linux")]
const fn cmsg_len<T>() -> usize {
    std::mem::offset_of!(Control<T>, value) + size_of::<T>()
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

/// Sends the datagrams of `train` from number `skip` on to `to`, without waiting, in its runs; gives how many
/// datagrams went.
pub(super) fn send(fd: BorrowedFd<'_>, train: &Train, skip: usize, to: &SockAddr) -> io::Result<usize> {
    let mut vectors: [MaybeUninit<libc::iovec>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
    // SAFETY: mmsghdr is plain old data, for which all zeroes are valid.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    #[cfg(target_os = "linux")]
    let mut controls: [MaybeUninit<Control<u16>>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];
    let mut count = 0;
    for ((run, vector), header) in train.runs(skip).zip(&mut vectors).zip(&mut headers) {
        let vector = vector
            .write(libc::iovec { iov_base: run.bytes.as_ptr().cast_mut().cast(), iov_len: run.bytes.len() });
        header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = to.len();
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        #[cfg(target_os = "linux")]
        if run.count > 1 {
            // SAFETY: Control is plain old data, for which all zeroes are valid.
            let control = controls[count].write(unsafe { zeroed() });
            control.cut(&mut header.msg_hdr, run.segment as u16);
        }
        count += 1;
    }
    // SAFETY: the first `count` headers point to the address and to vectors and control messages that live until
    // the end of this function; the vectors point into `train`, which is borrowed, and sendmmsg only reads from it.
    let sent =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as _, libc::MSG_DONTWAIT as _) };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(train.runs(skip).take(sent).map(|run| run.count).sum())
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the kernel says of a message, its bytes come out once and in order, or not at all.
        #[test]
        fn no_message_panics(
            len in 0..300usize,
            cut: bool,
            segment in option::of(0..400usize),
            longest in 1..300usize,
        ) {
            let slot: Vec<u8> = (0..300).map(|i| i as u8).collect();
            let mut copy = slot.clone();
            let message = Message { len, cut, segment };
            let datagrams: Vec<_> = message.datagrams(&mut copy, longest).collect();
            let too_long = cut || segment.filter(|&segment| segment > 0).unwrap_or(len).min(len) > longest;
            prop_assert!(!datagrams.is_empty());
            prop_assert_eq!(datagrams.iter().any(Option::is_none), too_long);
            if !too_long {
                let bytes: Vec<u8> = datagrams.into_iter().flatten().flat_map(|part| part.to_vec()).collect();
                prop_assert_eq!(&bytes, &slot[..len]);
            }
        }
    }

    #[test]
    fn a_message_is_cut_as_the_kernel_says() {
        let lengths = |segment| -> Vec<_> {
            let mut slot = [7; 100];
            let message = Message { len: 100, cut: false, segment };
            message.datagrams(&mut slot, 100).map(|datagram| datagram.map(|bytes| bytes.len())).collect()
        };
        assert_eq!(lengths(Some(40)), [Some(40), Some(40), Some(20)]);
        assert_eq!(lengths(Some(50)), [Some(50), Some(50)]);
        assert_eq!(lengths(Some(0)), [Some(100)]);
        assert_eq!(lengths(Some(101)), [Some(100)]);
        assert_eq!(lengths(None), [Some(100)]);
    }
}
