//! The data path: threads that carry packets between the interface, the portal and the sockets.
//!
//! A thread that has an event (packets of the interface, datagrams of a socket, a timer) runs it to
//! completion: it hands it to the portal, then sends for every link that became ready (see `lanes`). Threads: one reads
//! the interface (see `intake`), one or several the sockets (see `readers`), one waits for the timer. There are no
//! hand-offs of packets between them but where there are more than two processors, see `spread`.

mod intake;
mod lanes;
mod readers;
mod spread;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::intake::Intake;
use self::lanes::Lanes;
use self::spread::{Branches, Helpers};
use super::alarm::Alarm;
use super::clock::{SystemEntropy, now};
use super::socket::{Flow, FlowSocket, ignore_interrupt};
use super::tun::Tun;
use super::wake::Wake;
use crate::core::outbound::SocketId;
use crate::core::portal::Portal;

/// Before conclusions are drawn from silence, what waits in a socket has so many times this long to be read.
const HEARING_TRIES: u32 = 25;
const HEARING_NAP: Duration = Duration::from_millis(1);

/// What the data path tells the control side.
#[derive(Debug)]
pub(super) enum Notice {
    /// The socket does not work any more.
    SocketFailed(SocketId, String),
    /// The interface is gone.
    InterfaceGone(String),
    /// The portal has events.
    News,
}

/// The sockets that the portal knows.
type Sockets = HashMap<SocketId, Arc<FlowSocket>>;

/// Everything the threads share.
pub(super) struct Engine {
    pub(super) portal: Portal,
    pub(super) tun: Tun,
    intake: Intake,
    lanes: Lanes,
    sockets: ArcSwap<Sockets>,
    next_socket: AtomicU32,
    /// Wakes the thread that reads all UDP sockets, where there is one.
    wake: Arc<Wake>,
    /// The work is spread over more threads than would have to be.
    spreads: bool,
    branches: Mutex<Branches>,
    helpers: Helpers,
    alarm: Alarm,
    stop: Wake,
    stopping: AtomicBool,
    /// Threads that read one socket each.
    readers: Mutex<Vec<JoinHandle<()>>>,
    notices: tokio::sync::mpsc::UnboundedSender<Notice>,
    news_told: AtomicBool,
}

impl Engine {
    /// `processors`: how many the threads may have.
    pub(super) fn new(
        portal: Portal,
        tun: Tun,
        processors: usize,
        notices: tokio::sync::mpsc::UnboundedSender<Notice>,
    ) -> io::Result<Arc<Self>> {
        let spreads = processors > spread::FEW;
        Ok(Arc::new(Self {
            portal,
            intake: Intake::new(&tun),
            tun,
            lanes: Lanes::new(spreads),
            sockets: ArcSwap::default(),
            next_socket: AtomicU32::new(0),
            wake: Arc::new(Wake::new()?),
            spreads,
            branches: Mutex::default(),
            helpers: Helpers::default(),
            alarm: Alarm::new()?,
            stop: Wake::new()?,
            stopping: AtomicBool::new(false),
            readers: Mutex::default(),
            notices,
            news_told: AtomicBool::new(false),
        }))
    }

    /// Starts the threads that live as long as the engine.
    pub(super) fn start(self: &Arc<Self>) -> io::Result<Vec<JoinHandle<()>>> {
        let spawn = |name: &str, run: fn(&Self)| {
            let engine = Arc::clone(self);
            std::thread::Builder::new().name(name.into()).spawn(move || run(&engine))
        };
        let mut threads = vec![spawn("tun", Self::read_interface)?, spawn("timer", Self::watch_time)?];
        if !self.spreads {
            threads.push(spawn("sockets", Self::read_sockets)?);
        }
        Ok(threads)
    }

    /// Lets all threads end, and waits for those that read one socket. Not to be called by one of them.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.wake();
        self.wake.wake();
        for socket in self.sockets.load().values() {
            socket.close();
        }
        self.draw_in(|_| true);
        self.intake.wake();
        for thread in self.readers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    // Sockets.

