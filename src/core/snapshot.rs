//! What a portal tells about itself: plain values, read by `control` and printed by `show`.
//!
//! Units are part of the names. `Option` is `None` where nothing was measured yet.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use super::outbound::MOST_LOSS;

/// Version of this schema. It grows when a field changes its meaning or goes; not when one is added.
pub const SCHEMA: u32 = 1;

/// The whole portal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] of the program that made it; 0 of one that had none.
    #[serde(default)]
    pub schema: u32,
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
    /// What crosses the interface together with others of its conversation: `tso4`, `tso6` and `uso` from the system,
    /// `coalesced tcp` and `coalesced udp` to it; and `partial checksums` if those of what is cut are left to the peer.
    pub offload: Vec<String>,
    /// The session with the other portal.
    pub session: Session,
    /// Packets of the interface.
    #[serde(default)]
    pub traffic: Traffic,
    /// The shared queue.
    pub queue: Queue,
    /// What compressing inner headers spared.
    pub compression: Compression,
    /// What came in and was put back in order.
    pub resequencer: Resequencer,
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

/// Packets that crossed the interface: what the hosts behind the portals gave and got, with their IP headers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets sent to the other portal, each counted once.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Mean rate of the last two whole seconds, bits per second.
    pub send_rate_bps: f64,
    /// Packets of the other portal that were delivered.
    pub received_packets: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Mean rate of the last two whole seconds, bits per second.
    pub receive_rate_bps: f64,
}

/// A data cap, and what of it is used up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quota {
    /// Bytes on the wire, both directions, since the period began.
    pub used_bytes: u64,
    /// Bytes that the period may have.
    pub limit_bytes: u64,
    /// First day of the period, as `2026-11-01`; `None` while the clock is not believed.
    pub since: Option<String>,
    /// Day of the month, 1 to 28, on which the next one begins.
    pub reset_day: u8,
    /// `backup` or `off`: what is done with the link near the cap.
    pub action: String,
    /// That was done.
    pub reached: bool,
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
    /// How long packets waited that left in the last 5 to 10 s: half of them not longer, ms. This and the other
    /// percentiles may be an eighth too large; `None` if no packet left.
    pub sojourn_p50_ms: Option<f64>,
    /// The same of 95 %.
    pub sojourn_p95_ms: Option<f64>,
    /// The longest, exactly.
    pub sojourn_max_ms: Option<f64>,
    /// Packets ever taken from the interface.
    pub enqueued_packets: u64,
    /// Packets dropped, for any of the following reasons.
    pub dropped_packets: u64,
    /// Packets dropped because they had waited too long for too long (CoDel).
    pub delay_dropped_packets: u64,
    /// Packets dropped because the queue was full.
    pub overflowed_packets: u64,
    /// Packets sent back to their hosts because they were longer than what the links carry.
    pub too_big_packets: u64,
    /// Packets marked (ECN) instead of being dropped.
    pub marked_packets: u64,
    /// TCP acknowledgements left out because a later one of the same connection waited behind them.
    pub superseded_acks: u64,
}

/// What compressing inner headers spared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// Packets sent with their headers compressed.
    pub packets: u64,
    /// Bytes that this spared.
    pub saved_bytes: u64,
}

