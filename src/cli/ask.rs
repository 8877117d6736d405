//! `show`, `top`, `reload` and `down`: what is asked of a portal that runs.

use std::thread;
use std::time::{Duration, Instant};

use super::args::RunArgs;
use super::failure::{Failure, print_line, print_out, say};
use crate::config::InterfaceName;
use crate::control::{self, ClientError};
use crate::process::lock;
use crate::process::run_dir::RunDir;
use crate::top::{self, TopError};

/// How long a portal may take to end: it says goodbye to the other one and runs its commands.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks whether a portal has ended.
const DOWN_POLL: Duration = Duration::from_millis(50);

pub(super) fn show(run: &RunArgs, interface: Option<&InterfaceName>, json: bool) -> Result<(), Failure> {
    let run_dir = run_dir(run)?;
    match interface {
        Some(interface) => {
            let snapshot = control::show(&run_dir.socket(interface))
                .map_err(|error| Failure::asking(interface, &error))?;
            print_out(&if json { to_json(&snapshot)? } else { control::render(&snapshot) })
        }
        None => show_all(&run_dir, json),
    }
}

/// Shows each portal that answers; those that do not are told about, and fail the command unless
/// they are dead.
fn show_all(run_dir: &RunDir, json: bool) -> Result<(), Failure> {
    let shown = run_dir.path().display();
    let interfaces =
        run_dir.interfaces().map_err(|error| Failure::new(format!("cannot list {shown}: {error}")))?;
    let mut snapshots = Vec::new();
    let mut failures = Vec::new();
    for interface in &interfaces {
        match control::show(&run_dir.socket(interface)) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(ClientError::NotRunning) => {}
            Err(error) => failures.push(Failure::asking(interface, &error)),
        }
    }
    if json {
        print_out(&to_json(&snapshots)?)?;
    } else {
        let pages: Vec<String> = snapshots.iter().map(control::render).collect();
        print_out(&pages.join("\n"))?;
    }
    if snapshots.is_empty() && failures.is_empty() {
        say(&format!("no portal is running in {shown}"));
    }
    match failures.pop() {
        None => Ok(()),
        Some(last) => {
            failures.iter().for_each(Failure::print);
            Err(last)
        }
    }
}

pub(super) fn top(run: &RunArgs, interface: &InterfaceName, json: bool) -> Result<(), Failure> {
    let socket = run_dir(run)?.socket(interface);
    let mut failed = Ok(());
    let print = |line: &str| match print_line(line) {
        Ok(goes_on) => goes_on,
        Err(error) => {
            failed = Err(error);
            false
        }
    };
    let ended = if json { top::print_json(&socket, print) } else { top::run(&socket, interface.as_str()) };
    ended.map_err(|error| match error {
        TopError::Portal(error) => Failure::asking(interface, &error),
        TopError::Terminal(error) => Failure::new(format!("top {error}")),
    })?;
    failed
}

pub(super) fn reload(run: &RunArgs, interface: &InterfaceName) -> Result<(), Failure> {
    control::reload(&run_dir(run)?.socket(interface)).map_err(|error| Failure::asking(interface, &error))
}

/// Asks the portal to stop and waits until it has given up its lock, the last thing it does.
pub(super) fn down(run: &RunArgs, interface: &InterfaceName) -> Result<(), Failure> {
    let run_dir = run_dir(run)?;
    control::down(&run_dir.socket(interface)).map_err(|error| Failure::asking(interface, &error))?;
    let lock_file = run_dir.pid_file(interface);
    let asked = Instant::now();
    loop {
        let held = lock::is_held(&lock_file).map_err(|error| {
            Failure::new(format!("{interface}: cannot read {}: {error}", lock_file.display()))
        })?;
        if !held {
            return Ok(());
        }
        if asked.elapsed() > DOWN_TIMEOUT {
            let pid = lock::pid(&lock_file).map_or(String::new(), |pid| format!(" (pid {pid})"));
            return Err(Failure::new(format!(
                "{interface}{pid} has not ended within {DOWN_TIMEOUT:?}; see its log"
            )));
        }
        thread::sleep(DOWN_POLL);
    }
}

fn run_dir(run: &RunArgs) -> Result<RunDir, Failure> {
    RunDir::new(&run.run_dir).map_err(|error| Failure::new(format!("unusable --run-dir: {error}")))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|json| json + "\n")
        .map_err(|error| Failure::new(format!("cannot print JSON: {error}")))
}
