//! The socket of a flow, of either kind, and what the threads that use it tell each other.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::tcp::TcpFlow;
use super::udp::UdpSocket;
use super::wake::Wake;
use crate::core::discard::Discards;
use crate::core::outbound::Train;
use crate::core::units::LinkId;

/// What is on its way out for a link.
#[derive(Default)]
pub(super) struct Cargo {
    pub(super) train: Train,
    /// Datagrams of the train that are sent; as long as it is loaded the rest waits for the socket.
    pub(super) sent: usize,
    pub(super) loaded: bool,
    /// Why the system did not take a run of it; the rest leaves one by one.
    pub(super) refused: Option<io::Error>,
    pub(super) errors: u32,
}

/// A socket of either kind.
pub(super) struct FlowSocket {
    pub(super) flow: Flow,
    pub(super) discards: Arc<Discards>,
    /// Links that wait for room in the kernel's buffer, a bit each.
    blocked: AtomicU16,
    /// Links that its reader is asked to send for, a bit each.
    asked: AtomicU16,
    /// Wakes its reader.
    wake: Arc<Wake>,
    /// Its reader waits, or is about to, and has to be woken.
    asleep: AtomicBool,
    /// What was read is being received.
    busy: AtomicBool,
    closing: AtomicBool,
}

/// The kinds of flow.
pub(super) enum Flow {
    Udp(UdpSocket),
    Tcp(TcpFlow),
}

impl Cargo {
    /// The system did not take the next run, but may take its datagrams one by one.
    fn is_run_refused(&self, error: &io::Error) -> bool {
        let in_run = self.train.runs(self.sent).next().is_some_and(|run| run.count > 1);
        in_run && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE))
    }
}

impl FlowSocket {
    /// One whose reader is woken by `wake`.
    pub(super) fn new(flow: Flow, wake: Arc<Wake>) -> Self {
        Self::with(flow, Arc::default(), wake)
    }

    /// One more on the same port, which takes what comes from `peer`, with a reader of its own; `None` for a
    /// connection, which does that anyway.
    pub(super) fn branch(&self, peer: SocketAddr) -> io::Result<Option<Self>> {
        let Flow::Udp(udp) = &self.flow else { return Ok(None) };
        let branch = Flow::Udp(udp.branch(peer)?);
        Ok(Some(Self::with(branch, Arc::clone(&self.discards), Arc::new(Wake::new()?))))
    }

