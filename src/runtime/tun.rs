//! The TUN interface: the sink and source of inner packets.
//!
//! Where the system can, packets of one conversation cross it together: the kernel's TCP and UDP hand over what they
//! would have cut just before the device, and take what was merged. Where it cannot, or shall not, each goes alone.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::uio::{readv, writev};
use tun::AbstractDevice;

use super::sys;
use crate::core::offload::{Coalescer, Cut, MAX_SUPER_PACKET, Merged, Segments, VirtioHeader, completed};
use crate::core::packet::{Inner, Packet};
use crate::core::portal::Interface;

/// An interface that lasts as long as this value.
pub(super) struct Tun {
    device: tun::Device,
    buffer_size: usize,
    /// A [`VirtioHeader`] stands before each packet.
    headed: bool,
    /// What crosses together now, of [`KINDS`], a bit each.
    offloads: AtomicU8,
    coalescer: Mutex<Coalescer>,
    /// Packets that the system did not take.
    undelivered: AtomicU64,
    /// What the system gave and cannot be understood.
    malformed: AtomicU64,
}

/// What may cross together, and how people call it.
const KINDS: [(u8, &str); 5] = [
    (READ_TCP4, "tso4"),
    (READ_TCP6, "tso6"),
    (READ_UDP, "uso"),
    (WRITE_TCP, "coalesced tcp"),
    (WRITE_UDP, "coalesced udp"),
];
const READ_TCP4: u8 = 1;
const READ_TCP6: u8 = 1 << 1;
const READ_UDP: u8 = 1 << 2;
const WRITE_TCP: u8 = 1 << 3;
const WRITE_UDP: u8 = 1 << 4;
const READ: u8 = READ_TCP4 | READ_TCP6 | READ_UDP;

/// What was read from the interface and not handed over yet.
pub(super) struct Reader {
    buffer: Box<[u8]>,
    len: usize,
    segments: Option<Segments>,
}

/// The way of packets to the system, for one train. Those of other threads wait until it is flushed.
pub(super) struct Outlet<'a> {
    tun: &'a Tun,
    coalescer: Option<MutexGuard<'a, Coalescer>>,
}

impl Tun {
    /// Creates interface `name`. `buffer_size` is the longest packet it will ever give; `offload`: packets may cross
    /// it together if the system can.
    pub(super) fn create(
        name: &str,
        mtu: u16,
        buffer_size: usize,
        offload: bool,
    ) -> Result<Self, tun::Error> {
        let headed = if offload { open(name, mtu, true).ok() } else { None };
        let (device, headed) = match headed {
            Some(device) => (device, true),
            None => (open(name, mtu, false)?, false),
        };
        device.set_nonblock()?;
        let tun = Self {
            device,
            buffer_size,
            headed,
            offloads: AtomicU8::new(0),
            coalescer: Mutex::new(Coalescer::new(false, false)),
            undelivered: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
        };
        if headed {
            tun.probe();
        }
        Ok(tun)
    }

    /// Asks the kernel for all that it can. A kernel that hands over UDP (Linux 6.2) takes it, too.
    fn probe(&self) {
        let kinds = [READ | WRITE_TCP | WRITE_UDP, READ_TCP4 | READ_TCP6 | WRITE_TCP, WRITE_TCP];
        let taken = kinds.into_iter().find(|kinds| self.set_read_offloads(*kinds).is_ok());
        self.offloads.store(taken.unwrap_or(0), Ordering::Relaxed);
    }

    fn set_read_offloads(&self, kinds: u8) -> io::Result<()> {
        sys::set_tun_offloads(self.as_fd(), kinds & READ_TCP4 != 0, kinds & READ_UDP != 0)
    }

    /// What crosses together, in words.
    pub(super) fn offloads(&self) -> Vec<String> {
        let on = self.offloads.load(Ordering::Relaxed);
        KINDS.iter().filter(|(kind, _)| on & kind != 0).map(|(_, name)| (*name).to_owned()).collect()
    }

    /// Whether packets are cut out of what is read.
    pub(super) fn cuts(&self) -> bool {
        self.offloads.load(Ordering::Relaxed) & READ != 0
    }

