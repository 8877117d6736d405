//! The datagrams of a flow, as bytes. All numbers are in network byte order.
//!
//! Every datagram but a handshake begins with the same 20 bytes:
//!
//! | bytes | field | meaning |
//! |---|---|---|
//! | 0 | version, type | 4 bits each |
//! | 1 | flags | see [`flags`] |
//! | 2 | link, epoch | 4 bits each: the sender's number of the link; the receiver's number of the key |
//! | 3–5 | timestamp | µs of the sender's clock, modulo 2²⁴; one clock for all links |
//! | 6–7 | in-flight mask | the sender's links that held unacknowledged ordered data |
//! | 8–11 | sequence | per link, new for every transmission (low half of 64 bits) |
//! | 12–15 | data sequence | one space for all links, kept when re-sent (low half of 64 bits) |
//! | 16–19 | order | bucket (12 bits) and position within it (20 bits); bucket 0: not ordered |
//!
//! Data may name a header context (see `core::headers`): a slot, in the flags, of a bucket, which is that of the
//! order or, if there is none, stands in the place of the position. So a packet that defines a context is no longer
//! than another.
//!
//! and ends with the footer of the session's protection. Encryption begins at byte 16, and the bytes 0 to 3 and 8 to 15
//! are its nonce, see `core::session::protection`. What lies between is an inner packet (data), or
//! one of the small bodies below. Parsers here take any bytes and never panic.

use std::time::Duration;

use super::units::MAX_LINKS;

/// Version of the wire format.
pub const VERSION: u8 = 1;
/// Length of [`Header`] on the wire.
pub const HEADER_LEN: usize = 20;
/// Length of the head of a handshake datagram, see [`HandshakeHead`].
pub const HANDSHAKE_HEAD_LEN: usize = 4;
/// Length of [`Probe`] on the wire.
pub const PROBE_LEN: usize = 8;
/// Length of the body of a [`Kind::PathReply`].
pub const PATH_REPLY_LEN: usize = 2;
/// Length of an [`Ack`] without its bitmap.
pub const ACK_FIXED_LEN: usize = 8;
/// Most words of 32 sequence numbers in the bitmap of an [`Ack`].
pub const ACK_MAX_WORDS: usize = 64;
/// Length of a [`Report`] that tells of no link.
pub const REPORT_FIXED_LEN: usize = 4;
/// Unit of the acknowledgement delay on the wire, nanoseconds.
pub const ACK_DELAY_UNIT: u64 = 16_000;
/// Number of order buckets; 0 means "not ordered".
pub const BUCKETS: u16 = 1 << 12;
/// Header contexts of each bucket.
pub const CONTEXT_SLOTS: usize = 1 << 2;
/// Bits of the position within a bucket.
pub const POSITION_BITS: u32 = 20;

/// Bits of the flags byte.
pub mod flags {
    /// The receiver shall acknowledge at once.
    pub const ACK_NOW: u8 = 1 << 0;
    /// This data is sent more than once, on this or another link.
    pub const REINJECTED: u8 = 1 << 1;
    /// The packet is sent as its difference from the header context that is named.
    pub const COMPRESSED: u8 = 1 << 2;
    /// The packet's headers are the context that is named.
    pub const DEFINES: u8 = 1 << 3;
    /// Where the 2 bits of the context's slot stand.
    pub const SLOT_SHIFT: u32 = 4;
    /// The packet's TCP or UDP checksum is the sum of the pseudo header only; the rest is for the receiver, or for
    /// whom it hands the packet to.
    pub const UNSUMMED: u8 = 1 << 6;
}

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One inner packet.
    Data = 1,
    /// [`Ack`] of the link it travels on.
    Ack = 2,
    /// [`Probe`]: asks for a [`Kind::ProbeReply`] and an acknowledgement.
    Probe = 3,
    /// Answer to a probe, with the probe's number.
    ProbeReply = 4,
    /// [`Report`]: what the sender hears of every link.
    Report = 5,
    /// A message of the session exchange; see [`HandshakeHead`].
    Handshake = 6,
    /// The sender stops; no body.
    Close = 7,
    /// Zeroes up to the length of datagram that the path may carry. Not acknowledged, lest the loss of one that it
    /// does not carry be taken for congestion; asks for a [`Kind::PathReply`].
    PathProbe = 8,
    /// Answer to a path probe: its length as it arrived, the whole datagram, 2 bytes.
    PathReply = 9,
    /// Zeroes, acknowledged like a packet: what the link carries is measured.
    Padding = 10,
    /// What the receiver is to do in a load test, see `core::outbound::load`.
    LoadRequest = 11,
    /// The answer to it.
    LoadReport = 12,
}