    fn with(flow: Flow, discards: Arc<Discards>, wake: Arc<Wake>) -> Self {
        Self {
            flow,
            discards,
            blocked: AtomicU16::new(0),
            asked: AtomicU16::new(0),
            wake,
            asleep: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.flow {
            Flow::Udp(udp) => udp.as_fd(),
            Flow::Tcp(tcp) => tcp.as_fd(),
        }
    }

    // For its reader.

    /// Waits until one of the sockets of one reader can be read, or `also`, a blocked link can go on, or `wake` is
    /// woken, as when the reader is asked for something or a socket is closed. Gives the links that can go on, a bit
    /// each.
    pub(super) fn wait(sockets: &[&Self], wake: &Wake, also: Option<BorrowedFd<'_>>) -> io::Result<u16> {
        let mut fds = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        fds.extend(sockets.iter().map(|socket| socket.poll_fd()));
        fds.extend(also.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        // Who asks looks in the other order, so that one of the two sees the other.
        sockets.iter().for_each(|socket| socket.asleep.store(true, Ordering::SeqCst));
        if sockets.iter().all(|socket| socket.asked.load(Ordering::SeqCst) == 0) {
            ignore_interrupt(poll(&mut fds, PollTimeout::NONE))?;
        }
        sockets.iter().for_each(|socket| socket.asleep.store(false, Ordering::SeqCst));
        if fds[0].any() == Some(true) {
            wake.acknowledge();
        }
        let unblocked = sockets.iter().zip(&fds[1..]).map(|(socket, fd)| socket.unblock(fd));
        Ok(unblocked.fold(0, |mask, links| mask | links))
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let blocked = self.blocked.load(Ordering::Acquire);
        let wanted = if blocked == 0 { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        PollFd::new(self.fd(), wanted)
    }

    /// The links that can go on, as `polled` says.
    fn unblock(&self, polled: &PollFd<'_>) -> u16 {
        let writable = polled.revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
        if writable { self.blocked.swap(0, Ordering::AcqRel) } else { 0 }
    }

    /// What its reader is woken by.
    pub(super) fn wake(&self) -> &Arc<Wake> {
        &self.wake
    }

    /// Takes what [`FlowSocket::ask`] left.
    pub(super) fn take_asked(&self) -> u16 {
        if self.asked.load(Ordering::Relaxed) == 0 { 0 } else { self.asked.swap(0, Ordering::AcqRel) }
    }

    /// Lets `receive` have what was read; until it is done that counts as unread.
    pub(super) fn busy(&self, receive: impl FnOnce()) {
        self.busy.store(true, Ordering::Release);
        receive();
        self.busy.store(false, Ordering::Release);
    }

    /// It is to be read no more.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    // For all.

    /// Asks its reader to send for a link.
    pub(super) fn ask(&self, link: LinkId) {
        self.asked.fetch_or(1 << link.0, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            self.wake.wake();
        }
    }

    /// Something came that has not had its effect yet.
    pub(super) fn has_unread(&self) -> bool {
        if self.busy.load(Ordering::Acquire) {
            return true;
        }
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Sends what is loaded. True when all of it went, false if the socket is full.
    pub(super) fn dispatch(&self, cargo: &mut Cargo) -> io::Result<bool> {
        match &self.flow {
            Flow::Udp(udp) => {
                let Some(remote) = cargo.train.remote() else { return Ok(true) };
                while cargo.sent < cargo.train.len() {
                    match udp.send(&cargo.train, cargo.sent, remote) {
                        Ok(sent) => cargo.sent += sent,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if cargo.is_run_refused(&error) => {
                            // Older kernels say EINVAL also if it is too long: the rest will show.
                            cargo.train.separate();
                            cargo.refused = Some(error);
                        }
                        // The interface does not carry it: lost, as further on the path; the rest is not.
                        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                            (cargo.sent, cargo.refused) = (cargo.sent + 1, None);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Ok(true)
            }
            Flow::Tcp(tcp) => {
                if cargo.sent == 0 {
                    cargo.sent = cargo.train.len();
                    tcp.send(&cargo.train)?;
                }
                tcp.flush()
            }
        }
    }

    /// Sends what the portal answers a datagram.
    pub(super) fn answer(&self, datagram: &[u8], to: SocketAddr) {
        match &self.flow {
            // The peer asks again if it gets lost; a broken connection is noticed by its reader.
            Flow::Udp(udp) => drop(udp.send_one(datagram, to)),
            Flow::Tcp(tcp) => drop(tcp.answer(datagram)),
        }
    }

    /// The link waits for room in the kernel's buffer.
    pub(super) fn block(&self, link: LinkId) {
        self.blocked.fetch_or(1 << link.0, Ordering::AcqRel);
        self.wake.wake();
    }

    /// Lets its reader end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        if let Flow::Tcp(tcp) = &self.flow {
            tcp.shut_down();
        }
        self.wake.wake();
    }

    /// Whether datagrams are taken from the system in runs; `None` for a connection.
    pub(super) fn gro(&self) -> Option<bool> {
        match &self.flow {
            Flow::Udp(udp) => Some(udp.has_gro()),
            Flow::Tcp(_) => None,
        }
    }

    /// From now on they are not.
    pub(super) fn turn_gro_off(&self) {
        if let Flow::Udp(udp) = &self.flow {
            udp.turn_gro_off();
        }
    }

    /// Own address and port.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match &self.flow {
            Flow::Udp(udp) => udp.local(),
            Flow::Tcp(tcp) => tcp.local(),
        }
    }
}

/// For `poll`: a signal is no failure.
pub(super) fn ignore_interrupt(result: nix::Result<libc::c_int>) -> io::Result<()> {
    match result {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::udp::Local;
    use super::super::{mmsg, sys};
    use super::*;

    fn wake() -> Arc<Wake> {
        Arc::new(Wake::new().expect("a pipe"))
    }

    /// Sends a train of 40 over the loopback interface by a socket that refuses runs or not; gives how many arrive,
    /// and why no run went.
    fn dispatched(refuses: bool) -> (usize, Option<i32>) {
        let local = Local { address: Some(std::net::Ipv4Addr::LOCALHOST.into()), port: 0, interface: None };
        let to = UdpSocket::open(&local, None, false).expect("a socket");
        let from = UdpSocket::open(&local, None, false).expect("a socket");
        if refuses {
            sys::refuse_runs(from.as_fd()).expect("an old option");
        }
        let train = Train::of(&vec![vec![7; 1_000]; 40], 1);
        let mut cargo = Cargo { train, loaded: true, ..Cargo::default() };
        cargo.train.lead(to.local().expect("bound"));
        let socket = FlowSocket::new(Flow::Udp(from), wake());
        assert!(socket.dispatch(&mut cargo).expect("sent"));
        let count = mmsg::Receiver::new(2_000).receive(to.as_fd(), false).expect("they are there");
        (count, cargo.refused.and_then(|error| error.raw_os_error()))
    }

    #[test]
    fn a_reader_that_is_asked_does_not_wait() {
        let local = Local { address: Some(std::net::Ipv4Addr::LOCALHOST.into()), port: 0, interface: None };
        let udp = UdpSocket::open(&local, None, false).expect("a socket");
        let socket = Arc::new(FlowSocket::new(Flow::Udp(udp), wake()));
        // Before it waits, …
        socket.ask(LinkId(3));
        assert_eq!(FlowSocket::wait(&[&socket], &socket.wake, None).expect("it is asked"), 0);
        assert_eq!((socket.take_asked(), socket.take_asked()), (1 << 3, 0));
        // … and while it does.
        let reader = Arc::clone(&socket);
        let waiting = std::thread::spawn(move || FlowSocket::wait(&[&reader], &reader.wake, None));
        while !socket.asleep.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        socket.ask(LinkId(0));
        socket.ask(LinkId(15));
        assert_eq!(waiting.join().expect("no panic").expect("it is asked"), 0);
        assert_eq!(socket.take_asked(), 1 | 1 << 15);
    }

    #[test]
    fn a_system_that_refuses_runs_gets_datagrams_one_by_one() {
        assert_eq!(dispatched(false), (40, None));
        assert_eq!(dispatched(true), (40, Some(libc::EINVAL)));
    }
}
