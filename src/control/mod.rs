//! Questions and orders to a running portal, over a Unix socket in its run directory.
//!
//! A client sends one line and reads the answer until the end of the stream:
//!
//! | request  | answer                                                                  |
//! |----------|-------------------------------------------------------------------------|
//! | `show`   | a [`Snapshot`] as one line of JSON                                      |
//! | `events N` | the [`Event`]s from number N on, an array in one line of JSON         |
//! | `events N wait` | the same, held back until there is one or [`FOLLOW_TIME`] passed |
//! | `link NAME CHANGE` | `ok`, or the reason against it; changes are `up`, `down`, `metric N`, `rate-limit R` |
//! | `reload` | `ok` once the new configuration is in force, or a line for each error   |
//! | `test O` | a [`Progress`] as a line of JSON, four times a second while a load test with |
//! |          | the [`Options`] O, as JSON, goes on; it ends with the client           |
//! | `down`   | `ok`; the portal then stops                                             |
//!
//! A line of an error starts with `error: `. Only root, and the user the portal runs as, may ask:
//! the socket's mode says so, and the server looks at the peer's credentials besides.
//!
//! [`Snapshot`]: crate::core::snapshot::Snapshot
//! [`Event`]: crate::journal::Event
//! [`Options`]: crate::core::load_test::Options
//! [`Progress`]: crate::core::load_test::Progress

mod client;
mod load_test;
mod server;
mod summary;
mod table;
#[cfg(test)]
mod tests;
pub mod units;

pub use client::{ClientError, down, events, link, reload, show};
pub use load_test::load_test;
pub use server::{Handler, Listener, serve};
pub use summary::{bond, event_line, folded, headline, quota, reason, session, summary};
pub use table::details;

use std::time::Duration;

const SHOW: &str = "show";
const EVENTS: &str = "events";
/// After `events N`.
const WAIT: &str = "wait";
const LINK: &str = "link";
const RELOAD: &str = "reload";
const DOWN: &str = "down";
const TEST: &str = "test";

/// What says yes.
const OK: &str = "ok";
/// What starts each line that says no.
const ERROR: &str = "error: ";

/// Width of a terminal that nobody widened.
const COLUMNS: usize = 80;

/// Longest request, bytes, its newline included: many times the longest word, and no burden.
const MAX_REQUEST_LEN: usize = 256;

/// Longest that `events N wait` is held back.
pub const FOLLOW_TIME: Duration = Duration::from_secs(20);

/// How long the server waits for a client to send its line, and again to take its answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