    /// Longest packet it will ever give.
    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Whether the system sums the checksums of what is written, if need be.
    pub(super) fn takes_unsummed(&self) -> bool {
        self.headed
    }

    /// Packets that the system did not take.
    pub(super) fn undelivered(&self) -> u64 {
        self.undelivered.load(Ordering::Relaxed)
    }

    /// Packets of the system that contradicted themselves.
    pub(super) fn malformed(&self) -> u64 {
        self.malformed.load(Ordering::Relaxed)
    }

    /// Number of the interface in the system.
    pub(super) fn index(&self) -> Result<u32, tun::Error> {
        self.device.tun_index().map(|index| index as u32)
    }

    // Reading.

    /// What [`Tun::read_batch`] needs, for the one thread that calls it.
    pub(super) fn reader(&self) -> Reader {
        let len = if self.headed { MAX_SUPER_PACKET } else { 0 };
        Reader { buffer: vec![0; len].into_boxed_slice(), len: 0, segments: None }
    }

    /// Fills packets from the front of `packets` with what is there; gives how many, without waiting. What of a
    /// super-packet finds no room comes first the next time. `unsummed`: the checksums of what is cut are left to the
    /// other portal.
    pub(super) fn read_batch(
        &self,
        reader: &mut Reader,
        unsummed: bool,
        packets: &mut [Packet],
    ) -> io::Result<usize> {
        for (i, packet) in packets.iter_mut().enumerate() {
            let read = if self.headed {
                self.read_segment(reader, unsummed, packet)
            } else {
                self.device.recv(packet.buffer())
            };
            match read {
                Ok(len) => packet.set_len(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(i),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(i),
                // The error comes again when these are taken care of.
                Err(_) if i > 0 => return Ok(i),
                Err(error) => return Err(error),
            }
        }
        Ok(packets.len())
    }

    /// The next packet of the super-packet at hand, or of the next one.
    fn read_segment(&self, reader: &mut Reader, unsummed: bool, packet: &mut Packet) -> io::Result<usize> {
        loop {
            if let Some(len) = reader.next(packet) {
                return Ok(len);
            }
            match self.read_super_packet(reader, unsummed) {
                Ok(true) => {}
                Ok(false) => _ = self.malformed.fetch_add(1, Ordering::Relaxed),
                // The kernel had a packet that its header has no words for, and has dropped it.
                Err(error) if is_refusal(&error) => self.stop_reading_offloaded(&error),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is to be cut. False if that contradicts itself.
    fn read_super_packet(&self, reader: &mut Reader, unsummed: bool) -> io::Result<bool> {
        let mut header = [0; VirtioHeader::LEN];
        let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(&mut reader.buffer)];
        let len = readv(self, &mut parts)?;
        let Some(len) = len.checked_sub(VirtioHeader::LEN) else { return Ok(false) };
        let header = VirtioHeader::read(&header);
        reader.len = len;
        let packet = &reader.buffer[..len];
        reader.segments = header.and_then(|header| Segments::new(&header, packet).ok());
        if unsummed && let Some(segments) = &mut reader.segments {
            segments.leave_unsummed(packet);
        }
        Ok(reader.segments.is_some())
    }

    fn stop_reading_offloaded(&self, error: &io::Error) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
        if self.offloads.fetch_and(!READ, Ordering::Relaxed) & READ != 0 {
            // It took them all, so it takes none.
            let _ = self.set_read_offloads(0);
            tracing::warn!("offload off for what is read from the interface: {error}");
        }
    }

    // Writing.

    /// The way to the system, for a train.
    pub(super) fn outlet(&self) -> Outlet<'_> {
        Outlet { tun: self, coalescer: None }
    }

    fn write(&self, packet: Inner<'_>) {
        if self.write_bare(packet).is_err() {
            self.undelivered.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(target_os = "linux")]
    fn write_bare(&self, packet: Inner<'_>) -> io::Result<()> {
        writev(self, &[IoSlice::new(packet.head), IoSlice::new(packet.rest)])?;
        Ok(())
    }

    /// Elsewhere the device knows what stands before a packet.
    #[cfg(not(target_os = "linux"))]
    fn write_bare(&self, packet: Inner<'_>) -> io::Result<()> {
        self.device.send(&packet.whole()).map(drop)
    }

    fn write_merged(&self, merged: &Merged<'_>) {
        match self.write_headed(&merged.header, merged.packet) {
            Ok(()) => {}
            Err(error) if merged.count > 1 => self.write_singly(merged, &error),
            Err(_) => _ = self.undelivered.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn write_headed(&self, header: &VirtioHeader, packet: Inner<'_>) -> io::Result<()> {
        let header = header.to_bytes();
        writev(self, &[&header, packet.head, packet.rest].map(IoSlice::new))?;
        Ok(())
    }

    /// Writes the packets that `merged` was made of. If the system takes them alone, it is the merging that it did not
    /// like, and there will be no more of that.
    #[cold]
    fn write_singly(&self, merged: &Merged<'_>, error: &io::Error) {
        let mut packet = vec![0; self.buffer_size];
        let mut taken = false;
        // What was merged here can be cut.
        let Ok(mut segments) = Segments::new(&merged.header, merged.packet.head) else { return };
        while let Some(len) = segments.next(merged.packet.head, &mut packet) {
            match self.write_headed(&VirtioHeader::default(), packet[..len].into()) {
                Ok(()) => taken = true,
                Err(_) => _ = self.undelivered.fetch_add(1, Ordering::Relaxed),
            }
        }
        let (kind, name) =
            if merged.header.cut == Cut::Udp { (WRITE_UDP, "UDP") } else { (WRITE_TCP, "TCP") };
        if taken && is_refusal(error) && self.offloads.fetch_and(!kind, Ordering::Relaxed) & kind != 0 {
            tracing::warn!("offload off for {name} that is written to the interface: {error}");
        }
    }
}

impl Reader {
    fn next(&mut self, packet: &mut Packet) -> Option<usize> {
        let segments = self.segments.as_mut()?;
        let len = segments.next(&self.buffer[..self.len], packet.buffer());
        packet.set_unsummed(segments.is_unsummed());
        if len.is_none() {
            self.segments = None;
        }
        len
    }
}

impl Outlet<'_> {
    fn merge(&mut self, packet: Inner<'_>) {
        let tun = self.tun;
        let coalescer = self.coalescer.get_or_insert_with(|| {
            let mut coalescer = tun.coalescer.lock().unwrap_or_else(PoisonError::into_inner);
            let on = tun.offloads.load(Ordering::Relaxed);
            coalescer.set(on & WRITE_TCP != 0, on & WRITE_UDP != 0);
            coalescer
        });
        coalescer.push(packet, &mut |merged| tun.write_merged(&merged));
    }
}

impl Interface for Outlet<'_> {
    fn take(&mut self, packet: Inner<'_>) {
        match packet {
            _ if self.tun.headed => self.merge(packet),
            // It left when the peer still knew another interface of ours.
            Inner { unsummed: true, .. } => self.tun.write((&*completed(packet)).into()),
            _ => self.tun.write(packet),
        }
    }

    fn flush(&mut self) {
        if let Some(mut coalescer) = self.coalescer.take() {
            coalescer.flush(&mut |merged| self.tun.write_merged(&merged));
        }
    }
}

impl Drop for Outlet<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl AsFd for Tun {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device owns the descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}

/// The system does not carry what it was asked to.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO))
}

/// Opens the interface; `headed` fails where the system does not know of that.
#[cfg(target_os = "linux")]
fn open(name: &str, mtu: u16, headed: bool) -> Result<tun::Device, tun::Error> {
    let mut config = tun::Configuration::default();
    config.tun_name(name).mtu(mtu);
    config.platform_config(|linux| {
        linux.ensure_root_privileges(false).vnet_hdr(headed);
    });
    tun::create(&config)
}

#[cfg(not(target_os = "linux"))]
fn open(name: &str, mtu: u16, headed: bool) -> Result<tun::Device, tun::Error> {
    if headed {
        return Err(io::Error::from(io::ErrorKind::Unsupported).into());
    }
    let mut config = tun::Configuration::default();
    config.tun_name(name).mtu(mtu);
    tun::create(&config)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs `test` with an interface in a network of its own; not at all without the right to make one.
    fn with_tun(offload: bool, test: impl FnOnce(&Tun) + Send) {
        thread::scope(|scope| {
            scope.spawn(|| {
                if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                    return eprintln!("skipped: making a TUN interface needs root");
                }
                let tun = Tun::create("nctest0", 1_400, 2_048, offload).expect("an interface");
                test(&tun);
            });
        });
    }

