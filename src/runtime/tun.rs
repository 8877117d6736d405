//! The TUN interface: the sink and source of inner packets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use tun::AbstractDevice;

use crate::core::packet::Packet;

/// An interface that lasts as long as this value.
pub(super) struct Tun {
    device: tun::Device,
    buffer_size: usize,
}

impl Tun {
    /// Creates interface `name`. `buffer_size` is the longest packet it will ever give.
    pub(super) fn create(name: &str, mtu: u16, buffer_size: usize) -> Result<Self, tun::Error> {
        let mut config = tun::Configuration::default();
        config.tun_name(name).mtu(mtu);
        #[cfg(target_os = "linux")]
        config.platform_config(|linux| {
            linux.ensure_root_privileges(false);
        });
        let device = tun::create(&config)?;
        device.set_nonblock()?;
        Ok(Self { device, buffer_size })
    }

    /// Longest packet it will ever give.
    pub(super) fn buffer_size(&self) -> usize {
        self.buffer_size
    }

    /// Fills packets from the front of `packets` with what is there; gives how many, without waiting.
    pub(super) fn read_batch(&self, packets: &mut [Packet]) -> io::Result<usize> {
        for (i, packet) in packets.iter_mut().enumerate() {
            match self.device.recv(packet.buffer()) {
                Ok(len) => packet.set_len(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(i),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(i),
                Err(error) => return Err(error),
            }
        }
        Ok(packets.len())
    }

    /// Gives a packet to the system.
    pub(super) fn write(&self, packet: &[u8]) -> io::Result<()> {
        self.device.send(packet).map(|_| ())
    }

    /// Number of the interface in the system.
    pub(super) fn index(&self) -> Result<u32, tun::Error> {
        self.device.tun_index().map(|index| index as u32)
    }
}

impl AsFd for Tun {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device owns the descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.device.as_raw_fd()) }
    }
}
