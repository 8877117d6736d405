//! The asker's side of the control socket; blocking, for the command line.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{DOWN, ERROR, EVENTS, FOLLOW_TIME, LINK, OK, RELOAD, SHOW, WAIT};
use crate::core::snapshot::Snapshot;
use crate::journal::Event;

/// How long an answer may take. A reload, which may resolve names, takes the longest.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a portal did not do what it was asked.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens: the portal does not run, though a dead one may have left its socket.
    NotRunning,
    /// The asker is not root.
    NotAllowed,
    /// No answer in time.
    Silent,
    /// The portal said no; one reason a line.
    Refused(String),
    /// The answer makes no sense: the portal is of another version.
    Garbled(String),
    /// What the system says.
    Io(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NotRunning => f.write_str("is not running"),
            ClientError::NotAllowed => f.write_str("may be asked by root only; run as root"),
            ClientError::Silent => write!(f, "did not answer within {ANSWER_TIMEOUT:?}"),
            ClientError::Refused(reasons) => f.write_str(reasons),
            ClientError::Garbled(detail) => {
                write!(f, "runs another version of netcombiner, restart it ({detail})")
            }
            ClientError::Io(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent,
            _ => ClientError::Io(error),
        }
    }
}

/// The state of the portal behind the control socket `socket`.
///
/// # Errors
///
/// If it does not answer, or with something else.
pub fn show(socket: &Path) -> Result<Snapshot, ClientError> {
    parsed(&ask(socket, SHOW)?)
}

/// What happened in the portal, from event number `since` on, the oldest first; all that is kept if the number is of
/// an earlier run. If there is nothing, waits for it for [`FOLLOW_TIME`] at most if `wait`, else gives nothing.
///
/// # Errors
///
/// If it does not answer, or with something else, or too many wait already.
pub fn events(socket: &Path, since: u64, wait: bool) -> Result<Vec<Event>, ClientError> {
    let answer = if wait {
        ask_within(socket, &format!("{EVENTS} {since} {WAIT}"), FOLLOW_TIME + ANSWER_TIMEOUT)?
    } else {
        ask(socket, &format!("{EVENTS} {since}"))?
    };
    parsed(&answer)
}

/// Makes the portal read its configuration anew, and waits until that is in force.
///
/// # Errors
///
/// If it does not answer, or finds errors and keeps the old one.
pub fn reload(socket: &Path) -> Result<(), ClientError> {
    confirmed(ask(socket, RELOAD)?)
}

/// Changes the link `name` until the configuration is read again: `up`, `down`, `metric N` or `rate-limit R`.
///
/// # Errors
///
/// If it does not answer, has no such link, or says why not.
pub fn link(socket: &Path, name: &str, change: &str) -> Result<(), ClientError> {
    confirmed(ask(socket, &format!("{LINK} {name} {change}"))?)
}

/// Asks the portal to stop; it may take a while to do so.
///
/// # Errors
///
/// If it does not answer.
pub fn down(socket: &Path) -> Result<(), ClientError> {
    confirmed(ask(socket, DOWN)?)
}

fn parsed<T: DeserializeOwned>(answer: &str) -> Result<T, ClientError> {
    serde_json::from_str(answer).map_err(|error| ClientError::Garbled(error.to_string()))
}

fn ask(socket: &Path, request: &str) -> Result<String, ClientError> {
    ask_within(socket, request, ANSWER_TIMEOUT)
}

fn ask_within(socket: &Path, request: &str, limit: Duration) -> Result<String, ClientError> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    // One write, since the server may answer and close after a part.
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with(ERROR) {
        let reasons: Vec<&str> =
            answer.lines().map(|line| line.strip_prefix(ERROR).unwrap_or(line)).collect();
        return Err(ClientError::Refused(reasons.join("\n")));
    }
    Ok(answer)
}

fn confirmed(answer: String) -> Result<(), ClientError> {
    match answer.trim_end() {
        OK => Ok(()),
        other => Err(ClientError::Garbled(format!("answer {other:?}"))),
    }
}