    /// Adds a socket, which is read from now on.
    pub(super) fn add_socket(self: &Arc<Self>, flow: Flow) -> io::Result<SocketId> {
        let id = SocketId(self.next_socket.fetch_add(1, Ordering::Relaxed));
        let alone = self.spreads || matches!(flow, Flow::Tcp(_));
        let wake = if alone { Arc::new(Wake::new()?) } else { Arc::clone(&self.wake) };
        let socket = Arc::new(FlowSocket::new(flow, wake));
        self.sockets.rcu(|sockets| {
            let mut sockets = Sockets::clone(sockets);
            sockets.insert(id, Arc::clone(&socket));
            sockets
        });
        if !alone {
            self.wake.wake();
        } else if let Err(error) = self.spawn_reader(id, socket) {
            self.remove_socket(id);
            return Err(error);
        }
        Ok(id)
    }

    /// Closes a socket, which is read no more.
    pub(super) fn remove_socket(&self, id: SocketId) {
        let removed = self.socket(id);
        self.sockets.rcu(|sockets| {
            let mut sockets = Sockets::clone(sockets);
            sockets.remove(&id);
            sockets
        });
        if let Some(socket) = removed {
            socket.close();
        }
        self.draw_in(|trunk| trunk == id);
    }

    /// From now on datagrams are not taken from the system in runs, as another section that shares the socket wants.
    pub(super) fn turn_gro_off(&self, id: SocketId) {
        self.socket(id).into_iter().chain(self.branches().of(id)).for_each(|socket| socket.turn_gro_off());
    }

    /// The socket of that number.
    pub(super) fn socket(&self, id: SocketId) -> Option<Arc<FlowSocket>> {
        self.sockets.load().get(&id).cloned()
    }

    // Sending.

    /// Sends for the links of `ready`, then sees to the timer, the reader and the news.
    pub(super) fn settle(&self, ready: u16) {
        self.send(ready);
        self.tend();
    }

    /// Sees to the timer, the reader and the news.
    fn tend(&self) {
        if let Some(at) = self.portal.next_timeout(now()) {
            self.alarm.arm(at);
        }
        self.intake.feed();
        if self.portal.has_news() && !self.news_told.swap(true, Ordering::AcqRel) {
            self.notice(Notice::News);
        }
    }

    /// Handles what is due now, as after a change of the links.
    pub(super) fn refresh(&self) {
        let ready = self.portal.on_timeout(now(), &mut SystemEntropy, &mut self.tun.outlet());
        self.settle(ready);
    }

    /// The news were taken.
    pub(super) fn news_taken(&self) {
        self.news_told.store(false, Ordering::Release);
    }

    fn notice(&self, notice: Notice) {
        // Nobody listens any more only while everything stops.
        let _ = self.notices.send(notice);
    }

    // Time.

    fn watch_time(&self) {
        self.refresh();
        while !self.is_stopping() {
            if self.wait_readable(self.alarm.fd()).is_err() {
                return;
            }
            self.alarm.acknowledge();
            self.hear_out();
            self.refresh();
        }
    }

    /// Lets what has come by silent links be read, as on a busy machine or after a sleep: nothing is wrong with a link
    /// whose acknowledgement lies unread. A socket that was empty once has nothing of that age. Other timers wait
    /// meanwhile, so it is not for what happens often.
    fn hear_out(&self) {
        let mut unread = Vec::new();
        for id in self.portal.silent(now()) {
            unread.extend(self.socket(id));
            unread.extend(self.branches().of(id));
        }
        for _ in 0..HEARING_TRIES {
            unread.retain(|socket| socket.has_unread());
            if unread.is_empty() {
                break;
            }
            std::thread::sleep(HEARING_NAP);
        }
    }

    /// Waits until `fd` can be read, or everything stops.
    fn wait_readable(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut fds = [PollFd::new(fd, PollFlags::POLLIN), PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        ignore_interrupt(poll(&mut fds, PollTimeout::NONE))?;
        let gone = PollFlags::POLLERR | PollFlags::POLLNVAL | PollFlags::POLLHUP;
        if fds[0].revents().is_some_and(|events| events.intersects(gone)) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed"));
        }
        Ok(())
    }
}
