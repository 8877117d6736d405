//! The threads that read sockets.
//!
//! On one or two processors one thread reads all UDP sockets: what comes by several links must be put in one order
//! anyway, and readers that wait for one another there cost more than they bring. On more, and for each TCP connection,
//! there is one for each socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, PoisonError};

use super::{Engine, Notice, Sockets};
use crate::core::discard::Discard;
use crate::core::outbound::SocketId;
use crate::core::portal::{Arrival, BATCH, Effects};
use crate::runtime::clock::{SystemEntropy, now};
use crate::runtime::doze::Doze;
use crate::runtime::mmsg;
use crate::runtime::socket::{Flow, FlowSocket};
use crate::runtime::tcp::{Records, TcpFlow};
use crate::runtime::udp::UdpSocket;
use crate::runtime::wake::Wake;

/// A thread that reads UDP sockets: those that are woken by its `wake`.
struct Reader<'a> {
    engine: &'a Engine,
    wake: &'a Arc<Wake>,
    receiver: mmsg::Receiver,
    doze: Doze,
}

impl Engine {
    /// Reads the UDP sockets that have no thread of their own, and the interface while that is [ceded](super::intake).
    pub(super) fn read_sockets(&self) {
        let mut reader = Reader::new(self, &self.wake);
        while !self.is_stopping() {
            reader.read(&self.sockets.load_full());
        }
    }

    /// Starts the thread that reads `socket` alone, which the portal knows as `id`.
    pub(super) fn spawn_reader(self: &Arc<Self>, id: SocketId, socket: Arc<FlowSocket>) -> io::Result<()> {
        let engine = Arc::clone(self);
        let read = move || match &socket.flow {
            Flow::Udp(_) => {
                let mut reader = Reader::new(&engine, socket.wake());
                let alone = Sockets::from([(id, Arc::clone(&socket))]);
                while !socket.is_closing() {
                    engine.help(&socket);
                    reader.read(&alone);
                }
            }
            Flow::Tcp(tcp) => {
                if let Err(error) = engine.read_tcp(id, &socket, tcp) {
                    engine.on_read_error(id, &socket, &error);
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("socket{}", id.0)).spawn(read)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| !reader.is_finished());
        readers.push(thread);
        Ok(())
    }

    /// Reads what a socket has now, a batch at most.
    fn read_udp(
        &self,
        id: SocketId,
        socket: &FlowSocket,
        udp: &UdpSocket,
        receiver: &mut mmsg::Receiver,
    ) -> io::Result<()> {
        let count = match receiver.receive(udp.as_fd(), udp.has_gro()) {
            // An ICMP error of something sent before; the links find out by themselves.
            Err(error) if is_passing(&error) => return Ok(()),
            received => received?,
        };
        socket.busy(|| {
            let mut received = receiver.received(count).peekable();
            while let Some(source) = received.peek().map(|first| first.source) {
                let same = std::iter::from_fn(|| received.next_if(|next| next.source == source));
                let whole = same.take(BATCH).filter_map(|received| {
                    if received.datagram.is_none() {
                        let arrival = Arrival { socket: id, source, discards: &socket.discards };
                        self.portal.discard(&arrival, Discard::Oversized);
                    }
                    received.datagram
                });
                self.receive(id, socket, source, whole);
            }
        });
        Ok(())
    }

    fn read_tcp(&self, id: SocketId, socket: &FlowSocket, tcp: &TcpFlow) -> io::Result<()> {
        let mut records = Records::default();
        while !socket.is_closing() {
            self.help(socket);
            match tcp.read(&mut records) {
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the other portal closed the connection",
                    ));
                }
                Ok(_) => {
                    socket.busy(|| self.receive(id, socket, tcp.peer(), records.take()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_sockets(&[socket], socket.wake(), None)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive<'a>(
        &self,
        id: SocketId,
        socket: &FlowSocket,
        source: SocketAddr,
        datagrams: impl Iterator<Item = &'a mut [u8]>,
    ) {
        let arrival = Arrival { socket: id, source, discards: &socket.discards };
        let outlet = &mut self.tun.outlet();
        let effects = self.portal.receive(now(), &mut SystemEntropy, &arrival, datagrams, outlet);
        let Effects { answers, ready } = effects;
        for answer in answers {
            socket.answer(&answer, source);
        }
        self.settle(ready);
    }

    /// Waits until one of a reader's sockets can be read, or `also`, or there is something to send.
    fn wait_sockets(
        &self,
        sockets: &[&FlowSocket],
        wake: &Wake,
        also: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let unblocked = FlowSocket::wait(sockets, wake, also)?;
        if unblocked != 0 {
            self.settle(unblocked);
        }
        Ok(())
    }

    /// The socket cannot be read any more. What a branch was for comes by its trunk again.
    fn on_read_error(&self, id: SocketId, socket: &Arc<FlowSocket>, error: &io::Error) {
        if socket.is_closing() {
            return;
        }
        socket.close();
        if self.socket(id).is_some_and(|known| Arc::ptr_eq(&known, socket)) {
            self.notice(Notice::SocketFailed(id, error.to_string()));
        } else {
            self.draw_in(|_| false);
        }
    }
}

impl<'a> Reader<'a> {
    fn new(engine: &'a Engine, wake: &'a Arc<Wake>) -> Self {
        let receiver = mmsg::Receiver::new(engine.tun.buffer_size() + 128);
        Self { engine, wake, receiver, doze: Doze::default() }
    }

    /// Reads once each of `sockets` that is its own, and the interface if that is ceded; waits if there is nothing.
    fn read(&mut self, sockets: &Sockets) {
        let own = |socket: &FlowSocket| Arc::ptr_eq(socket.wake(), self.wake) && !socket.is_closing();
        let mine = sockets.iter().filter(|(_, socket)| own(socket));
        let mut found = false;
        for (&id, socket) in mine.clone() {
            let Flow::Udp(udp) = &socket.flow else { continue };
            match self.engine.read_udp(id, socket, udp, &mut self.receiver) {
                Ok(()) => found = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.engine.on_read_error(id, socket, &error),
            }
        }
        if self.engine.look_at_interface() || found {
            return self.doze.on_found();
        }
        let interface = self.engine.intake.is_ceded().then(|| self.engine.tun.as_fd());
        let waited = self.doze.wait(|| {
            let sockets: Vec<_> = mine.clone().map(|(_, socket)| &**socket).collect();
            self.engine.wait_sockets(&sockets, self.wake, interface)
        });
        if let Err(error) = waited {
            mine.for_each(|(&id, socket)| self.engine.on_read_error(id, socket, &error));
        }
    }
}

/// Errors that a UDP socket reports of what it sent before.
fn is_passing(error: &io::Error) -> bool {
    const PASSING: [i32; 7] = [
        libc::EINTR,
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EMSGSIZE,
        libc::EPROTO,
        libc::ENETDOWN,
    ];
    error.raw_os_error().is_some_and(|number| PASSING.contains(&number))
}
