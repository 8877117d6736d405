//! `netcombiner events`: what happened.

use std::thread;
use std::time::Duration;

use super::args::RunArgs;
use super::ask::run_dir;
use super::failure::{Failure, print_to_reader};
use crate::config::InterfaceName;
use crate::control::{self, ClientError};
use crate::journal::Event;

/// Pause before a portal that does not run, or does not let one more wait, is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be printed.
pub(super) struct Wanted {
    /// From this number on.
    pub(super) since: u64,
    /// And what happens from now on.
    pub(super) follow: bool,
    /// For programs.
    pub(super) json: bool,
}

pub(super) fn run(run: &RunArgs, interface: &InterfaceName, wanted: &Wanted) -> Result<(), Failure> {
    let socket = run_dir(run)?.socket(interface);
    let print = |events: &[Event]| print_to_reader(&page(events, wanted.json)?);
    let told = control::events(&socket, wanted.since, false);
    let events = told.map_err(|error| Failure::asking(interface, &error))?;
    let mut reader = print(&events)?;
    let mut next = events.last().map_or(wanted.since, |last| last.number + 1);
    while wanted.follow && reader {
        match control::events(&socket, next, true) {
            Ok(events) => {
                reader = print(&events)?;
                next = events.last().map_or(next, |last| last.number + 1);
            }
            // The next run counts from one again.
            Err(ClientError::NotRunning) => {
                next = 1;
                thread::sleep(AGAIN);
            }
            // It stopped while we waited.
            Err(ClientError::Garbled(_) | ClientError::Io(_)) => thread::sleep(AGAIN),
            Err(error) => return Err(Failure::asking(interface, &error)),
        }
    }
    Ok(())
}

fn page(events: &[Event], json: bool) -> Result<String, Failure> {
    if !json {
        return Ok(events.iter().map(control::event_line).collect());
    }
    let lines: Result<Vec<String>, _> = events.iter().map(serde_json::to_string).collect();
    let lines = lines.map_err(|error| Failure::new(format!("cannot print JSON: {error}")))?;
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}