    fn bring_up() {
        let up = Command::new("ip").args(["link", "set", "nctest0", "up"]).status().expect("ip runs");
        assert!(up.success());
    }

    /// Packets that the interface gave to the system.
    fn received() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev").expect("readable");
        let line = text.lines().find_map(|line| line.trim().strip_prefix("nctest0:")).expect("there");
        line.split_whitespace().nth(1).and_then(|count| count.parse().ok()).expect("a number")
    }

    /// UDP from 10.0.0.1 to 10.0.0.2, the checksums right; `number` makes them differ.
    fn datagram(number: u8) -> Vec<u8> {
        let mut packet = vec![0; 128];
        packet[..10].copy_from_slice(&[0x45, 0, 0, 128, 0, number, 0x40, 0, 64, 17]);
        packet[12..28].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 9, 0, 108, 0, 0]);
        packet[28] = number;
        let sum = |bytes: &[u8], start: u32| {
            let mut total =
                start + bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
            while total >> 16 != 0 {
                total = (total & 0xffff) + (total >> 16);
            }
            (!(total as u16)).to_be_bytes()
        };
        let ip = sum(&packet[..20], 0);
        packet[10..12].copy_from_slice(&ip);
        let udp = sum(&packet[12..], 17 + 108);
        packet[26..28].copy_from_slice(&udp);
        packet
    }

    fn deliver(tun: &Tun, count: u8) {
        let mut outlet = tun.outlet();
        (0..count).for_each(|number| outlet.take((&datagram(number)[..]).into()));
        outlet.flush();
    }

    #[test]
    fn datagrams_of_one_conversation_are_written_together() {
        with_tun(true, |tun| {
            bring_up();
            if !tun.offloads().contains(&"coalesced udp".to_owned()) {
                return eprintln!("skipped: the kernel is too old");
            }
            let before = received();
            deliver(tun, 10);
            assert_eq!((received() - before, tun.undelivered()), (1, 0));
        });
        with_tun(false, |tun| {
            bring_up();
            assert_eq!(tun.offloads(), [""; 0]);
            let before = received();
            deliver(tun, 10);
            assert_eq!((received() - before, tun.undelivered()), (10, 0));
        });
    }

    #[test]
    fn what_is_refused_together_goes_alone_and_is_not_tried_again() {
        with_tun(true, |tun| {
            bring_up();
            let before = received();
            let mut coalescer = Coalescer::new(true, true);
            (0..10)
                .for_each(|number| coalescer.push((&datagram(number)[..]).into(), &mut |_| unreachable!()));
            coalescer.flush(&mut |merged| {
                // Headers longer than the packet: the kernel says EINVAL.
                let header = VirtioHeader { header_len: u16::MAX, ..merged.header };
                tun.write_merged(&Merged { header, ..merged });
            });
            assert_eq!((received() - before, tun.undelivered()), (10, 0));
            assert!(!tun.offloads().contains(&"coalesced udp".to_owned()));
            assert!(tun.offloads().contains(&"coalesced tcp".to_owned()));
            deliver(tun, 10);
            assert_eq!(received() - before, 20);
        });
    }

    #[test]
    fn an_interface_that_is_down_proves_nothing() {
        with_tun(true, |tun| {
            let offloads = tun.offloads();
            deliver(tun, 10);
            assert_eq!((tun.undelivered(), tun.offloads()), (10, offloads));
        });
    }
}
