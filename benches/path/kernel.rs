//! The floor: what the kernel's own calls cost that a packet cannot do without.
//!
//! In a network of its own. What is read or received waits already: the way of a packet to there is somebody else's.
//! What is sent goes to a veth device whose other end drops it, for it bears another's address; what is written to the
//! interface goes up to a socket.
#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use crate::meter::Bench;

#[cfg(not(target_os = "linux"))]
pub fn all(_: &mut Bench) {}

#[cfg(target_os = "linux")]
pub use linux::all;

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{Read, Write};
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use netcombiner::core::offload::VirtioHeader;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce, UdpGroSegment, UdpGsoSegment};

    use super::Bench;
    use crate::meter::Meter;
    use crate::packets::{SEGMENT, SuperPacket, TRAIN};

    /// Features of `TUNSETOFFLOAD`: checksums, TCP over IPv4 and IPv6, UDP over either (linux/if_tun.h).
    const OFFLOADS: libc::c_ulong = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
    /// Payload of a full datagram of a link.
    const DATAGRAM: usize = 1_424;
    const SOCKET_BUFFER: usize = 8 << 20;

    /// All of them; none without the right to make a network.
    pub fn all(bench: &mut Bench) {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return eprintln!("left out: the kernel's calls, which need root");
        }
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "add", "sink0", "type", "veth", "peer", "name", "sink1"]);
        ip(&["link", "set", "sink1", "up"]);
        ip(&["address", "add", "10.8.0.1/24", "dev", "sink0"]);
        ip(&["link", "set", "sink0", "up"]);
        ip(&["neighbour", "add", "10.8.0.2", "lladdr", "02:00:00:00:00:02", "dev", "sink0"]);
        let mut device = open_tun();
        bench.kernel_step("kernel: read the interface, alone", || read(&mut device, false));
        bench.kernel_step("kernel: read the interface, together", || read(&mut device, true));
        bench.kernel_step("kernel: write the interface, alone", || write(&mut device, false));
        bench.kernel_step("kernel: write the interface, together", || write(&mut device, true));
        bench.kernel_step("kernel: send, alone", || send(false));
        bench.kernel_step("kernel: send, together", || send(true));
        bench.kernel_step("kernel: receive, alone", || receive(false));
        bench.kernel_step("kernel: receive, together", || receive(true));
    }

    fn ip(args: &[&str]) {
        assert!(Command::new("ip").args(args).status().expect("ip runs").success(), "ip {args:?}");
    }

    fn open_tun() -> tun::Device {
        let mut config = tun::Configuration::default();
        config.tun_name("ncfloor0").mtu(1_400);
        config.platform_config(|linux| {
            linux.vnet_hdr(true);
        });
        let device = tun::create(&config).expect("an interface");
        device.set_nonblock().expect("an option");
        ip(&["address", "add", "10.9.0.2/24", "dev", "ncfloor0"]);
        ip(&["link", "set", "ncfloor0", "txqueuelen", "1000", "up"]);
        // SAFETY: TUNSETOFFLOAD takes a number and no pointer.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD as _, OFFLOADS) };
        assert_eq!(set, 0, "a kernel that hands over UDP together");
        device
    }

    /// Datagrams that this machine sends through the interface.
    fn read(device: &mut tun::Device, together: bool) -> impl FnMut(&mut Meter) {
        let socket = UdpSocket::bind("10.9.0.2:0").expect("a socket");
        socket.connect("10.9.0.1:9").expect("a route");
        setsockopt(&socket, SndBufForce, &SOCKET_BUFFER).expect("an option");
        let payload = vec![5; TRAIN * SEGMENT];
        let mut buffer = vec![0; 1 << 17];
        move |meter| {
            send_all(&socket, &payload, SEGMENT, together);
            let mut bytes = 0;
            while let Ok(len) = meter.time(|| device.read(&mut buffer)) {
                bytes += len;
            }
            meter.count(bytes / SEGMENT);
        }
    }

    /// Datagrams for a socket of this machine.
    fn write(device: &mut tun::Device, together: bool) -> impl FnMut(&mut Meter) {
        let socket = receiver("10.9.0.2:6000", together);
        let packet = SuperPacket::udp(1);
        let headed = |header: VirtioHeader, bytes: &[u8]| [&header.to_bytes(), bytes].concat();
        let whole = [summed(headed(packet.header, &packet.bytes))];
        let each: Vec<_> =
            packet.packets().iter().map(|bytes| headed(VirtioHeader::default(), bytes)).collect();
        let mut buffer = vec![0; 1 << 17];
        move |meter| {
            let writes = if together { &whole[..] } else { &each };
            meter.time(|| writes.iter().for_each(|bytes| _ = device.write(bytes).expect("taken")));
            meter.count(drain(&socket, &mut buffer, SEGMENT));
        }
    }

    /// With the checksum of the IPv4 header, which `Segments` does not need.
    fn summed(mut headed: Vec<u8>) -> Vec<u8> {
        let ip = &mut headed[VirtioHeader::LEN..VirtioHeader::LEN + 20];
        let words = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum = words.sum::<u32>();
        let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&folded.to_be_bytes());
        headed
    }

    fn send(together: bool) -> impl FnMut(&mut Meter) {
        let socket = UdpSocket::bind("10.8.0.1:0").expect("a socket");
        socket.connect("10.8.0.2:9").expect("a route");
        let payload = vec![5; TRAIN * DATAGRAM];
        move |meter| {
            if together {
                setsockopt(&socket, UdpGsoSegment, &(DATAGRAM as i32)).expect("an option");
            }
            meter.time(|| match together {
                true => assert_eq!(socket.send(&payload).expect("sent"), payload.len()),
                false => payload.chunks(DATAGRAM).for_each(|chunk| _ = socket.send(chunk).expect("sent")),
            });
            meter.count(TRAIN);
        }
    }

    fn receive(together: bool) -> impl FnMut(&mut Meter) {
        let to = receiver("127.0.0.1:0", together);
        let from = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        from.connect(to.local_addr().expect("bound")).expect("a route");
        let (payload, mut buffer) = (vec![5; TRAIN * DATAGRAM], vec![0; 1 << 17]);
        move |meter| {
            send_all(&from, &payload, DATAGRAM, together);
            let mut bytes = 0;
            while let Ok(len) = meter.time(|| to.recv(&mut buffer)) {
                bytes += len;
            }
            meter.count(bytes / DATAGRAM);
        }
    }

    fn receiver(address: &str, together: bool) -> UdpSocket {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket.set_nonblocking(true).expect("an option");
        setsockopt(&socket, RcvBufForce, &SOCKET_BUFFER).expect("an option");
        setsockopt(&socket, UdpGroSegment, &together).expect("an option");
        socket
    }

    fn send_all(socket: &UdpSocket, payload: &[u8], size: usize, together: bool) {
        setsockopt(socket, UdpGsoSegment, &if together { size as i32 } else { 0 }).expect("an option");
        if together {
            socket.send(payload).expect("sent");
        } else {
            payload.chunks(size).for_each(|chunk| _ = socket.send(chunk).expect("sent"));
        }
    }

    /// Takes everything that waits; gives how many datagrams.
    fn drain(socket: &UdpSocket, buffer: &mut [u8], size: usize) -> usize {
        std::iter::from_fn(|| socket.recv(buffer).ok()).sum::<usize>() / size
    }
}
