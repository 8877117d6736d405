//! What a load test of the links is asked for, and what it measured: plain values, carried by `control` and
//! understood by `diagnosis`.
//!
//! Units are part of the names. Rates count IP packets with all headers, as providers do.

use serde::{Deserialize, Serialize};

/// How a test is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Links to test, by their numbers from 1; all that are up if empty.
    pub links: Vec<u8>,
    /// How long links are kept full in each step, ms; see [`Options::STEP_MS`].
    pub step_ms: u64,
    /// Most bytes that both portals send for the test, in all; see [`Options::BYTES`].
    pub bytes: u64,
    /// Links whose data are metered are tested too.
    pub metered: bool,
}

impl Options {
    /// Bounds of [`Options::step_ms`].
    pub const STEP_MS: std::ops::RangeInclusive<u64> = 500..=30_000;
    /// Bounds of [`Options::bytes`]: the wire counts in KiB, and no link needs more.
    pub const BYTES: std::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000;
}

impl Default for Options {
    fn default() -> Self {
        Self { links: Vec::new(), step_ms: 4_000, bytes: 200_000_000, metered: false }
    }
}

/// Which way a step went, as seen from the portal that was asked for the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the other portal.
    Out,
    /// From the other portal.
    In,
}

/// How far a test is, and what it has brought so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// It goes on.
    pub running: bool,
    /// Why it ended early, or left something out.
    pub trouble: Option<String>,
    /// Steps in all, of which each is in `steps` once it is over.
    pub planned_steps: usize,
    /// What is being measured now.
    pub current: Option<Current>,
    /// What was measured.
    pub steps: Vec<Step>,
}

/// The step that is being measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Which way.
    pub direction: Direction,
    /// Names of the links that are full.
    pub links: Vec<String>,
}

/// What one step measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which way.
    pub direction: Direction,
    /// All links were full at once; otherwise one was.
    pub together: bool,
    /// Why it measured nothing.
    pub trouble: Option<String>,
    /// What each of the links carried.
    pub links: Vec<Measured>,
    /// Share of the time, 0 to 1, in which the busiest thread of the asked portal ran or waited for a processor.
    pub busy_here: Option<f64>,
    /// The same of the other portal.
    pub busy_there: Option<f64>,
}

/// What one link carried in one step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Number of the link in the asked portal, from 1.
    pub number: u8,
    /// Its name there.
    pub name: String,
    /// What arrived in the second half of the time in which it was full, bits per second.
    pub rate_bps: f64,
    /// Least round-trip time before it was full, ms; `None` if no answer came.
    pub idle_rtt_ms: Option<f64>,
    /// Median of the round-trip times while it was full, ms.
    pub loaded_rtt_ms: Option<f64>,
    /// Their 95th percentile.
    pub loaded_rtt_p95_ms: Option<f64>,
    /// The longest queue that it could be made to build, ms, the search ending at some 300; `None` if none was tried.
    pub queue_ms: Option<f64>,
    /// That queue overflowed: it is no longer than this.
    pub queue_overflowed: bool,
    /// Share of what was sent that did not arrive, 0 to 1, as long as no queue was forced.
    pub loss: f64,
    /// Share of what arrived that came after something sent later, 0 to 1; `None` if the receiver did not say.
    pub reordered: Option<f64>,
    /// Longest IP packet that the path carries this way, bytes; `None` for a stream.
    pub path_mtu_bytes: Option<u32>,
    /// Bytes that were sent for the test.
    pub bytes: u64,
    /// Its rate was still growing at the end.
    pub growing: bool,
    /// It was not up all the time.
    pub interrupted: bool,
}