/// What came in and was put back in order, since the session with this run of the other portal began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resequencer {
    /// Packets that wait for those before them.
    pub waiting_packets: u64,
    /// Packets of conversations whose order is kept.
    pub ordered_packets: u64,
    /// Of these, had to wait.
    pub held_packets: u64,
    /// Of these, came when they had been given up.
    pub late_packets: u64,
    /// Packets that were given up.
    pub given_up_packets: u64,
    /// How long those waited that had to, of the last 5 to 10 s: half of them not longer, ms; see
    /// [`Queue::sojourn_p50_ms`].
    pub hold_p50_ms: Option<f64>,
    /// The same of 95 %.
    pub hold_p95_ms: Option<f64>,
    /// The same of 99 %.
    pub hold_p99_ms: Option<f64>,
    /// The longest, exactly.
    pub hold_max_ms: Option<f64>,
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
    /// Packets may be sent over it now: it is up, fit, and of the lowest metric.
    #[serde(default)]
    pub carries: bool,
    /// Seconds since the state was entered.
    pub since_seconds: f64,
    /// Seconds spent in each state since the link was added.
    pub state_seconds: BTreeMap<String, f64>,
    /// What keeps it from carrying as much of what is sent as it could, in one word: its state unless that is `up`,
    /// `trial`, `unfit`, `standby`, `too-late`, `later`, `narrow`, `searching`, `window-limited`,
    /// `rate-limited`, `application-limited`. `None`: it carries what it can.
    pub limit: Option<String>,
    /// The same in more words.
    pub reason: Option<String>,
    /// Links of a lower metric are used first.
    pub metric: u32,
    /// Its data cost money or are limited.
    #[serde(default)]
    pub metered: bool,
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
    /// How much later than over the link that is first a datagram arrives here over this one, milliseconds: the
    /// difference of the least one-way delays of the last seconds, of the receiving direction. Good to about 1 ms.
    /// `None` if there are no two links to compare.
    pub delay_difference_ms: Option<f64>,
    /// Congestion window, bytes; `None` when unlimited.
    pub cwnd_bytes: Option<u64>,
    /// Bytes sent and neither acknowledged nor lost.
    pub in_flight_bytes: u64,
    /// What the path carries as far as congestion control knows, bits per second of datagram payload.
    pub bandwidth_bps: Option<f64>,
    /// Most recent delivery rate, bits per second of datagram payload.
    pub delivery_rate_bps: Option<f64>,
    /// Pacing rate, bits per second; `None` when not paced.
    pub pacing_rate_bps: Option<f64>,
    /// Most that may be sent, bits per second on the wire; `None` if nobody limits it.
    #[serde(default)]
    pub rate_limit_bps: Option<f64>,
    /// What was sent on the wire, bits per second with IP and UDP headers: the mean of the last two whole seconds. For
    /// TCP the headers are estimated.
    #[serde(default)]
    pub send_rate_bps: f64,
    /// The same of what was received.
    #[serde(default)]
    pub receive_rate_bps: f64,
    /// Bytes sent on the wire, counted like [`Link::send_rate_bps`].
    #[serde(default)]
    pub wire_sent_bytes: u64,
    /// Bytes received on the wire.
    #[serde(default)]
    pub wire_received_bytes: u64,
    /// Share, 0 to 1, of the last few hundred datagrams sent that were lost; `None` if nothing was sent.
    #[serde(default)]
    pub loss_share: Option<f64>,
    /// What `netcombiner link` changed of it, in words, such as `metric 10, the file says 0`.
    #[serde(default)]
    pub changed: Vec<String>,
    /// Its data cap, if it has one. Links of one section have it together.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// Its share, 0 to 1, of the bytes of data sent over all links in the last 10 s; `None` if none were.
    pub sent_share: Option<f64>,
    /// The same of those received.
    pub received_share: Option<f64>,
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
    /// Packets sent over this link that had been lost, or were in flight on a link that failed.
    pub repairs_sent_packets: u64,
    /// Packets of this link that had to be sent again, over whichever.
    pub repairs_caused_packets: u64,
    /// Packets sent over this link besides another: second copies of repairs, of the first packets of conversations
    /// over lossy links, and of real-time packets.
    pub copies_sent_packets: u64,
    /// Datagrams leave in runs that the system cuts apart (UDP GSO); `None` on a TCP link.
    pub gso: Option<bool>,
    /// Why they do not any more.
    pub gso_reason: Option<String>,
    /// Datagrams are taken from the system in runs (UDP GRO); `None` on a TCP link.
    pub gro: Option<bool>,
    /// Datagrams discarded that arrived on this link, by reason.
    pub discards: BTreeMap<String, u64>,
}
