//! Inner packets to measure with.

use netcombiner::core::offload::{Cut, Segments, VirtioHeader};

/// Packets of a train.
pub const TRAIN: usize = 44;
/// Bytes of payload of a full TCP segment, and of a datagram.
pub const SEGMENT: usize = 1_348;
/// Bytes of the headers of a TCP packet with timestamps, of UDP's.
const TCP_HEAD: usize = 20 + 32;
const UDP_HEAD: usize = 20 + 8;

/// A super-packet as the kernel hands it over, of one conversation, and the header before it.
pub struct SuperPacket {
    /// What stands before it.
    pub header: VirtioHeader,
    /// The packet.
    pub bytes: Vec<u8>,
    cut: Cut,
}

impl SuperPacket {
    /// Of TCP, between ports that `conversation` chooses.
    pub fn tcp(conversation: u16) -> Self {
        Self::new(Cut::TcpV4, conversation, TCP_HEAD, 16)
    }

    /// Of UDP.
    pub fn udp(conversation: u16) -> Self {
        Self::new(Cut::Udp, conversation, UDP_HEAD, 6)
    }

    fn new(cut: Cut, conversation: u16, head: usize, checksum_offset: u16) -> Self {
        let mut bytes = vec![0; head];
        bytes.extend((0..TRAIN * SEGMENT).map(|i| (i * 7 + i / 256) as u8));
        let (len, covered) = (bytes.len() as u16, bytes.len() as u16 - 20);
        let protocol = if cut == Cut::Udp { 17 } else { 6 };
        bytes[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol]);
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[12..20].copy_from_slice(&[10, 9, 0, 1, 10, 9, 0, 2]);
        bytes[20..22].copy_from_slice(&(5_000 + conversation).to_be_bytes());
        bytes[22..24].copy_from_slice(&6_000_u16.to_be_bytes());
        if cut == Cut::Udp {
            bytes[24..26].copy_from_slice(&covered.to_be_bytes());
        } else {
            // Acknowledgement, length of the header, window; two NOPs and timestamps.
            bytes[28..36].copy_from_slice(&[0, 0, 0, 1, 0x80, 0x10, 1, 0]);
            bytes[40..44].copy_from_slice(&[1, 1, 8, 10]);
        }
        let header = VirtioHeader {
            needs_checksum: true,
            cut,
            ecn: false,
            header_len: head as u16,
            segment_size: SEGMENT as u16,
            checksum_start: 20,
            checksum_offset,
        };
        let mut packet = Self { header, bytes, cut };
        packet.begin_checksum(protocol, covered);
        packet
    }

    /// The field holds the sum of the pseudo header.
    fn begin_checksum(&mut self, protocol: u8, covered: u16) {
        let words = self.bytes[12..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum = words.sum::<u32>() + u32::from(protocol) + u32::from(covered);
        let folded = (sum & 0xffff) + (sum >> 16);
        let at = usize::from(self.header.checksum_start + self.header.checksum_offset);
        self.bytes[at..at + 2].copy_from_slice(&(folded as u16).to_be_bytes());
    }

    /// The next of the conversation.
    pub fn advance(&mut self) {
        let id = u16::from_be_bytes([self.bytes[4], self.bytes[5]]).wrapping_add(TRAIN as u16);
        self.bytes[4..6].copy_from_slice(&id.to_be_bytes());
        if self.cut != Cut::Udp {
            let at = &mut self.bytes[24..28];
            let sequence = u32::from_be_bytes([at[0], at[1], at[2], at[3]]);
            at.copy_from_slice(&sequence.wrapping_add((TRAIN * SEGMENT) as u32).to_be_bytes());
        }
    }

    /// The packets that it is cut into.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        self.cut(Segments::new(&self.header, &self.bytes).expect("well-formed"))
    }

    /// The same, with their checksums left to the receiver.
    pub fn unsummed_packets(&self) -> Vec<Vec<u8>> {
        let mut segments = Segments::new(&self.header, &self.bytes).expect("well-formed");
        segments.leave_unsummed(&self.bytes);
        self.cut(segments)
    }

    fn cut(&self, mut segments: Segments) -> Vec<Vec<u8>> {
        let mut out = vec![0; 2_048];
        std::iter::from_fn(|| segments.next(&self.bytes, &mut out).map(|len| out[..len].to_vec())).collect()
    }
}

/// The packets of a train that so many conversations share, taking turns.
pub fn mixed(conversations: &mut [SuperPacket]) -> Vec<Vec<u8>> {
    let count = conversations.len();
    let each: Vec<_> = conversations.iter().map(SuperPacket::packets).collect();
    conversations.iter_mut().for_each(SuperPacket::advance);
    (0..TRAIN.max(count)).map(|i| each[i % count][i / count].clone()).collect()
}
