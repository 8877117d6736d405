//! Who reads the interface.
//!
//! While much comes by it, as with an upload, a thread of its own does. While little does, as the acknowledgements of a
//! download, the thread that reads the sockets, where there is one for all, looks there too whenever it has been through
//! these: what it hands to the system is often answered at once, and to wake another thread for each answer costs more
//! than to read it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use super::{Engine, Notice};
use crate::core::packet::Packet;
use crate::core::portal::{BATCH, Interface};
use crate::runtime::clock::now;
use crate::runtime::doze::Doze;
use crate::runtime::tun::{Reader, Tun};

/// Packets that fill a train: who reads so many at once has a lot to do.
const FULL_TRAIN: usize = BATCH / 3;
/// The thread of the interface cedes it to that of the sockets after so many reads in a row that found less than a
/// train, and gets it back with the first that finds one.
const FEW_READS: u32 = 32;
/// A reader that waits for room in the queue looks again after this, should a wake-up be missed.
const ROOM_WAIT: Duration = Duration::from_millis(20);

/// The way of packets from the interface to the queue.
pub(super) struct Intake {
    hands: Mutex<Hands>,
    /// The thread of the interface, while it lives.
    thread: OnceLock<Thread>,
    /// It waits for room in the queue.
    starved: AtomicBool,
    /// It has left the interface to the thread of the sockets.
    ceded: AtomicBool,
}

/// What it takes to read, for one thread at a time.
struct Hands {
    reader: Reader,
    spare: Vec<Packet>,
    bounced: Vec<Packet>,
}

/// What a look at the interface found.
enum Found {
    Nothing,
    /// Less than a train.
    Little,
    Much,
    /// The queue lends no buffers: not to read is what tells the kernel to hold packets back.
    NoRoom,
}

impl Intake {
    pub(super) fn new(tun: &Tun) -> Self {
        let hands = Hands { reader: tun.reader(), spare: Vec::new(), bounced: Vec::new() };
        Self {
            hands: Mutex::new(hands),
            thread: OnceLock::new(),
            starved: AtomicBool::new(false),
            ceded: AtomicBool::new(false),
        }
    }

    /// Whether the thread of the sockets is to look at the interface.
    pub(super) fn is_ceded(&self) -> bool {
        self.ceded.load(Ordering::Acquire)
    }

    /// The queue may have room again.
    pub(super) fn feed(&self) {
        if self.starved.load(Ordering::Acquire) {
            self.wake();
        }
    }

    /// Lets the thread of the interface look what it is to do.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// The thread of the interface.
    pub(super) fn read_interface(&self) {
        // It is the only one.
        let _ = self.intake.thread.set(std::thread::current());
        while !self.is_stopping() {
            if self.intake.is_ceded() {
                std::thread::park();
            } else if let Err(error) = self.read_much() {
                return self.notice(Notice::InterfaceGone(error.to_string()));
            } else {
                self.intake.ceded.store(true, Ordering::Release);
                self.wake.wake();
            }
        }
    }

    /// Reads until there is little to read for long.
    fn read_much(&self) -> io::Result<()> {
        let mut hands = self.intake.hands();
        let (mut doze, mut few) = (Doze::default(), 0);
        while !self.is_stopping() && (self.spreads || few < FEW_READS) {
            match self.take_in(&mut hands)? {
                Found::Nothing => doze.wait(|| self.wait_readable(self.tun.as_fd()))?,
                Found::NoRoom => self.wait_for_room(&mut hands.spare),
                found => {
                    few = if matches!(found, Found::Little) { few + 1 } else { 0 };
                    doze.on_found();
                }
            }
        }
        Ok(())
    }

    /// Looks at the interface once, if that is ceded to the thread of the sockets, which calls this. True if there
    /// was something.
    pub(super) fn look_at_interface(&self) -> bool {
        if !self.intake.is_ceded() {
            return false;
        }
        let found = self.take_in(&mut self.intake.hands());
        match found {
            Ok(Found::Nothing) => return false,
            Ok(Found::Little) => {}
            // The other will find the same error.
            Ok(Found::Much | Found::NoRoom) | Err(_) => {
                self.intake.ceded.store(false, Ordering::Release);
                self.intake.wake();
            }
        }
        true
    }

    /// Takes what there is, a batch at most, and sends it.
    fn take_in(&self, hands: &mut Hands) -> io::Result<Found> {
        let Hands { reader, spare, bounced } = hands;
        self.portal.lend(spare, BATCH);
        if spare.is_empty() {
            return Ok(Found::NoRoom);
        }
        let count = self.tun.read_batch(reader, self.portal.leaves_unsummed(), spare)?;
        if count == 0 {
            return Ok(Found::Nothing);
        }
        let much = count >= FULL_TRAIN;
        let ready = self.portal.enqueue(now(), spare.drain(..count), bounced);
        if self.spreads && much {
            self.entrust(ready)
        } else {
            self.settle(ready)
        }
        let mut outlet = self.tun.outlet();
        bounced.iter().for_each(|packet| outlet.take(packet.into()));
        outlet.flush();
        self.portal.give_back(bounced.drain(..));
        Ok(if much { Found::Much } else { Found::Little })
    }

    /// Waits until the queue may lend buffers again.
    fn wait_for_room(&self, spare: &mut Vec<Packet>) {
        self.intake.starved.store(true, Ordering::Release);
        self.portal.lend(spare, BATCH);
        if spare.is_empty() {
            std::thread::park_timeout(ROOM_WAIT);
        }
        self.intake.starved.store(false, Ordering::Release);
    }
}