impl Kind {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            1 => Self::Data,
            2 => Self::Ack,
            3 => Self::Probe,
            4 => Self::ProbeReply,
            5 => Self::Report,
            6 => Self::Handshake,
            7 => Self::Close,
            8 => Self::PathProbe,
            9 => Self::PathReply,
            10 => Self::Padding,
            11 => Self::LoadRequest,
            12 => Self::LoadReport,
            _ => return None,
        })
    }

    /// The type of a datagram of this version of the wire format, from its first byte.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        let &first = datagram.first()?;
        if first >> 4 != VERSION {
            return None;
        }
        Self::from_bits(first & 0xf)
    }
}

/// The first [`HEADER_LEN`] bytes of every datagram but a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Bits of [`flags`].
    pub flags: u8,
    /// The sender's number of the link, 0 to 15.
    pub link: u8,
    /// The receiver's number of the key that protects the datagram, 0 to 15.
    pub epoch: u8,
    /// Microseconds of the sender's clock, 24 bits.
    pub timestamp: u32,
    /// Bit `n`: the sender's link `n` held unacknowledged ordered data.
    pub in_flight: u16,
    /// Low half of the sequence number of this transmission on this link.
    pub sequence: u32,
    /// Low half of the data sequence number.
    pub data_sequence: u32,
    /// Place in the order of the inner conversation.
    pub order: Order,
}

/// Place of a packet in its inner conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// 1 to 4095; 0 means that the packet is not ordered.
    pub bucket: u16,
    /// Counts the bucket's packets, modulo 2²⁰.
    pub position: u32,
}

/// Number of a header context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId {
    /// Bucket of the conversation, less than [`BUCKETS`].
    pub bucket: u16,
    /// One of the bucket's [`CONTEXT_SLOTS`].
    pub slot: u8,
}

impl ContextId {
    /// The flags and the order of a packet that names the context and has the place `order`, in its bucket or none.
    pub fn name(self, order: Order) -> (u8, Order) {
        debug_assert!(order.bucket == 0 || order.bucket == self.bucket);
        let order = if order.bucket == 0 { Order { bucket: 0, position: self.bucket.into() } } else { order };
        (self.slot << flags::SLOT_SHIFT, order)
    }
}

impl Header {
    /// The header context that is named, if the flags say that one is.
    pub fn context(&self) -> ContextId {
        let Order { bucket, position } = self.order;
        let bucket = if bucket == 0 { (position % u32::from(BUCKETS)) as u16 } else { bucket };
        ContextId { bucket, slot: self.flags >> flags::SLOT_SHIFT & (CONTEXT_SLOTS - 1) as u8 }
    }

    /// Writes the header to the first [`HEADER_LEN`] bytes of `out`, which must be that long.
    pub fn write(&self, out: &mut [u8]) {
        debug_assert!(self.link < 16 && self.epoch < 16 && self.timestamp < 1 << 24);
        debug_assert!(self.order.bucket < BUCKETS && self.order.position < 1 << POSITION_BITS);
        out[0] = VERSION << 4 | self.kind as u8;
        out[1] = self.flags;
        out[2] = self.link << 4 | self.epoch;
        out[3..6].copy_from_slice(&self.timestamp.to_be_bytes()[1..]);
        out[6..8].copy_from_slice(&self.in_flight.to_be_bytes());
        out[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..16].copy_from_slice(&self.data_sequence.to_be_bytes());
        let order = u32::from(self.order.bucket) << POSITION_BITS | self.order.position;
        out[16..20].copy_from_slice(&order.to_be_bytes());
    }

    /// Reads the header of a datagram; `None` for a handshake, another version or too few bytes.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let kind = Kind::of(bytes).filter(|kind| *kind != Kind::Handshake)?;
        let order = read_u32(bytes, 16);
        Some(Self {
            kind,
            flags: bytes[1],
            link: bytes[2] >> 4,
            epoch: bytes[2] & 0xf,
            timestamp: read_u32(bytes, 2) & 0xff_ffff,
            in_flight: u16::from_be_bytes([bytes[6], bytes[7]]),
            sequence: read_u32(bytes, 8),
            data_sequence: read_u32(bytes, 12),
            order: Order {
                bucket: (order >> POSITION_BITS) as u16,
                position: order & ((1 << POSITION_BITS) - 1),
            },
        })
    }
}

