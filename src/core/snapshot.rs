//! What a portal tells about itself: plain values, read by `control` and printed by `show`.
//!
//! Units are part of the names. `Option` is `None` where nothing was measured yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The whole portal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of the TUN interface.
    pub interface: String,
    /// Program version.
    pub version: String,
    /// Seconds since the daemon became ready.
    pub uptime_seconds: f64,
    /// Current MTU of the interface, bytes.
    pub mtu: u32,
    /// `aead`, `mac` or `none`.
    pub protection: String,
    /// What encrypts, such as `AES-128-GCM`; `None` without encryption or session.
    #[serde(default)]
    pub cipher: Option<String>,
    /// The session with the other portal.
    pub session: Session,
    /// The shared queue.
    pub queue: Queue,
    /// What compressing inner headers spared.
    pub compression: Compression,
    /// The next data sequence to be sent.
    pub data_sequence: u64,
    /// Datagrams that were no new part of the conversation, by reason (`replayed`, `forged`, …).
    pub discards: BTreeMap<String, u64>,
    /// One entry a link, in the order of their numbers.
    pub links: Vec<Link>,
}

/// The session with the other portal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// `none`, `handshake` or `established`.
    pub state: String,
    /// Seconds since the state was entered.
    pub since_seconds: f64,
    /// Completed exchanges, rekeys included.
    pub handshakes: u64,
    /// Why there is no session, in words, if it is known.
    pub trouble: Option<String>,
}

/// The shared queue between the TUN interface and the links.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Packets waiting.
    pub packets: u64,
    /// Bytes waiting.
    pub bytes: u64,
    /// Most bytes that may wait.
    pub limit_bytes: u64,
    /// Packets ever taken from the interface.
    pub enqueued_packets: u64,
    /// Packets dropped because they could not be carried (too big, no room).
    pub dropped_packets: u64,
}

/// What compressing inner headers spared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// Packets sent with their headers compressed.
    pub packets: u64,
    /// Bytes that this spared.
    pub saved_bytes: u64,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Number of the link in this portal, from 1.
    pub number: u8,
    /// `Name` of the section, or `peerN`.
    pub name: String,
    /// Number of the `[Peer]` section it stems from, from 1.
    pub section: usize,
    /// `udp` or `tcp`.
    pub method: String,
    /// Interface it is bound to.
    pub interface: Option<String>,
    /// Own address and port.
    pub local: Option<SocketAddr>,
    /// Address and port of the other portal.
    pub remote: Option<SocketAddr>,
    /// `init`, `probing`, `up`, `suspect` or `down`.
    pub state: String,
    /// Seconds since the state was entered.
    pub since_seconds: f64,
    /// Why it is not up, or hardly used, in words.
    pub reason: Option<String>,
    /// Links of a lower metric are used first.
    pub metric: u32,
    /// Congestion control of a UDP link (`newreno`, `none`); `kernel` for TCP.
    pub congestion_control: String,
    /// Longest IP packet that the path is known to carry away from here, bytes; `None` for a stream.
    pub path_mtu_bytes: Option<u32>,
    /// The search for it: `assumed`, `searching`, `complete`, `confirming`; or `stream`.
    pub path_mtu_state: String,
    /// Smoothed round-trip time, milliseconds.
    pub srtt_ms: Option<f64>,
    /// Smallest recent round-trip time, milliseconds.
    pub min_rtt_ms: Option<f64>,
    /// Congestion window, bytes; `None` when unlimited.
    pub cwnd_bytes: Option<u64>,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// Most recent delivery rate, bits per second of datagram payload.
    pub delivery_rate_bps: Option<f64>,
    /// Pacing rate, bits per second; `None` when not paced.
    pub pacing_rate_bps: Option<f64>,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Bytes of datagrams sent (UDP or TCP payload).
    pub sent_bytes: u64,
    /// Authentic datagrams received.
    pub received_packets: u64,
    /// Bytes of authentic datagrams received.
    pub received_bytes: u64,
    /// Datagrams declared lost.
    pub lost_packets: u64,
    /// Datagrams declared lost that arrived after all.
    pub spurious_losses: u64,
    /// Datagrams discarded that arrived on this link, by reason.
    pub discards: BTreeMap<String, u64>,
}