/// The first bytes of a handshake datagram; the Noise message and a footer follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeHead {
    /// False: first message of the exchange. True: the answer.
    pub response: bool,
    /// The number by which the other side shall name the key of what it will send, 0 to 15.
    pub epoch: u8,
    /// In a response: the `epoch` of the message it answers.
    pub answers: u8,
}

impl HandshakeHead {
    /// The head as bytes.
    pub fn to_bytes(self) -> [u8; HANDSHAKE_HEAD_LEN] {
        [VERSION << 4 | Kind::Handshake as u8, u8::from(self.response), self.epoch, self.answers]
    }

    /// Reads the head of a handshake datagram.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let &[first, response, epoch, answers] = datagram.first_chunk()?;
        let ours =
            first == VERSION << 4 | Kind::Handshake as u8 && response < 2 && epoch < 16 && answers < 16;
        ours.then_some(Self { response: response == 1, epoch, answers })
    }
}

/// Body of a probe and of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Chosen by the prober; the reply carries it back.
    pub id: u16,
    /// The sender's idea of the receiver's number of the link; `None` when it knows none yet.
    pub to: Option<u8>,
    /// The link's metric at the sender.
    pub metric: u8,
    /// Longest datagram that the sender's interface carries on this link (IP and UDP headers excluded).
    pub max_datagram: u16,
}

impl Probe {
    const UNKNOWN: u8 = 0xff;

    /// The body as bytes.
    pub fn to_bytes(self) -> [u8; PROBE_LEN] {
        let [id0, id1] = self.id.to_be_bytes();
        let [size0, size1] = self.max_datagram.to_be_bytes();
        [id0, id1, self.to.unwrap_or(Self::UNKNOWN), self.metric, size0, size1, 0, 0]
    }

    /// Reads the body.
    pub fn read(body: &[u8]) -> Option<Self> {
        let bytes: &[u8; PROBE_LEN] = body.first_chunk()?;
        let to = match bytes[2] {
            Self::UNKNOWN => None,
            to if to < 16 => Some(to),
            _ => return None,
        };
        Some(Self {
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            to,
            metric: bytes[3],
            max_datagram: u16::from_be_bytes([bytes[4], bytes[5]]),
        })
    }
}

/// Body of a report: what its sender hears of the links, by the numbers that the receiver gave them.
///
/// An acknowledgement speaks of one link and returns on it; this speaks of all and goes on each, so that a link
/// that works one way only is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bit `n`: link `n` has failed at the sender, which cannot use it.
    pub failed: u16,
    /// Low half of the largest sequence number received on each link; `None` says nothing.
    pub heard: [Option<u32>; MAX_LINKS],
}

impl Report {
    /// Length on the wire.
    pub fn wire_len(&self) -> usize {
        REPORT_FIXED_LEN + 4 * self.heard.iter().flatten().count()
    }

    /// Writes the body to the first [`Report::wire_len`] bytes of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let told = (0..MAX_LINKS).filter(|link| self.heard[*link].is_some());
        let mask = told.fold(0u16, |mask, link| mask | 1 << link);
        out[..2].copy_from_slice(&self.failed.to_be_bytes());
        out[2..4].copy_from_slice(&mask.to_be_bytes());
        for (bytes, heard) in out[REPORT_FIXED_LEN..].chunks_exact_mut(4).zip(self.heard.iter().flatten()) {
            bytes.copy_from_slice(&heard.to_be_bytes());
        }
    }

    /// Reads a body, which must be as long as it says.
    pub fn read(body: &[u8]) -> Option<Self> {
        let &[f0, f1, m0, m1] = body.first_chunk()?;
        let (failed, mask) = (u16::from_be_bytes([f0, f1]), u16::from_be_bytes([m0, m1]));
        let mut numbers = body[REPORT_FIXED_LEN..].chunks_exact(4).map(|bytes| read_u32(bytes, 0));
        let mut heard = [None; MAX_LINKS];
        for (_, heard) in heard.iter_mut().enumerate().filter(|(link, _)| mask & 1 << link != 0) {
            *heard = Some(numbers.next()?);
        }
        let report = Self { failed, heard };
        (report.wire_len() == body.len()).then_some(report)
    }
}

/// Body of an acknowledgement: what was received of the numbers up to `largest`.
///
/// `largest` was received. Bit `i` of word `w` stands for `largest - 1 - 32·w - i` and is 1 when that number
/// is **missing**. Nothing is said of numbers below the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Low half of the largest sequence number received.
    pub largest: u32,
    /// Time between the receipt of `largest` and this acknowledgement, in units of [`ACK_DELAY_UNIT`].
    pub delay: u16,
    /// Datagrams received with an ECN congestion mark, modulo 2¹⁶.
    pub ce: u16,
    /// Number of valid words in `nack`.
    pub words: u8,
    /// The bitmap, newest first.
    pub nack: [u32; ACK_MAX_WORDS],
}

impl Ack {
    /// Length on the wire.
    pub fn wire_len(&self) -> usize {
        ACK_FIXED_LEN + 4 * usize::from(self.words)
    }

    /// Writes the body to the first [`Ack::wire_len`] bytes of `out`.
    pub fn write(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.largest.to_be_bytes());
        out[4..6].copy_from_slice(&self.delay.to_be_bytes());
        out[6..8].copy_from_slice(&self.ce.to_be_bytes());
        for (bytes, word) in
            out[ACK_FIXED_LEN..].chunks_exact_mut(4).zip(&self.nack[..usize::from(self.words)])
        {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Reads a body; its length says how many words there are.
    pub fn read(body: &[u8]) -> Option<Self> {
        let words = body.len().checked_sub(ACK_FIXED_LEN)? / 4;
        if words > ACK_MAX_WORDS {
            return None;
        }
        let mut nack = [0; ACK_MAX_WORDS];
        for (word, bytes) in nack.iter_mut().zip(body[ACK_FIXED_LEN..].chunks_exact(4)) {
            *word = read_u32(bytes, 0);
        }
        Some(Self {
            largest: read_u32(body, 0),
            delay: u16::from_be_bytes([body[4], body[5]]),
            ce: u16::from_be_bytes([body[6], body[7]]),
            words: words as u8,
            nack,
        })
    }

    /// It left so much later than it was made.
    pub fn wait(&mut self, time: Duration) {
        let units = (time.as_nanos() as u64 / ACK_DELAY_UNIT).min(u16::MAX.into()) as u16;
        self.delay = self.delay.saturating_add(units);
    }

    /// Numbers below `largest` of which this acknowledgement speaks.
    pub fn covered(&self) -> u64 {
        32 * u64::from(self.words)
    }

    /// Whether the number `below` places under `largest` (1 or more, at most [`Ack::covered`]) is missing.
    pub fn is_missing(&self, below: u64) -> bool {
        let bit = below - 1;
        self.nack[(bit / 32) as usize] >> (bit % 32) & 1 == 1
    }

    /// Marks the number `below` places under `largest` as missing.
    pub fn set_missing(&mut self, below: u64) {
        let bit = below - 1;
        self.nack[(bit / 32) as usize] |= 1 << (bit % 32);
    }

    /// Says also what the `earlier` acknowledgement of the same link says, which this replaces, as far as there is
    /// room.
    pub fn include(&mut self, earlier: &Self) {
        let shift = u64::from(self.largest.wrapping_sub(earlier.largest));
        let most = 32 * ACK_MAX_WORDS as u64;
        let told = (shift + earlier.covered()).min(most);
        let first = self.covered() + 1;
        if told < first || shift > most {
            return;
        }
        self.words = told.div_ceil(32) as u8;
        for below in first..=self.covered() {
            let received =
                below == shift || below > shift && below <= told && !earlier.is_missing(below - shift);
            if !received {
                self.set_missing(below);
            }
        }
    }
}

/// Reads the body of a [`Kind::PathReply`].
pub fn read_path_reply(body: &[u8]) -> Option<u16> {
    body.first_chunk().map(|length| u16::from_be_bytes(*length))
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Data),
            Just(Kind::Ack),
            Just(Kind::Probe),
            Just(Kind::ProbeReply),
            Just(Kind::Report),
            Just(Kind::Close),
            Just(Kind::PathProbe),
            Just(Kind::PathReply),
            Just(Kind::Padding)
        ]
    }

    prop_compose! {
        fn headers()(
            kind in kinds(), flags: u8, link in 0u8..16, epoch in 0u8..16, timestamp in 0u32..1 << 24,
            in_flight: u16, sequence: u32, data_sequence: u32, bucket in 0..BUCKETS, position in 0u32..1 << POSITION_BITS,
        ) -> Header {
            Header { kind, flags, link, epoch, timestamp, in_flight, sequence, data_sequence, order: Order { bucket, position } }
        }
    }

    proptest! {
        #[test]
        fn header_round_trip(header in headers()) {
            let mut bytes = [0; HEADER_LEN];
            header.write(&mut bytes);
            prop_assert_eq!(Header::read(&bytes), Some(header));
        }

        #[test]
        fn a_context_is_named_whether_ordered_or_not(header in headers(), bucket in 1..BUCKETS, slot in 0u8..4, ordered: bool) {
            let id = ContextId { bucket, slot };
            let order = if ordered { Order { bucket, ..header.order } } else { Order::default() };
            let (flags, order) = id.name(order);
            prop_assert_eq!(order.bucket, if ordered { bucket } else { 0 });
            prop_assert_eq!(Header { flags, order, ..header }.context(), id);
        }

        #[test]
        fn handshake_head_round_trip(response: bool, epoch in 0u8..16, answers in 0u8..16) {
            let head = HandshakeHead { response, epoch, answers };
            prop_assert_eq!(HandshakeHead::read(&head.to_bytes()), Some(head));
        }

        #[test]
        fn probe_round_trip(id: u16, to in proptest::option::of(0u8..16), metric: u8, max_datagram: u16) {
            let probe = Probe { id, to, metric, max_datagram };
            prop_assert_eq!(Probe::read(&probe.to_bytes()), Some(probe));
        }

        #[test]
        fn path_reply_round_trip(length: u16) {
            prop_assert_eq!(read_path_reply(&length.to_be_bytes()), Some(length));
        }

        #[test]
        fn report_round_trip(failed: u16, heard: [Option<u32>; MAX_LINKS]) {
            let report = Report { failed, heard };
            let mut bytes = vec![0; report.wire_len()];
            report.write(&mut bytes);
            prop_assert_eq!(Report::read(&bytes), Some(report));
            bytes.push(0);
            prop_assert_eq!(Report::read(&bytes), None);
        }

        #[test]
        fn ack_round_trip(largest: u32, delay: u16, ce: u16, missing in proptest::collection::btree_set(1u64..=2048, 0..200)) {
            let words = missing.last().map_or(1, |last| last.div_ceil(32)) as u8;
            let mut ack = Ack { largest, delay, ce, words, nack: [0; ACK_MAX_WORDS] };
            for &below in &missing {
                ack.set_missing(below);
            }
            let mut bytes = vec![0; ack.wire_len()];
            ack.write(&mut bytes);
            let read = Ack::read(&bytes).expect("it was written by write");
            prop_assert_eq!(&read, &ack);
            for below in 1..=read.covered() {
                prop_assert_eq!(read.is_missing(below), missing.contains(&below));
            }
        }

        /// What two acknowledgements say, the later one says that includes the earlier.
        #[test]
        fn an_ack_includes_an_earlier_one(
            largest: u32,
            shift in 0..3_000u32,
            words in (1..=64u8, 1..=64u8),
            missing in proptest::collection::btree_set(1u64..=2048, 0..200),
        ) {
            let ack = |largest, words: u8| {
                let mut ack = Ack { largest, delay: 0, ce: 0, words, nack: [0; ACK_MAX_WORDS] };
                missing.range(..=u64::from(words) * 32).for_each(|below| ack.set_missing(*below));
                ack
            };
            let (earlier, later) = (ack(largest.wrapping_sub(shift), words.0), ack(largest, words.1));
            let mut both = later.clone();
            both.include(&earlier);
            prop_assert!(both.words >= later.words);
            let shift = u64::from(shift);
            for below in 1..=2048 {
                let told = below <= later.covered() && !later.is_missing(below)
                    || below > later.covered()
                        && (below == shift
                            || below > shift
                                && below <= shift + earlier.covered()
                                && !earlier.is_missing(below - shift));
                prop_assert_eq!(below <= both.covered() && !both.is_missing(below), told, "{}", below);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (Kind::of(&bytes), Header::read(&bytes), HandshakeHead::read(&bytes));
            let _ = (Probe::read(&bytes), Report::read(&bytes), Ack::read(&bytes), read_path_reply(&bytes));
        }
    }
}
